//! One change of one object: what DDL derives a catalog from, what it writes into system trees,
//! and what the cache reads out of applied entries.

use std::sync::Arc;

use storage::GroupId;

use super::{
    Acl, Follow, LastRead, Membership, Node, Owner, PatternGrant, Placement, Reservation, Role,
    Routine, Schema, SchemaId, Table, TableKind, Trigger,
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
    /// A role has read a contract (directory).
    LastRead(LastRead),
    /// A function.
    Routine(Arc<Routine>),
    /// A trigger.
    Trigger(Arc<Trigger>),
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

    /// May some role read less with it than before? What is dropped is gone for all alike.
    pub fn takes_away(&self) -> bool {
        match (&self.old, &self.new) {
            (Some(Object::Table(old)), Some(Object::Table(new))) => {
                let columns = |new: &Table| {
                    old.live_columns().any(|column| {
                        let now = new.column_by_id(column.id);
                        now.is_some_and(|now| lacks(now.acl.as_ref(), column.acl.as_ref()))
                    })
                };
                // A view that is another one may show less.
                // Patterns go by the name, and never cover inboxes.
                // What has arrived is its former owner's no more.
                old.owner != new.owner
                    || (old.is_arriving() && !new.is_arriving())
                    || old.schema != new.schema
                    || (old.schema == SchemaId::PUBLIC && old.name != new.name)
                    || (!old.is_inbox() && new.is_inbox())
                    || (matches!(old.kind, TableKind::View(_)) && old.kind != new.kind)
                    || lacks(new.acl.as_ref(), old.acl.as_ref())
                    || columns(new)
            }
            (Some(Object::Schema(old)), Some(Object::Schema(new))) => {
                old.owner != new.owner || lacks(new.acl.as_ref(), old.acl.as_ref())
            }
            (Some(Object::Pattern(old)), Some(Object::Pattern(new))) => {
                !new.privileges.contains(old.privileges)
            }
            (Some(Object::Role(old)), Some(Object::Role(new))) => {
                (old.superuser && !new.superuser) || (old.inherit && !new.inherit)
            }
            (Some(Object::Pattern(_) | Object::Role(_) | Object::Membership(_)), None) => true,
            _ => false,
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

/// Is in one list less than in another?
fn lacks(now: Option<&Acl>, before: Option<&Acl>) -> bool {
    let Some(before) = before else {
        return false;
    };
    before.0.iter().any(|item| {
        let mut now = now.into_iter().flat_map(|acl| &acl.0);
        let same = now.find(|now| (now.grantee, now.grantor) == (item.grantee, item.grantor));
        !same.is_some_and(|same| same.privileges.contains(item.privileges))
    })
}
