//! A follower that lags behind an erase: it gets no erased image and no half of what stood on one,
//! but begins anew.

use raft::EraseGroup;
use storage::system;

use super::*;

/// An event table.
const EVENTS: u32 = 1004;
const SECRET: &str = "the secret of Mrs Miller";

fn erase(node: &Running, group: &Group) {
    let removals = group.removals().unwrap().unwrap();
    let wanted = EraseGroup {
        group: group.id(),
        upto: removals.newest,
        keys: Position::ZERO,
        horizon: group.applied(),
        overdue: false,
    };
    let indexes = Arc::new(|_, _| vec![INDEX]);
    let erased = node.node.erase(vec![wanted], false, indexes);
    assert!(node.runtime.block_on(erased).unwrap().groups[0].done);
}

/// The images of the log that tell of a row.
fn in_log(node: &Running, group: &Group, text: &str) -> usize {
    let read = node
        .journal
        .read(group.id(), Index(0), Index(u64::MAX), usize::MAX);
    let bytes = |record: &Record| record.payload.as_bytes().clone();
    let found = |bytes: &Bytes| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    read.unwrap().iter().map(bytes).filter(found).count()
}

/// Where only the keys of an index are held, what is erased of any table may have been one of them.
#[test]
fn a_follower_of_keys_begins_anew_too() {
    let node = Running::start();
    let group = node.make(1);
    let keys = system::keys_of(INDEX);
    let reader = Reader::new();
    let (mut sink, chosen) = (reader.sink(1), Chooser::of(&[CATALOG, keys]));
    write(&group, TREE, "k", Some(SECRET));
    catch_up(&node, &mut sink, &chosen);
    write(&group, TREE, "k", None);
    erase(&node, &group);
    let mut source = node.source(&mut sink, &chosen);
    assert!(!pump(&mut source, &mut sink), "it must come again");
    catch_up(&node, &mut sink, &chosen);
    // With the next ones it goes on as before, and what goes is noted there.
    write(&group, TREE, "l", Some("another"));
    write(&group, TREE, "l", None);
    catch_up(&node, &mut sink, &chosen);
    let copy = reader.group(1);
    let removals = copy.removals().unwrap().unwrap();
    assert!(removals.oldest.is_some());
}

#[test]
fn a_follower_that_lags_behind_an_erase_begins_anew() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "a", Some("stays"));
    let reader = Reader::new();
    let (mut sink, chosen) = (reader.sink(1), Chooser::of(CHOSEN));
    catch_up(&node, &mut sink, &chosen);
    // Another follower has seen it, and not that it is gone.
    write(&group, TREE, "k", Some(SECRET));
    let late = Reader::new();
    let mut late_sink = late.sink(1);
    catch_up(&node, &mut late_sink, &chosen);
    write(&group, TREE, "k", None);
    write(&group, TREE, "b", Some("stays, too"));
    assert_eq!(in_log(&node, &group, SECRET), 2);
    erase(&node, &group);
    assert_eq!(in_log(&node, &group, SECRET), 0);
    for (reader, sink) in [(&reader, &mut sink), (&late, &mut late_sink)] {
        let mut source = node.source(sink, &chosen);
        assert!(!pump(&mut source, sink), "it must come again");
        catch_up(&node, sink, &chosen);
        same(reader, &group, &[TREE, INDEX]);
    }
    // What is erased of other tables is none of its business.
    write(&group, PRIVATE, "p", Some(SECRET));
    write(&group, PRIVATE, "p", None);
    erase(&node, &group);
    let mut source = node.source(&mut sink, &chosen);
    assert!(pump(&mut source, &mut sink), "it goes on");
    same(&reader, &group, &[TREE, INDEX]);
}

#[test]
fn a_reader_of_the_feed_gets_the_key_of_what_is_erased_and_no_more() {
    let node = Running::start();
    let group = node.make(1);
    let first = write(&group, TREE, "k", Some(SECRET));
    let gone = write(&group, TREE, "k", None);
    erase(&node, &group);
    let read = read(&node, &group, gone);
    let [(of, change)] = &read[..] else {
        panic!("{read:?}");
    };
    assert_eq!((*of, &change.key, change.erase), (gone, &text("k"), true));
    assert_eq!((&change.old, &change.new), (&None, &None));
    let mut units = node
        .feed
        .read(&[group.id()], Position::ZERO, first)
        .unwrap();
    let entry = units.next().unwrap().unwrap().entries.remove(0);
    let mut changes = entry.into_changes().unwrap();
    assert_eq!(changes.next().unwrap(), None);
    assert_eq!(changes.erased()[0].at, gone);
}

/// All changes up to a position, as the feed gives them, with their entries.
fn read(node: &Running, group: &Group, upto: Position) -> Vec<(Position, Change)> {
    let mut units = node.feed.read(&[group.id()], Position::ZERO, upto).unwrap();
    let mut read = Vec::new();
    while let Some(unit) = units.next().unwrap() {
        for entry in unit.entries {
            let position = entry.entry().header.position;
            let mut changes = entry.into_changes().unwrap();
            while let Some(change) = changes.next().unwrap() {
                read.push((position, change));
            }
        }
    }
    read
}

/// What no later removal tells of is told by what stands in its place: that there was something of its
/// table. So nobody who was away goes on as if there had been nothing.
#[test]
fn a_reader_of_the_feed_is_told_that_something_is_lost() {
    let node = Running::start();
    let group = node.make(1);
    let lost = |read: &[(Position, Change)]| {
        let lost = read.iter().filter(|(_, change)| change.is_lost());
        let told = lost.map(|(at, change)| {
            assert!(change.erase && change.feed && change.new.is_none() && change.old.is_none());
            (*at, change.tree)
        });
        told.collect::<Vec<_>>()
    };
    write(&group, TREE, "gone", Some(SECRET));
    write(&group, TREE, "gone", None);
    let lives = write(
        &group,
        TREE,
        "lives",
        Some("put elsewhere by another type of a column"),
    );
    let said = commit(&group, |commit| {
        commit.events = vec![Event {
            seq: 0,
            kind: EventKind::Row,
            name: String::new(),
            table: Some(EVENTS),
            payload: text(SECRET),
            about: vec![storage::RowKey {
                tree: PRIVATE,
                key: text("p"),
            }],
        }];
    });
    let about = write(&group, PRIVATE, "p", None);
    // An event is lost to who reads its table, though a row of another one is gone.
    erase(&node, &group);
    assert_eq!(lost(&read(&node, &group, about)), [(said, EVENTS)]);
    let end = commit(&group, |commit| commit.dropped_trees = vec![TREE, INDEX]);
    erase(&node, &group);
    assert_eq!(in_log(&node, &group, "put elsewhere"), 0);
    let read = read(&node, &group, end);
    // The one that was gone before has lost its removal with the tree.
    let of_tree: Vec<Position> = lost(&read)
        .iter()
        .filter(|(_, tree)| *tree == TREE)
        .map(|(at, _)| *at)
        .collect();
    assert!(of_tree.contains(&lives), "{read:?}");
    assert_eq!(of_tree.len(), 2, "once for each: {read:?}");
}
