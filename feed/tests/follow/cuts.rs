//! Nothing is shown before what it rests on, and what is not here never looks empty.

use super::*;

/// A checkpoint of one group alone, which has moved on with its causes: after a restart it is not
/// shown before they are there again.
#[test]
fn a_checkpoint_of_one_group_shows_nothing_before_its_causes() {
    let node = Running::start();
    let (causes, effects) = (node.make(1), node.make(2));
    write(&causes, TREE, "k", Some("1"));
    write(&effects, TREE, "k", Some("1"));
    let (of_causes, of_effects) = (Chooser::of(CHOSEN), Chooser::of(CHOSEN));
    let reader = Reader::new();
    let (mut first, mut second) = (reader.sink(1), reader.sink(2));
    let mut from_causes = catch_up(&node, &mut first, &of_causes);
    let mut from_effects = catch_up(&node, &mut second, &of_effects);
    reader.groups.checkpoint(&NoJournal).unwrap();
    let cause = write(&causes, TREE, "parent", Some("2"));
    let child = change(&effects, 0, TREE, "child", Some("2"));
    let effect = place(&effects, vec![child], vec![(GroupId(1), cause)]);
    assert!(pump(&mut from_causes, &mut first));
    assert!(pump(&mut from_effects, &mut second));
    assert!(reader.shown(2) >= effect);
    // What is chosen changes: the checkpoint is of this group alone.
    of_effects.set(&[CATALOG, TREE, INDEX, LATER]);
    write(&effects, LATER, "later", Some("1"));
    assert!(pump(&mut from_effects, &mut second));
    of_effects.set(CHOSEN);
    write(&effects, TREE, "k", Some("3"));
    assert!(pump(&mut from_effects, &mut second));

    let reader = Reader::over(reader.store.crash(|_, _, _| false));
    let (mut first, _second) = (reader.sink(1), reader.sink(2));
    assert!(reader.group(2).applied() >= effect);
    assert!(reader.shown(1) < cause, "its checkpoint is older");
    assert!(reader.shown(2) < effect, "the effect has no cause here");
    assert!(!reader.group(2).holds(TREE), "and looks like nothing");
    catch_up(&node, &mut first, &of_causes);
    assert!(reader.shown(1) >= cause && reader.shown(2) >= effect);
    assert!(reader.group(2).holds(TREE));
}

/// Three owners, each reading the one before; the last reader holds the first and the third. What
/// the first has done comes late.
#[test]
fn an_effect_is_not_seen_before_its_cause_across_an_owner_that_is_not_here() {
    let node = Running::start();
    let [a, b, c] = [1, 2, 3].map(|id| node.make(id));
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let (mut sink_a, mut sink_c) = (reader.sink(1), reader.sink(3));
    write(&a, TREE, "cause", Some("0"));
    write(&c, TREE, "effect", Some("0"));
    let mut of_a = catch_up(&node, &mut sink_a, &chosen);
    let mut of_c = catch_up(&node, &mut sink_c, &chosen);
    let seen = |id: u32, key: &str| {
        let shown = reader.shown(id);
        let value = reader.group(id).get(TREE, key.as_bytes(), shown).unwrap();
        String::from_utf8(value.unwrap().to_vec()).unwrap()
    };
    for round in 1..10 {
        let value = round.to_string();
        node.clock.advance(1_000);
        let cause = write(&a, TREE, "cause", Some(&value));
        let next = vec![change(&b, 0, TREE, "between", Some(&value))];
        let between = place(&b, next, vec![(GroupId(1), cause)]);
        let last = vec![change(&c, 0, TREE, "effect", Some(&value))];
        place(&c, last, vec![(GroupId(2), between)]);
        assert!(pump(&mut of_c, &mut sink_c), "the effect arrives first");
        assert_eq!(rows(&reader.group(3), TREE)[&text("effect")], text(&value));
        let before = (round - 1).to_string();
        assert_eq!(seen(1, "cause"), before);
        assert_eq!(seen(3, "effect"), before, "an effect before its cause");
        assert!(pump(&mut of_a, &mut sink_a));
        assert_eq!(seen(1, "cause"), value);
        // Nothing says yet that no more of `a` lies before what the effect rests on: it is idle.
        let asked = reader.asked.load(Ordering::Relaxed);
        if seen(3, "effect") != value {
            reader.clock.advance(storage::CLOSE_PAUSE_MICROS);
            reader.groups.close_awaited();
            assert_eq!(reader.asked.load(Ordering::Relaxed), asked + 1);
            node.clock.advance(storage::CLOSE_PAUSE_MICROS);
            a.close_wanted();
            wait_for_close(&a, between);
            assert!(pump(&mut of_a, &mut sink_a));
        }
        assert_eq!(seen(3, "effect"), value);
        reader.groups.close_awaited();
        assert!(reader.asked.load(Ordering::Relaxed) <= asked + 1);
    }
}

fn wait_for_close(group: &Group, position: Position) {
    let (done, told) = channel();
    let tell = move |outcome| done.send(outcome).unwrap();
    group.when(position, Box::new(tell));
    let outcome = told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(outcome, Outcome::Applied);
}

/// A bootstrap holds effects whose causes may not have come here.
#[test]
fn a_bootstrap_is_not_seen_before_what_it_rests_on() {
    let node = Running::start();
    let [a, c] = [1, 3].map(|id| node.make(id));
    let chosen = Chooser::of(CHOSEN);
    write(&a, TREE, "cause", Some("0"));
    let reader = Reader::new();
    let (mut sink_a, mut sink_c) = (reader.sink(1), reader.sink(3));
    let mut of_a = catch_up(&node, &mut sink_a, &chosen);
    let cause = write(&a, TREE, "cause", Some("1"));
    let effect = vec![change(&c, 0, TREE, "effect", Some("1"))];
    place(&c, effect, vec![(GroupId(1), cause)]);
    write(&c, TREE, "other", Some("1"));
    catch_up(&node, &mut sink_c, &chosen);
    assert_eq!(reader.shown(3), Position::ZERO);
    // Nor after a restart in between.
    reader.groups.checkpoint(&NoJournal).unwrap();
    assert!(pump(&mut of_a, &mut sink_a));
    assert_eq!(reader.shown(3), c.applied());
    let again = Reader::over(reader.store.clone());
    let mut sink_a = again.sink(1);
    again.sink(3);
    assert_eq!(again.shown(3), Position::ZERO);
    catch_up(&node, &mut sink_a, &chosen);
    assert_eq!(again.shown(3), c.applied());
}

/// An owner is away before anything of it has come: it hides nothing of the others, as if nobody had
/// begun to follow it.
#[test]
fn an_owner_of_which_nothing_has_come_hides_nothing() {
    let node = Running::start();
    let [away, b, c] = [1, 2, 3].map(|id| node.make(id));
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let [mut first, mut sink_b, mut sink_c] = [1, 2, 3].map(|id| reader.sink(id));
    write(&c, TREE, "k", Some("0"));
    let mut of_c = catch_up(&node, &mut sink_c, &chosen);
    node.clock.advance(1_000);
    let cause = write(&away, TREE, "cause", Some("1"));
    let effect = vec![change(&b, 0, TREE, "effect", Some("1"))];
    let effect = place(&b, effect, vec![(GroupId(1), cause)]);
    let mut of_b = catch_up(&node, &mut sink_b, &chosen);
    assert!(
        reader.shown(2) < effect,
        "something else may rest on the cause"
    );
    node.clock.advance(1_000);
    write(&c, TREE, "k", Some("1"));
    assert!(pump(&mut of_c, &mut sink_c));
    assert_eq!((reader.shown(1), reader.shown(2)), (Position::ZERO, effect));
    assert!(reader.group(2).holds(TREE) && !reader.group(1).holds(TREE));
    let next = vec![change(&b, 0, TREE, "effect", Some("2"))];
    let next = place(&b, next, vec![(GroupId(1), cause)]);
    assert!(pump(&mut of_b, &mut sink_b));
    assert_eq!(reader.shown(2), next);
    reader.groups.close_awaited();
    assert_eq!(reader.asked.load(Ordering::Relaxed), 0);
    // It comes, and the cut goes on.
    catch_up(&node, &mut first, &chosen);
    assert_eq!((reader.shown(1), reader.shown(2)), (cause, next));
}

/// The first copy comes from a source that lags behind what others rest on that are shown: it is
/// read only once it has that, after a restart, too, and hides nothing that was to be seen.
#[test]
fn a_first_copy_that_lags_is_not_read_before_what_others_rest_on() {
    let node = Running::start();
    let [a, b] = [1, 2].map(|id| node.make(id));
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let [mut sink_a, mut sink_b] = [1, 2].map(|id| reader.sink(id));
    write(&a, TREE, "cause", Some("0"));
    let mut lags = node.source(&mut sink_a, &chosen);
    let begin = lags.next().unwrap().unwrap();
    let cause = write(&a, TREE, "cause", Some("1"));
    let effect = vec![change(&b, 0, TREE, "effect", Some("1"))];
    let effect = place(&b, effect, vec![(GroupId(1), cause)]);
    let mut of_b = catch_up(&node, &mut sink_b, &chosen);
    assert_eq!(reader.shown(2), effect);
    assert!(sink_a.take(begin).unwrap());
    while sink_a.progress().bootstraps == 0 {
        assert!(sink_a.take(lags.next().unwrap().unwrap()).unwrap());
    }
    let check = |reader: &Reader| {
        let copy = reader.group(1);
        let at = copy.applied();
        assert!(Position::ZERO < at && at < cause, "it lags");
        assert_eq!((reader.shown(1), reader.shown(2)), (Position::ZERO, effect));
        assert!(!copy.holds(TREE));
        let read = copy.look(TREE, at, |group| group.get(TREE, b"cause", at));
        assert_eq!(read.unwrap(), Looked::NotHeld);
    };
    check(&reader);
    reader.groups.checkpoint(&NoJournal).unwrap();
    for order in [[1, 2], [2, 1]] {
        let again = Reader::over(reader.store.crash(|_, _, _| false));
        let _sinks = order.map(|id| again.sink(id));
        check(&again);
    }
    // What rests on more waits for it.
    let later = write(&a, TREE, "cause", Some("2"));
    let next = vec![change(&b, 0, TREE, "effect", Some("2"))];
    let next = place(&b, next, vec![(GroupId(1), later)]);
    assert!(pump(&mut of_b, &mut sink_b));
    check(&reader);
    assert!(pump(&mut lags, &mut sink_a));
    assert_eq!((reader.shown(1), reader.shown(2)), (later, next));
    assert!(reader.group(1).holds(TREE));
}

/// What is not held, or not as of a position, is told: never does it look empty. A copy may be put in
/// the place of another one as of the same position, while somebody reads.
#[test]
fn what_is_not_here_never_looks_empty() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    let (reader, chosen) = (Reader::new(), Chooser::of(&[CATALOG]));
    let mut sink = reader.sink(1);
    catch_up(&node, &mut sink, &chosen);
    let copy = reader.group(1);
    let at = copy.applied();
    let get = |at: Position| copy.look(TREE, at, |group| group.get(TREE, b"k", at));
    assert_eq!(get(at).unwrap(), Looked::NotHeld);
    chosen.set(CHOSEN);
    catch_up(&node, &mut sink, &chosen);
    assert_eq!(get(at).unwrap(), Looked::Found(Some(text("1"))));
    // Below the copy nothing is known.
    assert_eq!(get(Position(at.0 - 1)).unwrap(), Looked::Later);
    let over = Arc::new(AtomicUsize::new(0));
    let looks = Arc::new(AtomicUsize::new(0));
    let reading = {
        let (copy, over, looks) = (copy.clone(), over.clone(), looks.clone());
        std::thread::spawn(move || {
            while over.load(Ordering::Relaxed) == 0 {
                match copy
                    .look(TREE, at, |group| group.get(TREE, b"k", at))
                    .unwrap()
                {
                    Looked::Found(value) => assert_eq!(value, Some(text("1"))),
                    Looked::NotHeld => {}
                    Looked::Later => panic!("it was there before"),
                }
                looks.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    // A busy machine may let the reader wait.
    let mut round = 0;
    while round < 200 || (looks.load(Ordering::Relaxed) < 200 && !reading.is_finished()) {
        round += 1;
        chosen.set(if round % 2 == 0 {
            &[CATALOG, TREE]
        } else {
            CHOSEN
        });
        catch_up(&node, &mut sink, &chosen);
    }
    over.store(1, Ordering::Relaxed);
    reading.join().unwrap();
    assert_eq!(
        (copy.applied(), sink.progress().bootstraps > 100),
        (at, true)
    );
    // One that came empty is not known below, though it had rows there.
    write(&group, LATER, "gone", Some("1"));
    write(&group, LATER, "gone", None);
    let mut source = catch_up(&node, &mut sink, &chosen);
    chosen.set(&[CATALOG, TREE, INDEX, LATER]);
    assert!(pump(&mut source, &mut sink), "it needs no bootstrap");
    let gone = |at: Position| copy.look(LATER, at, |group| group.get(LATER, b"gone", at));
    assert_eq!(gone(copy.applied()).unwrap(), Looked::Found(None));
    assert_eq!(gone(at).unwrap(), Looked::Later);
    assert_eq!(get(at).unwrap(), Looked::Found(Some(text("1"))));
    reader.groups.unfollow(GroupId(1), &NoJournal).unwrap();
    assert_eq!(get(at).unwrap(), Looked::NotHeld);
    assert!(copy.has_ended() && !copy.holds(TREE));
}

/// What Raft writes for itself has no position, and may be overwritten until it is committed: with
/// another leader an entry stands in its place.
#[test]
fn a_record_of_raft_that_is_overwritten_hides_no_entry() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    let chosen = Chooser::of(&[CATALOG, TREE]);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);
    write(&group, TREE, "k", Some("2"));
    let id = group.id();
    let (_, last, _) = node.journal.state(id).last.unwrap();
    let next = Index(last.0 + 1);
    let blank = Record {
        group: id,
        kind: Kind::Raft,
        term: Term(1),
        index: next,
        position: Position::ZERO,
        payload: Payload::of(&[0]),
    };
    node.journal.append_wait(vec![blank]).unwrap();
    assert!(pump(&mut source, &mut sink));
    node.journal
        .append_wait(vec![Record::truncate(id, next)])
        .unwrap();
    write(&group, TREE, "k", Some("3"));
    assert_eq!(node.journal.state(id).last.unwrap().1, next);
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, &[CATALOG, TREE]);
    assert_eq!(sink.progress().bootstraps, 1);
}
