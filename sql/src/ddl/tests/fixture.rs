//! A catalog on its own: statements as any role, system trees as maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sqlparser::ast;
use storage::{GroupId, Position};

use crate::catalog::directory::{self, Reserved};
use crate::catalog::{
    self, Cache, Catalog, Change, Column, ColumnId, Object, Owner, Role, RoleId, SchemaId,
    SystemWrite, Table, TableId,
};
use crate::ddl::draft::{Described, Done, Draft, Ground, Use, Work};
use crate::parse::{self, Statement};
use crate::transaction::{Stop, TableMode};
use crate::types::Type;
use crate::{Error, Result};

/// The rows of all trees of all groups.
type Trees = BTreeMap<(u32, u32, Bytes), Bytes>;

pub(crate) struct Fixture {
    pub cache: Cache,
    pub trees: Trees,
    pub position: u64,
    pub notices: Vec<Error>,
    pub work: Vec<Work>,
    outside: Outside,
}

pub(crate) struct Outside {
    next_oid: u32,
    pub now: u64,
    pub pending: Vec<(GroupId, SystemWrite)>,
    catalog: Arc<Catalog>,
    position: u64,
    pub locks: Vec<(TableId, TableMode)>,
    fail_after_reserve: bool,
}

impl Ground for Outside {
    fn oid(&mut self, _: GroupId) -> Done<u32> {
        self.next_oid += 1;
        Ok(self.next_oid)
    }

    fn group_for(&mut self, owner: RoleId) -> Done<GroupId> {
        if let Some(group) = self.catalog.group_of(owner) {
            return Ok(group);
        }
        let (group, writes) = directory::owner(&self.catalog, owner);
        self.pending
            .extend(writes.into_iter().map(|w| (GroupId::DIRECTORY, w)));
        let change = Change::create(
            GroupId::DIRECTORY,
            Object::Owner(Owner {
                role: owner,
                group: group.0,
            }),
        );
        self.catalog = Arc::new(self.catalog.with(&[change]));
        Ok(group)
    }

    fn have_group(&mut self, owner: RoleId) -> Done<()> {
        self.group_for(owner).map(drop)
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn hold(&mut self, _: RoleId, _: &Table) -> Done<()> {
        Ok(())
    }

    fn reserve(&mut self, names: &[(SchemaId, String)], owner: RoleId) -> Done<()> {
        if let Reserved::Write(rows) = directory::reserve(&self.catalog, names, owner, self.now)? {
            self.pending
                .extend(rows.into_iter().map(|w| (GroupId::DIRECTORY, w)));
        }
        if self.fail_after_reserve {
            return Err(Error::internal("the commit does not come").into());
        }
        Ok(())
    }

    fn lock_name(&mut self, _: GroupId, _: SchemaId, _: &str) -> Done<()> {
        Ok(())
    }

    fn position(&mut self, _: GroupId) -> Done<Position> {
        Ok(Position(self.position))
    }

    fn lock(&mut self, table: &Table, mode: TableMode) -> Done<()> {
        self.locks.push((table.id, mode));
        Ok(())
    }

    fn check_expression(
        &mut self,
        _: &Arc<Catalog>,
        _: &Arc<Table>,
        _: &str,
        _: Option<&Column>,
        _: Use,
    ) -> Done<()> {
        Ok(())
    }

    fn constant(
        &mut self,
        _: &Arc<Catalog>,
        _: &Arc<Table>,
        _: &Column,
        text: &str,
    ) -> Done<Option<Vec<u8>>> {
        Ok(text.parse::<i32>().ok().map(|n| n.to_le_bytes().to_vec()))
    }

    fn describe_query(&mut self, catalog: &Arc<Catalog>, query: &ast::Query) -> Done<Described> {
        // Enough for `SELECT a, b FROM t` of one schema-qualified table.
        let ast::SetExpr::Select(select) = query.body.as_ref() else {
            return Err(Error::unsupported("this query").into());
        };
        let mut out = Described::default();
        let mut tables = Vec::new();
        for from in &select.from {
            if let ast::TableFactor::Table { name, .. } = &from.relation {
                let text = name.to_string();
                let parts: Vec<&str> = text.split('.').collect();
                tables.push(catalog.resolve_table(
                    &parts,
                    &[SchemaId::PUBLIC],
                    RoleId::POSTGRES,
                )?);
            }
        }
        for item in &select.projection {
            let name = item.to_string();
            let found = tables.iter().find_map(|t| t.column(&name).map(|c| c.ty));
            out.columns.push((name, found.unwrap_or(Type::INT4)));
        }
        Ok(out)
    }

    fn random(&mut self) -> [u8; 16] {
        [7; 16]
    }
}

impl Fixture {
    /// A new cluster with the superuser only.
    pub fn new() -> Fixture {
        let cache = Cache::new(Catalog::base(&[]));
        let mut fixture = Fixture {
            trees: Trees::new(),
            position: 100,
            notices: Vec::new(),
            work: Vec::new(),
            outside: Outside {
                next_oid: 20_000,
                now: 1_000_000_000,
                pending: Vec::new(),
                catalog: cache.get(),
                position: 0,
                locks: Vec::new(),
                fail_after_reserve: false,
            },
            cache,
        };
        fixture.commit(GroupId::DIRECTORY, catalog::first_rows(None));
        fixture
    }

    /// With roles `a`, `b`, `c` that may log in.
    pub fn with_roles() -> Fixture {
        let mut fixture = Fixture::new();
        for role in ["a", "b", "c"] {
            fixture.ok("postgres", &format!("CREATE ROLE {role} LOGIN"));
        }
        fixture
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        self.cache.get()
    }

    pub fn role(&self, name: &str) -> Arc<Role> {
        Arc::clone(self.catalog().find_role(name).expect("the role exists"))
    }

    /// The time, in microseconds since 1970.
    pub fn now(&self) -> u64 {
        self.outside.now
    }

    pub fn advance(&mut self, micros: u64) {
        self.outside.now += micros;
    }

    /// Writes an entry of one group.
    pub fn commit(&mut self, group: GroupId, writes: Vec<SystemWrite>) {
        self.position += 10;
        for write in &writes {
            let key = (group.0, write.tree, write.key.clone());
            match &write.value {
                Some(value) => self.trees.insert(key, value.clone()),
                None => self.trees.remove(&key),
            };
        }
        let changes = writes
            .iter()
            .map(|w| (w.tree, w.key.as_ref(), w.value.as_deref()));
        self.cache
            .apply(group, Position(self.position), changes)
            .expect("own rows are readable");
    }

    /// Runs a statement as a role; the tag.
    pub fn run(&mut self, role: &str, sql: &str) -> Result<String> {
        let mut tag = String::new();
        for parsed in parse::parse(sql)? {
            let Statement::Ddl(ddl) = parsed.statement else {
                panic!("not DDL: {sql}");
            };
            tag = self.run_one(role, &ddl)?;
        }
        Ok(tag)
    }

    fn run_one(&mut self, role: &str, ddl: &parse::Ddl) -> Result<String> {
        let catalog = self.catalog();
        let role = catalog.find_role(role)?.id;
        let path = catalog.search_path(&["$user".to_owned(), "public".to_owned()], role);
        self.outside.catalog = Arc::clone(&catalog);
        self.outside.position = self.position;
        self.outside.locks.clear();
        let mut draft = Draft::new(&catalog, &mut self.outside, role, role, &path);
        let decided = draft.decide(ddl);
        let changes = draft.take_changes();
        let derived = Arc::clone(&draft.catalog);
        let (notices, work) = (draft.notices, draft.work);
        // Side entries stand even if the statement fails.
        let pending = std::mem::take(&mut self.outside.pending);
        if !pending.is_empty() {
            let writes = pending.into_iter().map(|(_, w)| w).collect();
            self.commit(GroupId::DIRECTORY, writes);
        }
        let tag = match decided {
            Ok(tag) => tag.to_owned(),
            Err(Stop::Error(error)) => return Err(error),
            Err(stop) => panic!("the fixture never waits: {stop:?}"),
        };
        self.notices = notices;
        self.work = work;
        let groups: Vec<GroupId> = {
            let mut all: Vec<GroupId> = changes.iter().map(|c| c.group).collect();
            all.sort();
            all.dedup();
            all
        };
        for group in groups {
            let writes = changes
                .iter()
                .filter(|c| c.group == group)
                .flat_map(catalog::rows)
                .collect();
            self.commit(group, writes);
        }
        self.same(&derived, &self.catalog());
        Ok(tag)
    }

    pub fn ok(&mut self, role: &str, sql: &str) -> String {
        self.run(role, sql)
            .unwrap_or_else(|e| panic!("{role}: {sql}: {e:?}"))
    }

    /// The SQLSTATE and the message of a statement that must fail.
    pub fn error(&mut self, role: &str, sql: &str) -> Error {
        match self.run(role, sql) {
            Ok(tag) => panic!("{role}: {sql}: {tag}, and should have failed"),
            Err(error) => error,
        }
    }

    pub fn fails(&mut self, role: &str, sql: &str, state: &str, message: &str) {
        let error = self.error(role, sql);
        assert_eq!(
            (error.state().as_str(), error.0.message.as_str()),
            (state, message),
            "{sql}"
        );
    }

    /// A statement whose commit never comes after names were reserved.
    pub fn lost(&mut self, role: &str, sql: &str) {
        self.outside.fail_after_reserve = true;
        assert!(self.run(role, sql).is_err());
        self.outside.fail_after_reserve = false;
    }

    pub fn table(&self, name: &str) -> Arc<Table> {
        let catalog = self.catalog();
        let found = catalog
            .tables()
            .find(|t| name == format!("{}.{}", catalog.schema_name(t.schema), t.name));
        Arc::clone(found.unwrap_or_else(|| panic!("{name} does not exist")))
    }

    pub fn column(&self, table: &str, column: &str) -> ColumnId {
        self.table(table)
            .column(column)
            .expect("the column exists")
            .id
    }

    /// A catalog read from the trees alone.
    pub fn rebuilt(&self) -> Arc<Catalog> {
        let cache = Cache::new(Catalog::base(&[]));
        let mut groups: Vec<u32> = self.trees.keys().map(|k| k.0).collect();
        groups.dedup();
        for group in groups {
            let rows = |tree: u32| -> Result<catalog::Rows<'_>> {
                let rows = self
                    .trees
                    .iter()
                    .filter(move |(k, _)| k.0 == group && k.1 == tree)
                    .map(|(k, v)| Ok((k.2.clone(), v.clone())));
                Ok(Box::new(rows))
            };
            cache
                .load(GroupId(group), Position(1), rows)
                .expect("own rows are readable");
        }
        cache.get()
    }

    /// Two catalogs hold the same objects (apart from versions, positions and lapsed names).
    pub fn same(&self, a: &Catalog, b: &Catalog) {
        let tables = |c: &Catalog| -> Vec<Table> {
            c.tables()
                .map(|t| {
                    let mut t = Table::clone(t);
                    t.since = Position::ZERO;
                    t
                })
                .collect()
        };
        assert_eq!(tables(a), tables(b));
        assert!(a.roles().eq(b.roles()));
        assert!(a.memberships().eq(b.memberships()));
        assert!(a.schemas().eq(b.schemas()));
        assert!(a.patterns().eq(b.patterns()));
        assert!(a.owners().eq(b.owners()) || a.owners().count() < b.owners().count());
        for table in a.tables() {
            for catalog in [a, b] {
                let found = catalog.relation_by_name(table.schema, &table.name);
                assert_eq!(found.map(|r| r.oid()), Some(table.id.0), "{}", table.name);
                for index in &table.indexes {
                    let found = catalog.relation_by_name(table.schema, &index.name);
                    assert_eq!(found.map(|r| r.oid()), Some(index.id), "{}", index.name);
                }
                assert_eq!(
                    catalog.table_of_tree(table.group, table.tree),
                    (table.tree != 0).then_some(table.id)
                );
            }
        }
    }
}
