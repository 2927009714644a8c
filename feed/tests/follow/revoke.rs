//! What is chosen changes: trees come beside the others, and what may not be read goes.

use super::*;

const CHOSEN_WITH_PRIVATE: &[u32] = &[CATALOG, TREE, INDEX, PRIVATE];

#[test]
fn what_is_chosen_may_change() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    write(&group, PRIVATE, "p", Some("1"));
    let chosen = Chooser::of(&[CATALOG, TREE, INDEX]);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);

    // A table that comes is followed from its creation on, in the same stream.
    write(&group, CATALOG, "later", Some("descriptor"));
    chosen.set(&[CATALOG, TREE, INDEX, LATER]);
    write(&group, LATER, "first", Some("1"));
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, &[CATALOG, TREE, INDEX, LATER]);
    assert_eq!(sink.progress().bootstraps, 1);

    // The rows of one that has some come alone; one that goes needs nothing.
    for (trees, bootstraps) in [
        (&[CATALOG, TREE, INDEX, LATER, PRIVATE][..], 2),
        (&[CATALOG, LATER], 2),
    ] {
        chosen.set(trees);
        write(&group, LATER, "second", Some("2"));
        assert!(pump(&mut source, &mut sink));
        same(&reader, &group, trees);
        assert_eq!(sink.progress().bootstraps, bootstraps);
    }
    let follower = reader.group(1);
    assert!(!follower.holds(TREE) && !follower.holds(PRIVATE));
    let trees: Vec<u32> = reader.store.trees().iter().map(|t| t.number).collect();
    assert_eq!(
        trees,
        [CATALOG, LATER],
        "what is not chosen any more is gone"
    );

    // A dropped one leaves with its entry.
    commit(&group, |commit| commit.dropped_trees = vec![LATER, TREE]);
    chosen.set(&[CATALOG]);
    write(&group, CATALOG, "later", None);
    assert!(pump(&mut source, &mut sink));
    assert_eq!(sink.progress().bootstraps, 2);
    let applied = follower.applied();
    assert_eq!(applied, group.applied());
    follower.raise_horizon(applied).unwrap();
    let trees: Vec<u32> = reader.store.trees().iter().map(|t| t.number).collect();
    assert!(!trees.contains(&LATER), "{trees:?}");
}

/// What sends rows in several pieces.
fn long_rows(group: &Group, tree: u32) {
    let long = "x".repeat(100 << 10);
    for n in 0..9 {
        write(group, tree, &format!("long{n}"), Some(&long));
    }
}

/// Takes pieces until a few of rows have come.
fn into_the_rows(source: &mut Source, sink: &mut Sink) {
    while sink.progress().phase != Phase::Bootstrap || sink.progress().pieces < 2 {
        let piece = source.next().unwrap().unwrap();
        assert!(sink.take(piece).unwrap());
    }
}

#[test]
fn what_may_not_be_read_any_more_does_not_come_to_its_end() {
    let node = Running::start();
    let group = node.make(1);
    long_rows(&group, TREE);
    write(&group, PRIVATE, "p", Some("1"));
    let chosen = Chooser::of(&[CATALOG, TREE, PRIVATE]);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    // In the first copy: it begins again without the tree, in the same stream.
    let mut source = node.source(&mut sink, &chosen);
    into_the_rows(&mut source, &mut sink);
    chosen.set(&[CATALOG, PRIVATE]);
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, &[CATALOG, PRIVATE]);
    assert!(!reader.group(1).holds(TREE));
    assert_eq!((sink.progress().bootstraps, sink.progress().pieces), (1, 1));
    // Where it comes beside others: it does not, and the others go on.
    chosen.set(&[CATALOG, TREE, PRIVATE]);
    into_the_rows(&mut source, &mut sink);
    chosen.set(&[CATALOG, PRIVATE]);
    write(&group, PRIVATE, "p", Some("2"));
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, &[CATALOG, PRIVATE]);
    assert_eq!(sink.progress().bootstraps, 1);
    let trees: Vec<u32> = reader.store.trees().iter().map(|t| t.number).collect();
    assert_eq!(trees, [PRIVATE], "there are no rows of any other");
    // It may come after all, and be left while it does.
    chosen.set(&[CATALOG, TREE, PRIVATE]);
    into_the_rows(&mut source, &mut sink);
    write(&group, PRIVATE, "p", Some("3"));
    let source = catch_up(&node, &mut sink, &chosen);
    same(&reader, &group, &[CATALOG, TREE, PRIVATE]);
    assert_eq!(sink.progress().bootstraps, 2);
    drop(source);
}

#[test]
fn more_trees_come_while_much_is_written() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, PRIVATE, "p", Some("1"));
    long_rows(&group, TREE);
    let chosen = Chooser::of(&[CATALOG, PRIVATE]);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);
    chosen.set(CHOSEN_WITH_PRIVATE);
    // There is something new with every piece that is sent.
    let mut pieces = 0;
    while sink.progress().bootstraps < 2 {
        write(&group, PRIVATE, "p", Some(&pieces.to_string()));
        write(&group, TREE, &format!("k{}", pieces % 3), Some("between"));
        let piece = source.next().unwrap().unwrap();
        assert!(sink.take(piece).unwrap());
        pieces += 1;
        assert!(pieces < 100, "it never comes");
    }
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, CHOSEN_WITH_PRIVATE);
}

/// At any moment what is on disk is what was there before, or all that came after.
#[test]
fn a_crash_while_trees_come_and_go() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    write(&group, PRIVATE, CANARY, Some(CANARY));
    let chosen = Chooser::of(&[CATALOG, TREE, INDEX]);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    catch_up(&node, &mut sink, &chosen);
    // Rows that were written for a tree that was about to come, and nothing says that they are whole.
    let half = storage::TreeId {
        group: GroupId(1),
        number: PRIVATE,
    };
    let mut rows = [(text("half"), Some(text("half")))].into_iter();
    let at = reader.group(1).applied();
    reader.store.write(half, at, &mut rows).unwrap();
    let before = Reader::over(reader.store.crash(|_, _, _| true));
    let mut sink = before.sink(1);
    assert!(!before.group(1).holds(PRIVATE));
    assert!(!before.store.trees().contains(&half), "they are gone");
    chosen.set(CHOSEN_WITH_PRIVATE);
    let source = &mut catch_up(&node, &mut sink, &chosen);
    same(&before, &group, CHOSEN_WITH_PRIVATE);
    assert_eq!(sink.progress().bootstraps, 1, "the tree alone");
    // It is there at the next start, and as of before it came nothing is known of it.
    let after = Reader::over(before.store.crash(|_, _, _| false));
    let _sink = after.sink(1);
    same(&after, &group, CHOSEN_WITH_PRIVATE);
    let copy = after.group(1);
    let old = Position(copy.applied().0 - 1);
    let read = copy.look(PRIVATE, old, |group| group.get(PRIVATE, b"half", old));
    assert_eq!(read.unwrap(), Looked::Later);
    // What goes is not there at the next start, whatever was flushed.
    chosen.set(&[CATALOG, TREE, INDEX]);
    assert!(pump(source, &mut sink));
    let gone = Reader::over(before.store.crash(|_, _, _| true));
    let mut sink = gone.sink(1);
    let everything = gone.everything();
    let canary = |bytes: &[u8]| bytes == CANARY.as_bytes();
    assert!(!everything.windows(CANARY.len()).any(canary));
    write(&group, TREE, "k", Some("2"));
    catch_up(&node, &mut sink, &chosen);
    same(&gone, &group, &[CATALOG, TREE, INDEX]);
    assert_eq!(sink.progress().bootstraps, 0);
}

#[test]
fn after_a_restart_it_knows_what_was_chosen_meanwhile() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(&[CATALOG]);
    let store = MemoryStore::new();
    let reader = Reader::over(store.clone());
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);
    chosen.set(CHOSEN);
    write(&group, TREE, "k", Some("1"));
    assert!(pump(&mut source, &mut sink));
    reader.groups.checkpoint(&NoJournal).unwrap();
    drop((sink, reader));
    let reader = Reader::over(store);
    let mut sink = reader.sink(1);
    assert!(reader.group(1).holds(TREE));
    write(&group, TREE, "k", Some("2"));
    catch_up(&node, &mut sink, &chosen);
    same(&reader, &group, CHOSEN);
    assert_eq!(sink.progress().bootstraps, 0);
}

/// A follower whose source before was further is not told by an older catalog what it may not hold.
#[test]
fn a_source_that_is_behind_takes_nothing_away() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    catch_up(&node, &mut sink, &chosen);
    let mut request = sink.request();
    let (applied, _) = request.has.as_mut().unwrap();
    applied.position = Position(applied.position.0 + 1);
    chosen.set(&[CATALOG]);
    let mut behind = node.feed.follow(&request, chosen.clone()).unwrap();
    for _ in 0..3 {
        let piece = behind.next().unwrap();
        assert!(matches!(piece, None | Some(Piece::Newest(_))), "{piece:?}");
    }
    let mut level = node.source(&mut sink, &chosen);
    let piece = level.next().unwrap();
    assert!(matches!(piece, Some(Piece::Choose(_))), "{piece:?}");
}
