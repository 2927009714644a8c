//! One DDL statement while it is decided: the catalog as it would be, what must be done to rows
//! afterwards, and what it needs from outside (OIDs, groups, names, locks).

use std::sync::Arc;

use storage::{GroupId, Position};

use crate::Error;
use crate::catalog::{
    Catalog, Change, Column, ColumnId, Object, RoleId, SchemaId, Table, TableId, TableKind,
    history_of,
};
use crate::integrity::Wanted;
use crate::transaction::{Stop, TableMode};
use crate::types::{CastContext, Type};

/// What a step of DDL gives, unless it fails or has to wait.
pub(crate) type Done<T> = std::result::Result<T, Stop>;

/// What deciding needs from outside; [`crate::transaction::Transaction`] gives it, tests have
/// their own. Every method may stop to wait: the statement then runs again from its start.
pub(crate) trait Ground {
    /// A new OID of the group's blocks; also the number of a new tree.
    fn oid(&mut self, group: GroupId) -> Done<u32>;

    /// The group of an owner, made if there is none yet.
    fn group_for(&mut self, owner: RoleId) -> Done<GroupId>;

    /// Sees to it that the owner has a group, wherever that is led.
    fn have_group(&mut self, owner: RoleId) -> Done<()>;

    /// Brings another owner's table to this node, if it is one that is to keep what the role
    /// follows.
    fn hold(&mut self, role: RoleId, table: &Table) -> Done<()>;

    /// Has a foreign key to another owner's table noted by that owner; its OID. Tests decide on paper.
    fn reference(&mut self, wanted: &Wanted<'_>) -> Done<u32> {
        self.oid(wanted.home)
    }

    /// Keeps a relation's name from others until the transaction ends.
    fn lock_name(&mut self, group: GroupId, schema: SchemaId, name: &str) -> Done<()>;

    /// Reserves names in `public` (or schema names: schema 0) in the directory.
    fn reserve(&mut self, names: &[(SchemaId, String)], owner: RoleId) -> Done<()>;

    /// The time, in microseconds since 1970.
    fn now(&self) -> u64;

    /// The statement's snapshot position of a group.
    fn position(&mut self, group: GroupId) -> Done<Position>;

    /// Locks a table as a whole.
    fn lock(&mut self, table: &Table, mode: TableMode) -> Done<()>;

    /// Checks a stored expression: names, types, and that it can be assigned to `expected`.
    fn check_expression(
        &mut self,
        catalog: &Arc<Catalog>,
        table: &Arc<Table>,
        text: &str,
        expected: Option<&Column>,
        what: Use,
    ) -> Done<()>;

    /// The encoded value of a default that is the same for all rows (empty = NULL), or `None` if
    /// it is not.
    fn constant(
        &mut self,
        catalog: &Arc<Catalog>,
        table: &Arc<Table>,
        column: &Column,
        text: &str,
    ) -> Done<Option<Vec<u8>>>;

    /// May a value of the column be assigned to another type without USING?
    fn check_assignment(&mut self, column: &Column, to: Type) -> Done<()> {
        let castable = crate::types::cast_function(column.ty, to)
            .is_some_and(|c| matches!(c.context, CastContext::Implicit | CastContext::Assignment));
        if castable {
            return Ok(());
        }
        let message = format!(
            "column \"{}\" cannot be cast automatically to type {}",
            column.name,
            to.name()
        );
        Err(Error::new(crate::state::DATATYPE_MISMATCH, message)
            .hint(format!(
                "You might need to specify \"USING {}::{}\".",
                super::expression::quote(&column.name),
                to.name()
            ))
            .into())
    }

    /// The columns of a view's or CREATE TABLE AS's query, with their types.
    fn describe_query(
        &mut self,
        catalog: &Arc<Catalog>,
        query: &sqlparser::ast::Query,
    ) -> Done<Described>;

    /// Binds a query as its author means it: its names, and what he may read.
    fn check_query(&mut self, catalog: &Arc<Catalog>, query: &sqlparser::ast::Query) -> Done<()> {
        self.describe_query(catalog, query).map(drop)
    }

    /// Salt for a new password verifier.
    fn random(&mut self) -> [u8; 16];
}

/// What a query gives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Described {
    /// Names and types of the columns.
    pub columns: Vec<(String, Type)>,
    /// It calls functions of users.
    pub routines: bool,
}

/// What a stored expression is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// DEFAULT: no columns.
    Default,
    /// GENERATED ... STORED: immutable.
    Generated,
    /// CHECK.
    Check,
    /// An index expression: immutable.
    Index,
    /// The WHERE of an index: immutable.
    Predicate,
    /// USING of ALTER COLUMN TYPE.
    Rewrite,
}

/// What must be done to rows once the catalog has changed, in order.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Fill a new index from the rows.
    BuildIndex { table: TableId, index: u32 },
    /// Copy all rows from a tree into the table as it is now, in its new tree(s).
    Rewrite {
        old: Arc<Table>,
        table: TableId,
        using: Vec<(ColumnId, String)>,
    },
    /// No row may have NULL there.
    CheckNotNull { table: TableId, column: ColumnId },
    /// Every row must satisfy the check.
    CheckRows { table: TableId, constraint: u32 },
    /// Every row must reference an existing one.
    CheckForeign { table: TableId, constraint: u32 },
    /// A sequence's first (or next) number.
    SetSequence {
        group: GroupId,
        sequence: TableId,
        last: i64,
        called: bool,
    },
    /// A sequence's state is gone.
    DropSequence { group: GroupId, sequence: TableId },
    /// All keys of a table go: other owners who reference them are asked.
    Ask { table: Arc<Table> },
    /// A tree is gone.
    DropTree { group: GroupId, tree: u32 },
    /// Rows of CREATE TABLE AS.
    Fill {
        table: TableId,
        query: Box<sqlparser::ast::Query>,
    },
    /// Rows of CREATE MATERIALIZED VIEW.
    FillProjection { table: TableId },
    /// Fill a column that was added with a default that is not one constant.
    FillColumn { table: TableId, column: ColumnId },
}

/// The statement so far.
pub(crate) struct Draft<'a> {
    /// The catalog with everything decided so far.
    pub catalog: Arc<Catalog>,
    /// Outside.
    pub ground: &'a mut dyn Ground,
    /// `current_user`.
    pub role: RoleId,
    /// `session_user`.
    pub login: RoleId,
    /// `search_path`, resolved.
    pub path: Vec<SchemaId>,
    changes: Vec<Change>,
    /// What to do to rows.
    pub work: Vec<Work>,
    /// What to tell the client; the state says whether NOTICE (00000) or WARNING (01xxx).
    pub notices: Vec<Error>,
    /// The names in `public` that the statement has reserved, and for whom.
    pub reserved: Option<(Vec<(SchemaId, String)>, RoleId)>,
    /// Relations that the DDL event names, with their tags: (group, tree, qualified name).
    pub touched: Vec<(GroupId, Option<u32>, String)>,
    /// A table that is to become another owner's.
    pub moved: Option<(Arc<Table>, RoleId)>,
}

impl<'a> Draft<'a> {
    /// Nothing decided yet.
    pub fn new(
        catalog: &Arc<Catalog>,
        ground: &'a mut dyn Ground,
        role: RoleId,
        login: RoleId,
        path: &[SchemaId],
    ) -> Draft<'a> {
        Draft {
            catalog: Arc::clone(catalog),
            ground,
            role,
            login,
            path: path.to_vec(),
            changes: Vec::new(),
            work: Vec::new(),
            notices: Vec::new(),
            touched: Vec::new(),
            reserved: None,
            moved: None,
        }
    }

    /// Adds a change: to the draft's catalog at once, to the transaction at the end.
    pub fn change(&mut self, change: Change) {
        self.catalog = Arc::new(self.catalog.with(std::slice::from_ref(&change)));
        let same = |c: &Change| {
            let (a, b) = (c.new.as_ref().or(c.old.as_ref()), change.new.as_ref());
            match (a, b.or(change.old.as_ref())) {
                (Some(a), Some(b)) => identity(a) == identity(b),
                _ => false,
            }
        };
        match self.changes.iter_mut().find(|c| same(c)) {
            Some(earlier) => earlier.new = change.new,
            None => self.changes.push(change),
        }
    }

    /// The net changes so far.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The net changes: at most one per object.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = std::mem::take(&mut self.changes);
        changes.retain(|c| c.old.is_some() || c.new.is_some());
        changes
    }

    /// Puts a table that is new.
    pub fn create_table(&mut self, mut table: Table) -> Done<Arc<Table>> {
        table.since = self.ground.position(table.group)?;
        table.history = history_of(None, &table);
        let table = Arc::new(table);
        self.touch(&table);
        self.change(Change::create(
            table.group,
            Object::Table(Arc::clone(&table)),
        ));
        Ok(table)
    }

    /// Puts another descriptor in a table's place.
    pub fn replace_table(&mut self, mut table: Table) -> Done<Arc<Table>> {
        let old = self.table(table.id)?;
        if *old == table {
            return Ok(old);
        }
        if old.has_left() {
            return Err(crate::moving::being_moved(&old).into());
        }
        table.since = self.ground.position(table.group)?;
        table.history = history_of(Some(&old), &table);
        let table = Arc::new(table);
        self.touch(&table);
        self.change(Change::replace(
            table.group,
            Object::Table(old),
            Object::Table(Arc::clone(&table)),
        ));
        Ok(table)
    }

    /// Changes a table's descriptor in place.
    pub fn edit_table(&mut self, id: TableId, edit: impl FnOnce(&mut Table)) -> Done<Arc<Table>> {
        let mut table = Table::clone(&*self.table(id)?);
        edit(&mut table);
        self.replace_table(table)
    }

    /// The table as it is by now.
    pub fn table(&self, id: TableId) -> Done<Arc<Table>> {
        let found = self.catalog.table(id).cloned();
        found.ok_or_else(|| Error::internal(format!("table {id} is not in the catalog")).into())
    }

    /// Names the table in the DDL event.
    pub fn touch(&mut self, table: &Table) {
        let tree = (table.kind == TableKind::Table).then_some(table.tree);
        let name = format!("{}.{}", self.catalog.schema_name(table.schema), table.name);
        let entry = (table.group, tree, name);
        if !self.touched.contains(&entry) {
            self.touched.push(entry);
        }
    }

    /// Tells the client something.
    pub fn notice(&mut self, notice: Error) {
        self.notices.push(notice);
    }

    /// IF EXISTS met nothing: the error's words as a notice. Its state is success, as PostgreSQL's.
    pub fn skips(&mut self, missing: &str) {
        let message = format!("{missing}, skipping");
        self.notice(Error::new(crate::state::SUCCESSFUL_COMPLETION, message));
    }

    /// A new OID in a group.
    pub fn oid(&mut self, group: GroupId) -> Done<u32> {
        self.ground.oid(group)
    }
}

fn identity(object: &Object) -> (u8, u32, u32, &str) {
    use crate::catalog::Followed;
    match object {
        Object::Table(t) => (0, t.id.0, 0, ""),
        Object::Schema(s) => (1, s.id.0, 0, ""),
        Object::Pattern(p) => (2, p.id, 0, ""),
        Object::Role(r) => (3, r.id.0, 0, ""),
        Object::Membership(m) => (4, m.role.0, m.member.0, ""),
        Object::Owner(o) => (5, o.role.0, 0, ""),
        Object::Reservation(r) => (6, r.schema.0, 0, &r.name),
        Object::Node(n) => (7, n.number, 0, ""),
        Object::Placement(p) => (8, p.group, 0, ""),
        Object::Follow(f) => match &f.what {
            Followed::Table(table) => (9, f.role.0, table.0, ""),
            Followed::Pattern(pattern) => (10, f.role.0, 0, pattern),
        },
        Object::LastRead(r) => (11, r.table.0, r.role.0, ""),
        Object::Routine(r) => (12, r.id, 0, ""),
        Object::Trigger(t) => (13, t.id, 0, ""),
    }
}
