//! Tests of copies that join the cut: one by one, and in random histories whose causes are known.

use super::*;

const A: GroupId = GroupId(1);
const B: GroupId = GroupId(2);
const C: GroupId = GroupId(3);
const F: GroupId = GroupId(4);

/// Holds some groups, and has no copy yet of others.
fn groups(held: &[GroupId], joining: &[GroupId]) -> Publish {
    let publish = Publish::default();
    for id in held {
        publish.add(*id, Arc::default(), State::default(), false);
    }
    for id in joining {
        publish.add(*id, Arc::default(), State::default(), true);
    }
    publish
}

fn shown(publish: &Publish, id: GroupId) -> u64 {
    publish.cut(&[id])[0].1.0
}

fn rests(deps: &[(GroupId, u64)]) -> Rests {
    deps.iter().map(|(of, at)| (*of, Position(*at))).collect()
}

#[test]
fn who_has_nothing_yet_hides_nothing() {
    let publish = groups(&[A, B], &[F]);
    publish.publish(A, Position(20), vec![(F, Position(15))], true);
    assert_eq!(shown(&publish, A), 0, "B is not closed so far");
    assert_eq!(
        publish.awaited(),
        [B].into(),
        "who has nothing is not asked"
    );
    publish.publish(B, Position(15), vec![], true);
    assert_eq!((shown(&publish, A), shown(&publish, F)), (20, 0));
    publish.publish(A, Position(30), vec![(C, Position(10))], true);
    assert_eq!(shown(&publish, A), 30, "nor is it to be closed");
}

#[test]
fn a_first_copy_joins_with_what_others_rest_on() {
    let publish = groups(&[A, B], &[F]);
    publish.publish(B, Position(15), vec![], true);
    publish.publish(A, Position(20), vec![(F, Position(15))], true);
    publish.replace(F, Position(12), Rests::new());
    assert_eq!((shown(&publish, A), shown(&publish, F)), (20, 0));
    assert_eq!(publish.awaited(), [F].into());
    publish.publish(F, Position(13), vec![], true);
    assert_eq!(
        shown(&publish, F),
        0,
        "A shows an effect of what comes at 15"
    );
    publish.publish(F, Position(15), vec![(B, Position(16))], true);
    assert_eq!(shown(&publish, F), 0, "it rests on something itself");
    publish.publish(B, Position(16), vec![], true);
    assert_eq!(shown(&publish, F), 15);
    assert!(publish.awaited().is_empty());
    publish.publish(F, Position(18), vec![], true);
    assert_eq!(shown(&publish, F), 18, "it is one like the others");
}

/// What joins late hides no more than if it had not come, and what goes beyond waits for it.
#[test]
fn a_first_copy_that_lags_hides_only_what_goes_beyond() {
    let publish = groups(&[A, B], &[F]);
    publish.publish(B, Position(15), vec![], true);
    publish.publish(A, Position(20), vec![(F, Position(15))], true);
    publish.replace(F, Position(12), Rests::new());
    publish.publish(A, Position(21), vec![(F, Position(15))], true);
    assert_eq!(shown(&publish, A), 21);
    publish.publish(B, Position(30), vec![], true);
    publish.publish(A, Position(31), vec![(F, Position(16))], true);
    assert_eq!(shown(&publish, A), 21);
    publish.publish(F, Position(16), vec![], true);
    assert_eq!((shown(&publish, A), shown(&publish, F)), (31, 16));
}

#[test]
fn the_more_is_here_the_less_is_asked_of_a_copy() {
    let publish = groups(&[A], &[B, F]);
    publish.publish(A, Position(20), vec![(B, Position(18))], true);
    assert_eq!(shown(&publish, A), 20);
    publish.replace(F, Position(12), Rests::new());
    assert_eq!(
        shown(&publish, F),
        0,
        "B may rest on something of F up to 18"
    );
    publish.replace(B, Position(17), rests(&[(F, 11)]));
    publish.publish(B, Position(18), vec![], true);
    assert_eq!((shown(&publish, B), shown(&publish, F)), (18, 12));
}

/// The dep of what waits itself counts, for nobody knows what was shown of a checkpoint.
#[test]
fn a_copy_joins_when_others_have_moved_on() {
    let publish = groups(&[A, B], &[F]);
    publish.publish(A, Position(20), vec![(B, Position(18))], true);
    publish.replace(F, Position(12), Rests::new());
    assert!(publish.join().is_empty());
    assert_eq!(publish.awaited(), [F].into());
    publish.publish(B, Position(18), vec![], true);
    assert_eq!((shown(&publish, A), shown(&publish, F)), (20, 0));
    assert_eq!(publish.join(), [F]);
    assert_eq!(shown(&publish, F), 12);
}

#[test]
fn what_comes_again_does_not_go_back() {
    let publish = groups(&[A, F], &[]);
    publish.publish(F, Position(10), vec![], true);
    publish.remove(F);
    publish.add(F, Arc::default(), State::default(), true);
    publish.replace(F, Position(8), Rests::new());
    assert_eq!(shown(&publish, F), 0);
    publish.publish(F, Position(11), vec![], true);
    assert_eq!(shown(&publish, F), 11);
}

#[test]
fn a_checkpoint_knows_what_must_come_first() {
    let publish = groups(&[A], &[F]);
    publish.publish(A, Position(20), vec![(F, Position(15))], true);
    publish.replace(F, Position(12), Rests::new());
    let again = Publish::opening([A, F]);
    again.add(F, Arc::default(), publish.state(F), false);
    again.add(A, Arc::default(), publish.state(A), false);
    again.publish(A, Position(21), vec![], true);
    again.publish(F, Position(13), vec![], true);
    assert_eq!((shown(&again, A), shown(&again, F)), (21, 0));
    assert_eq!(again.state(F).blocked, publish_blocked(13, 15));
    again.publish(F, Position(15), vec![], true);
    assert_eq!(shown(&again, F), 15);
    assert!(again.state(F).blocked.is_empty());
}

fn publish_blocked(at: u64, since: u64) -> VecDeque<(Position, Deps)> {
    [(Position(at), vec![(F, Position(since))])].into()
}

/// A xorshift: the same history for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// An entry, and the newest of each group that it goes back to by whatever way.
struct Entry {
    at: Position,
    deps: Deps,
    causes: [Position; 5],
}

/// What has been committed anywhere, and what one node has of it.
struct World {
    random: Random,
    clock: u64,
    logs: [Vec<Entry>; 5],
    publish: Publish,
    /// How many entries have come of a group; `None`: it is not held.
    come: [Option<usize>; 5],
    /// A copy has come.
    copied: [bool; 5],
    /// What was shown, ever.
    seen: [Position; 5],
}

impl World {
    fn new(seed: u64) -> World {
        World {
            random: Random(seed),
            clock: 100,
            logs: Default::default(),
            publish: Publish::default(),
            come: [None; 5],
            copied: [false; 5],
            seen: [Position::ZERO; 5],
        }
    }

    fn id(of: usize) -> GroupId {
        GroupId(of as u32 + 1)
    }

    /// Commits an entry that has read what others have, new or old.
    fn commit(&mut self, of: usize, reads: usize) {
        self.clock += self.random.below(3) as u64;
        let last = self.logs[of].last();
        let mut at = self.clock.max(last.map_or(0, |last| last.at.0 + 1));
        let mut causes = last.map(|last| last.causes).unwrap_or_default();
        let mut deps = Rests::new();
        for _ in 0..reads {
            let other = self.random.below(5);
            let log = &self.logs[other];
            if other == of || log.is_empty() {
                continue;
            }
            let read = &log[log.len() - 1 - self.random.below(log.len().min(4))];
            for (cause, of_read) in causes.iter_mut().zip(read.causes) {
                *cause = of_read.max(*cause);
            }
            let dep = deps.entry(World::id(other)).or_default();
            *dep = read.at.max(*dep);
            at = at.max(read.at.0 + 1);
        }
        causes[of] = Position(at);
        let (at, deps) = (Position(at), deps.into_iter().collect());
        self.logs[of].push(Entry { at, deps, causes });
    }

    /// The next entry of a group comes; to a follower first a copy, which may lag.
    fn deliver(&mut self, of: usize) {
        let log = &self.logs[of];
        let Some(come) = self.come[of].filter(|come| *come < log.len()) else {
            return;
        };
        if self.copied[of] {
            let Entry { at, deps, .. } = &log[come];
            self.publish.publish(World::id(of), *at, deps.clone(), true);
            self.come[of] = Some(come + 1);
        } else {
            let lag = self.random.below((log.len() - come).min(6));
            self.copy(of, log.len() - lag);
        }
    }

    fn copy(&mut self, of: usize, entries: usize) {
        let entries = &self.logs[of][..entries];
        let mut rests = Rests::new();
        for (group, at) in entries.iter().flat_map(|entry| &entry.deps) {
            let rest = rests.entry(*group).or_default();
            *rest = (*rest).max(*at);
        }
        let last = entries.last().map(|last| last.at).unwrap_or_default();
        self.publish.replace(World::id(of), last, rests);
        (self.come[of], self.copied[of]) = (Some(entries.len()), true);
    }

    /// The process ends, and goes on with what a checkpoint of all groups has.
    fn restart(&mut self) {
        let held = (0..5).filter(|of| self.copied[*of]).map(World::id);
        let publish = Publish::opening(held);
        for of in 0..5 {
            if let Some(come) = self.come[of] {
                let state = self.publish.state(World::id(of));
                let applied = self.logs[of][..come].last().map(|last| last.at);
                let visible: Arc<AtomicPosition> = Arc::default();
                visible.set(applied.unwrap_or_default());
                publish.add(World::id(of), visible, state, !self.copied[of]);
            }
        }
        self.publish = publish;
        // No session is left that has seen more of what is not in the checkpoint.
        for of in (0..5).filter(|of| !self.copied[*of]) {
            self.seen[of] = Position::ZERO;
        }
    }

    fn step(&mut self) {
        let of = self.random.below(5);
        match self.random.below(40) {
            0..12 => {
                let reads = self.random.below(3);
                self.commit(of, reads);
            }
            12..34 => self.deliver(of),
            34 if self.come[of].is_none() => {
                let publish = &self.publish;
                publish.add(World::id(of), Arc::default(), State::default(), true);
                (self.come[of], self.copied[of]) = (Some(0), false);
            }
            // It begins anew from another source.
            35 if self.copied[of] => {
                let come = self.come[of].unwrap_or_default();
                let further = self.random.below(self.logs[of].len() - come + 1);
                self.copy(of, come + further);
            }
            36 if self.random.below(8) == 0 => {
                self.publish.remove(World::id(of));
                (self.come[of], self.copied[of]) = (None, false);
            }
            37 if self.random.below(8) == 0 => self.restart(),
            38 => drop(self.publish.join()),
            39 => {
                for awaited in self.publish.awaited() {
                    self.commit(awaited.0 as usize - 1, 0);
                }
            }
            _ => {}
        }
    }

    /// No effect without its cause in what can be read, and nothing goes back.
    fn check(&mut self) {
        let ids: Vec<GroupId> = (0..5).map(World::id).collect();
        let cut: Vec<(usize, Position)> = self.publish.cut(&ids).into_iter()
            .map(|(id, at)| (id.0 as usize - 1, at))
            // Of these nothing can be read: no copy has come, or it has not joined the cut.
            .filter(|(_, at)| *at > Position::ZERO)
            .collect();
        for (of, at) in &cut {
            assert!(*at >= self.seen[*of], "{of} goes back");
            self.seen[*of] = *at;
            let entry = self.logs[*of].iter().rfind(|entry| entry.at <= *at);
            let causes = entry.map(|entry| entry.causes).unwrap_or_default();
            for (cause, shown) in &cut {
                assert!(causes[*cause] <= *shown, "{of} shows an effect of {cause}");
            }
        }
    }
}

#[test]
fn copies_join_without_an_effect_that_has_no_cause() {
    let mut joined_late = 0;
    for seed in 1..=300u64 {
        let mut world = World::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..400 {
            world.step();
            world.check();
            let late = |of| world.copied[of] && shown(&world.publish, World::id(of)) == 0;
            joined_late += (0..5).filter(|of| late(*of)).count();
        }
        // Everything comes, and is shown once it is closed.
        for _ in 0..10 {
            for of in 0..5 {
                while world.come[of].is_some_and(|come| come < world.logs[of].len()) {
                    world.deliver(of);
                    world.check();
                }
            }
            world.publish.join();
            for awaited in world.publish.awaited() {
                world.clock += 10;
                world.commit(awaited.0 as usize - 1, 0);
            }
        }
        for of in (0..5).filter(|of| world.copied[*of]) {
            let last = world.logs[of].last().map(|last| last.at);
            let last = last.unwrap_or_default();
            assert_eq!(shown(&world.publish, World::id(of)), last.0, "seed {seed}");
        }
    }
    assert!(
        joined_late > 1000,
        "only {joined_late} looks at copies that wait"
    );
}
