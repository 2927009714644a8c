//! psql's describing commands and pgbench's scripts, unmodified, beside PostgreSQL 15.

use std::process::Command;

use tests::{Oracle, Place, Program, Security, postgres_tool, report, run};

const ROLE: &str = "clerk";

const SCHEMA: &str = "
    CREATE TABLE shops (country char(2), nr int, title varchar(40) NOT NULL DEFAULT 'none',
        turnover numeric(14,2), tags text[], PRIMARY KEY (country, nr), UNIQUE (title));
    CREATE TABLE sales (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, shop_country char(2),
        shop_nr int, cents int NOT NULL CHECK (cents >= 0), at timestamptz DEFAULT now(),
        FOREIGN KEY (shop_country, shop_nr) REFERENCES shops ON DELETE CASCADE);
    CREATE INDEX sales_by_cents ON sales (cents DESC, id);
    CREATE VIEW big_sales AS SELECT id, cents FROM sales WHERE cents > 1000;
    CREATE SEQUENCE counter START 5;
    CREATE TABLE public.order_v1 (id uuid PRIMARY KEY, body jsonb);";

/// What both servers must answer to the letter.
const ALIKE: &[&str] = &[
    r"\d",
    r"\dt",
    r"\dt *.order_v1",
    r"\di",
    r"\ds",
    r"\dv",
    r"\df",
    r"\dp",
    r"\d shops",
    r"\d sales",
    r"\d big_sales",
    r"\d counter",
    r"\d order_v1",
    r"\d sales_by_cents",
    r"\d+ shops",
    r"\d+ sales",
    r"\dt nothing",
    r"\d nothing",
    r"\dv+",
    r"\du clerk",
];

/// What differs by nature (owners of built-in things, sizes), and a word that must be in it.
const ANSWERED: &[(&str, &str)] = &[
    (r"\dn", "clerk"),
    (r"\dn+", "clerk"),
    (r"\du", "postgres"),
    (r"\l", "freehold"),
    (r"\d+", "sales"),
    (r"\dt+", "order_v1"),
    (r"\conninfo", "clerk"),
    (r"\dS pg_class", "relname"),
    (r"\df freehold.*", "max_rows integer DEFAULT NULL::integer"),
];

/// One call of psql; what it said, errors too.
fn psql(place: &Place, command: &str) -> Option<String> {
    let mut psql = Command::new(postgres_tool("psql")?);
    place.environment(&mut psql, ROLE);
    let output = run(psql.args(["-X", "-c", command]), "");
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn psql_describes_as_on_postgresql() {
    let Some(oracle) = Oracle::start() else {
        return;
    };
    let program = Program::start();
    for place in [oracle.place(), program.place()] {
        place.add_owner(ROLE);
        place.session(ROLE).ok(SCHEMA);
    }
    let mut failed = String::new();
    for command in ALIKE {
        let (Some(right), Some(got)) = (
            psql(oracle.place(), command),
            psql(program.place(), command),
        ) else {
            return;
        };
        assert!(
            !right.contains("could not"),
            "PostgreSQL is out of reach: {right}"
        );
        if right != got {
            failed += &format!("--- {command}: PostgreSQL\n{right}--- Freehold\n{got}\n");
        }
    }
    report("statements compared", ALIKE.len());
    for (command, word) in ANSWERED {
        let Some(got) = psql(program.place(), command) else {
            return;
        };
        if !got.contains(word) || got.contains("ERROR") {
            failed += &format!("--- {command}\n{got}\n");
        }
    }
    assert!(failed.is_empty(), "{failed}");
}

#[test]
fn pgbench_runs_its_scripts_in_every_mode() {
    let program = Program::start_with(Security::Trust, &[]);
    program.place().add_owner(ROLE);
    let pgbench = |arguments: &[&str]| {
        let mut command = Command::new(postgres_tool("pgbench")?);
        program.place().environment(&mut command, ROLE);
        let output = run(command.args(arguments), "");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "pgbench {arguments:?}:\n{said}");
        Some(said)
    };
    if pgbench(&["-i", "-s", "1", "--foreign-keys"]).is_none() {
        return;
    }
    let mut wrote = 0;
    for script in ["select-only", "simple-update", "tpcb-like"] {
        for mode in ["simple", "extended", "prepared"] {
            let said = pgbench(&[
                "-n", "-b", script, "-M", mode, "-c", "8", "-j", "2", "-t", "50",
            ]);
            let said = said.expect("pgbench was there before");
            assert!(
                said.contains("processed: 400/400"),
                "{script} {mode}:\n{said}"
            );
            assert!(
                said.contains("failed transactions: 0 "),
                "{script} {mode}:\n{said}"
            );
            wrote += if script == "select-only" { 0 } else { 400 };
        }
    }
    // TPC-B's own invariant.
    let mut session = program.place().session(ROLE);
    assert_eq!(
        session.value("SELECT count(*) FROM pgbench_history"),
        wrote.to_string()
    );
    assert_eq!(
        session.value(
            "SELECT sum(bbalance) = (SELECT sum(tbalance) FROM pgbench_tellers) \
             FROM pgbench_branches"
        ),
        "t"
    );
    assert_eq!(
        session.value(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = \
             (SELECT sum(delta) FROM pgbench_history)"
        ),
        "t"
    );
}
