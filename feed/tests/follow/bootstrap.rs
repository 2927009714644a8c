//! The first copy, then every entry, and every way in which the stream can end.

use super::*;

#[test]
fn a_bootstrap_then_every_entry_and_nothing_private() {
    let node = Running::start();
    let group = node.make(1);
    for n in 0..50 {
        write(&group, TREE, &format!("k{n}"), Some("before"));
        write(&group, PRIVATE, &format!("{CANARY}{n}"), Some(CANARY));
    }
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = node.source(&mut sink, &chosen);
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, CHOSEN);
    let before = reader.group(1).applied();

    write(&group, CATALOG, "table", Some("descriptor"));
    write(&group, TREE, "k1", Some("after"));
    write(&group, TREE, "k2", None);
    let mixed = [(TREE, "k3"), (PRIVATE, CANARY)];
    let mixed = (0..).zip(mixed);
    let mixed = mixed.map(|(seq, (tree, key))| change(&group, seq, tree, key, Some(key)));
    place(&group, mixed.collect(), Vec::new());
    write(&group, PRIVATE, CANARY, None);
    until_applied(&group, group.close_above().unwrap());
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, CHOSEN);
    let follower = reader.group(1);
    let old = follower.get(TREE, b"k1", before).unwrap();
    assert_eq!(old, Some(text("before")), "versions, as at home");
    assert_eq!(sink.progress().phase, Phase::Following);
    assert_eq!(sink.progress().bootstraps, 1);
    assert_eq!(reader.shown(1), group.applied());

    assert!(!follower.holds(PRIVATE));
    reader.groups.checkpoint(&NoJournal).unwrap();
    let everything = reader.everything();
    assert!(
        !everything
            .windows(CANARY.len())
            .any(|w| w == CANARY.as_bytes())
    );
    assert!(follower.is_followed() && follower.term().is_none());
}

#[test]
fn it_goes_on_from_its_checkpoint() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(CHOSEN);
    let store = MemoryStore::new();
    let mut written = 0;
    for restart in 0..4 {
        let reader = Reader::over(store.clone());
        assert_eq!(reader.groups.followed().unwrap().len(), restart.min(1));
        let mut sink = reader.sink(1);
        let source = &mut catch_up(&node, &mut sink, &chosen);
        for checkpoint in [true, false] {
            for _ in 0..3 {
                written += 1;
                write(
                    &group,
                    TREE,
                    &format!("k{}", written % 5),
                    Some(&written.to_string()),
                );
            }
            assert!(pump(source, &mut sink));
            if checkpoint {
                reader.groups.checkpoint(&NoJournal).unwrap();
            }
        }
        same(&reader, &group, CHOSEN);
        // A restart loses what came after the checkpoint, and nothing else is sent again.
        let expected = if restart == 0 { 1 } else { 0 };
        assert_eq!(sink.progress().bootstraps, expected, "restart {restart}");
    }
}

#[test]
fn a_stream_may_be_cut_anywhere() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(CHOSEN);
    // Rows of several pieces.
    let long = "x".repeat(100 << 10);
    for n in 0..6 {
        write(&group, TREE, &format!("k{n}"), Some(&long));
    }
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut cut = 0;
    let mut ended = false;
    while !ended {
        let mut source = node.source(&mut sink, &chosen);
        for _ in 0..cut {
            match source.next().unwrap() {
                Some(piece) => assert!(sink.take(piece).unwrap()),
                None => ended = true,
            }
        }
        cut += 1;
        let follower = reader.group(1);
        if follower.applied() > Position::ZERO {
            follower.verify_sums().unwrap();
            write(&group, TREE, "more", Some(&cut.to_string()));
            ended |= cut > 20;
        } else {
            assert!(rows(&follower, TREE).is_empty(), "all or nothing");
        }
    }
    catch_up(&node, &mut sink, &chosen);
    same(&reader, &group, CHOSEN);
    assert_eq!(sink.progress().bootstraps, 1);
}

/// Rows of 16 KiB.
fn large(group: &Group, tree: u32, rows: u32) -> Position {
    let long = "x".repeat(16 << 10);
    let changes = (0..rows).map(|n| change(group, n, tree, &format!("large{n:04}"), Some(&long)));
    place(group, changes.collect(), Vec::new())
}

#[test]
fn large_entries_come_whole() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);
    // In parts in the journal; as one entry here.
    large(&group, PRIVATE, 500);
    large(&group, TREE, 300);
    write(&group, TREE, "k", Some("behind it"));
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, CHOSEN);
    assert_eq!(sink.progress().bootstraps, 1);
    // Too large for that.
    large(&group, TREE, 1200);
    write(&group, TREE, "k", Some("behind it, too"));
    assert!(!pump(&mut source, &mut sink));
    catch_up(&node, &mut sink, &chosen);
    same(&reader, &group, CHOSEN);
    assert_eq!(sink.progress().bootstraps, 2);
}

#[test]
fn who_is_behind_retention_begins_anew() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);
    let long = "x".repeat(256 << 10);
    for n in 0..40 {
        node.clock.advance(1_000);
        write(&group, TREE, &format!("k{}", n % 7), Some(&long));
    }
    node.clock.advance(1_000);
    node.cut(&group);
    write(&group, TREE, "k", Some("last"));
    assert!(!pump(&mut source, &mut sink), "entries are missing");
    catch_up(&node, &mut sink, &chosen);
    same(&reader, &group, CHOSEN);
}

/// Checkpoints until all records of a group have left, for others need their room.
fn empty(node: &Running, group: &storage::Group) {
    let emptied = (0..1000).any(|_| {
        node.runtime.block_on(node.node.checkpoint()).unwrap();
        node.journal.state(group.id()).oldest.is_none()
    });
    assert!(emptied, "something stays");
}

/// The log has nothing that would tell of what has left.
#[test]
fn who_is_behind_an_empty_log_begins_anew() {
    let node = Running::start();
    let (group, other) = (node.make(1), node.make(2));
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);
    node.clock.advance(1_000);
    write(&group, TREE, "k", Some("missed"));
    let long = "x".repeat(256 << 10);
    for _ in 0..40 {
        node.clock.advance(1_000);
        write(&other, TREE, "k", Some(&long));
    }
    empty(&node, &group);
    assert!(!pump(&mut source, &mut sink), "an entry is missing");
    catch_up(&node, &mut sink, &chosen);
    same(&reader, &group, CHOSEN);
}

#[test]
fn an_entry_that_is_missing_is_noticed() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);
    // Even one that has nothing for this follower.
    write(&group, PRIVATE, "p", Some("1"));
    write(&group, TREE, "k", Some("1"));
    assert!(matches!(source.next().unwrap(), Some(Piece::Entry { .. })));
    let second = source.next().unwrap().unwrap();
    assert!(matches!(sink.take(second), Err(Error::Stream(_))));
    assert!(rows(&reader.group(1), TREE).is_empty());
    assert!(sink.request().has.is_none(), "it can't go on from there");
    catch_up(&node, &mut sink, &chosen);
    same(&reader, &group, CHOSEN);
}

#[test]
fn rows_that_were_not_chosen_are_refused() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, PRIVATE, CANARY, Some(CANARY));
    write(&group, TREE, "k", Some("1"));
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    // What a source of its own mind would send: all rows under a mark that names one table.
    let honest = Chooser::of(CHOSEN);
    let mut source = node.source(&mut sink, &honest);
    let begin = source.next().unwrap().unwrap();
    let all = Chooser::of(&[CATALOG, TREE, INDEX, PRIVATE]);
    let mut other = node.source(&mut sink, &all);
    assert!(matches!(other.next().unwrap(), Some(Piece::Begin { .. })));
    assert!(sink.take(begin).unwrap());
    let mut taken = Ok(true);
    while let (Ok(true), Some(piece)) = (&taken, other.next().unwrap()) {
        taken = sink.take(piece);
    }
    assert!(taken.is_err());
    assert!(rows(&reader.group(1), TREE).is_empty());
    let mut source = node.source(&mut sink, &honest);
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, CHOSEN);
}

#[test]
fn a_follower_that_has_ended_writes_nothing() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(CHOSEN);
    write(&group, TREE, "k", Some("1"));
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);
    reader.groups.checkpoint(&NoJournal).unwrap();
    reader.groups.unfollow(GroupId(1), &NoJournal).unwrap();
    assert!(reader.store.trees().is_empty());
    write(&group, TREE, "k", Some("2"));
    let piece = source.next().unwrap().unwrap();
    let ended = sink.take(piece);
    let no_group = |e: &Error| matches!(e, Error::Storage(storage::Error::NoGroup(_)));
    assert!(ended.as_ref().is_err_and(no_group), "{ended:?}");
    assert!(reader.store.trees().is_empty());
    // Raft takes it over: it is empty, and nobody follows it.
    let replica = reader.groups.open_replica(GroupId(1), &NoJournal).unwrap();
    assert!(!replica.is_followed());
    assert!(
        !replica.holds(PRIVATE) && !replica.holds(TREE),
        "what was shown is not here yet"
    );
    assert!(reader.groups.follow(GroupId(1), Box::new(|| ())).is_err());
    assert_eq!(reader.groups.followed().unwrap(), []);
}

#[test]
fn a_bootstrap_that_ends_after_raft_took_over_writes_nothing() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = node.source(&mut sink, &Chooser::of(CHOSEN));
    loop {
        let piece = source.next().unwrap().unwrap();
        if !matches!(piece, Piece::End(_)) {
            assert!(sink.take(piece).unwrap());
            continue;
        }
        let replica = reader.groups.open_replica(GroupId(1), &NoJournal).unwrap();
        let before = replica.applied_log();
        let ended = sink.take(piece);
        let no_group = |e: &Error| matches!(e, Error::Storage(storage::Error::NoGroup(_)));
        assert!(ended.as_ref().is_err_and(no_group), "{ended:?}");
        assert_eq!(replica.applied_log(), before);
        assert!(reader.store.trees().is_empty());
        break;
    }
}

#[test]
fn raft_gets_an_empty_group_from_a_follower() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    let store = MemoryStore::new();
    for restart in [false, true] {
        let reader = Reader::over(store.clone());
        let mut sink = reader.sink(1);
        catch_up(&node, &mut sink, &Chooser::of(CHOSEN));
        reader.groups.checkpoint(&NoJournal).unwrap();
        assert!(reader.groups.open(GroupId(1)).is_err());
        // Held, or only on disk.
        let reader = match restart {
            true => Reader::over(store.clone()),
            false => reader,
        };
        let replica = reader.groups.open_replica(GroupId(1), &NoJournal).unwrap();
        assert_eq!(replica.applied_log().0, storage::Applied::default());
        assert!(store.trees().is_empty());
    }
}

/// A log without large transactions.
struct NoParts;

impl PartSource for NoParts {
    fn part(&mut self, index: Index) -> storage::Result<journal::Payload> {
        panic!("a part at {}", index.0)
    }
}

/// What Raft does at a replica that gets the log from its beginning.
fn replay(node: &Running, replica: &Group) {
    let log = node
        .journal
        .read(replica.id(), Index(0), Index(u64::MAX), usize::MAX);
    for record in log.unwrap() {
        let (term, index) = (record.term, record.index);
        match record.kind {
            Kind::Entry => {
                let applied = replica.apply(term, index, &record.payload, &mut NoParts);
                assert!(matches!(applied.unwrap(), Verdict::Applied(_)));
            }
            _ => replica.apply_raft(term, index, None),
        }
    }
}

/// What the files held at the start, and where a copy began, says nothing of a replica that comes
/// after them.
#[test]
fn a_replica_begins_at_zero_whatever_was_there_before() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    let reader = Reader::new();
    catch_up(&node, &mut reader.sink(1), &Chooser::of(CHOSEN));
    reader.groups.checkpoint(&NoJournal).unwrap();
    write(&group, TREE, "k", Some("2"));
    let reader = Reader::over(reader.store.crash(|_, _, _| true));
    assert!(reader.store.persisted(GroupId(1)) > Position::ZERO);
    reader.groups.unfollow(GroupId(1), &NoJournal).unwrap();
    catch_up(&node, &mut reader.sink(1), &Chooser::of(CHOSEN));
    let copied = reader.group(1).applied();
    assert_eq!(reader.store.horizon(GroupId(1)), copied);
    let replica = reader.groups.open_replica(GroupId(1), &NoJournal).unwrap();
    write(&group, TREE, "k", Some("3"));
    replay(&node, &replica);
    assert_eq!(rows(&replica, TREE), rows(&group, TREE));
}

/// The feed of a node reads its journal: of a group that is only followed there it has nothing.
#[test]
fn the_feed_does_not_pass_over_a_followed_group() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    let newest = node.feed.newest();
    let closed = node.feed.closed(&group, newest);
    let groups = node.node.groups();
    let followed = groups.follow(GroupId(9), Box::new(|| ())).unwrap();
    assert!(followed.is_followed());
    assert_eq!(node.feed.newest(), newest);
    assert_eq!(node.feed.closed(&followed, newest), Position::ZERO);
    let ids = [GroupId(1), GroupId(9)];
    let read = node.feed.read(&ids, Position::ZERO, closed);
    assert!(matches!(read.map(|_| ()), Err(Error::Unknown(GroupId(9)))));
    let request = feed::follow::Request {
        group: GroupId(9),
        has: None,
    };
    let source = node.feed.follow(&request, Chooser::of(CHOSEN));
    assert!(matches!(source.map(|_| ()), Err(Error::Unknown(_))));
}
