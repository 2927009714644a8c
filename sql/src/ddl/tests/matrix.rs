//! The authorization matrix at the catalog's level: kinds of access x who asks x where the table
//! is, every cell computed from the rules and compared with what the catalog says.

use super::fixture::Fixture;
use crate::catalog::Privilege;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Owner,
    Member,
    Reader,
    Writer,
    Column,
    Other,
    Superuser,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Select,
    SelectColumn,
    Insert,
    Update,
    Delete,
    Truncate,
    References,
    Follow,
    Own,
}

/// What the rules say: `None` = allowed.
fn expected(who: Who, what: What, private: bool) -> Option<&'static str> {
    let acts = matches!(who, Who::Owner | Who::Member | Who::Superuser);
    if acts {
        return None;
    }
    // Grants on a table in a private schema are nothing without the schema.
    if private || who == Who::Other {
        return Some("42P01");
    }
    match (who, what) {
        (Who::Reader, What::Select | What::SelectColumn | What::Follow) => None,
        (Who::Column, What::SelectColumn) => None,
        (_, _) => Some("42501"),
    }
}

#[test]
fn every_cell() {
    let mut f = Fixture::with_roles();
    for role in ["member", "reader", "writer", "col", "other"] {
        f.ok("postgres", &format!("CREATE ROLE {role} LOGIN"));
    }
    f.ok("postgres", "GRANT a TO member");
    for table in ["a.t", "public.t"] {
        f.ok(
            "a",
            &format!("CREATE TABLE {table} (id int PRIMARY KEY, hidden text)"),
        );
        f.ok("a", &format!("GRANT READ ON {table} TO reader"));
        f.ok(
            "a",
            &format!("GRANT INSERT, UPDATE, DELETE, TRUNCATE ON {table} TO writer"),
        );
        f.ok("a", &format!("GRANT SELECT (id) ON {table} TO col"));
    }
    let whos = [
        (Who::Owner, "a"),
        (Who::Member, "member"),
        (Who::Reader, "reader"),
        (Who::Writer, "writer"),
        (Who::Column, "col"),
        (Who::Other, "other"),
        (Who::Superuser, "postgres"),
    ];
    let whats = [
        What::Select,
        What::SelectColumn,
        What::Insert,
        What::Update,
        What::Delete,
        What::Truncate,
        What::References,
        What::Follow,
        What::Own,
    ];
    let catalog = f.catalog();
    let mut cells = 0;
    for (who, role) in whos {
        let role = f.role(role).id;
        for what in whats {
            for name in ["a.t", "public.t"] {
                let table = f.table(name);
                let id = f.column(name, "id");
                let may = |privilege| catalog.may(role, &table, privilege, None);
                let got = match what {
                    What::Select => may(Privilege::Select),
                    What::SelectColumn => catalog.may(role, &table, Privilege::Select, Some(&[id])),
                    What::Insert => may(Privilege::Insert),
                    What::Update => may(Privilege::Update),
                    What::Delete => may(Privilege::Delete),
                    What::Truncate => may(Privilege::Truncate),
                    What::References => may(Privilege::References),
                    What::Follow => may(Privilege::Follow),
                    What::Own => catalog.must_own(role, &table),
                };
                let got = got.err();
                let want = expected(who, what, name == "a.t");
                assert_eq!(
                    got.as_ref()
                        .map(|e| e.state().as_str().to_owned())
                        .as_deref(),
                    want,
                    "{who:?} {what:?} {name}"
                );
                // Denied writes name the owner to who may read the table, and to nobody else.
                let writes = matches!(
                    what,
                    What::Insert | What::Update | What::Delete | What::Truncate
                );
                if let Some(error) = got {
                    let detail = error.0.detail.clone().unwrap_or_default();
                    let names = detail.contains("\"a\"");
                    let reads = matches!(who, Who::Reader | Who::Column);
                    assert_eq!(
                        names,
                        want == Some("42501") && reads && (writes || what == What::Own),
                        "{who:?} {what:?} {name}: {detail}"
                    );
                }
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 7 * 9 * 2);
}

/// DDL by anybody but the owner: 42P01 for what is hidden, 42501 naming the owner otherwise.
#[test]
fn statements_by_others() {
    let mut f = Fixture::with_roles();
    f.ok("a", "CREATE TABLE public.t (id int PRIMARY KEY, x text)");
    f.ok("a", "CREATE TABLE t (id int PRIMARY KEY, x text)");
    f.ok("a", "GRANT SELECT ON public.t TO b");
    let statements = [
        "ALTER TABLE {} ADD y int",
        "ALTER TABLE {} DROP x",
        "ALTER TABLE {} RENAME TO u",
        "CREATE INDEX ON {} (x)",
        "COMMENT ON TABLE {} IS 'x'",
        "DROP TABLE {}",
    ];
    for statement in statements {
        let public = statement.replace("{}", "public.t");
        let private = statement.replace("{}", "a.t");
        let error = f.error("b", &public);
        assert_eq!(error.state().as_str(), "42501", "{public}");
        assert_eq!(error.0.message, "must be owner of table t", "{public}");
        for hidden in [("c", &public), ("b", &private), ("c", &private)] {
            let error = f.error(hidden.0, hidden.1);
            assert_eq!(error.state().as_str(), "42P01", "{hidden:?}");
        }
    }
}
