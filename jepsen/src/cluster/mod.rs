//! Several real nodes that form one cluster, what is done to them under load, and what must hold
//! on all of them afterwards.

mod failover;
mod journal;
mod links;
mod namespaces;
mod nemesis;
mod oracle;
mod proxy;
mod runs;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use crate::error::{Error, Result};
use crate::link::{Address, Link, Protocol, Texts, integer, text};
use crate::options::Options;
use crate::victim::{Kind, Pause, Plan, Victim};

pub use links::Network;
pub use nemesis::Nemesis;
pub use runs::play;

use links::{Links, Place};
use namespaces::Namespaces;
use proxy::Proxies;

/// Longest wait for a cluster to be whole: every node with every group, and level with its leader.
const WHOLE_MAX: Duration = Duration::from_secs(60);

/// Pause between two looks at the nodes.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Voters of an owner's group, if there are so many nodes.
const VOTERS_MAX: usize = 3;

/// Longest wait for an order to be taken.
const ORDER_MAX: Duration = Duration::from_secs(20);

/// Longest wait for a node's own views; a paused one says nothing.
const VIEW_MAX: Duration = Duration::from_secs(2);

/// What all roles of a cluster that isn't `--insecure` have.
const PASSWORD: &str = "jepsen-secret";

/// What a node says of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    number: i64,
    owner: String,
    term: i64,
    leads: bool,
    last_index: i64,
}

/// The nodes and the network between them.
pub struct Cluster {
    // Fields drop in this order: the nodes end before their network goes.
    nodes: Vec<Victim>,
    links: Links,
    address: Address,
}

impl Cluster {
    /// Nodes that are not started, with folders below `scratch` and logs below `out`.
    pub async fn make(
        options: &Options,
        program: &Path,
        sabotage: Option<&str>,
        server_options: &[String],
        scratch: &Path,
        out: &Path,
    ) -> Result<Cluster> {
        let folder = |node: usize| scratch.join(format!("node-{}", node + 1));
        let folders: Vec<PathBuf> = (0..options.nodes).map(folder).collect();
        let is_rootless = options.network == Network::Proxies;
        let links = if is_rootless {
            Links::Proxies(Proxies::make(&folders).await?)
        } else {
            Links::Namespaces(Namespaces::make(options.nodes)?)
        };
        let password = (!is_rootless).then_some(PASSWORD);
        let certs = scratch.join("certs");
        if !is_rootless {
            make_certificates(program, &certs, links.places())?;
        }
        let mut nodes = Vec::new();
        for (number, place) in links.places().iter().enumerate() {
            let mut flags = peer_flags(number, links.places());
            if !is_rootless {
                flags.extend(certificate_flags(number, &certs));
            }
            flags.extend(server_options.iter().cloned());
            let plan = Plan {
                kind: Kind::Freehold,
                program: program.to_owned(),
                store: options.table_store,
                options: flags,
                sabotage: sabotage.map(str::to_owned),
                listen: place.clients,
                password,
                prefix: place.prefix.clone(),
            };
            let log = out.join(format!("node-{}.log", number + 1));
            std::fs::write(&log, "")?;
            nodes.push(Victim::new(plan, folders[number].clone(), log));
        }
        let clients: Vec<SocketAddr> = links.places().iter().map(|place| place.clients).collect();
        let address = Address::new(&clients, "freehold").with_password(password);
        Ok(Cluster {
            nodes,
            links,
            address,
        })
    }

    /// Starts all nodes, the first one alone as it founds the cluster, and waits until it is whole.
    pub async fn form(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.create().await?;
        }
        self.nodes[0].start().await?;
        self.start_all().await?;
        self.wait_whole().await
    }

    /// Starts all nodes that don't run, at the same time.
    async fn start_all(&mut self) -> Result<()> {
        let stopped = self.nodes.iter_mut().filter(|node| !node.is_running());
        let started = join_all(stopped.map(Victim::start)).await;
        started.into_iter().try_for_each(|one| one.map(drop))
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Where clients connect.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// A node.
    pub fn node(&self, number: usize) -> &Victim {
        &self.nodes[number]
    }

    /// SIGKILL to these nodes at once.
    async fn kill(&mut self, numbers: &[usize]) -> Result<()> {
        let all = self.nodes.iter_mut().enumerate();
        let struck = all.filter(|(number, _)| numbers.contains(number));
        let killed = join_all(struck.map(|(_, node)| node.kill())).await;
        killed.into_iter().try_for_each(|one| one.map(drop))
    }

    /// Ends all nodes gracefully, at the same time.
    async fn stop(&mut self) -> Result<()> {
        let stopped = join_all(self.nodes.iter_mut().map(Victim::stop)).await;
        stopped.into_iter().collect()
    }

    /// Ends whatever is done to network and processes.
    fn heal(&self) -> Result<()> {
        self.links.heal()?;
        for node in &self.nodes {
            node.pause(Pause::End);
        }
        Ok(())
    }

    /// What each node says of its groups; `None` for one that doesn't answer.
    async fn groups(&self) -> Vec<Option<Vec<Group>>> {
        let asked = (0..self.len()).map(|node| groups_of(self.address.only(node)));
        join_all(asked).await
    }

    /// Who leads each owner's group: where two claim it, the one of the newer term.
    async fn leaders(&self) -> BTreeMap<String, usize> {
        let mut newest: BTreeMap<String, (i64, usize)> = BTreeMap::new();
        for (node, groups) in self.groups().await.into_iter().enumerate() {
            for group in groups.into_iter().flatten().filter(|group| group.leads) {
                let claim = (group.term, node);
                let known = newest.entry(group.owner).or_insert(claim);
                *known = claim.max(*known);
            }
        }
        let leader = |(owner, (_, node))| (owner, node);
        newest.into_iter().map(leader).collect()
    }

    /// Waits until every node answers, has every group, and has of each what its leader had when
    /// the wait began.
    async fn wait_whole(&self) -> Result<()> {
        let end = Instant::now() + WHOLE_MAX;
        let mut target: Option<BTreeMap<i64, i64>> = None;
        loop {
            let groups = self.groups().await;
            let missing = missing(&groups, target.as_ref(), self.voters());
            if missing.is_empty() && target.is_some() && self.has_all_voters().await {
                return Ok(());
            }
            if target.is_none() {
                target = reached(&groups);
            }
            if Instant::now() > end {
                let seconds = WHOLE_MAX.as_secs();
                return Err(Error::Victim(format!(
                    "the cluster is not whole after {seconds} s: {missing}"
                )));
            }
            sleep(LOOK_PAUSE).await;
        }
    }

    /// Whether every group has as many voters as there are nodes, as its leader knows it.
    async fn has_all_voters(&self) -> bool {
        let sql = "SELECT group_id, count(*) FROM freehold.replicas WHERE voter GROUP BY group_id";
        let asked = (0..self.len()).map(|node| superuser(self.address.only(node), sql));
        let answers = join_all(asked).await;
        let wanted = self.voters() as i64;
        let rows = answers.iter().flatten().flatten();
        // The directory is on up to five nodes.
        let is_whole = |row: &Texts| integer(row, 1) >= Some(wanted);
        rows.clone().count() > 0 && rows.clone().all(is_whole)
    }

    /// How many voters an owner's group has when it is whole.
    fn voters(&self) -> usize {
        self.len().min(VOTERS_MAX)
    }

    /// Has a node of `left` do what `call` says, once it can; whether it did.
    async fn order(&self, left: &[usize], call: &str) -> bool {
        let end = Instant::now() + ORDER_MAX;
        let gone: Vec<usize> = (0..self.len())
            .filter(|node| !left.contains(node))
            .collect();
        let address = self.address.without(&gone);
        while Instant::now() < end {
            if superuser(address.clone(), call).await.is_some() {
                return true;
            }
            sleep(LOOK_PAUSE).await;
        }
        false
    }

    /// Waits until an owner's group has so many voters as its leader sees it, `without` none of them.
    async fn wait_voters(&self, owner: &str, count: usize, without: Option<usize>) -> bool {
        let end = Instant::now() + WHOLE_MAX;
        let sql = format!(
            "SELECT count(*), coalesce(bool_or(r.leads AND n.is_self), false) FROM freehold.replicas r \
             JOIN freehold.nodes n ON n.node = r.node WHERE r.owner = '{owner}' AND r.voter"
        );
        while Instant::now() < end {
            for node in (0..self.len()).filter(|node| Some(*node) != without) {
                let rows = superuser(self.address.only(node), &sql)
                    .await
                    .unwrap_or_default();
                let is_it = |row: &Texts| {
                    integer(row, 0) == Some(count as i64) && text(row, 1).starts_with('t')
                };
                if rows.first().is_some_and(is_it) {
                    return true;
                }
            }
            sleep(LOOK_PAUSE).await;
        }
        false
    }

    /// Lines of all logs, from these bytes on, that no run expects; the bytes now.
    fn complaints(&self, from: &[u64]) -> Result<(Vec<String>, Vec<u64>)> {
        let (mut all, mut ends) = (Vec::new(), Vec::new());
        for (number, node) in self.nodes.iter().enumerate() {
            let (lines, end) = node.complaints(from.get(number).copied().unwrap_or(0))?;
            let named = |line: String| format!("node {}: {line}", number + 1);
            all.extend(lines.into_iter().map(named));
            ends.push(end);
        }
        Ok((all, ends))
    }
}

/// Rows of a question by the superuser; `None` if no answer comes in time.
async fn superuser(address: Address, sql: &str) -> Option<Vec<Texts>> {
    let asked = async {
        let link = Link::open(&address, "postgres", Protocol::Simple).await;
        link.ok()?.run(sql).await.ok()
    };
    timeout(VIEW_MAX, asked).await.ok()?
}

async fn groups_of(node: Address) -> Option<Vec<Group>> {
    let sql = "SELECT group_id, owner, coalesce(term, 0), leads, coalesce(last_index, 0) \
               FROM freehold.groups";
    let rows = superuser(node, sql).await?;
    let group = |row: &Texts| {
        Some(Group {
            number: integer(row, 0)?,
            owner: text(row, 1).to_owned(),
            term: integer(row, 2)?,
            leads: text(row, 3).starts_with('t'),
            last_index: integer(row, 4)?,
        })
    };
    Some(rows.iter().filter_map(group).collect())
}

/// The last index of each group at its leader; `None` while a group of some node has no leader.
fn reached(groups: &[Option<Vec<Group>>]) -> Option<BTreeMap<i64, i64>> {
    let all = || groups.iter().flatten().flatten();
    let mut newest: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for group in all().filter(|group| group.leads) {
        let claim = (group.term, group.last_index);
        let known = newest.entry(group.number).or_insert(claim);
        *known = claim.max(*known);
    }
    if newest.is_empty() || all().any(|group| !newest.contains_key(&group.number)) {
        return None;
    }
    let last = |(number, (_, last_index))| (number, last_index);
    Some(newest.into_iter().map(last).collect())
}

/// What a node lacks of `target`, in words; empty if none lacks anything. With more nodes than
/// `voters` not every node has every owner's group.
fn missing(
    groups: &[Option<Vec<Group>>],
    target: Option<&BTreeMap<i64, i64>>,
    voters: usize,
) -> String {
    let Some(target) = target else {
        return "a group has no leader".into();
    };
    let (mut lacks, all) = (Vec::new(), groups.len());
    for (node, groups) in groups.iter().enumerate() {
        let Some(groups) = groups else {
            lacks.push(format!("node {} does not answer", node + 1));
            continue;
        };
        for (number, wanted) in target {
            let there = groups.iter().find(|group| group.number == *number);
            if there.is_none() && *number > 0 && all > voters {
                continue;
            }
            let index = there.map(|group| group.last_index);
            if index < Some(*wanted) {
                lacks.push(format!(
                    "node {} has group {number} up to {index:?} of {wanted}",
                    node + 1
                ));
            }
        }
    }
    lacks.join(", ")
}

/// The first node founds the cluster, the others are taken in.
fn peer_flags(number: usize, places: &[Place]) -> Vec<String> {
    let place = &places[number];
    let mut flags = vec![
        "--peer-listen".to_owned(),
        place.peer_listen.to_string(),
        "--peer-advertise".to_owned(),
        place.peer_advertise.to_string(),
    ];
    if number > 0 {
        flags.extend(["--join".to_owned(), places[0].peer_advertise.to_string()]);
    }
    flags
}

fn certificate_flags(number: usize, certs: &Path) -> Vec<String> {
    let file = |name: String| certs.join(name).display().to_string();
    let node = number + 1;
    vec![
        "--cluster-ca".to_owned(),
        file("ca.crt".into()),
        "--cluster-cert".to_owned(),
        file(format!("n{node}.crt")),
        "--cluster-key".to_owned(),
        file(format!("n{node}.key")),
    ]
}

/// An authority and a certificate for each node, by the program's own command.
fn make_certificates(program: &Path, certs: &Path, places: &[Place]) -> Result<()> {
    let cert = |words: &[&str]| {
        let mut command = Command::new(program);
        command.arg("cert").args(words).arg("--dir").arg(certs);
        let said = command.output()?;
        if said.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&said.stderr);
        Err(Error::Victim(format!("freehold cert: {}", why.trim())))
    };
    cert(&["ca"])?;
    for (number, place) in places.iter().enumerate() {
        let (name, host) = (
            format!("n{}", number + 1),
            place.peer_advertise.ip().to_string(),
        );
        cert(&["node", "--name", &name, "--host", &host])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(number: i64, term: i64, leads: bool, last_index: i64) -> Group {
        Group {
            number,
            owner: format!("owner {number}"),
            term,
            leads,
            last_index,
        }
    }

    #[test]
    fn the_newer_term_says_how_far_a_group_is() {
        let old = vec![group(1, 3, true, 90)];
        let new = vec![group(1, 4, true, 80)];
        let reached = reached(&[Some(old), Some(new), None]);
        assert_eq!(reached, Some(BTreeMap::from([(1, 80)])));
    }

    #[test]
    fn a_group_without_leader_is_not_reached() {
        let groups = [Some(vec![group(0, 1, true, 5), group(1, 3, false, 9)])];
        assert_eq!(reached(&groups), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let target = BTreeMap::from([(0, 5), (1, 9)]);
        let whole = Some(vec![group(0, 1, true, 5), group(1, 1, false, 9)]);
        let behind = Some(vec![group(0, 1, false, 4)]);
        assert_eq!(
            missing(&[whole.clone(), whole.clone()], Some(&target), 3),
            ""
        );
        let said = missing(&[whole.clone(), behind, None], Some(&target), 3);
        assert_eq!(
            said,
            "node 2 has group 0 up to Some(4) of 5, node 2 has group 1 up to None of 9, \
             node 3 does not answer"
        );
        let in_the_pool = Some(vec![group(0, 1, false, 5)]);
        assert_eq!(missing(&[whole, in_the_pool], Some(&target), 1), "");
    }
}
