//! What the journal adds to the disk's own fsync: `cargo run --release -p journal --example rates`.

use std::sync::Arc;
use std::time::Instant;

use journal::{GroupId, Index, Journal, Kind, Options, Payload, Position, RealDisk, Record, Term};

fn entry(group: u32, index: u64) -> Record {
    Record {
        group: GroupId(group),
        kind: Kind::Entry,
        term: Term(1),
        index: Index(index),
        position: Position(index),
        payload: Payload::of(&[7; 400]),
    }
}

fn main() {
    let folder = tempfile::tempdir_in(".").expect("a folder");
    let file = std::fs::File::create(folder.path().join("raw")).expect("a file");
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0; 16 << 20], 0).expect("zeros");
    file.sync_all().expect("sync");
    let started = Instant::now();
    for n in 0..2000 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 512], n * 512).expect("write");
        file.sync_data().expect("sync");
    }
    println!("raw: {:.0}/s", 2000.0 / started.elapsed().as_secs_f64());
    let dir = folder.path().join("journal");
    let disk = Arc::new(RealDisk);
    let journal = Journal::open(disk, &dir, Options::default()).expect("open");
    for clients in [1_u32, 8, 32] {
        let before = journal.stats();
        let started = Instant::now();
        let each = if clients == 1 { 2000 } else { 1000 };
        std::thread::scope(|scope| {
            for client in 0..clients {
                let journal = &journal;
                scope.spawn(move || {
                    let group = clients * 100 + client;
                    for index in 1..=each {
                        let record = entry(group, index);
                        journal.append_wait(vec![record]).expect("append");
                    }
                });
            }
        });
        let fsyncs = journal.stats().fsyncs - before.fsyncs;
        let rate = f64::from(clients) * each as f64 / started.elapsed().as_secs_f64();
        println!("{clients} clients: {rate:.0}/s, {fsyncs} fsyncs");
    }
}
