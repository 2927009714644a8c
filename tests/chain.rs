//! A chain of owners whose last reader holds rows of the first and the third only: it never sees
//! the effect before its cause, however late the first one's stream is.

use tests::{Cluster, SUPERUSER, eventually};

/// Each node stands apart, so that an owner can be put on one of them.
const PLACES: &[&[&str]] = &[
    &["--locality=region=first"],
    &["--locality=region=second"],
    &["--locality=region=third"],
    &["--locality=region=last"],
];
/// The owners in the order of the chain; each has its only replica on the node of its number.
const OWNERS: [&str; 3] = ["first", "second", "third"];
/// The reader's node.
const LAST: usize = 4;
/// Causes, each with its effect.
const CAUSES: u32 = 3;
/// So often it is read while the cause is held back.
const READS: usize = 20;

/// Four nodes: three owners of one replica each, and a reader elsewhere, to whom the rows of the
/// first and the third come, and none of the second's.
fn chain() -> Cluster {
    let cluster = Cluster::start_tapped(PLACES);
    cluster.ok(1, SUPERUSER, "CREATE ROLE reader LOGIN");
    for owner in OWNERS {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {owner} LOGIN"));
    }
    for owner in OWNERS {
        let table = format!("CREATE TABLE IF NOT EXISTS public.{owner}_v1 (id int PRIMARY KEY)");
        cluster.settle(1, owner, &table);
        for reader in ["second", "third", "reader"] {
            cluster.settle(1, owner, &format!("GRANT READ ON {owner}_* TO {reader}"));
        }
    }
    for owner in OWNERS {
        cluster.wish(owner, owner, 1);
    }
    for node in 1..=LAST {
        let own = OWNERS.get(node - 1).map(|owner| (*owner).to_owned());
        let replicas = "SELECT owner FROM freehold.groups WHERE owner IS NOT NULL";
        eventually("a node has its owner's replica and no other", || {
            cluster.ask(node, SUPERUSER, replicas) == Ok(Vec::from_iter(own.clone()))
        });
    }
    let copies = "SELECT owner, tables <> '{}' FROM freehold.followers WHERE node = \
                  (SELECT node FROM freehold.nodes WHERE is_self) ORDER BY owner";
    eventually("the reader has rows of the first and the third", || {
        // What is read comes.
        seen(&cluster, 0).is_ok()
            && cluster.settle(LAST, SUPERUSER, copies) == ["first|t", "second|f", "third|t"]
    });
    cluster
}

/// How many entries of an owner have come to the reader's node.
fn entries(cluster: &Cluster, owner: &str) -> Result<u64, String> {
    let query = format!(
        "SELECT entries FROM freehold.followers WHERE owner = '{owner}' \
         AND node = (SELECT node FROM freehold.nodes WHERE is_self)"
    );
    let found = cluster.ask(LAST, SUPERUSER, &query)?;
    let first = found.first().ok_or("it is not followed")?;
    first.parse().map_err(|_| first.clone())
}

/// Does the reader see the cause, and the effect?
fn seen(cluster: &Cluster, id: u32) -> Result<String, String> {
    let query = format!(
        "SELECT (SELECT count(*) FROM public.first_v1 WHERE id = {id}), \
         (SELECT count(*) FROM public.third_v1 WHERE id = {id})"
    );
    let found = cluster.ask(LAST, "reader", &query)?;
    Ok(found.concat())
}

/// The first writes, the second writes what it has read there, the third what it has read of the
/// second.
fn cause(cluster: &Cluster, id: u32) {
    let cause = format!("INSERT INTO public.first_v1 VALUES ({id}) ON CONFLICT DO NOTHING");
    cluster.settle(1, "first", &cause);
    for (node, owner, from) in [(2, "second", "first"), (3, "third", "second")] {
        let effect = format!(
            "INSERT INTO public.{owner}_v1 SELECT id FROM public.{from}_v1 WHERE id = {id} \
             ON CONFLICT DO NOTHING"
        );
        let written = format!("SELECT count(*) FROM public.{owner}_v1 WHERE id = {id}");
        cluster.until(|| {
            cluster.ask(node, owner, &effect)?;
            match cluster.ask(node, owner, &written)?.concat().as_str() {
                "1" => Ok(()),
                _ => Err(format!("no cause of {owner} is there yet")),
            }
        });
    }
}

#[test]
fn an_effect_is_not_seen_before_its_cause_when_the_causes_stream_is_late() {
    let cluster = chain();
    let mut read = 0;
    for id in 1..=CAUSES {
        let before = cluster.until(|| entries(&cluster, "third"));
        let reader = cluster.tap(LAST).port();
        cluster.tap(1).hold(reader);
        cause(&cluster, id);
        // The effect has come, and its cause has not.
        cluster.until(|| match entries(&cluster, "third")? {
            now if now > before => Ok(()),
            now => Err(format!("{now} entries")),
        });
        for _ in 0..READS {
            // A node that has lost contact for long may give nothing: that shows no effect either.
            if let Ok(found) = seen(&cluster, id) {
                assert_eq!(found, "0|0", "an effect without its cause");
                read += 1;
            }
        }
        cluster.tap(1).release();
        cluster.until(|| match seen(&cluster, id)?.as_str() {
            "1|1" => Ok(()),
            "0|1" => panic!("an effect without its cause"),
            found => Err(found.to_owned()),
        });
    }
    assert!(
        read > 0,
        "nothing could be read while the cause was held back"
    );
}
