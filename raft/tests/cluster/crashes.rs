//! Power that goes, journals that are lost, and all faults in turn, as a seed says.

use super::*;

#[test]
fn all_nodes_lose_power_and_nothing_acknowledged() {
    let mut cluster = Cluster::start(3);
    (0..30).for_each(|n| cluster.write(n, "row"));
    let left: Vec<_> = (1..=3)
        .map(|n| (n, cluster.kill(n, u64::from(n))))
        .collect();
    for (number, left) in left {
        cluster.restart(number, left);
    }
    cluster.write(30, "after");
    assert_eq!(cluster.settle().len(), 31);
}

#[test]
fn a_quick_restart_of_a_follower_disturbs_nobody() {
    let mut cluster = Cluster::start(3);
    for n in 0..5 {
        cluster.write(n, "row");
        let left = cluster.kill(3, n);
        cluster.restart(3, left);
    }
    cluster.write(5, "row");
    assert_eq!(cluster.settle().len(), 6);
}

/// A node whose journal was lost beside its tables would vote again in a term, and has less than it
/// has acknowledged.
#[test]
fn a_node_without_its_journal_does_not_open() {
    let mut cluster = Cluster::start(3);
    (0..5).for_each(|n| cluster.write(n, "row"));
    cluster.settle();
    cluster
        .runtime
        .block_on(cluster[3].node.checkpoint())
        .unwrap();
    let left = cluster.kill(3, 2);
    let lost = left.copy().with_journal(MemoryDisk::new());
    let refused = cluster.try_restart(3, lost);
    assert!(
        matches!(refused, Err(Error::JournalLost(GROUP))),
        "{refused:?}"
    );
    cluster.restart(3, left);
    assert_eq!(cluster.settle().len(), 5);
}

/// Kills, partitions and a bad network, as a seed says, while clients write. What was
/// acknowledged is there, what was said to be lost is not, and all replicas are the same.
#[test]
fn nothing_acknowledged_is_lost_whatever_happens() {
    for seed in 1..=3 {
        println!("seed {seed}");
        shake(seed);
    }
}

fn shake(seed: u64) {
    const STEPS: u64 = 12;
    const WRITES: u64 = 8;
    let mut cluster = Cluster::start(3);
    let mut dice = seed;
    let mut roll = move |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (dice >> 33) % below
    };
    let mut told = Vec::new();
    let mut key = 0;
    for step in 0..STEPS {
        let victim = 1 + roll(3) as u32;
        let mut down = None;
        match roll(4) {
            0 => down = Some((victim, cluster.kill(victim, seed * 100 + step))),
            1 => cluster.net.isolate(victim),
            2 => cluster.net.cut_one_way(victim, 1 + victim % 3),
            _ => cluster
                .net
                .unreliable(seed + step, 30, Duration::from_millis(2)),
        }
        for _ in 0..WRITES {
            key += 1;
            let running: Vec<u32> = cluster.nodes.keys().copied().collect();
            for node in running {
                if let Some(position) = cluster.propose(node, key, "row") {
                    told.push((key, cluster.hear(node, position)));
                    break;
                }
            }
            std::thread::sleep(Duration::from_millis(roll(60)));
        }
        cluster.net.heal();
        if let Some((node, left)) = down {
            cluster.restart(node, left);
        }
        if roll(3) == 0 {
            let node = &cluster[victim].node;
            node.keep_for_lagging(0);
            cluster.runtime.block_on(node.checkpoint()).unwrap();
        }
    }
    cluster.write(0, "the end");
    let rows = cluster.settle();
    let has = |n: u64| rows.iter().any(|(k, _)| *k == harness::key(n));
    let (mut applied, mut lost) = (0, 0);
    for (key, heard) in told {
        match heard.try_recv() {
            Ok(Outcome::Applied) => {
                applied += 1;
                assert!(has(key), "row {key} was acknowledged");
            }
            Ok(Outcome::Lost) => {
                lost += 1;
                assert!(!has(key), "row {key} was said to be lost");
            }
            Ok(Outcome::Unknown) | Err(_) => {}
        }
    }
    println!("{applied} acknowledged, {lost} lost");
    assert!(applied > 0);
}
