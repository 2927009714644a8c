//! One change of one object: what DDL derives a catalog from, what it writes into system trees,
//! and what the cache reads out of applied entries.

use std::sync::Arc;

use storage::GroupId;

use super::{
    Follow, Membership, Node, Owner, PatternGrant, Placement, Reservation, Role, Schema, Table,
};

/// Anything that has a descriptor.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// Table, view or sequence, with its indexes and constraints.
    Table(Arc<Table>),
    /// A schema.
    Schema(Arc<Schema>),
    /// A grant by pattern.
    Pattern(Arc<PatternGrant>),
    /// A role (directory).
    Role(Arc<Role>),
    /// A membership (directory).
    Membership(Membership),
    /// Which group holds a role's tables (directory).
    Owner(Owner),
    /// A reserved name (directory).
    Reservation(Arc<Reservation>),
    /// A node of the cluster (directory).
    Node(Arc<Node>),
    /// Where a group's replicas should be (directory).
    Placement(Arc<Placement>),
    /// A role follows something (directory).
    Follow(Arc<Follow>),
}

/// `old` becomes `new`; created when there is no old, dropped when there is no new.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The group whose entry carries it.
    pub group: GroupId,
    /// What was there.
    pub old: Option<Object>,
    /// What is there from now on.
    pub new: Option<Object>,
}

impl Change {
    /// Something new.
    pub fn create(group: GroupId, object: Object) -> Change {
        Change {
            group,
            old: None,
            new: Some(object),
        }
    }

    /// Something else.
    pub fn replace(group: GroupId, old: Object, new: Object) -> Change {
        Change {
            group,
            old: Some(old),
            new: Some(new),
        }
    }

    /// Gone.
    pub fn drop(group: GroupId, object: Object) -> Change {
        Change {
            group,
            old: Some(object),
            new: None,
        }
    }
}
