//! Rows of system relations against their shapes, what they say of known tables, and what of it
//! each role sees.

use std::sync::Arc;

use super::shape::shapes;
use super::{SystemCx, SystemRelation, SystemRow, call, relations};
use crate::catalog::{Catalog, RoleId, SchemaId};
use crate::ddl::tests::Fixture;
use crate::functions::functions_named;
use crate::types::kind::oid;
use crate::types::{Datum, Type};

fn fixture() -> Fixture {
    let mut f = Fixture::with_roles();
    f.cache.update(|c| c.with_system(&relations()));
    f.ok(
        "a",
        "CREATE TABLE qcust (id int PRIMARY KEY, name text NOT NULL UNIQUE)",
    );
    f.ok(
        "a",
        "CREATE TABLE qorders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, no serial, \
         qcust int REFERENCES qcust ON DELETE CASCADE, state varchar(10) DEFAULT 'new', \
         amount numeric(12,2) CHECK (amount > 0), \
         qtwice numeric GENERATED ALWAYS AS (amount * 2) STORED)",
    );
    f.ok(
        "a",
        "CREATE INDEX qorders_low ON qorders (lower(state) DESC) WHERE amount > 5",
    );
    f.ok("a", "CREATE VIEW qnames AS SELECT name FROM a.qcust");
    f.ok("a", "CREATE SEQUENCE qcounter");
    f.ok(
        "a",
        "CREATE TABLE public.order_v1 (id int PRIMARY KEY, qsecret text)",
    );
    f.ok("a", "COMMENT ON TABLE qorders IS 'the qorders'");
    f.ok("a", "COMMENT ON COLUMN qorders.state IS 'its qstate'");
    f.ok("a", "GRANT SELECT (id) ON public.order_v1 TO b");
    f.ok("postgres", "COMMENT ON ROLE a IS 'service a'");
    f.ok("postgres", "GRANT a TO c");
    f.ok("a", "GRANT READ ON order_* TO c");
    f
}

fn rows_as(catalog: &Arc<Catalog>, role: RoleId, relation: &dyn SystemRelation) -> Vec<SystemRow> {
    let path = catalog.search_path(&["$user".to_owned(), "public".to_owned()], role);
    let cx = SystemCx {
        catalog,
        role,
        login: role,
        path: &path,
        equal: &[],
        above: &[],
        columns: &[],
        ground: None,
        environment: &crate::functions::evaluation::Bare::default(),
    };
    let rows = relation.rows(&cx).expect("catalog rows need nothing else");
    rows.map(|r| r.expect("catalog rows do not wait")).collect()
}

fn rows(f: &Fixture, role: &str, name: &str) -> Vec<SystemRow> {
    let all = relations();
    let relation = all
        .iter()
        .find(|r| r.name().1 == name)
        .expect("a known relation");
    rows_as(&f.catalog(), f.role(role).id, relation.as_ref())
}

/// Does a value have the representation of the type?
fn fits(value: &Datum, ty: Type) -> bool {
    match value {
        Datum::Null => true,
        Datum::Bool(_) => ty.oid == oid::BOOL,
        Datum::Int2(_) => ty.oid == oid::INT2,
        Datum::Int4(_) => ty.oid == oid::INT4,
        Datum::Int8(_) => ty.oid == oid::INT8,
        Datum::Float4(_) => ty.oid == oid::FLOAT4,
        Datum::Float8(_) => ty.oid == oid::FLOAT8,
        Datum::Char(_) => ty.oid == oid::CHAR,
        Datum::Oid(_) => {
            matches!(ty.oid, oid::OID | oid::XID | oid::REGPROC | oid::REGTYPE)
        }
        Datum::Text(_) => {
            matches!(
                ty.oid,
                oid::TEXT | oid::NAME | oid::VARCHAR | oid::PG_NODE_TREE
            )
        }
        Datum::Timestamptz(_) => ty.oid == oid::TIMESTAMPTZ,
        Datum::Array(array) => match ty.oid {
            oid::INT2VECTOR => array.element.oid == oid::INT2,
            oid::OIDVECTOR => array.element.oid == oid::OID,
            _ => ty.element().is_some_and(|e| e.oid == array.element.oid),
        },
        _ => false,
    }
}

#[test]
fn every_row_has_its_relations_shape() {
    let f = fixture();
    let catalog = f.catalog();
    let mut filled = 0;
    for relation in relations() {
        let columns = relation.columns();
        for role in ["postgres", "a", "b", "c"] {
            let rows = rows_as(&catalog, f.role(role).id, relation.as_ref());
            filled += usize::from(!rows.is_empty());
            for row in &rows {
                let name = relation.name();
                assert_eq!(row.len(), columns.len(), "{name:?}");
                for (value, column) in row.iter().zip(columns) {
                    assert!(
                        fits(value, column.ty),
                        "{name:?}.{} is {}: {value:?}",
                        column.name,
                        column.ty.name()
                    );
                    assert!(
                        !(column.not_null && value.is_null()),
                        "{name:?}.{} is NULL",
                        column.name
                    );
                }
            }
        }
    }
    assert!(filled > 200, "{filled}");
}

#[test]
fn descriptors_of_system_relations_are_those_of_postgresql() {
    let f = fixture();
    let catalog = f.catalog();
    for shape in shapes().iter().filter(|s| super::relation::is_here(s.name)) {
        let schema = catalog
            .schema_by_name(shape.schema)
            .expect("a system schema")
            .id;
        let found = catalog
            .relation_by_name(schema, shape.name)
            .expect(shape.name);
        let table = found.table();
        assert_eq!(table.id.0, shape.oid, "{}", shape.name);
        let columns: Vec<_> = table
            .columns
            .iter()
            .map(|c| (c.name.as_str(), c.ty))
            .collect();
        let wanted: Vec<_> = shape.columns.iter().map(|c| (c.name, c.ty)).collect();
        assert_eq!(columns, wanted, "{}", shape.name);
    }
}

fn texts(rows: &[SystemRow], at: usize) -> Vec<String> {
    rows.iter()
        .filter_map(|r| r[at].as_str())
        .map(str::to_owned)
        .collect()
}

/// What a role may not read does not exist for it, in any relation: neither its names nor its
/// OIDs.
#[test]
fn nothing_hidden_shows_anywhere() {
    let f = fixture();
    let catalog = f.catalog();
    let hidden = [
        "qcust",
        "qorders",
        "qorders_low",
        "qnames",
        "qcounter",
        "qorders_no_seq",
        "qsecret",
        "qtwice",
        "the qorders",
        "its qstate",
        "order_v1_pkey",
        "qorders_pkey",
        "qcust_name_key",
    ];
    let b = f.role("b").id;
    let mut oids = Vec::new();
    for table in catalog
        .tables()
        .filter(|t| t.id.0 >= 16_384 && t.name != "order_v1")
    {
        oids.push(table.id.0);
        oids.extend(table.indexes.iter().map(|i| i.id));
        oids.extend(table.constraints.iter().map(|c| c.id()));
    }
    for relation in relations() {
        for row in rows_as(&catalog, b, relation.as_ref()) {
            for value in &row {
                if let Datum::Text(text) = value {
                    let found = hidden.iter().find(|h| text.contains(**h));
                    assert!(found.is_none(), "{:?} shows {text}", relation.name());
                }
                if let Datum::Oid(oid) = value {
                    assert!(!oids.contains(oid), "{:?} shows OID {oid}", relation.name());
                }
            }
        }
    }
    assert!(texts(&rows(&f, "b", "pg_class"), 1).contains(&"order_v1".to_owned()));
    let columns: Vec<SystemRow> = rows(&f, "b", "columns")
        .into_iter()
        .filter(|r| r[2].as_str() == Some("order_v1"))
        .collect();
    assert_eq!(texts(&columns, 3), ["id"]);
    // The same relations show everything to the owner, its members and superusers.
    for role in ["a", "c", "postgres"] {
        let names = texts(&rows(&f, role, "pg_class"), 1);
        for name in [
            "qcust",
            "qorders",
            "qorders_low",
            "qnames",
            "qcounter",
            "qorders_pkey",
        ] {
            assert!(names.iter().any(|n| n == name), "{role} {name}");
        }
    }
}

fn ask(f: &Fixture, role: &str, function: &str, arguments: &[Datum]) -> Datum {
    let (catalog, role) = (f.catalog(), f.role(role).id);
    let path = catalog.search_path(&["$user".to_owned(), "public".to_owned()], role);
    let cx = SystemCx {
        catalog: &catalog,
        role,
        login: role,
        path: &path,
        equal: &[],
        above: &[],
        columns: &[],
        ground: None,
        environment: &crate::functions::evaluation::Bare::default(),
    };
    let function = functions_named(function)
        .find(|f| f.arguments.len() == arguments.len())
        .expect("a known function");
    let answer = call(&cx, function, arguments, &|_, _| Some(7));
    answer.expect("it answers").expect("it is the catalog's")
}

fn said(f: &Fixture, role: &str, function: &str, arguments: &[Datum]) -> String {
    match ask(f, role, function, arguments) {
        Datum::Text(text) => text.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn definitions() {
    let f = fixture();
    let qorders = f.table("a.qorders");
    let constraint = |name: &str| {
        let c = qorders
            .constraints
            .iter()
            .find(|c| c.name() == name)
            .expect(name);
        said(&f, "a", "pg_get_constraintdef", &[Datum::Oid(c.id())])
    };
    assert_eq!(constraint("qorders_pkey"), "PRIMARY KEY (id)");
    assert_eq!(
        constraint("qorders_qcust_fkey"),
        "FOREIGN KEY (qcust) REFERENCES qcust(id) ON DELETE CASCADE"
    );
    let index = |name: &str| {
        let i = qorders.indexes.iter().find(|i| i.name == name).expect(name);
        said(&f, "a", "pg_get_indexdef", &[Datum::Oid(i.id)])
    };
    assert_eq!(
        index("qorders_pkey"),
        "CREATE UNIQUE INDEX qorders_pkey ON a.qorders USING btree (id)"
    );
    let relation = |name: &str| Datum::Oid(f.table(name).id.0);
    assert_eq!(
        said(
            &f,
            "a",
            "obj_description",
            &[relation("a.qorders"), Datum::text("pg_class")]
        ),
        "the qorders"
    );
    assert_eq!(
        said(
            &f,
            "b",
            "obj_description",
            &[relation("a.qorders"), Datum::text("pg_class")]
        ),
        "Null"
    );
    assert_eq!(
        said(
            &f,
            "a",
            "col_description",
            &[relation("a.qorders"), Datum::Int4(4)]
        ),
        "its qstate"
    );
    let serial = [Datum::text("qorders"), Datum::text("no")];
    assert_eq!(
        said(&f, "a", "pg_get_serial_sequence", &serial),
        "a.qorders_no_seq"
    );
    assert_eq!(
        said(&f, "a", "pg_get_userbyid", &[Datum::Oid(10)]),
        "postgres"
    );
    assert_eq!(
        said(&f, "a", "pg_table_is_visible", &[relation("a.qorders")]),
        "Bool(true)"
    );
    assert_eq!(
        said(&f, "c", "pg_table_is_visible", &[relation("a.qorders")]),
        "Bool(false)"
    );
    assert_eq!(
        said(&f, "b", "pg_table_is_visible", &[relation("a.qorders")]),
        "Null"
    );
    assert_eq!(
        said(&f, "b", "to_regclass", &[Datum::text("a.qorders")]),
        "Null"
    );
    assert_eq!(
        said(&f, "a", "to_regclass", &[Datum::text("qorders")]),
        format!("Oid({})", qorders.id)
    );
    assert_eq!(
        said(&f, "a", "pg_total_relation_size", &[relation("a.qorders")]),
        "Int8(14)"
    );
    assert_eq!(
        said(&f, "a", "pg_get_viewdef", &[relation("a.qnames")]),
        " SELECT name FROM a.qcust;"
    );
}

#[test]
fn privileges_by_function() {
    let f = fixture();
    let has = |role: &str, table: &str, privilege: &str| {
        ask(
            &f,
            role,
            "has_table_privilege",
            &[Datum::text(table), Datum::text(privilege)],
        )
        .is_true()
    };
    assert!(has("a", "order_v1", "SELECT, UPDATE"));
    assert!(has("c", "order_v1", "SELECT"));
    assert!(has("postgres", "order_v1", "delete"));
    assert!(!has("b", "order_v1", "SELECT"));
    let column = [
        Datum::text("order_v1"),
        Datum::text("id"),
        Datum::text("SELECT"),
    ];
    assert!(ask(&f, "b", "has_column_privilege", &column).is_true());
    let any = [Datum::text("order_v1"), Datum::text("SELECT")];
    assert!(ask(&f, "b", "has_any_column_privilege", &any).is_true());
    let public = [Datum::text("public"), Datum::text("CREATE")];
    assert!(ask(&f, "b", "has_schema_privilege", &public).is_true());
    let role = [Datum::text("a"), Datum::text("MEMBER")];
    assert!(ask(&f, "c", "pg_has_role", &role).is_true());
    assert!(!ask(&f, "b", "pg_has_role", &role).is_true());
    let defaults = ask(&f, "a", "acldefault", &[Datum::Char(b'r'), Datum::Oid(10)]);
    let Datum::Array(items) = defaults else {
        panic!("an array")
    };
    assert_eq!(items.values[0].as_str(), Some("postgres=arwdDxt/postgres"));
}

#[test]
fn public_is_where_postgresql_has_it() {
    let catalog = Catalog::base(&relations());
    assert_eq!(
        catalog.schema_by_name("public").map(|s| s.id),
        Some(SchemaId::PUBLIC)
    );
    assert_eq!(
        catalog.schema_by_name("pg_catalog").map(|s| s.id.0),
        Some(11)
    );
    let own = catalog.relation_by_name(SchemaId::FREEHOLD, "pattern_grants");
    assert!(own.is_some_and(|r| (14_000..16_384).contains(&r.oid())));
}

/// What PostgreSQL 15 prints of the same objects (`scripts/definitions.sh`).
#[test]
fn definitions_read_as_in_postgresql() {
    let mut f = Fixture::with_roles();
    f.cache.update(|c| c.with_system(&relations()));
    let script = include_str!("golden/definitions.sql");
    for parsed in crate::parse::parse(script).expect("the script reads") {
        f.ok("a", &parsed.text);
    }
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in include_str!("golden/definitions.txt").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let (kind, name) = (fields[0], fields[1]);
        let expected = fields[2].replace("\\n", "\n").replace("\\\\", "\\");
        let (table, part) = name.split_once('.').expect("table.part");
        let table = f.table(&format!("a.{table}"));
        let pretty = Datum::Bool(kind.starts_with("pretty"));
        let got = match kind {
            "default" => {
                let column = table.column(part).expect(part);
                let text = column
                    .default
                    .clone()
                    .or(column.generated.clone())
                    .expect(part);
                let tree = Datum::text(super::definition::of_column(column, &text));
                said(&f, "a", "pg_get_expr", &[tree, Datum::Oid(table.id.0)])
            }
            "constraint" | "pretty" => {
                let id = table
                    .constraints
                    .iter()
                    .find(|c| c.name() == part)
                    .expect(part)
                    .id();
                said(&f, "a", "pg_get_constraintdef", &[Datum::Oid(id), pretty])
            }
            _ => {
                let id = table
                    .indexes
                    .iter()
                    .find(|i| i.name == part)
                    .expect(part)
                    .id;
                said(
                    &f,
                    "a",
                    "pg_get_indexdef",
                    &[Datum::Oid(id), Datum::Int4(0), pretty],
                )
            }
        };
        count += 1;
        if got != expected {
            wrong.push(format!("{kind} {name}\n   want {expected}\n   got  {got}"));
        }
    }
    assert!(count > 90, "{count}");
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
