//! Contracts: free until somebody uses them, then they only grow; who uses them is seen by their
//! owner, wherever it is read.

use std::path::Path;

use tests::{Cluster, Failure, Program, SUPERUSER, Security, command, run};

/// What `orders` sees of its contract's users.
const USERS: &str = "SELECT followers, readers, last_read IS NOT NULL FROM freehold.contracts \
                     WHERE table_name = 'public.order_v1'";

fn owners() -> Cluster {
    let cluster = Cluster::start(3);
    for role in ["orders", "billing", "audit", "shipping"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    cluster.settle(
        1,
        "orders",
        "CREATE TABLE public.order_v1 (id int PRIMARY KEY, note text)",
    );
    let grant = "GRANT READ ON order_* TO billing, audit, shipping";
    cluster.settle(1, "orders", grant);
    cluster
}

fn await_users(cluster: &Cluster, node: usize, users: &str) {
    cluster.until(|| match cluster.ask(node, "orders", USERS)? {
        found if found == [users] => Ok(()),
        found => Err(format!("{found:?} at node {node}, not {users}")),
    });
}

/// The SQLSTATE of what must fail, and all that is told with it.
fn refused(cluster: &Cluster, node: usize, sql: &str) -> String {
    cluster.until(|| match cluster.ask(node, "orders", sql) {
        Ok(done) => panic!("{sql}: {done:?}"),
        Err(error) if error.contains("40001") || error.contains("57P03") => Err(error),
        Err(error) => Ok(error),
    })
}

#[test]
fn who_reads_a_contract_anywhere_keeps_it_from_being_taken_back() {
    let cluster = owners();
    let alter = |sql: &str| format!("ALTER TABLE public.order_v1 {sql}");
    // Nobody uses it: who administers all owners does not count.
    cluster.settle(2, SUPERUSER, "SELECT * FROM public.order_v1");
    await_users(&cluster, 1, "{}|{}|f");
    cluster.settle(1, "orders", &alter("DROP COLUMN note"));
    cluster.settle(1, "orders", &alter("ADD COLUMN note text"));
    // A query at one node, a page of the feed at another.
    cluster.settle(2, "billing", "SELECT note FROM public.order_v1");
    await_users(&cluster, 1, "{}|{billing}|t");
    let page = "SELECT count(*) FROM freehold.changes(tables => ARRAY['order_*'])";
    cluster.settle(3, "audit", page);
    await_users(&cluster, 3, "{}|{billing,audit}|t");
    for node in [1, 2, 3] {
        await_users(&cluster, node, "{}|{billing,audit}|t");
        let told = refused(&cluster, node, &alter("DROP COLUMN note"));
        for part in [
            "OW004",
            "column \"note\" is gone",
            "role \"billing\" read it last at",
            "role \"audit\" read it last at",
            "public.order_v2",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let told = refused(&cluster, node, "DROP TABLE public.order_v1");
        assert!(told.contains("2BP01"), "{told}");
        cluster.settle(
            node,
            "orders",
            &alter(&format!("ADD COLUMN more_{node} int")),
        );
    }
    // Others see the contract, and not who uses it.
    let seen =
        "SELECT version, newest, owner, followers, readers, last_read FROM freehold.contracts";
    assert_eq!(
        cluster.settle(2, "shipping", seen),
        ["1|t|orders|NULL|NULL|NULL"]
    );
    // Who may read it no more uses it no more.
    cluster.settle(1, "orders", "REVOKE READ ON order_* FROM billing, audit");
    await_users(&cluster, 1, "{}|{}|f");
    cluster.settle(1, "orders", &alter("DROP COLUMN note"));
    cluster.settle(1, "orders", "DROP TABLE public.order_v1");
}

/// Readers of the old version go on while the new one is there, and are told of its end once.
#[test]
fn the_next_version_stands_beside_the_old_one_until_its_readers_have_moved() {
    let cluster = owners();
    cluster.settle(1, "billing", "CREATE TABLE own (id int PRIMARY KEY)");
    cluster.settle(1, "billing", "FOLLOW order_*");
    let create = "CREATE TABLE public.order_v2 (id int PRIMARY KEY, remark text NOT NULL)";
    cluster.settle(1, "orders", create);
    let sunset = "ALTER TABLE public.order_v1 SET (sunset = '2031-12-31')";
    cluster.settle(1, "orders", sunset);
    let mut session = cluster.open(2, "billing").unwrap();
    let told = cluster.until(|| {
        session.ok("SELECT * FROM public.order_v1");
        let told: Vec<String> = session.notices.iter().map(Failure::text).collect();
        match told.is_empty() {
            true => Err("not told".into()),
            false => Ok(told),
        }
    });
    let told = told.join("\n");
    assert!(
        told.contains("contract \"order_v1\" ends on 2031-12-31"),
        "{told}"
    );
    assert!(told.contains("public.order_v2"), "{told}");
    session.notices.clear();
    session.ok("SELECT * FROM public.order_v1");
    assert!(session.notices.is_empty(), "{:?}", session.notices);
    let versions = "SELECT version, newest, followers FROM freehold.contracts ORDER BY version";
    let both = ["1|f|{billing}", "2|t|{billing}"];
    assert_eq!(cluster.settle(1, "orders", versions), both);
    let told = refused(&cluster, 1, "DROP TABLE public.order_v1");
    assert!(told.contains("role \"billing\" follows it"), "{told}");
    // Its end is in the feed.
    let after = cluster.settle(1, "billing", "SELECT freehold.snapshot_position()");
    cluster.settle(1, "orders", "DROP TABLE public.order_v1 CASCADE");
    let end = format!(
        "SELECT event_type, table_name FROM freehold.changes(after => '{}', \
         tables => ARRAY['order_*'], wait => '10s') WHERE op = 'ddl'",
        after[0]
    );
    cluster.until(|| match cluster.ask(2, "billing", &end)? {
        found if found == ["DROP TABLE|order_v1"] => Ok(()),
        found => Err(format!("{found:?}")),
    });
}

/// Whoever may read a version sees when it was written last: after a restart, and on another node.
#[test]
fn the_last_write_is_known_after_a_restart_and_where_the_table_is_followed() {
    let places: [&[&str]; 2] = [
        &["--locality=region=orders"],
        &["--locality=region=billing"],
    ];
    let mut cluster = Cluster::start_each(&places);
    for role in ["orders", "billing", "audit"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    for sql in [
        "CREATE TABLE IF NOT EXISTS public.order_v1 (id int PRIMARY KEY)",
        "GRANT READ ON order_* TO billing",
        "GRANT SELECT (id) ON order_v1 TO audit",
    ] {
        cluster.settle(1, "orders", sql);
    }
    cluster.settle(1, "billing", "CREATE TABLE IF NOT EXISTS own (id int)");
    cluster.settle(1, "billing", "FOLLOW order_v1");
    cluster.pin(1, "orders", "orders", 1);
    cluster.pin(2, "billing", "billing", 1);
    cluster.settle(
        1,
        "orders",
        "INSERT INTO order_v1 VALUES (1) ON CONFLICT DO NOTHING",
    );
    const WRITTEN: &str = "SELECT last_written FROM freehold.contracts";
    let at = cluster.settle(1, "orders", WRITTEN);
    assert_ne!(at, ["NULL"]);
    cluster.until(|| match cluster.ask(2, "billing", WRITTEN)? {
        found if found == at => Ok(()),
        found => Err(format!("{found:?}, not {at:?}")),
    });
    assert_eq!(cluster.settle(1, "audit", WRITTEN), ["NULL"]);
    cluster.kill_all_and_start_again();
    for (node, role) in [(1, "orders"), (2, "billing")] {
        cluster.until(|| match cluster.ask(node, role, WRITTEN)? {
            found if found == at => Ok(()),
            found => Err(format!("{found:?}, not {at:?}")),
        });
    }
}

/// A team's CI asks before it deploys.
#[test]
fn a_breaking_change_is_found_before_it_is_deployed() {
    const OLD: &str = "CREATE TABLE public.order_v1 (id int PRIMARY KEY, \
                       total numeric(10,2) NOT NULL, note text UNIQUE);\n\
                       CREATE TABLE public.item_v1 (id int PRIMARY KEY);\n";
    const NEW: &str = "CREATE TABLE public.order_v1 (id int PRIMARY KEY, total numeric(10,2));\n\
                       CREATE TABLE public.order_v2 (id bigint PRIMARY KEY);\n\
                       CREATE TABLE public.item_v1 (id int PRIMARY KEY, more text);\n";
    const TOLD: &str = "public.item_v1: grows\n\
                        public.order_v1: breaks its readers\n  \
                          column \"total\" may be NULL\n  \
                          column \"note\" is gone\n  \
                          constraint \"order_v1_note_key\" is gone\n\
                        public.order_v2: new\n";
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = [("old.sql", OLD), ("new.sql", NEW)].map(|(name, script)| {
        let path = folder.path().join(name);
        std::fs::write(&path, script).unwrap();
        path
    });
    let diff = |new: &Path, how: &[&str]| {
        let mut command = command();
        command.args(["contract", "diff"]).arg(new).args(how);
        let output = match how {
            // What is said goes before what is set.
            ["--from", _] => run(command.env("DATABASE_URL", "postgres://nobody@nowhere"), ""),
            _ => run(command.env_remove("DATABASE_URL"), ""),
        };
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let shown = old.to_str().unwrap();
    let broken = (Some(1), TOLD.to_owned());
    assert_eq!(diff(&new, &["--from", shown]), broken);
    let same = (Some(0), "no contract changes\n".to_owned());
    assert_eq!(diff(&old, &["--from", shown]), same);
    let (code, said) = diff(&new, &[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("--from OLD.sql or --url"), "{said}");
    // The same against what is deployed.
    let program = Program::start_with(Security::Trust, &[]);
    program.place().add_owner("orders");
    let mut orders = program.place().session("orders");
    OLD.lines().for_each(|create| drop(orders.ok(create)));
    let url = format!(
        "postgres://orders@127.0.0.1:{}/freehold",
        program.place().port
    );
    assert_eq!(diff(&new, &["--url", &url]), broken);
    assert_eq!(diff(&old, &["--url", &url]), same);
}
