//! A table on its way from one owner to another: what its two descriptors say, which of them holds,
//! and what grants become. `crate::moving` is the way itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage::GroupId;

use super::{Acl, AclItem, Catalog, RoleId, Table, TableId};

/// Where a table is on its way. What an owner has left stays in its own group until it has arrived in
/// the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moving {
    /// Its rows are being copied for this role; its owner goes on writing it.
    Leaving {
        /// The owner to be.
        to: RoleId,
    },
    /// Nobody writes it any more. It is read here until it has arrived there.
    Left {
        /// The owner to be.
        to: RoleId,
    },
    /// It is being filled here, and nobody reads it yet.
    Arriving {
        /// Its rows are here but for the newest ones.
        full: bool,
    },
    /// It is read and written here. The former owner still has what it has left.
    Arrived,
}

impl Table {
    /// To whom it goes, or has gone.
    pub fn goes_to(&self) -> Option<RoleId> {
        match self.moving? {
            Moving::Leaving { to } | Moving::Left { to } => Some(to),
            Moving::Arriving { .. } | Moving::Arrived => None,
        }
    }

    /// Does nobody write it any more, for another owner is about to have it?
    pub fn has_left(&self) -> bool {
        matches!(self.moving, Some(Moving::Left { .. }))
    }

    /// Is it not here yet?
    pub fn is_arriving(&self) -> bool {
        matches!(self.moving, Some(Moving::Arriving { .. }))
    }

    /// Does this descriptor hold, rather than another group's of the same table? The later one, once
    /// it has arrived: so what is known first does not matter.
    pub fn holds_over(&self, other: &Table) -> bool {
        !self.is_arriving() && self.former.len() > other.former.len()
    }
}

impl Acl {
    /// What it becomes with the owner, as in PostgreSQL: what the former one had, gave or was given
    /// is the new one's.
    #[must_use]
    pub fn of_new_owner(&self, from: RoleId, to: RoleId) -> Acl {
        let with = |role: RoleId| if role == from { to } else { role };
        let mut out = Acl::default();
        for item in &self.0 {
            let (grantee, grantor) = (with(item.grantee), with(item.grantor));
            let same = |one: &&mut AclItem| (one.grantee, one.grantor) == (grantee, grantor);
            match out.0.iter_mut().find(same) {
                Some(one) => {
                    one.privileges |= item.privileges;
                    one.options |= item.options;
                }
                None => out.0.push(AclItem {
                    grantee,
                    grantor,
                    ..*item
                }),
            }
        }
        out
    }
}

impl Catalog {
    /// A relation's descriptor in one group, whether it holds or stands aside.
    pub fn table_in(&self, group: GroupId, id: TableId) -> Option<&Arc<Table>> {
        let gone = self.gone.get(&id) == Some(&group);
        let holds = self.table(id).filter(|table| table.group == group && !gone);
        holds.or_else(|| self.aside.get(&(group, id)))
    }

    /// Descriptors that stand aside: of tables that are arriving, or have gone to another owner.
    pub fn tables_aside(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.aside.values()
    }

    /// The groups of other owners that have, or have had, trees of a table, each with one of them: it is being
    /// copied there, or came from there.
    pub fn trees_elsewhere(&self, table: &Table) -> BTreeMap<GroupId, u32> {
        let trees = self.trees.iter();
        let elsewhere = trees.filter(|((group, _), id)| **id == table.id && *group != table.group);
        elsewhere.map(|(place, _)| *place).collect()
    }

    /// The trees that a group has, or has had, of a table.
    pub fn trees_in(&self, group: GroupId, table: TableId) -> Vec<u32> {
        let trees = self.trees.range((group, 0)..=(group, u32::MAX));
        let of_table = trees.filter(|(_, id)| **id == table);
        of_table.map(|((_, tree), _)| *tree).collect()
    }

    /// The relations on their way, by each of their descriptors.
    pub fn moving(&self) -> impl Iterator<Item = &Arc<Table>> {
        let all = self.tables().chain(self.tables_aside());
        all.filter(|table| table.moving.is_some())
    }
}

impl Table {
    /// Makes another owner's of it: with what was granted.
    pub fn give(&mut self, to: RoleId, group: GroupId) {
        let from = self.owner;
        let columns = self.columns.iter_mut().map(|column| &mut column.acl);
        for acl in columns.chain([&mut self.acl]).flatten() {
            *acl = acl.of_new_owner(from, to);
        }
        self.former.push(self.group);
        (self.owner, self.group) = (to, group);
    }
}
