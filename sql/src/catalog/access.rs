//! Who may do what: membership, grants, grants by pattern, and what does not exist for a role.

use std::collections::BTreeSet;
use std::sync::Arc;

use storage::GroupId;

use super::{Catalog, ColumnId, Privilege, Privileges, RoleId, Schema, SchemaId, Table, TableKind};
use crate::{Error, Result, state};

/// How much of a relation a role sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It does not exist for the role.
    Nothing,
    /// Its name, because of some grant.
    Name,
    /// All of it: owner, superuser, or reader.
    All,
}

impl Catalog {
    /// Is the role a superuser?
    pub fn is_superuser(&self, role: RoleId) -> bool {
        self.role(role).is_some_and(|r| r.superuser)
    }

    /// Is `role` a member of `of`, directly or not (SET ROLE is allowed)? Superusers are members
    /// of everything.
    pub fn is_member(&self, role: RoleId, of: RoleId) -> bool {
        self.is_superuser(role) || self.reaches(role, of, false)
    }

    /// Has `role` the privileges of `of` without SET ROLE (itself, or inherited)?
    pub fn has_role(&self, role: RoleId, of: RoleId) -> bool {
        self.is_superuser(role) || self.reaches(role, of, true)
    }

    /// The same, not counting that superusers are members of everything.
    pub fn inherits(&self, role: RoleId, of: RoleId) -> bool {
        self.reaches(role, of, true)
    }

    fn reaches(&self, role: RoleId, of: RoleId, inherited: bool) -> bool {
        if role == of {
            return true;
        }
        let mut seen = BTreeSet::from([role]);
        let mut open = vec![role];
        while let Some(member) = open.pop() {
            if inherited && !self.role(member).is_some_and(|r| r.inherit) {
                continue;
            }
            for membership in self.member_of(member) {
                if membership.role == of {
                    return true;
                }
                if seen.insert(membership.role) {
                    open.push(membership.role);
                }
            }
        }
        false
    }

    /// May `role` grant `of` to others?
    pub fn administers(&self, role: RoleId, of: RoleId) -> bool {
        self.is_superuser(role)
            || self
                .memberships()
                .any(|m| m.role == of && m.admin && self.inherits(role, m.member))
    }

    /// Does the role act for the table's owner (itself, by membership, or as a superuser)?
    pub fn owns(&self, role: RoleId, owner: RoleId) -> bool {
        self.has_role(role, owner)
    }

    /// The table privileges of a role, by ownership, grants and patterns; columns not counted.
    pub fn privileges(&self, role: RoleId, table: &Table) -> Privileges {
        if self.has_role(role, table.owner) {
            return Privileges(u16::MAX);
        }
        let mut all = table.acl.as_ref().map_or(Privileges::NONE, |acl| {
            acl.granted(|grantee| self.inherits(role, grantee))
        });
        if table.schema == SchemaId::PUBLIC {
            all |= self.pattern_privileges(role, table);
        }
        // The rows of an inbox are between two: who has sent one sees it, by a way of its own.
        match table.is_inbox() {
            true => all.without(Privileges::READ),
            false => all,
        }
    }

    /// Does the role see of the table the rows only that it has sent?
    pub fn sees_own_commands(&self, role: RoleId, table: &Table) -> bool {
        table.is_inbox() && !self.has_role(role, table.owner)
    }

    fn pattern_privileges(&self, role: RoleId, table: &Table) -> Privileges {
        let mut all = Privileges::NONE;
        for pattern in self.patterns() {
            let grantee = pattern.grantee;
            if pattern.owner == table.owner
                && pattern.covers(&table.name)
                && (grantee == RoleId::PUBLIC || self.inherits(role, grantee))
            {
                all |= pattern.privileges;
            }
        }
        all
    }

    /// The privileges of a role on one column, beyond those on the table.
    pub fn column_privileges(&self, role: RoleId, table: &Table, column: ColumnId) -> Privileges {
        let acl = table.column_by_id(column).and_then(|c| c.acl.as_ref());
        let granted = acl.map_or(Privileges::NONE, |acl| {
            acl.granted(|grantee| self.inherits(role, grantee))
        });
        match table.is_inbox() {
            true => granted.without(Privileges::READ),
            false => granted,
        }
    }

    /// Does the relation exist for the role? It does for its owner, superusers and everybody who
    /// has any privilege on it or a column of it, if the schema may be used.
    pub fn sees(&self, role: RoleId, table: &Table) -> bool {
        self.seen(role, table) != Seen::Nothing
    }

    /// How much of the relation the role sees.
    pub fn seen(&self, role: RoleId, table: &Table) -> Seen {
        if table.kind == TableKind::System || self.has_role(role, table.owner) {
            return Seen::All;
        }
        let usable = self
            .schema(table.schema)
            .is_some_and(|s| self.uses_schema(role, s));
        if !usable {
            return Seen::Nothing;
        }
        let own = self.privileges(role, table);
        if own.has(Privilege::Select) {
            return Seen::All;
        }
        let column = || {
            table
                .live_columns()
                .any(|c| !self.column_privileges(role, table, c.id).is_empty())
        };
        if own.is_empty() && !column() {
            Seen::Nothing
        } else {
            Seen::Name
        }
    }

    /// May the role use names in the schema?
    pub fn uses_schema(&self, role: RoleId, schema: &Schema) -> bool {
        self.schema_privileges(role, schema).has(Privilege::Usage)
    }

    /// Does the schema exist for the role?
    pub fn sees_schema(&self, role: RoleId, schema: &Schema) -> bool {
        !self.schema_privileges(role, schema).is_empty()
    }

    /// The privileges of a role on a schema.
    pub fn schema_privileges(&self, role: RoleId, schema: &Schema) -> Privileges {
        match schema.id {
            SchemaId::PG_CATALOG | SchemaId::INFORMATION | SchemaId::FREEHOLD => {
                Privilege::Usage.into()
            }
            _ if self.has_role(role, schema.owner) => Privileges::SCHEMA,
            _ => schema.acl.as_ref().map_or(Privileges::NONE, |acl| {
                acl.granted(|g| self.inherits(role, g))
            }),
        }
    }

    /// Is the privilege there, on the table or on all the columns? For SELECT without columns
    /// (`count(*)`) any column's will do, as in PostgreSQL.
    pub fn has_privilege(
        &self,
        role: RoleId,
        table: &Table,
        privilege: Privilege,
        columns: Option<&[ColumnId]>,
    ) -> bool {
        if self.privileges(role, table).has(privilege) {
            return true;
        }
        let column = |id| self.column_privileges(role, table, id).has(privilege);
        match columns {
            None => false,
            Some([]) => {
                privilege == Privilege::Select && table.live_columns().any(|c| column(c.id))
            }
            Some(columns) => columns.iter().all(|id| column(*id)),
        }
    }

    /// May the role read anything that the group keeps? Of the directory everybody reads roles and
    /// names.
    pub fn reads_group(&self, role: RoleId, group: GroupId) -> bool {
        let Some(owner) = self.owner_of_group(group) else {
            return group == GroupId::DIRECTORY || self.is_superuser(role);
        };
        let reads = |table: &Arc<Table>| {
            let any = Some(&[][..]);
            self.sees(role, table) && self.has_privilege(role, table, Privilege::Select, any)
        };
        self.has_role(role, owner) || self.tables().any(|t| t.group == group && reads(t))
    }

    /// The check before a statement: 42P01 for what the role may not see, 42501 for what it may
    /// not do. Writes are the owner's alone, whatever is granted, but for INSERT into inboxes.
    pub fn may(
        &self,
        role: RoleId,
        table: &Table,
        privilege: Privilege,
        columns: Option<&[ColumnId]>,
    ) -> Result<()> {
        if !self.sees(role, table) {
            return Err(super::snapshot::undefined(&[&table.name]));
        }
        if table.kind == TableKind::System {
            return match privilege {
                Privilege::Select if self.has_privilege(role, table, privilege, columns) => Ok(()),
                Privilege::Truncate => Err(system_catalog(table)),
                _ => Err(denied(table)),
            };
        }
        let writes = matches!(
            privilege,
            Privilege::Insert | Privilege::Update | Privilege::Delete | Privilege::Truncate
        ) && table.kind == TableKind::Table;
        if writes && !self.has_role(role, table.owner) {
            return self.may_write_foreign(role, table, privilege, columns);
        }
        if self.has_privilege(role, table, privilege, columns) {
            return Ok(());
        }
        Err(denied(table))
    }

    fn may_write_foreign(
        &self,
        role: RoleId,
        table: &Table,
        privilege: Privilege,
        columns: Option<&[ColumnId]>,
    ) -> Result<()> {
        let granted = self.has_privilege(role, table, privilege, columns);
        if granted && table.is_inbox() && privilege == Privilege::Insert {
            return Ok(());
        }
        let error = match self.owner_shown(role, table) {
            Some(owner) => denied(table).detail(format!(
                "Only its owner \"{owner}\" writes table \"{}\".",
                table.name
            )),
            None => denied(table),
        };
        if table.is_inbox() {
            return Err(error);
        }
        let inbox = self.tables().find(|t| {
            t.owner == table.owner
                && t.is_inbox()
                && self.privileges(role, t).has(Privilege::Insert)
        });
        Err(match inbox {
            Some(inbox) => error.hint(format!(
                "Insert a command into \"{}\", the owner's inbox.",
                inbox.name
            )),
            None if granted => error.hint(
                "Every table has one writer: a granted INSERT, UPDATE, DELETE or TRUNCATE takes \
                 effect only on inboxes.",
            ),
            None => error,
        })
    }

    /// 42501 unless the role acts for the relation's owner (ALTER, DROP, GRANT); 42P01 if it may
    /// not see it.
    pub fn must_own(&self, role: RoleId, table: &Table) -> Result<()> {
        if !self.sees(role, table) {
            return Err(super::snapshot::undefined(&[&table.name]));
        }
        let system = table.kind == TableKind::System;
        if self.has_role(role, table.owner) {
            return if system {
                Err(system_catalog(table))
            } else {
                Ok(())
            };
        }
        let error = Error::new(
            state::INSUFFICIENT_PRIVILEGE,
            format!("must be owner of {} {}", kind(table), table.name),
        );
        Err(match self.owner_shown(role, table) {
            _ if system => error,
            Some(owner) => error.detail(format!("Its owner is \"{owner}\".")),
            None => error,
        })
    }

    /// The owner's name for an error: only for those who may read (some of) the table.
    fn owner_shown(&self, role: RoleId, table: &Table) -> Option<String> {
        let select = Privilege::Select;
        let reads = self.has_privilege(role, table, select, Some(&[]));
        reads.then(|| self.role_name(table.owner))
    }
}

/// The kind of relation as errors name it.
pub(crate) fn kind(table: &Table) -> &'static str {
    match table.kind {
        TableKind::System if crate::system::relkind(table) == b'v' => "view",
        TableKind::Table if table.projection.is_some() => "materialized view",
        TableKind::Table | TableKind::System => "table",
        TableKind::View(_) => "view",
        TableKind::Sequence(_) => "sequence",
    }
}

fn system_catalog(table: &Table) -> Error {
    Error::new(
        state::INSUFFICIENT_PRIVILEGE,
        format!("permission denied: \"{}\" is a system catalog", table.name),
    )
}

/// 55000: nobody sees half of a projection.
pub(crate) fn unfilled(table: &Table) -> Error {
    Error::new(
        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "materialized view \"{}\" has not been populated",
            table.name
        ),
    )
    .hint("It is readable as soon as CREATE MATERIALIZED VIEW has filled it.")
}

/// `permission denied for table x` (42501).
pub(crate) fn denied(table: &Table) -> Error {
    Error::new(
        state::INSUFFICIENT_PRIVILEGE,
        format!("permission denied for {} {}", kind(table), table.name),
    )
}
