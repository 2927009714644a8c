//! What exists and who may see it: descriptors of tables, views, sequences, roles and grants,
//! and the immutable snapshot of them all that binds names.

mod access;
mod acl;
mod change;
mod descriptor;
mod id;
mod object;
mod snapshot;

pub use access::Seen;
pub use acl::{Acl, AclItem, Privilege, Privileges};
pub use change::{Change, Object};
pub use descriptor::{
    Column, Constraint, ForeignKey, Generated, Identity, Index, IndexColumn, IndexKey, IndexState,
    Key, ReferentialAction, SequenceOptions, Table, TableKind, View,
};
pub use id::{ColumnId, RoleId, SchemaId, TableId};
pub use object::{Membership, Owner, PatternGrant, Reservation, Role, Schema};
pub use snapshot::{Catalog, Relation};
