//! What others use of a contract grows, and is not taken back.

use storage::GroupId;

use super::Fixture;
use crate::catalog;

/// `a` has a contract that `b` and `c` may read.
fn contract() -> Fixture {
    let mut fixture = Fixture::with_roles();
    fixture.ok(
        "a",
        "CREATE TABLE public.order_v1 (id int PRIMARY KEY, n int NOT NULL, note text, \
         CHECK (n > 0), UNIQUE (note))",
    );
    fixture.ok("a", "GRANT READ ON order_* TO b, c");
    fixture
}

/// The directory notes that a role reads the contract.
fn read(fixture: &mut Fixture, role: &str) {
    let table = fixture.table("public.order_v1").id;
    let role = fixture.role(role).id;
    let changes = fixture.catalog().note_read(table, role, fixture.now());
    let rows = changes.iter().flat_map(catalog::rows).collect();
    fixture.commit(GroupId::DIRECTORY, rows);
}

/// What takes something from readers, and what is said of it.
const BREAKING: &[(&str, &str)] = &[
    (
        "DROP COLUMN note",
        "column \"note\" is gone\nconstraint \"order_v1_note_key\" is gone",
    ),
    (
        "RENAME COLUMN note TO remark",
        "column \"note\" is gone\nconstraint \"order_v1_note_key\" is gone",
    ),
    ("RENAME TO order_v7", "its name is another one"),
    (
        "DROP COLUMN note, ADD COLUMN note text UNIQUE",
        "column \"note\" is gone",
    ),
    (
        "ALTER COLUMN n TYPE bigint",
        "column \"n\" was integer and is bigint",
    ),
    ("ALTER COLUMN n DROP NOT NULL", "column \"n\" may be NULL"),
    (
        "ADD COLUMN must int NOT NULL",
        "new column \"must\" is NOT NULL and has no default",
    ),
    (
        "DROP CONSTRAINT order_v1_pkey",
        "its primary key is another one",
    ),
    (
        "DROP CONSTRAINT order_v1_n_check",
        "constraint \"order_v1_n_check\" is gone",
    ),
];

#[test]
fn a_contract_is_free_until_it_is_used_and_only_grows_from_then_on() {
    let growing = [
        "ALTER TABLE public.order_v1 ADD COLUMN more text",
        "ALTER TABLE public.order_v1 ADD COLUMN given int NOT NULL DEFAULT 7",
        "ALTER TABLE public.order_v1 ADD CHECK (id > 0)",
        "ALTER TABLE public.order_v1 ALTER COLUMN note SET NOT NULL",
        "ALTER TABLE public.order_v1 ALTER COLUMN given DROP DEFAULT",
        "ALTER TABLE public.order_v1 SET (sunset = '2027-01-31')",
        "COMMENT ON TABLE public.order_v1 IS 'c'",
        "CREATE INDEX ON public.order_v1 (more)",
    ];
    for (change, broken) in BREAKING {
        let sql = format!("ALTER TABLE public.order_v1 {change}");
        contract().ok("a", &sql);
        let mut fixture = contract();
        read(&mut fixture, "b");
        let error = fixture.error("a", &sql);
        assert_eq!(error.state().as_str(), "OW004", "{sql}");
        let message = "contract \"order_v1\" is in use: it may only grow";
        assert_eq!(error.0.message, message);
        let detail = error.0.detail.clone().unwrap();
        let read = "\nrole \"b\" read it last at 1970-01-01 00:16:40+00";
        assert_eq!(detail, format!("{broken}{read}"), "{sql}");
        let hint = error.0.hint.clone().unwrap();
        assert!(
            hint.starts_with("Create the next version, public.order_v2,"),
            "{hint}"
        );
        for sql in growing {
            fixture.ok("a", sql);
        }
    }
}

#[test]
fn who_may_read_no_more_and_who_owns_it_use_nothing() {
    let mut fixture = contract();
    read(&mut fixture, "a");
    read(&mut fixture, "b");
    let follow = "FOLLOW public.order_v1";
    fixture.ok("c", "CREATE TABLE own (id int)");
    fixture.ok("c", follow);
    let drop = "ALTER TABLE public.order_v1 DROP COLUMN note";
    let detail = |error: crate::Error| error.0.detail.clone().unwrap();
    let told = detail(fixture.error("a", drop));
    assert!(
        told.contains("role \"b\" read it") && told.ends_with("role \"c\" follows it"),
        "{told}"
    );
    fixture.ok("a", "REVOKE READ ON order_* FROM b");
    assert!(!detail(fixture.error("a", drop)).contains("role \"b\""));
    fixture.ok("a", "REVOKE READ ON order_* FROM c");
    fixture.ok("a", drop);
}

#[test]
fn what_is_used_is_dropped_by_cascade_only() {
    let mut fixture = contract();
    read(&mut fixture, "b");
    let error = fixture.error("a", "DROP TABLE public.order_v1");
    assert_eq!(error.state().as_str(), "2BP01");
    assert_eq!(
        error.0.detail.as_deref(),
        Some("role \"b\" read it last at 1970-01-01 00:16:40+00")
    );
    // A month and a half later nobody needs it.
    fixture.advance(45 * 24 * 60 * 60 * 1_000_000);
    fixture.ok("a", "DROP TABLE public.order_v1");
    let mut fixture = contract();
    read(&mut fixture, "b");
    fixture.ok("a", "DROP TABLE public.order_v1 CASCADE");
    // What is noted of it goes with the next note.
    fixture.ok("a", "CREATE TABLE public.order_v2 (id int)");
    let (gone, role) = (fixture.catalog(), fixture.role("c").id);
    assert_eq!(gone.last_reads().count(), 1);
    let table = fixture.table("public.order_v2").id;
    let changes = fixture.catalog().note_read(table, role, fixture.now());
    fixture.commit(
        GroupId::DIRECTORY,
        changes.iter().flat_map(catalog::rows).collect(),
    );
    let catalog = fixture.catalog();
    let left: Vec<_> = catalog.last_reads().map(|read| read.table).collect();
    assert_eq!(left, [table]);
    fixture.same(&fixture.catalog(), &fixture.rebuilt());
}

/// What is told to do next is something that can be done.
#[test]
fn the_version_that_is_told_is_the_first_that_is_not_there() {
    let mut fixture = contract();
    read(&mut fixture, "b");
    for number in [2, 3] {
        fixture.ok(
            "a",
            &format!("CREATE TABLE public.order_v{number} (id int)"),
        );
    }
    let error = fixture.error("a", "ALTER TABLE public.order_v1 DROP COLUMN note");
    let hint = error.0.hint.clone().unwrap();
    assert!(hint.contains("public.order_v4,"), "{hint}");
}

#[test]
fn a_sunset_is_a_date() {
    let mut fixture = contract();
    let set = |value| format!("ALTER TABLE public.order_v1 SET (sunset = '{value}')");
    let error = fixture.error("a", &set("soon"));
    assert_eq!(error.state().as_str(), "22023");
    fixture.ok("a", &set("2027-01-31"));
}
