//! What contracts a script of DDL leaves, decided on paper: no rows, no journal, no other owners.

use std::sync::Arc;

use sqlparser::ast;
use storage::{GroupId, Position};

use super::draft::{Described, Done, Draft, Ground, Use};
use crate::catalog::{
    self, Cache, Catalog, Column, RoleId, SUPERUSER, SchemaId, Table, directory::FIRST_OID,
};
use crate::parse::{self, Ddl, ObjectKind, Parsed, Statement};
use crate::transaction::{Stop, TableMode};
use crate::{Error, Result};

/// Who owns what a script makes.
const OWNER: &str = "owner";
/// The group of its tables.
const GROUP: GroupId = GroupId(1);

/// The catalog behind a script, such as a team keeps of its schema. Statements that
/// make no tables are passed over: of sessions, roles, grants, rows, views and functions. A psql
/// command (a line with a backslash first) is none.
///
/// # Errors
/// What a statement is refused for, with its text as context; 0A000 for what can't be known on paper.
pub fn catalog_of(script: &str) -> Result<Arc<Catalog>> {
    let lines = script.lines().filter(|line| !line.starts_with('\\'));
    let script = lines.collect::<Vec<_>>().join("\n");
    let cache = Cache::new(Catalog::base(&[]));
    let rows = catalog::first_rows(None);
    let changes = rows.iter().map(|w| (w.tree, &*w.key, w.value.as_deref()));
    cache.apply(GroupId::DIRECTORY, Position(1), changes)?;
    let mut paper = Paper { oid: FIRST_OID };
    let superuser = cache.get().find_role(SUPERUSER)?.id;
    let mut catalog = cache.get();
    for create in parse::parse(&format!("CREATE ROLE {OWNER} LOGIN"))? {
        catalog = paper.decide(&catalog, &create, superuser)?;
    }
    let owner = catalog.find_role(OWNER)?.id;
    for statement in parse::parse(&script)? {
        let decided = paper.decide(&catalog, &statement, owner);
        catalog = decided.map_err(|error| error.context(statement.text))?;
    }
    Ok(catalog)
}

/// Nothing but numbers.
struct Paper {
    oid: u32,
}

impl Paper {
    fn decide(
        &mut self,
        catalog: &Arc<Catalog>,
        parsed: &Parsed,
        role: RoleId,
    ) -> Result<Arc<Catalog>> {
        let Statement::Ddl(ddl) = &parsed.statement else {
            return Ok(Arc::clone(catalog));
        };
        if !makes_tables(ddl) && catalog.role_by_name(OWNER).is_some() {
            return Ok(Arc::clone(catalog));
        }
        let path = catalog.search_path(&["$user".to_owned(), "public".to_owned()], role);
        let mut draft = Draft::new(catalog, self, role, role, &path);
        match draft.decide(ddl) {
            Ok(_) => Ok(draft.catalog),
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Wait(_) | Stop::Pause(_)) => Err(Error::internal("paper waits for nobody")),
        }
    }
}

/// Does it say what tables there are, or what they look like?
fn makes_tables(ddl: &Ddl) -> bool {
    let relation = |kind: ObjectKind| {
        let kinds = [ObjectKind::Table, ObjectKind::Index, ObjectKind::Sequence];
        kinds.contains(&kind)
            || kind == ObjectKind::MaterializedView
            || matches!(kind, ObjectKind::Column | ObjectKind::Constraint)
    };
    match ddl {
        Ddl::CreateTable(_)
        | Ddl::CreateSequence(_)
        | Ddl::AlterSequence(_)
        | Ddl::AlterIdentity(_)
        | Ddl::AlterTableParts(_)
        | Ddl::ResetOptions(_)
        | Ddl::AlterMaterializedView(..) => true,
        Ddl::Rename(kind, ..) | Ddl::SetSchema(kind, ..) => relation(*kind),
        Ddl::Drop(drop) => relation(drop.kind) || drop.kind == ObjectKind::Schema,
        Ddl::Sql(statement) => match statement {
            ast::Statement::AlterTable(alter) => !alter
                .operations
                .iter()
                .all(|operation| matches!(operation, ast::AlterTableOperation::OwnerTo { .. })),
            ast::Statement::CreateView(create) => create.materialized,
            ast::Statement::CreateIndex(_)
            | ast::Statement::AlterIndex { .. }
            | ast::Statement::CreateSchema { .. } => true,
            _ => false,
        },
        _ => false,
    }
}

impl Ground for Paper {
    fn oid(&mut self, _: GroupId) -> Done<u32> {
        self.oid += 1;
        Ok(self.oid)
    }

    fn group_for(&mut self, _: RoleId) -> Done<GroupId> {
        Ok(GROUP)
    }

    fn have_group(&mut self, _: RoleId) -> Done<()> {
        Ok(())
    }

    fn hold(&mut self, _: RoleId, _: &Table) -> Done<()> {
        Ok(())
    }

    fn lock_name(&mut self, _: GroupId, _: SchemaId, _: &str) -> Done<()> {
        Ok(())
    }

    fn reserve(&mut self, _: &[(SchemaId, String)], _: RoleId) -> Done<()> {
        Ok(())
    }

    fn now(&self) -> u64 {
        0
    }

    fn position(&mut self, _: GroupId) -> Done<Position> {
        Ok(Position(1))
    }

    fn lock(&mut self, _: &Table, _: TableMode) -> Done<()> {
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
        _: &str,
    ) -> Done<Option<Vec<u8>>> {
        Ok(None)
    }

    fn describe_query(&mut self, _: &Arc<Catalog>, _: &ast::Query) -> Done<Described> {
        let error = Error::unsupported("CREATE TABLE AS in a script that is compared");
        Err(error.hint("Write the columns out.").into())
    }

    /// What is stored of it is bound again.
    fn check_query(&mut self, _: &Arc<Catalog>, _: &ast::Query) -> Done<()> {
        Ok(())
    }

    fn random(&mut self) -> [u8; 16] {
        [0; 16]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_leaves_tables_whatever_else_it_says() {
        let script = "\\connect freehold\n\
            SET client_encoding = 'UTF8';\n\
            CREATE ROLE billing;\n\
            CREATE TABLE public.order_v1 (id serial PRIMARY KEY, total numeric CHECK (total > 0));\n\
            ALTER TABLE public.order_v1 OWNER TO somebody;\n\
            CREATE VIEW public.shown AS SELECT id FROM public.order_v1;\n\
            INSERT INTO public.order_v1 VALUES (1, 2);\n\
            GRANT READ ON order_* TO billing;\n\
            ALTER TABLE public.order_v1 ADD COLUMN note text DEFAULT 'x';\n\
            CREATE TABLE line (id int REFERENCES public.order_v1);\n\
            DROP TABLE line;\n";
        let catalog = catalog_of(script).unwrap();
        let tables = catalog.tables().filter(|t| t.version().is_some());
        let tables: Vec<_> = tables.collect();
        assert_eq!(tables.len(), 1);
        let columns = tables[0].live_columns().map(|c| c.name.as_str());
        assert_eq!(columns.collect::<Vec<_>>(), ["id", "total", "note"]);
        // A projection keeps a contract as a table does.
        let projected = "CREATE TABLE own (id int PRIMARY KEY, total numeric, secret text);\n\
            CREATE MATERIALIZED VIEW public.order_v1 AS SELECT id, total FROM own WHERE total > 0;\n\
            REFRESH MATERIALIZED VIEW public.order_v1;\n";
        let table = "CREATE TABLE public.order_v1 (id int PRIMARY KEY, total numeric);";
        let [projected, table] = [projected, table].map(|script| catalog_of(script).unwrap());
        assert!(catalog::contract_changes(&table, &projected).is_empty());
        let less = "CREATE TABLE own (id int PRIMARY KEY, total numeric);\n\
            CREATE MATERIALIZED VIEW public.order_v1 AS SELECT id, total::text FROM own;\n\
            ALTER MATERIALIZED VIEW public.order_v1 SET (sunset = '2030-01-31');";
        let changes = catalog::contract_changes(&table, &catalog_of(less).unwrap());
        assert!(changes["order_v1"].is_breaking());
        // What is stored is another promise than what is only said.
        let row = "CREATE TABLE public.order_v1 (id int NOT NULL)";
        let event = format!("{row} WITH (event = true);");
        let [event, row] = [&event, row].map(|script| catalog_of(script).unwrap());
        assert!(catalog::contract_changes(&event, &event).is_empty());
        for (old, new) in [(&event, &row), (&row, &event)] {
            let changes = catalog::contract_changes(old, new);
            let other = catalog::Changed::Broken(vec![catalog::Broken::Kind]);
            assert_eq!(changes["order_v1"], other);
        }
        let error = catalog_of("CREATE TABLE a (i int);\nCREATE TABLE a (i int)").unwrap_err();
        assert_eq!(error.state().as_str(), "42P07");
        assert!(
            error
                .0
                .context
                .is_some_and(|c| c.contains("CREATE TABLE a"))
        );
    }
}
