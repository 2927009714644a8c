//! GRANT and REVOKE, on names and by pattern.

use super::fixture::Fixture;
use crate::catalog::{Privilege, Seen};

fn fixture() -> Fixture {
    let mut f = Fixture::with_roles();
    f.ok(
        "a",
        "CREATE TABLE public.order_v1 (id int PRIMARY KEY, secret text)",
    );
    f.ok("a", "CREATE TABLE mine (id int PRIMARY KEY, secret text)");
    f
}

fn may(f: &Fixture, role: &str, table: &str, privilege: Privilege) -> bool {
    let table = f.table(table);
    f.catalog()
        .privileges(f.role(role).id, &table)
        .has(privilege)
}

fn sees(f: &Fixture, role: &str, table: &str) -> bool {
    f.catalog().sees(f.role(role).id, &f.table(table))
}

#[test]
fn grants_and_revokes() {
    let mut f = fixture();
    assert!(!sees(&f, "b", "public.order_v1"));
    f.ok(
        "a",
        "GRANT SELECT ON public.order_v1 TO b WITH GRANT OPTION",
    );
    assert!(may(&f, "b", "public.order_v1", Privilege::Select));
    assert!(!may(&f, "b", "public.order_v1", Privilege::Follow));
    f.ok("b", "GRANT SELECT ON public.order_v1 TO c");
    assert!(may(&f, "c", "public.order_v1", Privilege::Select));
    f.fails(
        "c",
        "GRANT SELECT ON public.order_v1 TO b",
        "42501",
        "permission denied for table order_v1",
    );
    f.fails(
        "a",
        "REVOKE SELECT ON public.order_v1 FROM b",
        "2BP01",
        "dependent privileges exist",
    );
    f.ok("a", "REVOKE SELECT ON public.order_v1 FROM b CASCADE");
    assert!(!sees(&f, "b", "public.order_v1") && !sees(&f, "c", "public.order_v1"));
    f.ok("a", "GRANT READ ON public.order_v1 TO PUBLIC");
    assert!(may(&f, "c", "public.order_v1", Privilege::Follow));
    f.fails(
        "a",
        "GRANT USAGE ON public.order_v1 TO b",
        "0LP01",
        "invalid privilege type USAGE for table",
    );
    f.same(&f.catalog(), &f.rebuilt());
}

#[test]
fn column_grants_show_the_name_only() {
    let mut f = fixture();
    f.ok("a", "GRANT SELECT (id) ON public.order_v1 TO b");
    let (catalog, b) = (f.catalog(), f.role("b").id);
    let table = f.table("public.order_v1");
    let (id, secret) = (
        f.column("public.order_v1", "id"),
        f.column("public.order_v1", "secret"),
    );
    assert_eq!(catalog.seen(b, &table), Seen::Name);
    assert!(
        catalog
            .may(b, &table, Privilege::Select, Some(&[id]))
            .is_ok()
    );
    let error = catalog
        .may(b, &table, Privilege::Select, Some(&[id, secret]))
        .expect_err("hidden");
    assert_eq!(error.0.message, "permission denied for table order_v1");
    assert!(catalog.may(b, &table, Privilege::Select, Some(&[])).is_ok());
    f.ok("a", "REVOKE SELECT (id) ON public.order_v1 FROM b");
    assert!(!sees(&f, "b", "public.order_v1"));
}

#[test]
fn private_tables_need_the_schema_too() {
    let mut f = fixture();
    f.ok("a", "GRANT SELECT ON mine TO b");
    assert!(!sees(&f, "b", "a.mine"));
    f.ok("a", "GRANT USAGE ON SCHEMA a TO b");
    assert!(sees(&f, "b", "a.mine") && !sees(&f, "c", "a.mine"));
    f.same(&f.catalog(), &f.rebuilt());
    f.ok("a", "REVOKE USAGE ON SCHEMA a FROM b");
    assert!(!sees(&f, "b", "a.mine"));
    f.same(&f.catalog(), &f.rebuilt());
}

#[test]
fn patterns_cover_present_and_future_tables_of_the_grantor_in_public() {
    let mut f = fixture();
    f.ok("b", "CREATE TABLE public.order_of_b (id int)");
    f.ok("a", "CREATE TABLE order_private (id int)");
    f.ok("a", "GRANT READ ON order_* TO c");
    assert!(may(&f, "c", "public.order_v1", Privilege::Select));
    assert!(may(&f, "c", "public.order_v1", Privilege::Follow));
    assert!(!sees(&f, "c", "public.order_of_b"), "another owner's table");
    assert!(!sees(&f, "c", "a.order_private"), "a private table");
    f.ok("a", "CREATE TABLE public.order_v2 (id int)");
    f.ok("a", "CREATE TABLE public.invoice_v1 (id int)");
    assert!(sees(&f, "c", "public.order_v2") && !sees(&f, "c", "public.invoice_v1"));
    f.same(&f.catalog(), &f.rebuilt());

    // Revoking one table that a pattern still grants warns.
    f.ok("a", "REVOKE SELECT ON public.order_v1 FROM c");
    let warning = &f.notices[0];
    assert_eq!(warning.state().as_str(), "01006");
    assert_eq!(
        warning.0.message,
        "pattern \"order_*\" still grants SELECT on table \"order_v1\" to \"c\""
    );
    assert!(sees(&f, "c", "public.order_v1"));

    // Another's pattern of the same text is another pattern.
    f.ok("b", "REVOKE READ ON order_* FROM c");
    assert_eq!(f.notices[0].state().as_str(), "01006");
    assert!(sees(&f, "c", "public.order_v1"));
    f.ok("a", "REVOKE READ ON order_* FROM c");
    assert!(!sees(&f, "c", "public.order_v1") && !sees(&f, "c", "public.order_v2"));
    assert_eq!(f.catalog().patterns().count(), 0);
    f.same(&f.catalog(), &f.rebuilt());
}

#[test]
fn pattern_privileges_are_four() {
    let mut f = fixture();
    f.ok("a", "GRANT SELECT, REFERENCES ON order_* TO b, c");
    assert_eq!(f.catalog().patterns().count(), 2);
    assert!(may(&f, "b", "public.order_v1", Privilege::References));
    f.ok("a", "REVOKE SELECT ON order_* FROM b");
    assert!(!may(&f, "b", "public.order_v1", Privilege::Select));
    assert!(may(&f, "b", "public.order_v1", Privilege::References));
    f.fails(
        "a",
        "GRANT UPDATE ON order_* TO b",
        "0LP01",
        "UPDATE cannot be granted by pattern",
    );
    f.fails(
        "a",
        "GRANT ALL ON order_* TO b",
        "0LP01",
        "ALL cannot be granted by pattern",
    );
    f.fails(
        "postgres",
        "DROP ROLE c",
        "2BP01",
        "role \"c\" cannot be dropped because some objects depend on it",
    );
}

#[test]
fn a_granted_write_is_kept_and_idle() {
    let mut f = fixture();
    f.ok("a", "GRANT INSERT, SELECT ON public.order_v1 TO b");
    assert_eq!(
        f.notices[0].0.message,
        "INSERT on table \"order_v1\" takes effect only for its owner"
    );
    let (catalog, table) = (f.catalog(), f.table("public.order_v1"));
    let error = catalog
        .may(f.role("b").id, &table, Privilege::Insert, None)
        .expect_err("only the owner writes");
    assert_eq!(error.state().as_str(), "42501");
    assert_eq!(error.0.message, "permission denied for table order_v1");
    assert_eq!(
        error.0.detail.as_deref(),
        Some("Only its owner \"a\" writes table \"order_v1\".")
    );
    assert!(error.0.hint.is_some());
}

#[test]
fn who_loses_select_loses_the_feed() {
    let mut f = fixture();
    for (grant, revoke) in [
        ("READ ON public.order_v1", "SELECT ON public.order_v1"),
        ("READ ON order_*", "SELECT ON order_*"),
    ] {
        f.ok("a", &format!("GRANT {grant} TO b"));
        assert!(may(&f, "b", "public.order_v1", Privilege::Follow));
        f.ok("a", &format!("REVOKE {revoke} FROM b"));
        assert!(!may(&f, "b", "public.order_v1", Privilege::Follow));
        assert!(!sees(&f, "b", "public.order_v1"));
    }
    assert_eq!(f.catalog().patterns().count(), 0);
}
