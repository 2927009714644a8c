//! Tables that move from one owner to another, over processes: readers on every node see the same rows
//! all the time, whichever home falls in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use tests::{Cluster, Login, Program, SUPERUSER};

/// Rows before the move: some entries' worth of copying.
const ROWS: u64 = 12_000;

/// Rows are numbered from 1 on, so their number says what their sum is.
const READ: &str = "SELECT count(*), sum(id), count(DISTINCT n) FROM t";

fn make(rows: u64) -> [String; 3] {
    [
        "CREATE TABLE IF NOT EXISTS public.t (id int PRIMARY KEY, n int, note text)".to_owned(),
        "CREATE INDEX IF NOT EXISTS t_n ON public.t (n)".to_owned(),
        format!(
            "INSERT INTO public.t SELECT g, g % 7, repeat('x', 40) FROM generate_series(1, {rows}) g
             ON CONFLICT DO NOTHING"
        ),
    ]
}

/// What a reader must see, if there are so many rows.
fn sums(rows: u64) -> String {
    format!("{rows}|{}|{}", rows * (rows + 1) / 2, rows.min(7))
}

/// Reads in a loop until it is told to stop; how often it has read.
fn read_on(port: u16, user: &str, over: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (login, over) = (Login::new(port, user, ""), Arc::clone(over));
    thread::spawn(move || {
        let mut session = login.open().expect("a reader comes in");
        let (mut last, mut reads) = (0, 0);
        while !over.load(Ordering::Relaxed) {
            let found = session.rows(READ).concat();
            let rows: u64 = found.split('|').next().unwrap_or_default().parse().unwrap();
            assert_eq!(found, sums(rows), "a reader of {port}");
            assert!(rows >= last, "{rows} after {last}");
            (last, reads) = (rows, reads + 1);
        }
        reads
    })
}

/// One node: the owner writes until it is another's, and that one goes on.
#[test]
fn a_table_moves_while_it_is_read_and_written() {
    let program = Program::start();
    let place = program.place();
    for owner in ["a", "b", "c"] {
        place.add_owner(owner);
    }
    let mut root = place.session(SUPERUSER);
    let mut a = place.session("a");
    make(ROWS).iter().for_each(|sql| drop(a.ok(sql)));
    a.ok("GRANT SELECT ON public.t TO c");
    let over = Arc::new(AtomicBool::new(false));
    let reader = read_on(place.port, "c", &over);
    let next = Arc::new(AtomicU64::new(ROWS + 1));
    let write = |session: &mut tests::Session, next: &AtomicU64| {
        let id = next.load(Ordering::Relaxed);
        let insert = format!("INSERT INTO public.t VALUES ({id}, {id} % 7, 'w')");
        let answer = session.run(&insert);
        match answer.failure() {
            None => {
                next.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Some(failure) => Err(failure.text()),
        }
    };
    let writing = {
        let (login, next) = (Login::new(place.port, "a", ""), Arc::clone(&next));
        thread::spawn(move || {
            let mut session = login.open().expect("the writer comes in");
            loop {
                if let Err(why) = write(&mut session, &next) {
                    return why;
                }
            }
        })
    };
    root.ok("ALTER TABLE public.t OWNER TO b");
    let told = writing.join().expect("the writer ends by an error");
    assert!(told.contains("42P01"), "{told}");
    let mut b = place.session("b");
    for _ in 0..20 {
        write(&mut b, &next).expect("it is b's");
    }
    over.store(true, Ordering::Relaxed);
    assert!(reader.join().expect("nothing was amiss") > 0);
    let rows = next.load(Ordering::Relaxed) - 1;
    assert!(rows >= ROWS + 20);
    assert_eq!(b.rows(READ), [sums(rows)]);
    assert_eq!(root.value("SELECT count(*) FROM freehold.moves"), "0");
    let owner = "SELECT relowner::regrole FROM pg_class WHERE relname = 't'";
    assert_eq!(root.value(owner), "b");
}

/// Each owner has its one replica on a node of its own, and so has a reader who follows the table: the old
/// home falls, the new one, both. Reading goes on, and in the end all agree.
#[test]
fn it_moves_on_whichever_home_falls() {
    let places: [&[&str]; 3] = [
        &["--locality=region=a"],
        &["--locality=region=b"],
        &["--locality=region=c"],
    ];
    let mut cluster = Cluster::start_each(&places);
    for role in ["a", "b", "c"] {
        cluster.ok(3, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    for role in ["b", "c"] {
        let own = "CREATE TABLE IF NOT EXISTS own (id int PRIMARY KEY)";
        cluster.settle(1, role, own);
    }
    make(ROWS)
        .iter()
        .for_each(|sql| drop(cluster.settle(1, "a", sql)));
    cluster.settle(1, "a", "GRANT READ ON t* TO c");
    for (node, owner) in [(1, "a"), (2, "b"), (3, "c")] {
        cluster.pin(node, owner, owner, 1);
    }
    cluster.settle(3, "c", "FOLLOW public.t");
    let over = Arc::new(AtomicBool::new(false));
    let reader = read_on(cluster.program(3).place().port, "c", &over);
    let mut rows = ROWS;
    for (from, to, falls) in [
        ("a", "b", &[][..]),
        ("b", "a", &[2][..]),
        ("a", "b", &[2]),
        ("b", "a", &[1, 2]),
    ] {
        let port = cluster.program(3).place().port;
        let statement = format!("ALTER TABLE public.t OWNER TO {to}");
        let asked = statement.clone();
        let asking = thread::spawn(move || {
            let mut session = Login::new(port, SUPERUSER, "").open().expect("it comes in");
            // Its home may fall.
            drop(session.try_run(&asked));
        });
        let begun = format!(
            "SELECT count(*) FROM pg_class c LEFT JOIN freehold.moves m ON m.table_name = 'public.t'
             WHERE relname = 't' AND (state IS NOT NULL OR relowner = '{to}'::regrole)"
        );
        cluster.until(|| match cluster.ask(3, SUPERUSER, &begun)? {
            found if found == ["1"] => Ok(()),
            found => Err(format!("the move from {from} has not begun: {found:?}")),
        });
        falls.iter().for_each(|node| cluster.node(*node).kill());
        falls
            .iter()
            .for_each(|node| cluster.node(*node).start_again());
        asking.join().expect("it ends");
        cluster.settle(3, SUPERUSER, &statement);
        let left = "SELECT state FROM freehold.moves";
        cluster.until(|| match cluster.ask(3, SUPERUSER, left)? {
            found if found.is_empty() => Ok(()),
            found => Err(format!("{found:?}")),
        });
        rows += 1;
        let insert = format!("INSERT INTO public.t VALUES ({rows}, 1, 'w') ON CONFLICT DO NOTHING");
        cluster.settle(1, to, &insert);
        for node in 1..=3 {
            cluster.until(|| match cluster.ask(node, to, READ)? {
                found if found == [sums(rows)] => Ok(()),
                found => Err(format!("{found:?} at {node} of {to}")),
            });
            let refused = cluster.ask(node, from, READ).expect_err("it has gone");
            assert!(refused.contains("42P01"), "{refused}");
        }
        cluster.until(|| match cluster.ask(3, "c", READ)? {
            found if found == [sums(rows)] => Ok(()),
            found => Err(format!("{found:?}")),
        });
    }
    over.store(true, Ordering::Relaxed);
    assert!(reader.join().expect("nothing was amiss") > 0);
}
