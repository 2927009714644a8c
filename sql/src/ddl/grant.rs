//! GRANT and REVOKE on tables, columns, sequences and schemas, and grants by pattern.

use std::sync::Arc;

use sqlparser::ast::ObjectName;

use super::draft::{Done, Draft};
use crate::catalog::{
    Acl, Change, ColumnId, Object, PatternGrant, Privilege, Privileges, RoleId, Routine, Schema,
    SchemaId, Table, TableId, TableKind,
};
use crate::moving::being_moved;
use crate::parse::{self, GrantObjects, PrivilegeName};
use crate::transaction::TableMode;
use crate::{Error, Result, state};

/// Patterns of one owner: each costs a comparison per table that is looked up.
const PATTERNS_MAX: usize = 1000;

/// Who gives what to whom.
struct Wish<'a> {
    revoke: bool,
    option: bool,
    cascade: bool,
    grantees: &'a [RoleId],
}

impl Draft<'_> {
    pub fn grant(&mut self, grant: &parse::Grant) -> Done<()> {
        let mut grantees = Vec::new();
        for name in &grant.grantees {
            let role = self.grantee(name)?;
            if role == RoleId::PUBLIC && grant.grant_option && !grant.revoke {
                return Err(Error::new(
                    state::INVALID_GRANT_OPERATION,
                    "grant options can only be granted to roles",
                )
                .into());
            }
            grantees.push(role);
        }
        if let Some(by) = &grant.granted_by
            && self.role_named(by)? != self.role
        {
            return Err(
                Error::new(state::FEATURE_NOT_SUPPORTED, "grantor must be current user").into(),
            );
        }
        let wish = Wish {
            revoke: grant.revoke,
            option: grant.grant_option,
            cascade: grant.cascade,
            grantees: &grantees,
        };
        match &grant.objects {
            GrantObjects::Tables(names) => self.grant_tables(grant, &wish, names),
            GrantObjects::Sequences(names) => {
                for name in names {
                    let table = self.grantable(name)?;
                    if !matches!(table.kind, TableKind::Sequence(_)) {
                        return Err(Error::new(
                            state::WRONG_OBJECT_TYPE,
                            format!("\"{}\" is not a sequence", table.name),
                        )
                        .into());
                    }
                    self.grant_table(grant, &wish, table.id)?;
                }
                Ok(())
            }
            GrantObjects::AllTablesIn(schemas) => self.grant_all(grant, &wish, schemas, false),
            GrantObjects::AllSequencesIn(schemas) => self.grant_all(grant, &wish, schemas, true),
            GrantObjects::Schemas(names) => {
                for name in names {
                    let schema = self.schema_named(name)?;
                    self.grant_schema(grant, &wish, &schema)?;
                }
                Ok(())
            }
            GrantObjects::Patterns(patterns) => {
                for pattern in patterns {
                    self.grant_pattern(grant, &wish, pattern)?;
                }
                Ok(())
            }
            GrantObjects::Databases(_) => {
                self.no_effect("the database");
                Ok(())
            }
            GrantObjects::Routines(routines) => {
                for routine in routines {
                    match self.routine_to_change(routine) {
                        Ok(found) => self.grant_routine(grant, &wish, &found)?,
                        Err(error) if error.state() == state::UNDEFINED_FUNCTION => {
                            return Err(error.into());
                        }
                        Err(_) => self.no_effect("a function"),
                    }
                }
                Ok(())
            }
            GrantObjects::AllFunctionsIn(schemas) => {
                for name in schemas {
                    let schema = self.schema_named(name)?.id;
                    let all = self.catalog.routines().filter(|r| r.schema == schema);
                    for routine in all.cloned().collect::<Vec<_>>() {
                        if self.catalog.has_role(self.role, routine.owner) {
                            self.grant_routine(grant, &wish, &routine)?;
                        }
                    }
                }
                Ok(())
            }
            GrantObjects::Other(kind, _) => {
                self.no_effect(&format!("a {}", super::drop::kind_word(*kind)));
                Ok(())
            }
        }
    }

    fn grant_routine(
        &mut self,
        grant: &parse::Grant,
        wish: &Wish<'_>,
        routine: &Arc<Routine>,
    ) -> Done<()> {
        for privilege in grant.privileges.iter().flatten() {
            if privilege.name != "EXECUTE" {
                return Err(invalid_privilege(&privilege.name, "function").into());
            }
        }
        let all = Privileges::from(Privilege::Execute);
        let old = routine.acl.clone();
        let old = old.unwrap_or_else(|| Acl::of_owner(routine.owner, all));
        let explicit = grant.privileges.is_some();
        let object = ("function", routine.name.as_str());
        let acl = self.changed_acl(wish, (&old, routine.owner), all, explicit, object)?;
        let mut changed = Routine::clone(routine);
        changed.acl = Some(acl);
        self.replace_routine(Arc::clone(routine), changed);
        Ok(())
    }

    fn no_effect(&mut self, what: &str) {
        self.notice(Error::new(
            state::WARNING,
            format!("privileges on {what} have no effect"),
        ));
    }

    /// A relation that the role sees; whether it may grant is decided later.
    fn grantable(&self, name: &ObjectName) -> Result<Arc<Table>> {
        let relation = self.relation(name)?;
        match relation {
            crate::catalog::Relation::Table(table) if table.kind == TableKind::System => {
                Err(Error::new(
                    state::INSUFFICIENT_PRIVILEGE,
                    format!("permission denied: \"{}\" is a system catalog", table.name),
                ))
            }
            crate::catalog::Relation::Table(table) => Ok(table),
            crate::catalog::Relation::Index(table, at) => Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("\"{}\" is an index", table.indexes[at].name),
            )),
        }
    }

    fn grant_tables(
        &mut self,
        grant: &parse::Grant,
        wish: &Wish<'_>,
        names: &[ObjectName],
    ) -> Done<()> {
        for name in names {
            let table = self.grantable(name)?;
            self.grant_table(grant, wish, table.id)?;
        }
        Ok(())
    }

    fn grant_all(
        &mut self,
        grant: &parse::Grant,
        wish: &Wish<'_>,
        schemas: &[String],
        sequences: bool,
    ) -> Done<()> {
        for name in schemas {
            let schema = self.schema_named(name)?;
            let ids: Vec<TableId> = self
                .catalog
                .tables()
                .filter(|t| {
                    t.schema == schema.id
                        && self.catalog.has_role(self.role, t.owner)
                        && t.kind != TableKind::System
                        && matches!(t.kind, TableKind::Sequence(_)) == sequences
                })
                .map(|t| t.id)
                .collect();
            for id in ids {
                self.grant_table(grant, wish, id)?;
            }
        }
        Ok(())
    }

    fn grant_table(&mut self, grant: &parse::Grant, wish: &Wish<'_>, id: TableId) -> Done<()> {
        let table = self.table(id)?;
        self.ground.lock(&table, TableMode::ShareUpdateExclusive)?;
        let all = match table.kind {
            TableKind::Sequence(_) => Privileges::SEQUENCE,
            _ => Privileges::TABLE,
        };
        let (whole, columns) = table_privileges(grant, &table, all)?;
        let named = columns.iter().map(|(_, privileges)| *privileges);
        let reads = named.fold(whole, |all, p| all | p).and(Privileges::READ);
        if table.is_inbox() && !wish.revoke && grant.privileges.is_some() && !reads.is_empty() {
            let message = format!("SELECT on inbox \"{}\" is not granted", table.name);
            return Err(Error::new(state::INVALID_GRANT_OPERATION, message)
                .hint("Who may INSERT commands into it sees its own.")
                .into());
        }
        if !whole.is_empty() {
            let old = table
                .acl
                .clone()
                .unwrap_or_else(|| Acl::of_owner(table.owner, all));
            let explicit = grant.privileges.is_some();
            let word = crate::catalog::kind(&table);
            let name = table.name.clone();
            let new =
                self.changed_acl(wish, (&old, table.owner), whole, explicit, (word, &name))?;
            self.edit_table(id, |t| t.acl = Some(new))?;
        }
        for (column, privileges) in columns {
            let table = self.table(id)?;
            let Some(found) = table.column_by_id(column) else {
                continue;
            };
            // Who may grant on the table may grant on its columns.
            let old = found.acl.clone().unwrap_or_default();
            let name = found.name.clone();
            let base = table
                .acl
                .clone()
                .unwrap_or_else(|| Acl::of_owner(table.owner, all));
            let grantor = self.grantor(
                &[&base, &old],
                table.owner,
                privileges,
                true,
                ("column", &name),
            )?;
            let new = self.apply(wish, &old, grantor.0, grantor.1)?;
            self.edit_column(id, column, |c| {
                c.acl = (!new.0.is_empty()).then_some(new);
            })?;
        }
        self.notice_writes(grant, wish, &table, whole);
        if wish.revoke && !wish.option {
            self.warn_patterns(wish, id, whole)?;
        }
        Ok(())
    }

    /// Writes are the owner's: a named grant of them to others is kept, and said to be idle.
    fn notice_writes(
        &mut self,
        grant: &parse::Grant,
        wish: &Wish<'_>,
        table: &Table,
        whole: Privileges,
    ) {
        let writes = [
            Privilege::Insert,
            Privilege::Update,
            Privilege::Delete,
            Privilege::Truncate,
        ]
        .into_iter()
        .fold(Privileges::NONE, |all, p| all | p.into());
        let others = wish.grantees.iter().any(|g| *g != table.owner);
        let named = whole.and(writes);
        if wish.revoke
            || grant.privileges.is_none()
            || !others
            || named.is_empty()
            || table.kind != TableKind::Table
            || table.is_inbox()
        {
            return;
        }
        let words: Vec<&str> = named.iter().map(Privilege::name).collect();
        self.notice(
            Error::new(
                state::SUCCESSFUL_COMPLETION,
                format!(
                    "{} on table \"{}\" takes effect only for its owner",
                    words.join(", "),
                    table.name
                ),
            )
            .detail("Every table has one writer, its owner."),
        );
    }

    /// After REVOKE: what a pattern still grants (01006).
    fn warn_patterns(&mut self, wish: &Wish<'_>, id: TableId, whole: Privileges) -> Done<()> {
        let table = self.table(id)?;
        if table.schema != SchemaId::PUBLIC {
            return Ok(());
        }
        let still: Vec<Arc<PatternGrant>> = self
            .catalog
            .patterns()
            .filter(|p| {
                p.owner == table.owner
                    && p.covers(&table.name)
                    && wish.grantees.contains(&p.grantee)
                    && !p.privileges.and(whole).is_empty()
            })
            .cloned()
            .collect();
        for pattern in still {
            let grantee = match pattern.grantee {
                RoleId::PUBLIC => "PUBLIC".to_owned(),
                role => format!("\"{}\"", self.catalog.role_name(role)),
            };
            self.notice(
                Error::new(
                    state::PRIVILEGE_NOT_REVOKED,
                    format!(
                        "pattern \"{}\" still grants {} on table \"{}\" to {grantee}",
                        pattern.pattern,
                        words(pattern.privileges.and(whole)),
                        table.name
                    ),
                )
                .hint(format!(
                    "REVOKE {} ON {} FROM {grantee} revokes the pattern.",
                    words(pattern.privileges.and(taken(whole))),
                    pattern.pattern
                )),
            );
        }
        Ok(())
    }

    fn grant_schema(
        &mut self,
        grant: &parse::Grant,
        wish: &Wish<'_>,
        schema: &Arc<Schema>,
    ) -> Done<()> {
        let whole = match &grant.privileges {
            None => Privileges::SCHEMA,
            Some(list) => {
                let mut all = Privileges::NONE;
                for p in list {
                    all |= match p.name.as_str() {
                        "USAGE" => Privilege::Usage.into(),
                        "CREATE" => Privilege::Create.into(),
                        other => return Err(invalid_privilege(other, "schema").into()),
                    };
                }
                all
            }
        };
        if schema.id == SchemaId::PUBLIC && !self.catalog.is_superuser(self.role) {
            return Err(Error::new(
                state::INSUFFICIENT_PRIVILEGE,
                "permission denied for schema public",
            )
            .into());
        }
        let private = self
            .catalog
            .role(schema.owner)
            .is_some_and(|r| r.schema == schema.id);
        if !wish.revoke && whole.has(Privilege::Create) && (private || schema.id.0 > 16_383) {
            self.notice(
                Error::new(
                    state::SUCCESSFUL_COMPLETION,
                    format!(
                        "CREATE on schema \"{}\" takes effect only for its owner",
                        schema.name
                    ),
                )
                .detail("All objects of a private schema belong to the schema's owner."),
            );
        }
        let old = schema
            .acl
            .clone()
            .unwrap_or_else(|| Acl::of_owner(schema.owner, Privileges::SCHEMA));
        let name = schema.name.clone();
        let explicit = grant.privileges.is_some();
        let new = self.changed_acl(
            wish,
            (&old, schema.owner),
            whole,
            explicit,
            ("schema", &name),
        )?;
        self.edit_schema(schema, |s| s.acl = Some(new))
    }

    fn changed_acl(
        &mut self,
        wish: &Wish<'_>,
        (old, owner): (&Acl, RoleId),
        whole: Privileges,
        explicit: bool,
        object: (&str, &str),
    ) -> Done<Acl> {
        let (grantor, may) = self.grantor(&[old], owner, whole, explicit, object)?;
        self.apply(wish, old, grantor, may)
    }

    /// In whose name privileges are given (the owner's, or that of a role with grant options),
    /// and which of them may be: none is 42501, not all is a warning.
    fn grantor(
        &mut self,
        acls: &[&Acl],
        owner: RoleId,
        whole: Privileges,
        explicit: bool,
        (word, name): (&str, &str),
    ) -> Done<(RoleId, Privileges)> {
        if self.catalog.has_role(self.role, owner) {
            return Ok((owner, whole));
        }
        let grantable = acls.iter().fold(Privileges::NONE, |all, acl| {
            all | acl.grantable(|g| self.catalog.inherits(self.role, g))
        });
        let may = whole.and(grantable);
        if may.is_empty() {
            return Err(Error::new(
                state::INSUFFICIENT_PRIVILEGE,
                format!("permission denied for {word} {name}"),
            )
            .into());
        }
        if may != whole && explicit {
            self.notice(Error::new(
                state::PRIVILEGE_NOT_GRANTED,
                format!("not all privileges were granted for \"{name}\""),
            ));
        }
        // The role that holds the option is the grantor, as PostgreSQL's select_best_grantor.
        let holder = acls
            .iter()
            .flat_map(|a| a.0.iter())
            .find(|i| self.catalog.inherits(self.role, i.grantee) && i.options.contains(may))
            .map_or(self.role, |i| i.grantee);
        Ok((holder, may))
    }

    fn apply(
        &mut self,
        wish: &Wish<'_>,
        old: &Acl,
        grantor: RoleId,
        whole: Privileges,
    ) -> Done<Acl> {
        let mut acl = old.clone();
        for grantee in wish.grantees {
            if wish.revoke {
                revoke(
                    &mut acl,
                    *grantee,
                    grantor,
                    whole,
                    wish.option,
                    wish.cascade,
                )?;
            } else {
                acl.grant(*grantee, grantor, whole, wish.option);
            }
        }
        Ok(acl)
    }

    /// GRANT ... ON order_*: kept as a pattern over the grantor's own tables in `public`.
    fn grant_pattern(&mut self, grant: &parse::Grant, wish: &Wish<'_>, pattern: &str) -> Done<()> {
        let whole = pattern_privileges(grant)?;
        if wish.option {
            return Err(Error::unsupported("a grant option for a pattern").into());
        }
        let owner = self.role;
        let group = self.ground.group_for(owner)?;
        for grantee in wish.grantees {
            let found = self
                .catalog
                .patterns()
                .find(|p| p.owner == owner && p.pattern == pattern && p.grantee == *grantee)
                .cloned();
            if wish.revoke {
                self.revoke_pattern(group, found, whole, pattern, *grantee)?;
                continue;
            }
            match found {
                Some(old) => {
                    let new = PatternGrant {
                        privileges: old.privileges | whole,
                        ..(*old).clone()
                    };
                    if new != *old {
                        self.change(Change::replace(
                            group,
                            Object::Pattern(old),
                            Object::Pattern(Arc::new(new)),
                        ));
                    }
                }
                None => {
                    let own = self.catalog.patterns().filter(|p| p.owner == owner).count();
                    if own >= PATTERNS_MAX {
                        return Err(Error::new(
                            state::CONFIGURATION_LIMIT_EXCEEDED,
                            format!("a role can have at most {PATTERNS_MAX} grants by pattern"),
                        )
                        .into());
                    }
                    let new = PatternGrant {
                        id: self.oid(group)?,
                        owner,
                        pattern: pattern.to_owned(),
                        grantee: *grantee,
                        privileges: whole,
                    };
                    self.change(Change::create(group, Object::Pattern(Arc::new(new))));
                }
            }
        }
        Ok(())
    }

    fn revoke_pattern(
        &mut self,
        group: storage::GroupId,
        found: Option<Arc<PatternGrant>>,
        whole: Privileges,
        pattern: &str,
        grantee: RoleId,
    ) -> Done<()> {
        let whole = taken(whole);
        let Some(old) = found.filter(|p| !p.privileges.and(whole).is_empty()) else {
            let grantee = match grantee {
                RoleId::PUBLIC => "PUBLIC".to_owned(),
                role => format!("\"{}\"", self.catalog.role_name(role)),
            };
            self.notice(Error::new(
                state::PRIVILEGE_NOT_REVOKED,
                format!("pattern \"{pattern}\" grants nothing of that to {grantee}"),
            ));
            return Ok(());
        };
        // What it gives on a table that nobody writes any more the table keeps by itself.
        let left = |table: &&Arc<Table>| table.has_left() && old.covers(&table.name);
        if let Some(table) = self.catalog.tables_in(group).find(left) {
            return Err(being_moved(table).into());
        }
        let left = old.privileges.without(whole);
        let new = (!left.is_empty()).then(|| {
            Object::Pattern(Arc::new(PatternGrant {
                privileges: left,
                ..(*old).clone()
            }))
        });
        self.change(Change {
            group,
            old: Some(Object::Pattern(old)),
            new,
        });
        Ok(())
    }
}

/// What goes with privileges that are taken back: who may not SELECT may not follow either, for
/// the feed shows the same rows.
fn taken(whole: Privileges) -> Privileges {
    match whole.has(Privilege::Select) {
        true => whole | Privileges::READ,
        false => whole,
    }
}

/// Takes privileges back, and with CASCADE what was passed on by virtue of them.
fn revoke(
    acl: &mut Acl,
    grantee: RoleId,
    grantor: RoleId,
    whole: Privileges,
    option_only: bool,
    cascade: bool,
) -> Result<()> {
    let whole = taken(whole);
    let taken = acl.revoke(grantee, grantor, whole, option_only);
    if taken.is_empty() {
        return Ok(());
    }
    // What the grantee passed on stands as long as another grantor's option carries it.
    let still = acl.grantable(|g| g == grantee);
    let lost = taken.without(still);
    let dependents: Vec<(RoleId, Privileges)> = acl
        .0
        .iter()
        .filter(|i| i.grantor == grantee && !i.privileges.and(lost).is_empty())
        .map(|i| (i.grantee, i.privileges.and(lost)))
        .collect();
    if dependents.is_empty() || grantee == grantor {
        return Ok(());
    }
    if !cascade {
        return Err(Error::new(
            state::DEPENDENT_OBJECTS_STILL_EXIST,
            "dependent privileges exist",
        )
        .hint("Use CASCADE to revoke them too."));
    }
    for (next, privileges) in dependents {
        if next != grantee {
            revoke(acl, next, grantee, privileges, false, true)?;
        }
    }
    Ok(())
}

fn words(privileges: Privileges) -> String {
    if privileges.contains(Privileges::READ) {
        let rest = privileges.without(Privileges::READ);
        let mut out = vec!["READ"];
        out.extend(rest.iter().map(Privilege::name));
        return out.join(", ");
    }
    privileges
        .iter()
        .map(Privilege::name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn invalid_privilege(name: &str, kind: &str) -> Error {
    Error::new(
        state::INVALID_GRANT_OPERATION,
        format!("invalid privilege type {name} for {kind}"),
    )
}

fn table_privilege(name: &str, table: &Table) -> Result<Privileges> {
    let sequence = matches!(table.kind, TableKind::Sequence(_));
    Ok(match name {
        "READ" if !sequence => Privileges::READ,
        "SELECT" => Privilege::Select.into(),
        "UPDATE" => Privilege::Update.into(),
        "USAGE" if sequence => Privilege::Usage.into(),
        "INSERT" if !sequence => Privilege::Insert.into(),
        "DELETE" if !sequence => Privilege::Delete.into(),
        "TRUNCATE" if !sequence => Privilege::Truncate.into(),
        "REFERENCES" if !sequence => Privilege::References.into(),
        "TRIGGER" if !sequence => Privilege::Trigger.into(),
        other => {
            let kind = match other {
                _ if sequence => "sequence",
                "USAGE" => "table",
                _ => "relation",
            };
            return Err(invalid_privilege(other, kind));
        }
    })
}

/// Privileges on the whole and on single columns.
type Split = (Privileges, Vec<(ColumnId, Privileges)>);

fn table_privileges(grant: &parse::Grant, table: &Table, all: Privileges) -> Result<Split> {
    let mut columns: Vec<(ColumnId, Privileges)> = Vec::new();
    let mut on_columns = |names: &[String], what: Privileges| -> Result<()> {
        for name in names {
            let column = super::constraint::column_named(table, name)?;
            match columns.iter_mut().find(|(id, _)| *id == column.id) {
                Some((_, privileges)) => *privileges |= what,
                None => columns.push((column.id, what)),
            }
        }
        Ok(())
    };
    let Some(list) = &grant.privileges else {
        if grant.all_columns.is_empty() {
            // ALL includes following: READ is what the feed asks for.
            let follow: Privileges = match table.kind {
                TableKind::Sequence(_) => Privileges::NONE,
                _ => Privilege::Follow.into(),
            };
            return Ok((all | follow, Vec::new()));
        }
        on_columns(&grant.all_columns, Privileges::COLUMN)?;
        return Ok((Privileges::NONE, columns));
    };
    let mut whole = Privileges::NONE;
    for PrivilegeName {
        name,
        columns: names,
    } in list
    {
        let what = table_privilege(name, table)?;
        if names.is_empty() {
            whole |= what;
        } else if Privileges::COLUMN.contains(what) {
            on_columns(names, what)?;
        } else {
            return Err(invalid_privilege(name, "column"));
        }
    }
    Ok((whole, columns))
}

fn pattern_privileges(grant: &parse::Grant) -> Result<Privileges> {
    let Some(list) = &grant.privileges else {
        return Err(Error::new(
            state::INVALID_GRANT_OPERATION,
            "ALL cannot be granted by pattern",
        )
        .hint("Name READ, SELECT, INSERT or REFERENCES."));
    };
    let mut whole = Privileges::NONE;
    for PrivilegeName { name, columns } in list {
        if !columns.is_empty() {
            return Err(Error::new(
                state::INVALID_GRANT_OPERATION,
                "columns cannot be named in a grant by pattern",
            ));
        }
        whole |= match name.as_str() {
            "READ" => Privileges::READ,
            "SELECT" => Privilege::Select.into(),
            "INSERT" => Privilege::Insert.into(),
            "REFERENCES" => Privilege::References.into(),
            other => {
                return Err(Error::new(
                    state::INVALID_GRANT_OPERATION,
                    format!("{other} cannot be granted by pattern"),
                )
                .hint("READ, SELECT, INSERT and REFERENCES can."));
            }
        };
    }
    Ok(whole)
}
