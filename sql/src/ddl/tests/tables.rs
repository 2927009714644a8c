//! Tables, indexes, sequences, views and schemas: what the descriptors say afterwards.

use storage::Position;

use super::fixture::Fixture;
use crate::catalog::{
    self, Constraint, Generated, IndexKey, Key, ReferentialAction, TableKind, table_at,
};
use crate::ddl::draft::Work;

fn fixture() -> Fixture {
    let mut f = Fixture::with_roles();
    f.ok(
        "a",
        "CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL UNIQUE, \
         at timestamptz DEFAULT now())",
    );
    f
}

#[test]
fn a_table_with_everything() {
    let mut f = fixture();
    f.ok(
        "a",
        "CREATE TABLE orders (
           id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
           no serial,
           customer int NOT NULL REFERENCES customer ON DELETE CASCADE,
           amount numeric(12,2) CHECK (amount > 0),
           state varchar(10) DEFAULT 'new',
           twice numeric GENERATED ALWAYS AS (amount * 2) STORED,
           parent bigint REFERENCES orders (id) ON DELETE SET NULL,
           UNIQUE (customer, no),
           CONSTRAINT sane CHECK (no > 0 AND amount < 1000)
         ) WITH (fillfactor = 70)",
    );
    let t = f.table("a.orders");
    assert_eq!(t.tree, t.id.0);
    assert_eq!(t.key, Key::Primary(vec![t.column("id").expect("id").id]));
    let names: Vec<&str> = t.indexes.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["orders_pkey", "orders_customer_no_key"]);
    assert!(t.is_clustering(&t.indexes[0]));
    let names: Vec<&str> = t.constraints.iter().map(Constraint::name).collect();
    assert_eq!(
        names,
        [
            "orders_amount_check",
            "sane",
            "orders_pkey",
            "orders_customer_no_key",
            "orders_customer_fkey",
            "orders_parent_fkey"
        ]
    );
    let id = t.column("id").expect("id");
    assert!(matches!(id.source(), Generated::Identity(i) if i.always) && id.not_null);
    let no = t.column("no").expect("no");
    let sequence = f.table("a.orders_no_seq");
    let default = format!("nextval('{}'::regclass)", sequence.id);
    assert_eq!(no.source(), Generated::Default(&default));
    let TableKind::Sequence(options) = &sequence.kind else {
        panic!("a sequence")
    };
    assert_eq!(options.owned_by, Some((t.id, no.id)));
    assert_eq!(options.max, i64::from(i32::MAX));
    let actions: Vec<_> = t.foreign_keys().map(|k| k.on_delete).collect();
    assert_eq!(
        actions,
        [ReferentialAction::Cascade, ReferentialAction::SetNull]
    );
    assert_eq!(t.referenced_by.len(), 1);
    assert_eq!(f.table("a.customer").referenced_by.len(), 1);
    assert_eq!(t.options.get("fillfactor").map(String::as_str), Some("70"));
    f.same(&f.catalog(), &f.rebuilt());
}

#[test]
fn names_and_errors_as_in_postgresql() {
    let mut f = fixture();
    let cases = [
        (
            "CREATE TABLE customer (id int)",
            "42P07",
            "relation \"customer\" already exists",
        ),
        (
            "CREATE TABLE x (a int, a int)",
            "42701",
            "column \"a\" specified more than once",
        ),
        (
            "CREATE TABLE x (a nosuch)",
            "42704",
            "type \"nosuch\" does not exist",
        ),
        (
            "CREATE TABLE nosuch.x (a int)",
            "3F000",
            "schema \"nosuch\" does not exist",
        ),
        (
            "CREATE TABLE b.x (a int)",
            "3F000",
            "schema \"b\" does not exist",
        ),
        (
            "CREATE TABLE pg_catalog.x (a int)",
            "42501",
            "permission denied for schema pg_catalog",
        ),
        (
            "CREATE TABLE x (a int PRIMARY KEY, b int PRIMARY KEY)",
            "42P16",
            "multiple primary keys for table \"x\" are not allowed",
        ),
        (
            "CREATE TABLE x (a int, PRIMARY KEY (b))",
            "42703",
            "column \"b\" named in key does not exist",
        ),
        (
            "CREATE TABLE x (a int REFERENCES nosuch)",
            "42P01",
            "relation \"nosuch\" does not exist",
        ),
        (
            "CREATE TABLE x (a text REFERENCES customer)",
            "42804",
            "foreign key constraint \"x_a_fkey\" cannot be implemented",
        ),
        (
            "CREATE TABLE x (a timestamptz REFERENCES customer (at))",
            "42830",
            "there is no unique constraint matching given keys for referenced table \"customer\"",
        ),
        (
            "CREATE TABLE x (a int) WITH (nosuch = 1)",
            "22023",
            "unrecognized parameter \"nosuch\"",
        ),
        (
            "CREATE TEMP TABLE x (a int)",
            "0A000",
            "a temporary table is not supported",
        ),
        (
            "ALTER TABLE customer ADD name text",
            "42701",
            "column \"name\" of relation \"customer\" already exists",
        ),
        (
            "ALTER TABLE customer DROP nosuch",
            "42703",
            "column \"nosuch\" of relation \"customer\" does not exist",
        ),
        (
            "ALTER TABLE customer RENAME name TO id",
            "42701",
            "column \"id\" of relation \"customer\" already exists",
        ),
        (
            "ALTER TABLE customer ADD PRIMARY KEY (name)",
            "42P16",
            "multiple primary keys for table \"customer\" are not allowed",
        ),
        (
            "ALTER TABLE customer ALTER id DROP NOT NULL",
            "42P16",
            "column \"id\" is in a primary key",
        ),
        (
            "ALTER TABLE nosuch ADD x int",
            "42P01",
            "relation \"nosuch\" does not exist",
        ),
        (
            "DROP TABLE nosuch",
            "42P01",
            "table \"nosuch\" does not exist",
        ),
        ("DROP VIEW customer", "42809", "\"customer\" is not a view"),
        (
            "DROP INDEX customer",
            "42809",
            "\"customer\" is not an index",
        ),
        (
            "DROP INDEX customer_pkey",
            "2BP01",
            "cannot drop index customer_pkey because constraint customer_pkey on table customer \
             requires it",
        ),
        (
            "CREATE INDEX ON customer (nosuch)",
            "42703",
            "column \"nosuch\" does not exist",
        ),
        (
            "CREATE INDEX customer_pkey ON customer (id)",
            "42P07",
            "relation \"customer_pkey\" already exists",
        ),
        (
            "CREATE SEQUENCE s INCREMENT 0",
            "22023",
            "INCREMENT must not be zero",
        ),
        (
            "CREATE SEQUENCE s MINVALUE 5 MAXVALUE 4",
            "22023",
            "MINVALUE (5) must be less than MAXVALUE (4)",
        ),
        (
            "CREATE SCHEMA pg_x",
            "42939",
            "unacceptable schema name \"pg_x\"",
        ),
        ("CREATE ROLE x", "42501", "permission denied to create role"),
        (
            "DROP SCHEMA a",
            "2BP01",
            "cannot drop schema a because the system requires it",
        ),
        (
            "COMMENT ON COLUMN customer.nosuch IS 'x'",
            "42703",
            "column \"nosuch\" of relation \"customer\" does not exist",
        ),
    ];
    for (sql, state, message) in cases {
        f.fails("a", sql, state, message);
    }
    f.fails(
        "postgres",
        "CREATE ROLE freehold",
        "42939",
        "role name \"freehold\" is reserved",
    );
    f.fails(
        "postgres",
        "CREATE ROLE pg_x",
        "42939",
        "role name \"pg_x\" is reserved",
    );
    f.fails(
        "postgres",
        "CREATE ROLE a",
        "42710",
        "role \"a\" already exists",
    );
    assert_eq!(
        f.ok("a", "CREATE TABLE IF NOT EXISTS customer (x int)"),
        "CREATE TABLE"
    );
    assert_eq!(
        f.notices[0].0.message,
        "relation \"customer\" already exists, skipping"
    );
    f.same(&f.catalog(), &f.rebuilt());
}

#[test]
fn a_primary_key_rekeys_a_table_with_rows() {
    let mut f = fixture();
    f.ok(
        "a",
        "CREATE TABLE acc (aid int NOT NULL, bid int, filler char(84))",
    );
    f.ok("a", "CREATE INDEX ON acc (bid)");
    let before = f.table("a.acc");
    assert_eq!(before.key, Key::RowId);
    f.ok("a", "ALTER TABLE acc ADD PRIMARY KEY (aid)");
    let after = f.table("a.acc");
    assert_eq!(after.key, Key::Primary(vec![f.column("a.acc", "aid")]));
    assert_ne!(after.tree, before.tree);
    let primary = after.primary_index().expect("a primary key");
    assert_eq!(primary.tree, after.tree);
    let other = after
        .indexes
        .iter()
        .find(|i| !i.primary)
        .expect("the other");
    assert_ne!(other.tree, before.indexes[0].tree);
    assert!(
        matches!(f.work.as_slice(), [Work::Rewrite { .. }]),
        "{:?}",
        f.work
    );
    // Entries of the old trees are still read with the table.
    let catalog = f.catalog();
    assert_eq!(
        catalog.table_of_tree(before.group, before.tree),
        Some(before.id)
    );
    assert_eq!(
        f.rebuilt().table_of_tree(before.group, before.tree),
        Some(before.id)
    );
    f.ok("a", "ALTER TABLE acc DROP CONSTRAINT acc_pkey");
    assert_eq!(f.table("a.acc").key, Key::RowId);
    f.same(&f.catalog(), &f.rebuilt());
}

#[test]
fn history_tells_what_an_entry_was_written_with() {
    let mut f = fixture();
    let first = f.table("a.customer");
    let before = f.position;
    f.ok("a", "ALTER TABLE customer RENAME name TO title");
    let between = f.position;
    f.ok("a", "ALTER TABLE customer DROP at");
    f.ok("a", "DROP TABLE customer");
    let catalog = f.catalog();
    let at = |position: u64| {
        table_at(
            &catalog,
            (first.group, first.id),
            Position(position),
            |tree, (from, to)| {
                let group = first.group.0;
                let low = match from {
                    std::ops::Bound::Included(k) => k,
                    _ => panic!("a bound"),
                };
                let high = match to {
                    std::ops::Bound::Included(k) => k,
                    _ => panic!("a bound"),
                };
                let rows: Vec<_> = f
                    .trees
                    .range((group, tree, low)..=(group, tree, high))
                    .map(|(k, v)| Ok((k.2.clone(), v.clone())))
                    .collect();
                Ok(Box::new(rows.into_iter()))
            },
        )
        .expect("history is readable")
        .map(|t| {
            t.live_columns()
                .map(|c| c.name.clone())
                .collect::<Vec<_>>()
                .join(",")
        })
    };
    assert_eq!(at(before).as_deref(), Some("id,name,at"));
    assert_eq!(at(between).as_deref(), Some("id,title,at"));
    assert_eq!(at(f.position).as_deref(), Some("id,title"));
    assert_eq!(at(5), None);
}

#[test]
fn alter_table_keeps_what_depends_in_step() {
    let mut f = fixture();
    f.ok(
        "a",
        "CREATE TABLE t (a int CHECK (a > 0), b text, c int GENERATED ALWAYS AS (a + 1) STORED)",
    );
    f.ok("a", "CREATE INDEX i ON t (lower(b)) WHERE a > 5");
    f.ok("a", "ALTER TABLE t RENAME a TO \"A\"");
    let t = f.table("a.t");
    assert_eq!(
        t.column("c").and_then(|c| c.generated.as_deref()),
        Some("\"A\" + 1")
    );
    assert!(
        matches!(&t.constraints[0], Constraint::Check { expression, .. }
        if expression == "\"A\" > 0")
    );
    assert_eq!(t.indexes[0].predicate.as_deref(), Some("\"A\" > 5"));
    assert!(matches!(&t.indexes[0].columns[0].what, IndexKey::Expression(e) if e == "lower(b)"));
    f.ok(
        "a",
        "ALTER TABLE t ADD d int DEFAULT 7 NOT NULL, ADD e timestamptz DEFAULT now()",
    );
    let works: Vec<String> = f.work.iter().map(|w| format!("{w:?}")).collect();
    assert!(
        !works
            .iter()
            .any(|w| w.contains("FillColumn") && w.contains("ColumnId(4)"))
    );
    assert!(
        f.table("a.t")
            .column("d")
            .is_some_and(|c| c.missing.is_some())
    );
    assert!(
        works.iter().any(|w| w.starts_with("FillColumn")),
        "{works:?}"
    );
    f.ok(
        "a",
        "ALTER TABLE t ALTER d TYPE bigint, ALTER d SET DEFAULT 8",
    );
    assert!(
        matches!(f.work.as_slice(), [Work::Rewrite { .. }]),
        "{:?}",
        f.work
    );
    f.ok("a", "ALTER TABLE t DROP b");
    let t = f.table("a.t");
    assert!(t.indexes.is_empty() && t.columns[1].dropped && t.column("b").is_none());
    f.ok("a", "ALTER TABLE t RENAME TO u");
    f.ok("a", "ALTER TABLE u SET SCHEMA public");
    assert!(
        f.catalog()
            .reservation(catalog::SchemaId::PUBLIC, "u")
            .is_some()
    );
    f.ok("a", "ALTER TABLE u OWNER TO a");
    f.fails(
        "a",
        "ALTER TABLE u OWNER TO b",
        "42501",
        "must be member of role \"b\"",
    );
    f.same(&f.catalog(), &f.rebuilt());
}

#[test]
fn drops_name_what_depends() {
    let mut f = fixture();
    f.ok(
        "a",
        "CREATE TABLE orders (id int PRIMARY KEY, c int REFERENCES customer)",
    );
    f.ok("a", "CREATE VIEW names AS SELECT name FROM a.customer");
    let error = f.error("a", "DROP TABLE customer");
    assert_eq!(error.state().as_str(), "2BP01");
    assert_eq!(
        error.0.message,
        "cannot drop table customer because other objects depend on it"
    );
    assert_eq!(
        error.0.detail.as_deref(),
        Some(
            "constraint orders_c_fkey on table orders depends on table customer\n\
             view names depends on table customer"
        )
    );
    let error = f.error("a", "ALTER TABLE customer DROP name");
    assert_eq!(
        error.0.message,
        "cannot drop column name of table customer because other objects depend on it"
    );
    let error = f.error("a", "ALTER TABLE customer DROP CONSTRAINT customer_pkey");
    assert_eq!(
        error.0.detail.as_deref(),
        Some("constraint orders_c_fkey on table orders depends on index customer_pkey")
    );
    f.ok("a", "DROP TABLE customer CASCADE");
    assert_eq!(f.notices[0].0.message, "drop cascades to 2 other objects");
    assert!(f.table("a.orders").foreign_keys().next().is_none());
    f.ok("a", "DROP TABLE orders");
    f.same(&f.catalog(), &f.rebuilt());
}

#[test]
fn like_including_all() {
    let mut f = fixture();
    f.ok(
        "a",
        "CREATE TABLE v1 (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, \
         n int DEFAULT 3 CHECK (n > 0), u text UNIQUE)",
    );
    f.ok("a", "CREATE INDEX ON v1 (n DESC) WHERE n > 1");
    f.ok("a", "CREATE TABLE v2 (LIKE v1 INCLUDING ALL, extra int)");
    let t = f.table("a.v2");
    let names: Vec<&str> = t.indexes.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["v2_pkey", "v2_u_key", "v2_n_idx"]);
    assert!(t.indexes[2].columns[0].descending);
    let names: Vec<&str> = t.constraints.iter().map(Constraint::name).collect();
    assert_eq!(names, ["v1_n_check", "v2_pkey", "v2_u_key"]);
    assert_eq!(t.column("n").and_then(|c| c.default.as_deref()), Some("3"));
    let sequence = t
        .column("id")
        .and_then(|c| c.identity)
        .expect("an identity")
        .sequence;
    assert_eq!(
        f.catalog()
            .table(sequence)
            .map(|s| s.name.clone())
            .as_deref(),
        Some("v2_id_seq")
    );
    f.ok("a", "CREATE TABLE v3 (LIKE v1)");
    assert!(f.table("a.v3").indexes.is_empty());
    f.same(&f.catalog(), &f.rebuilt());
}

#[test]
fn schemas_roles_and_reservations() {
    let mut f = fixture();
    f.ok("a", "CREATE SCHEMA more");
    f.ok("a", "CREATE TABLE more.x (i int)");
    f.fails(
        "b",
        "CREATE SCHEMA more",
        "42P06",
        "schema \"more\" already exists",
    );
    assert_eq!(f.table("more.x").owner, f.role("a").id);
    // A superuser acts for the schema's owner.
    f.ok("postgres", "CREATE TABLE a.made_for (i int)");
    assert_eq!(f.table("a.made_for").owner, f.role("a").id);
    f.ok("a", "CREATE TABLE public.shared_v1 (id int PRIMARY KEY)");
    f.fails(
        "b",
        "CREATE TABLE public.shared_v1 (id int)",
        "42P07",
        "relation \"shared_v1\" already exists",
    );
    // A reservation whose commit does not come lapses.
    f.lost("a", "CREATE TABLE public.later (id int)");
    f.fails(
        "b",
        "CREATE TABLE public.later (id int)",
        "42P07",
        "relation \"later\" already exists",
    );
    f.advance(catalog::directory::RESERVATION_LAPSE);
    f.ok("b", "CREATE TABLE public.later (id int)");
    f.fails(
        "a",
        "CREATE TABLE public.later (id int)",
        "42P07",
        "relation \"later\" already exists",
    );
    // A dropped table's name is free at once.
    f.ok("b", "DROP TABLE public.later");
    f.ok("a", "CREATE TABLE public.later (id int)");
    f.fails(
        "postgres",
        "DROP ROLE a",
        "2BP01",
        "role \"a\" cannot be dropped because some objects depend on it",
    );
    f.ok("postgres", "DROP ROLE c");
    assert!(f.catalog().schema_by_name("c").is_none());
    f.ok("a", "DROP SCHEMA more CASCADE");
    f.ok("b", "CREATE SCHEMA more");
    f.same(&f.catalog(), &f.rebuilt());
}

#[test]
fn membership_acts_for_the_owner() {
    let mut f = fixture();
    f.ok("postgres", "CREATE ROLE clerk LOGIN IN ROLE a");
    f.ok("clerk", "ALTER TABLE a.customer ADD note text");
    f.ok("clerk", "CREATE TABLE a.by_clerk (i int)");
    assert_eq!(f.table("a.by_clerk").owner, f.role("a").id);
    f.ok("postgres", "ALTER ROLE clerk NOINHERIT");
    f.fails(
        "clerk",
        "ALTER TABLE a.customer DROP note",
        "42P01",
        "relation \"a.customer\" does not exist",
    );
    f.fails(
        "postgres",
        "GRANT clerk TO a",
        "0LP01",
        "role \"clerk\" is a member of role \"a\"",
    );
    f.ok("postgres", "REVOKE a FROM clerk");
    assert!(!f.catalog().is_member(f.role("clerk").id, f.role("a").id));
    f.same(&f.catalog(), &f.rebuilt());
}

#[test]
fn a_view_keeps_the_columns_of_its_star() {
    let mut f = fixture();
    f.ok(
        "a",
        "CREATE VIEW all_of AS SELECT c.*, 1 FROM a.customer c JOIN a.customer ON true",
    );
    let TableKind::View(view) = &f.table("a.all_of").kind.clone() else {
        panic!("a view")
    };
    assert_eq!(
        view.definition,
        "SELECT c.id, c.name, c.at, 1 FROM a.customer c JOIN a.customer ON true"
    );
    f.fails(
        "a",
        "ALTER TABLE customer RENAME name TO title",
        "0A000",
        "renaming a column that view \"all_of\" uses is not supported",
    );
    f.ok("a", "ALTER TABLE customer RENAME TO client");
    let TableKind::View(view) = &f.table("a.all_of").kind.clone() else {
        panic!("a view")
    };
    assert_eq!(
        view.definition,
        "SELECT c.id, c.name, c.at, 1 FROM a.client c JOIN a.client customer ON true"
    );
}

#[test]
fn truncate_names_who_references() {
    let mut f = fixture();
    f.ok(
        "a",
        "CREATE TABLE orders (id serial PRIMARY KEY, c int REFERENCES customer)",
    );
    f.fails(
        "a",
        "TRUNCATE customer",
        "0A000",
        "cannot truncate a table referenced in a foreign key constraint",
    );
    let before = (f.table("a.customer"), f.table("a.orders"));
    f.ok("a", "TRUNCATE customer, orders RESTART IDENTITY");
    let after = (f.table("a.customer"), f.table("a.orders"));
    assert!(before.0.tree != after.0.tree && before.1.tree != after.1.tree);
    assert_eq!(after.0.primary_index().map(|i| i.tree), Some(after.0.tree));
    assert!(
        f.work
            .iter()
            .any(|w| matches!(w, Work::SetSequence { called: false, .. }))
    );
    f.ok("a", "TRUNCATE customer CASCADE");
    assert_eq!(
        f.notices[0].0.message,
        "truncate cascades to table \"orders\""
    );
    f.fails(
        "b",
        "TRUNCATE a.customer",
        "42P01",
        "relation \"a.customer\" does not exist",
    );
    f.same(&f.catalog(), &f.rebuilt());
}

#[test]
fn alter_if_exists_passes_over_what_is_not_there() {
    let mut f = fixture();
    for statement in [
        "ALTER TABLE IF EXISTS none OWNER TO nobody",
        "ALTER TABLE IF EXISTS none RENAME TO other",
        "ALTER TABLE IF EXISTS none SET SCHEMA public",
        "ALTER TABLE IF EXISTS none RENAME COLUMN a TO b",
        "ALTER TABLE IF EXISTS none RENAME CONSTRAINT a TO b",
        "ALTER TABLE IF EXISTS none ADD COLUMN n int, DROP COLUMN m",
        "ALTER TABLE IF EXISTS none ALTER COLUMN n DROP IDENTITY",
        "ALTER TABLE IF EXISTS none ALTER n SET STATISTICS 5",
        "ALTER TABLE IF EXISTS none ALTER n SET STORAGE plain",
        "ALTER TABLE IF EXISTS none CLUSTER ON i",
        "ALTER TABLE IF EXISTS none SET WITHOUT CLUSTER",
        "ALTER TABLE IF EXISTS none SET (history = 'off')",
        "ALTER TABLE IF EXISTS none RESET (history)",
        "ALTER TABLE IF EXISTS none DISABLE TRIGGER ALL",
        "ALTER VIEW IF EXISTS none OWNER TO nobody",
        "ALTER VIEW IF EXISTS none RENAME TO other",
        "ALTER VIEW IF EXISTS none SET SCHEMA public",
        "ALTER MATERIALIZED VIEW IF EXISTS none OWNER TO nobody",
        "ALTER MATERIALIZED VIEW IF EXISTS none RENAME TO other",
        "ALTER MATERIALIZED VIEW IF EXISTS none RENAME COLUMN a TO b",
        "ALTER SEQUENCE IF EXISTS none OWNER TO nobody",
        "ALTER SEQUENCE IF EXISTS none RENAME TO other",
        "ALTER SEQUENCE IF EXISTS none SET SCHEMA public",
        "ALTER SEQUENCE IF EXISTS none RESTART",
        "ALTER INDEX IF EXISTS none OWNER TO nobody",
        "ALTER INDEX IF EXISTS none RENAME TO other",
    ] {
        f.ok("a", statement);
        let told: Vec<_> = f.notices.iter().map(|n| n.0.message.as_str()).collect();
        assert_eq!(
            told,
            ["relation \"none\" does not exist, skipping"],
            "{statement}"
        );
        let plain = statement.replace("IF EXISTS ", "");
        let state = f.error("a", &plain).state();
        let state = state.as_str();
        let of_role = plain.ends_with("OWNER TO nobody") && state == "42704";
        assert!(state == "42P01" || of_role, "{plain}: {state}");
    }
}
