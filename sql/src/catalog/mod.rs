//! What exists and who may see it: descriptors of tables, views, sequences, roles and grants,
//! and the immutable snapshot of them all that binds names.

mod access;
mod acl;
mod bootstrap;
mod cache;
mod change;
mod codec;
mod contract;
mod descriptor;
pub mod directory;
mod event;
mod follow;
mod history;
mod id;
mod keep;
mod moving;
mod object;
mod routine;
mod snapshot;
#[cfg(test)]
mod tests;

pub use access::Seen;
pub(crate) use access::{denied, kind, unfilled};
pub use acl::{Acl, AclItem, Privilege, Privileges};
pub use bootstrap::{DATABASE, DATABASE_OID, SUPERUSER, first_rows};
pub use cache::{Cache, Rows};
pub use change::{Change, Object};
pub use codec::{
    CATALOG_TREES, SystemWrite, TREE_DESCRIPTORS, TREE_FOLLOWS, TREE_HISTORY, TREE_MEMBERSHIPS,
    TREE_NODES, TREE_OIDS, TREE_OWNERS, TREE_PLACEMENTS, TREE_READS, TREE_RESERVATIONS, TREE_ROLES,
    TREE_SEQUENCES, TREE_TREES, decode, encode, rows,
};
pub(crate) use codec::{left_tree, place};
pub use contract::{Broken, Changed, READ_NOTED_EVERY, User, Version, contract_changes};
pub use descriptor::{
    Column, Constraint, ForeignKey, Generated, Identity, Index, IndexColumn, IndexKey, IndexState,
    Key, Projection, ReferentialAction, Registration, SequenceOptions, Table, TableKind, View,
};
pub(crate) use event::{check_changeable, check_readable};
pub use follow::Behind;
pub use history::table_at;
pub use id::{ColumnId, RoleId, SchemaId, TableId};
pub use keep::{HISTORY, History, history_of, read_history};
pub use moving::Moving;
pub use object::{
    Follow, Followed, LastRead, Membership, Node, NodeState, Owner, PatternGrant, Placement,
    Reservation, Role, Schema,
};
pub use routine::{Argument, Enabled, Events, Language, Routine, Timing, Trigger, Volatility};
pub(crate) use snapshot::not_known_yet;
pub use snapshot::{Catalog, DATABASE_NAMES, Relation};

/// The columns that every stored table has besides its own (`pg_attribute.attnum` below 0).
pub const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "cmax", "xmax", "cmin", "xmin", "ctid"];
