//! Copies of other owners' tables on nodes that have no replica of their groups: who gets them,
//! what is in them and what is not, and what becomes of them when nodes go.

use std::path::Path;

use tests::{Cluster, SUPERUSER, eventually};

/// Where the owner of the tables is at home, and who reads them.
const OWNER: [&str; 3] = ["--locality=region=owner"; 3];
const READER: [&str; 2] = ["--locality=region=reader"; 2];
/// What is in no file of a node that may not read it.
const CANARY: &str = "canary-in-a-private-table";

/// Nodes 1 to 3 hold the groups of `owner`, nodes 4 and up have no replica of them.
fn cluster(readers: usize) -> Cluster {
    let each: Vec<&[&str]> = OWNER
        .iter()
        .map(std::slice::from_ref)
        .chain(READER.iter().map(std::slice::from_ref).take(readers))
        .collect();
    let cluster = Cluster::start_each(&each);
    for role in ["orders", "billing"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    let table = "CREATE TABLE IF NOT EXISTS";
    cluster.settle(
        1,
        "orders",
        &format!("{table} public.order_v1 (id int PRIMARY KEY, n int)"),
    );
    cluster.settle(
        1,
        "orders",
        &format!("{table} secret (id int PRIMARY KEY, t text)"),
    );
    pin(&cluster, "orders", "owner", 3);
    cluster.settle(
        1,
        "orders",
        &format!("INSERT INTO secret VALUES (1, '{CANARY}') ON CONFLICT DO NOTHING"),
    );
    cluster
}

/// Brings all replicas of an owner's group to a region.
fn pin(cluster: &Cluster, owner: &str, region: &str, replicas: u32) {
    let to = format!("replicas => {replicas}, regions => ARRAY['{region}']");
    cluster.settle(
        1,
        SUPERUSER,
        &format!("SELECT freehold.alter_owner('{owner}', {to})"),
    );
    let held = format!(
        "SELECT count(*), count(*) FILTER (WHERE voter AND locality = 'region={region}') \
         FROM freehold.replicas JOIN freehold.nodes USING (node) WHERE owner = '{owner}'"
    );
    let all = format!("{replicas}|{replicas}");
    let node = if region == "owner" { 1 } else { 4 };
    eventually("all replicas are where they should be", || {
        cluster
            .ask(node, SUPERUSER, &held)
            .is_ok_and(|held| held == [all.as_str()])
    });
}

/// What a copy is like at a node: its phase, and the tables in it.
fn copy(cluster: &Cluster, node: usize, owner: &str) -> Vec<String> {
    let query = format!("SELECT phase, tables FROM freehold.followers WHERE owner = '{owner}'");
    cluster.ask(node, SUPERUSER, &query).unwrap_or_default()
}

/// Is a text in any file below a folder?
fn contains(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => contains(&path, text),
            // One that goes meanwhile has nothing.
            false => std::fs::read(&path).is_ok_and(|bytes| {
                bytes
                    .windows(text.len())
                    .any(|window| window == text.as_bytes())
            }),
        }
    })
}

#[test]
fn every_node_has_every_catalog_and_no_private_row() {
    let mut cluster = cluster(1);
    eventually("the catalog is followed", || {
        copy(&cluster, 4, "orders") == ["following|{}"]
    });
    // A table that comes later is known there, too.
    cluster.settle(
        1,
        "orders",
        "CREATE TABLE IF NOT EXISTS public.later_v1 (id int PRIMARY KEY)",
    );
    eventually("a later table is known", || {
        let known = "SELECT count(*) FROM pg_tables WHERE tablename = 'later_v1'";
        cluster
            .ask(4, SUPERUSER, known)
            .is_ok_and(|count| count == ["1"])
    });
    let data = cluster.node(4).data();
    assert!(contains(&cluster.node(1).data(), CANARY));
    cluster.node(4).restart();
    assert!(!contains(&data, CANARY));
}
