//! FOLLOW and UNFOLLOW: what the nodes of a role keep copies of. Rows of the directory, so that
//! every node knows what it has to send and to keep.

use std::sync::Arc;

use storage::GroupId;

use super::draft::{Done, Draft};
use crate::catalog::{
    Change, Follow, Followed, Object, Relation, RoleId, Table, TableKind, denied,
};
use crate::parse::{self, FollowName};
use crate::{Error, Result, state};

/// What one role follows, in rows: each costs a comparison per table that is looked at.
const FOLLOWS_MAX: usize = 1000;

impl Draft<'_> {
    pub fn follow(&mut self, follow: &parse::Follow) -> Done<()> {
        for name in &follow.what {
            let (what, shown) = match name {
                FollowName::Pattern(pattern) => {
                    let shown = format!("pattern \"{pattern}\"");
                    (Followed::Pattern(pattern.clone()), shown)
                }
                FollowName::Table(name) => {
                    let table = match self.relation(name)? {
                        Relation::Table(table) => table,
                        Relation::Index(table, at) => {
                            let name = &table.indexes[at].name;
                            let what = format!("\"{name}\" is an index");
                            return Err(Error::new(state::WRONG_OBJECT_TYPE, what).into());
                        }
                    };
                    self.followable(&table)?;
                    let shown = format!("table \"{}\"", table.name);
                    (Followed::Table(table.id), shown)
                }
            };
            match follow.ends {
                false => self.begin_following(what, &shown)?,
                true => self.end_following(what, &shown)?,
            }
        }
        self.forget_dropped();
        Ok(())
    }

    /// 42809 and 42501 for what can't be followed.
    fn followable(&self, table: &Table) -> Result<()> {
        if table.kind == TableKind::System {
            let what = format!("permission denied: \"{}\" is a system catalog", table.name);
            return Err(Error::new(state::INSUFFICIENT_PRIVILEGE, what));
        }
        if table.kind != TableKind::Table {
            let what = format!("\"{}\" is not a table", table.name);
            return Err(Error::new(state::WRONG_OBJECT_TYPE, what));
        }
        if table.owner == self.role {
            let what = format!("table \"{}\" can't be followed by its owner", table.name);
            let error = Error::new(state::WRONG_OBJECT_TYPE, what);
            return Err(error.detail("The nodes of its owner have all of it."));
        }
        match self.catalog.reads_table(self.role, table) {
            true => Ok(()),
            false => Err(denied(table)),
        }
    }

    fn begin_following(&mut self, what: Followed, shown: &str) -> Done<()> {
        let role = self.role;
        self.ground.have_group(role)?;
        let follow = Follow { role, what };
        let tables: Vec<Arc<Table>> = self.followed(&follow).cloned().collect();
        for table in tables {
            self.ground.hold(role, &table)?;
        }
        if self.catalog.follow(role, &follow.what).is_some() {
            let name = self.catalog.role_name(role);
            self.skips(&format!("role \"{name}\" follows {shown} already"));
            return Ok(());
        }
        if self.catalog.follows_of(role).count() >= FOLLOWS_MAX {
            let what = format!("a role can follow at most {FOLLOWS_MAX} tables and patterns");
            let error = Error::new(state::CONFIGURATION_LIMIT_EXCEEDED, what);
            return Err(error.hint("Follow a pattern.").into());
        }
        let object = Object::Follow(Arc::new(follow));
        self.change(Change::create(GroupId::DIRECTORY, object));
        Ok(())
    }

    fn end_following(&mut self, what: Followed, shown: &str) -> Done<()> {
        let Some(follow) = self.catalog.follow(self.role, &what).cloned() else {
            let name = self.catalog.role_name(self.role);
            let what = format!("role \"{name}\" does not follow {shown}");
            return Err(Error::new(state::UNDEFINED_OBJECT, what).into());
        };
        let object = Object::Follow(follow);
        self.change(Change::drop(GroupId::DIRECTORY, object));
        Ok(())
    }

    /// The tables that are meant and may be read.
    fn followed(&self, follow: &Follow) -> impl Iterator<Item = &Arc<Table>> {
        let meant = |table: &&Arc<Table>| follow.covers(table);
        let tables = self.catalog.tables().filter(meant);
        tables.filter(|table| self.catalog.reads_table(self.role, table))
    }

    /// Tables that were dropped take nothing along in the directory, which is another log: their
    /// rows go with the next statement of the role.
    fn forget_dropped(&mut self) {
        let of_tables = |follow: &&Arc<Follow>| match &follow.what {
            Followed::Table(table) => self.catalog.was_dropped(*table),
            Followed::Pattern(_) => false,
        };
        let gone = self.catalog.follows_of(self.role).filter(of_tables);
        let gone: Vec<Arc<Follow>> = gone.cloned().collect();
        for follow in gone {
            self.change(Change::drop(GroupId::DIRECTORY, Object::Follow(follow)));
        }
    }

    /// A role that goes follows nothing.
    pub(super) fn forget_follows(&mut self, role: RoleId) {
        let follows: Vec<Arc<Follow>> = self.catalog.follows_of(role).cloned().collect();
        for follow in follows {
            self.change(Change::drop(GroupId::DIRECTORY, Object::Follow(follow)));
        }
    }
}
