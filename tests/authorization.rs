//! Who may do what: every kind of statement by everybody on a private and on an integration table,
//! compared with the rules of ownership written as one function; then grants by pattern, revoking,
//! one owner per transaction, and what the journal says about who did it.

use std::process::Command;
use std::time::Duration;

use tests::{Place, Program, SUPERUSER, Session, postgres_tool, report, run};

/// The role whose tables these are. Its name must not be told to who may not read them.
const OWNER: &str = "proprietor";
/// A column that nobody but the readers of the whole table may learn of.
const SECRET: &str = "secret_column";
/// What should come at once may take so long on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Owner,
    /// A role that is a member of the owner.
    Member,
    /// READ ON shared_*.
    Pattern,
    /// GRANT SELECT.
    Plain,
    /// GRANT SELECT (id).
    Column,
    Other,
    Superuser,
}

const EVERYBODY: [(Who, &str); 7] = [
    (Who::Owner, OWNER),
    (Who::Member, "member"),
    (Who::Pattern, "pattern"),
    (Who::Plain, "plain"),
    (Who::Column, "col"),
    (Who::Other, "other"),
    (Who::Superuser, SUPERUSER),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    Private,
    Public,
}

/// The tables; both have the same columns, rows and grants.
const TABLES: [(Where, &str, &str); 2] = [
    (Where::Private, "proprietor.hidden_t", "hidden_t"),
    (Where::Public, "public.shared_t", "shared_t"),
];

/// What a statement asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Need {
    /// SELECT on a column that all readers have.
    ReadColumn,
    /// SELECT on every column.
    ReadAll,
    /// A write: the owner's alone, whatever is granted.
    Write,
    /// To change, drop or describe the table.
    Own,
    /// To pass rights on.
    Grant,
    /// A foreign key from a table in the role's own schema.
    Reference,
    /// READ: rows of the feed, given as a count (`true` = at least one).
    Feed,
    /// A question to a catalog, whose one value says whether the table is there.
    Look,
    /// As [`Need::Look`], for the secret column, and for indexes and constraints, which may name it.
    LookAtSecret,
    /// has_table_privilege for SELECT: an answer about what may be seen, an error otherwise.
    Ask,
}

/// Statements over `{}` (the table with its schema) and `<>` (its bare name). Each runs in a block
/// that is rolled back.
const STATEMENTS: &[(&str, Need)] = &[
    ("SELECT id FROM {}", Need::ReadColumn),
    ("SELECT count(*) FROM {}", Need::ReadColumn),
    ("SELECT 1 FROM {} WHERE id = 1", Need::ReadColumn),
    ("SELECT (SELECT max(id) FROM {})", Need::ReadColumn),
    (
        "WITH x AS (SELECT id FROM {}) SELECT * FROM x",
        Need::ReadColumn,
    ),
    ("EXPLAIN SELECT id FROM {}", Need::ReadColumn),
    ("EXPLAIN ANALYZE SELECT id FROM {}", Need::ReadColumn),
    ("COPY {} (id) TO STDOUT", Need::ReadColumn),
    ("COPY (SELECT id FROM {}) TO STDOUT", Need::ReadColumn),
    ("CREATE VIEW over_it AS SELECT id FROM {}", Need::ReadColumn),
    (
        "CREATE TABLE copy_of_it AS SELECT id FROM {}",
        Need::ReadColumn,
    ),
    ("DECLARE c CURSOR FOR SELECT id FROM {}", Need::ReadColumn),
    (
        "PREPARE p AS SELECT id FROM {} WHERE id = $1",
        Need::ReadColumn,
    ),
    ("SELECT * FROM {}", Need::ReadAll),
    ("TABLE {}", Need::ReadAll),
    ("SELECT id FROM {} WHERE secret_column = 'x'", Need::ReadAll),
    ("SELECT id FROM {} ORDER BY secret_column", Need::ReadAll),
    ("SELECT t FROM {} t", Need::ReadAll),
    ("SELECT count(secret_column) FROM {}", Need::ReadAll),
    ("COPY {} TO STDOUT", Need::ReadAll),
    ("EXPLAIN SELECT * FROM {}", Need::ReadAll),
    ("CREATE VIEW over_it AS SELECT * FROM {}", Need::ReadAll),
    ("INSERT INTO {} VALUES (7, 'x')", Need::Write),
    (
        "INSERT INTO {} (id) VALUES (7) ON CONFLICT DO NOTHING",
        Need::Write,
    ),
    ("INSERT INTO {} SELECT 8, 'x'", Need::Write),
    ("EXPLAIN INSERT INTO {} VALUES (7, 'x')", Need::Write),
    ("UPDATE {} SET id = 3 WHERE id = 1", Need::Write),
    ("UPDATE {} SET secret_column = 'z'", Need::Write),
    ("DELETE FROM {} WHERE id = 1", Need::Write),
    ("DELETE FROM {}", Need::Write),
    ("TRUNCATE {}", Need::Write),
    ("COPY {} FROM STDIN", Need::Write),
    ("COPY {} (id) FROM STDIN", Need::Write),
    ("SELECT id FROM {} FOR UPDATE", Need::Write),
    ("SELECT id FROM {} FOR NO KEY UPDATE", Need::Write),
    ("SELECT id FROM {} FOR SHARE", Need::Write),
    ("SELECT id FROM {} FOR KEY SHARE", Need::Write),
    ("LOCK TABLE {} IN SHARE MODE", Need::Write),
    (
        "WITH d AS (DELETE FROM {} RETURNING id) SELECT 1",
        Need::Write,
    ),
    ("ALTER TABLE {} ADD COLUMN more int", Need::Own),
    ("ALTER TABLE {} DROP COLUMN secret_column", Need::Own),
    ("ALTER TABLE {} RENAME COLUMN secret_column TO x", Need::Own),
    ("ALTER TABLE {} RENAME TO other_name", Need::Own),
    (
        "ALTER TABLE {} ALTER COLUMN secret_column SET NOT NULL",
        Need::Own,
    ),
    ("ALTER TABLE {} ADD CHECK (id > 0)", Need::Own),
    ("ALTER TABLE {} ADD UNIQUE (secret_column)", Need::Own),
    ("CREATE INDEX ON {} (secret_column)", Need::Own),
    ("CREATE UNIQUE INDEX ON {} (id)", Need::Own),
    ("COMMENT ON TABLE {} IS 'x'", Need::Own),
    ("COMMENT ON COLUMN {}.id IS 'x'", Need::Own),
    ("DROP TABLE {}", Need::Own),
    ("DROP TABLE IF EXISTS {} CASCADE", Need::Own),
    ("GRANT SELECT ON {} TO other", Need::Grant),
    ("GRANT SELECT (id) ON {} TO other", Need::Grant),
    ("REVOKE SELECT ON {} FROM plain", Need::Grant),
    ("CREATE TABLE child (id int REFERENCES {})", Need::Reference),
    (
        "SELECT count(*) > 0 FROM freehold.feed WHERE table_name = '<>' AND op = 'insert'",
        Need::Feed,
    ),
    (
        "SELECT count(*) > 0 FROM freehold.changes(after => NULL, tables => ARRAY['{}'], \
         wait => '0s', max_rows => 1000) WHERE op = 'insert'",
        Need::Feed,
    ),
    (
        "SELECT count(*) = 1 FROM pg_class WHERE relname = '<>'",
        Need::Look,
    ),
    (
        "SELECT count(*) = 1 FROM pg_tables WHERE tablename = '<>'",
        Need::Look,
    ),
    (
        "SELECT count(*) = 1 FROM information_schema.tables WHERE table_name = '<>'",
        Need::Look,
    ),
    (
        "SELECT count(*) > 0 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
         WHERE c.relname = '<>'",
        Need::Look,
    ),
    (
        "SELECT count(*) > 0 FROM pg_index WHERE indexrelid::regclass::text LIKE '%<>%'",
        Need::LookAtSecret,
    ),
    (
        "SELECT count(*) > 0 FROM pg_constraint WHERE conname LIKE '<>%'",
        Need::LookAtSecret,
    ),
    (
        "SELECT count(*) > 0 FROM information_schema.columns WHERE table_name = '<>' \
         AND column_name = 'id'",
        Need::Look,
    ),
    ("SELECT to_regclass('{}') IS NOT NULL", Need::Look),
    (
        "SELECT count(*) > 0 FROM pg_stat_user_tables WHERE relname = '<>'",
        Need::Look,
    ),
    (
        "SELECT count(*) > 0 FROM information_schema.columns WHERE table_name = '<>' \
         AND column_name = 'secret_column'",
        Need::LookAtSecret,
    ),
    ("SELECT has_table_privilege('{}', 'SELECT')", Need::Ask),
];

/// What must come out of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Allowed,
    /// This one value.
    Says(bool),
    /// 42P01, without a word about the owner or the columns.
    NotThere,
    /// 42501.
    Denied,
    /// 42501 with the owner's name.
    DeniedNamingOwner,
}

/// The rules.
fn expected(who: Who, need: Need, place: Where) -> Outcome {
    let acts = matches!(who, Who::Owner | Who::Member | Who::Superuser);
    // A grant on a table in a private schema gives nothing: the schema is not there.
    let sees = acts || place == Where::Public && who != Who::Other;
    let reads_all = acts || sees && matches!(who, Who::Pattern | Who::Plain);
    match need {
        Need::Look => Outcome::Says(sees),
        Need::LookAtSecret => Outcome::Says(reads_all),
        Need::Feed => Outcome::Says(acts || sees && who == Who::Pattern),
        _ if !sees => Outcome::NotThere,
        Need::Ask => Outcome::Says(reads_all),
        Need::ReadColumn => Outcome::Allowed,
        Need::ReadAll if reads_all => Outcome::Allowed,
        Need::ReadAll => Outcome::Denied,
        // Their new table may be another owner's.
        Need::Reference if acts => Outcome::Allowed,
        Need::Reference => Outcome::Denied,
        _ if acts => Outcome::Allowed,
        Need::Grant => Outcome::Denied,
        Need::Write | Need::Own => Outcome::DeniedNamingOwner,
    }
}

/// A server with the roles, tables and grants of the matrix.
fn prepared() -> Program {
    let program = Program::start();
    let place = program.place();
    for (who, role) in EVERYBODY {
        if who != Who::Superuser {
            place.add_owner(role);
        }
    }
    place
        .session(SUPERUSER)
        .ok(&format!("GRANT {OWNER} TO member"));
    let mut owner = place.session(OWNER);
    owner.ok("GRANT READ ON shared_* TO pattern");
    for (_, table, _) in TABLES {
        owner.ok(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, {SECRET} text)"
        ));
        owner.ok(&format!("INSERT INTO {table} VALUES (1, 'x'), (2, 'y')"));
        owner.ok(&format!("GRANT SELECT ON {table} TO plain"));
        owner.ok(&format!("GRANT SELECT (id) ON {table} TO col"));
        // What is granted to write counts for nothing: a table has one writer.
        owner.ok(&format!(
            "GRANT INSERT, UPDATE, DELETE, TRUNCATE ON {table} TO plain, col"
        ));
    }
    program
}

/// One cell; what is wrong with it.
fn check(session: &mut Session, sql: &str, outcome: Outcome) -> Option<String> {
    session.ok("DEALLOCATE ALL");
    session.ok("BEGIN");
    session.give_copy_data(b"");
    let answer = session.run(sql);
    session.ok("ROLLBACK");
    let text = answer.text();
    let named = text.contains(OWNER);
    let fits = match outcome {
        Outcome::Allowed => answer.failure().is_none(),
        Outcome::Says(value) => {
            let value = if value { "t" } else { "f" };
            answer.rows == [[Some(value.to_owned())]]
        }
        Outcome::NotThere => {
            let said = text.replace(sql, "");
            let named = said.replace("proprietor.hidden_t", "").contains(OWNER);
            answer.sqlstate() == "42P01" && !named && !said.contains(SECRET)
        }
        Outcome::Denied => answer.sqlstate() == "42501",
        Outcome::DeniedNamingOwner => answer.sqlstate() == "42501" && named,
    };
    (!fits).then_some(text)
}

#[test]
fn everybody_may_what_the_rules_say() {
    let program = prepared();
    let mut wrong = Vec::new();
    let mut cells = 0;
    for (who, role) in EVERYBODY {
        let mut session = program.place().session(role);
        for (place, table, name) in TABLES {
            for (statement, need) in STATEMENTS {
                let sql = statement.replace("{}", table).replace("<>", name);
                let outcome = expected(who, *need, place);
                // IF EXISTS of what is not there is a notice.
                let outcome = match outcome {
                    Outcome::NotThere if sql.contains("IF EXISTS") => Outcome::Allowed,
                    other => other,
                };
                if let Some(text) = check(&mut session, &sql, outcome) {
                    wrong.push(format!("{who:?}: {sql}\n  must be {outcome:?}: {text}"));
                }
                cells += 1;
            }
        }
    }
    report("authorization cells", cells);
    assert_eq!(cells, EVERYBODY.len() * TABLES.len() * STATEMENTS.len());
    assert!(
        wrong.is_empty(),
        "{} of {cells} cells:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn psql(place: &Place, role: &str, command: &str) -> Option<String> {
    let mut psql = Command::new(postgres_tool("psql")?);
    place.environment(&mut psql, role);
    let output = run(psql.args(["-X", "-c", command]), "");
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn psql_describes_what_may_be_seen() {
    let program = prepared();
    for (who, role) in EVERYBODY {
        for (place, table, name) in TABLES {
            let sees = expected(who, Need::Look, place) == Outcome::Says(true);
            for command in [
                format!(r"\d {table}"),
                r"\dt *.*".to_owned(),
                r"\dp *.*".to_owned(),
            ] {
                let Some(said) = psql(program.place(), role, &command) else {
                    return;
                };
                let missed = format!("Did not find any relation named \"{table}\"");
                let shown = said.replace(&missed, "").contains(name);
                assert_eq!(shown, sees, "{who:?} {command}:\n{said}");
            }
        }
    }
}

#[test]
fn a_transaction_writes_one_owners_tables() {
    let program = prepared();
    program.place().add_owner("second");
    let mut second = program.place().session("second");
    second.ok("CREATE TABLE t (i int)");
    let mut superuser = program.place().session(SUPERUSER);
    superuser.ok("BEGIN");
    superuser.ok("INSERT INTO shared_t VALUES (10, 'by the superuser')");
    // Others' tables may still be read.
    assert_eq!(superuser.value("SELECT count(*) FROM second.t"), "0");
    let refused = superuser.fail("INSERT INTO second.t VALUES (1)");
    assert_eq!(refused.sqlstate, "0A000");
    assert!(
        refused
            .detail
            .is_some_and(|d| d.contains(OWNER) && d.contains("second"))
    );
    assert!(refused.hint.is_some(), "what to do instead");
    superuser.ok("ROLLBACK");
    superuser.ok("INSERT INTO second.t VALUES (1)");
    assert_eq!(second.value("SELECT count(*) FROM t"), "1");
    // DDL counts, too.
    superuser.ok("BEGIN");
    superuser.ok("ALTER TABLE second.t ADD COLUMN j int");
    assert_eq!(superuser.fail("DELETE FROM shared_t").sqlstate, "0A000");
    superuser.ok("ROLLBACK");
    // A member writes its own tables and the owner's, not both at once.
    let mut member = program.place().session("member");
    member.ok("CREATE TABLE own (i int)");
    member.ok("BEGIN");
    member.ok("INSERT INTO own VALUES (1)");
    assert_eq!(member.fail("DELETE FROM shared_t").sqlstate, "0A000");
    member.ok("ROLLBACK");
}

#[test]
fn the_journal_says_who_acted_for_the_owner() {
    let program = prepared();
    let actors = [OWNER, "member", SUPERUSER];
    for (id, actor) in actors.iter().enumerate() {
        let mut session = program.place().session(actor);
        session.ok(&format!("INSERT INTO shared_t VALUES ({}, '')", 100 + id));
    }
    let mut member = program.place().session("member");
    member.ok(&format!("SET ROLE {OWNER}"));
    member.ok("INSERT INTO shared_t VALUES (103, '')");
    let seen = program.place().session("pattern").rows(
        "SELECT owner, role, key FROM freehold.feed WHERE op = 'insert' \
         AND (key ->> 'id')::int >= 100 ORDER BY position",
    );
    assert_eq!(
        seen,
        [
            r#"proprietor|proprietor|{"id": 100}"#,
            r#"proprietor|member|{"id": 101}"#,
            r#"proprietor|postgres|{"id": 102}"#,
            r#"proprietor|member|{"id": 103}"#,
        ]
    );
}

#[test]
fn a_pattern_covers_tables_to_come_and_revoking_ends_access_at_once() {
    let program = prepared();
    let mut owner = program.place().session(OWNER);
    let mut reader = program.place().session("pattern");
    owner.ok("CREATE TABLE public.shared_v2 (id int PRIMARY KEY)");
    owner.ok("INSERT INTO public.shared_v2 VALUES (5)");
    assert_eq!(reader.value("SELECT id FROM shared_v2"), "5");
    // Neither private tables nor others' tables of that name.
    owner.ok("CREATE TABLE proprietor.shared_private (id int)");
    assert_eq!(
        reader
            .fail("SELECT * FROM proprietor.shared_private")
            .sqlstate,
        "42P01"
    );
    let mut other = program.place().session("other");
    other.ok("CREATE TABLE public.shared_of_another (id int)");
    assert_eq!(
        reader.fail("SELECT * FROM shared_of_another").sqlstate,
        "42P01"
    );

    owner.notices.clear();
    owner.ok("REVOKE SELECT ON public.shared_v2 FROM pattern");
    let warning = owner.notices.pop().expect("a warning");
    assert_eq!(warning.sqlstate, "01006");
    assert!(warning.message.contains("shared_*"), "{}", warning.text());
    assert_eq!(reader.value("SELECT id FROM shared_v2"), "5");

    // One reader is in a block, one waits for the feed.
    reader.ok("BEGIN");
    reader.ok("DECLARE c CURSOR FOR SELECT id FROM shared_t ORDER BY id");
    let mut follower = program.place().session("pattern");
    let newest = follower.value("SELECT max(position) FROM freehold.feed");
    follower.send(&format!(
        "SELECT * FROM freehold.changes(after => '{newest}', tables => ARRAY['shared_*'], \
         wait => '60s', max_rows => 10)"
    ));
    assert_eq!(
        follower.answers_within(Duration::from_millis(100)).unwrap(),
        None
    );
    owner.ok("REVOKE READ ON shared_* FROM pattern");
    assert_eq!(
        reader.fail("SELECT count(*) FROM shared_t").sqlstate,
        "42P01"
    );
    reader.ok("ROLLBACK");
    assert_eq!(reader.value("SELECT count(*) FROM freehold.feed"), "0");
    assert_eq!(
        reader.value("SELECT to_regclass('public.shared_t') IS NULL"),
        "t"
    );
    // What is written now does not reach the one who waits.
    owner.ok("INSERT INTO public.shared_v2 VALUES (6)");
    let answers = follower
        .answers_within(PATIENCE)
        .unwrap()
        .expect("the wait ends");
    assert!(answers[0].rows.is_empty(), "{}", answers[0].text());
    assert_eq!(answers[0].sqlstate(), "42501", "{}", answers[0].text());
}

#[test]
fn a_role_has_its_private_schema_and_the_default_path() {
    let program = prepared();
    let mut superuser = program.place().session(SUPERUSER);
    for name in ["freehold", "public", "pg_anything"] {
        let refused = superuser.fail(&format!("CREATE ROLE {name} LOGIN"));
        assert_eq!(refused.sqlstate, "42939", "{name}: {}", refused.text());
    }
    let mut owner = program.place().session(OWNER);
    assert_eq!(owner.value("SHOW search_path"), "\"$user\", public");
    assert_eq!(owner.value("SELECT current_schema()"), OWNER);
    owner.ok("CREATE TABLE lands_in_private (i int)");
    assert_eq!(
        owner.value("SELECT schemaname FROM pg_tables WHERE tablename = 'lands_in_private'"),
        OWNER
    );
    let count = "SELECT count(*) FROM pg_namespace WHERE nspname = 'proprietor'";
    assert_eq!(owner.value(count), "1");
    assert_eq!(program.place().session("other").value(count), "0");
    assert_eq!(program.place().session("plain").value(count), "0");

    let mut member = program.place().session("member");
    assert_eq!(
        member.fail("SELECT * FROM lands_in_private").sqlstate,
        "42P01"
    );
    member.ok(&format!("SET ROLE {OWNER}"));
    assert_eq!(
        member.rows("SELECT current_user, session_user, count(*) FROM lands_in_private"),
        ["proprietor|member|0"]
    );
    member.ok("RESET ROLE");
    let mut other = program.place().session("other");
    assert_eq!(other.fail(&format!("SET ROLE {OWNER}")).sqlstate, "42501");
    assert_eq!(
        other.fail(&format!("GRANT {OWNER} TO other")).sqlstate,
        "42501"
    );
    assert_eq!(
        other
            .fail(&format!("CREATE TABLE {OWNER}.intruder (i int)"))
            .sqlstate,
        "3F000"
    );
    assert_eq!(other.fail("CREATE ROLE another LOGIN").sqlstate, "42501");
    superuser.ok(&format!("REVOKE {OWNER} FROM member"));
    assert_eq!(
        member.fail("DELETE FROM proprietor.hidden_t").sqlstate,
        "42P01"
    );
}

#[test]
fn names_in_public_are_taken_whoever_sees_them() {
    let program = prepared();
    let mut other = program.place().session("other");
    // The one stated exception: a hidden name in `public` is taken.
    let refused = other.fail("CREATE TABLE public.shared_t (i int)");
    assert_eq!(refused.sqlstate, "42P07");
    assert!(!refused.text().contains(OWNER), "{}", refused.text());
    // In one's own schema the name is free, and hides the other.
    other.ok("CREATE TABLE shared_t (mine int)");
    assert_eq!(other.value("SELECT count(*) FROM shared_t"), "0");
}
