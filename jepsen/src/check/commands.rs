//! What became of commands: each that was committed is at its receiver once, under the number that its
//! place in its sender's order gives it; what was rolled back is nowhere; what was not accepted is set
//! aside there and told here; each answer has come once; and a trigger on the table into which they are moved
//! has run once for each.

use std::collections::{BTreeMap, BTreeSet};

use super::books::End;
use crate::finding::{Finding, Kind};

/// Differences of one kind beyond this many aren't written out.
const SHOWN_MAX: usize = 5;

/// What a command is to become if its transaction commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It comes to the inbox.
    Comes,
    /// Its key is taken there: it is set aside.
    Collides,
    /// Its savepoint was rolled back: it was never sent.
    TakenBack,
}

/// One transaction of a sender, or a statement by itself.
#[derive(Clone, Debug)]
pub struct Sending {
    /// Which of the senders.
    pub sender: usize,
    /// It has a row in the sender's own table, too.
    pub has_row: bool,
    /// Its commands in the order of their statements.
    pub commands: Vec<(i64, Fate)>,
    /// Before its commit was asked for.
    pub asked: u64,
    /// After it was answered.
    pub told: u64,
    /// How it ended, as its client knows it.
    pub end: End,
}

/// A command where it was found: its number among those of its sender, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// As the receiver's database has numbered it.
    pub number: i64,
    /// As its client has.
    pub command: i64,
}

/// What a quiet database shows of one sender.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// Rows of its own table.
    pub sent: BTreeSet<i64>,
    /// In the inbox.
    pub inbox: Vec<Found>,
    /// Moved from the inbox to the receiver's own table.
    pub done: Vec<Found>,
    /// As another owner's trigger on that table has noted them.
    pub noted: Vec<Found>,
    /// Set aside at the receiver.
    pub parked: Vec<Found>,
    /// As the sender was told.
    pub rejected: Vec<Found>,
    /// The receiver's answers, in the sender's own inbox.
    pub replies: Vec<Found>,
}

/// What is known of all commands.
#[derive(Debug, Default)]
pub struct Letters {
    sendings: BTreeMap<i64, Sending>,
}

/// Is this command to be answered?
pub fn wants_reply(command: i64) -> bool {
    command % 4 == 0
}

impl Letters {
    /// Takes note of how a transaction ended.
    pub fn enter(&mut self, id: i64, sending: Sending) {
        self.sendings.insert(id, sending);
    }

    /// Transactions with a row of their own that ended so.
    pub fn rows(&self, end: End) -> impl Iterator<Item = i64> {
        let all = self.sendings.iter();
        all.filter(move |(_, sending)| sending.has_row && sending.end == end)
            .map(|(id, _)| *id)
    }

    /// Judges a quiet database, and takes what it shows as the end of unknown transactions.
    pub fn settle(&mut self, sides: &[Side]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (sender, side) in sides.iter().enumerate() {
            let mut judge = Judge::new(sender, side);
            judge.numbers();
            let mine = self.sendings.iter_mut();
            let mine: Vec<_> = mine.filter(|(_, one)| one.sender == sender).collect();
            for (id, sending) in mine {
                judge.sending(*id, sending);
            }
            judge.strangers();
            judge.order();
            judge.replies();
            judge.triggers();
            findings.append(&mut judge.findings);
        }
        findings
    }
}

/// Judges what is shown of one sender.
struct Judge<'a> {
    sender: usize,
    side: &'a Side,
    /// By command: its numbers at the receiver, set aside there, and as told to the sender.
    there: BTreeMap<i64, Vec<i64>>,
    parked: BTreeMap<i64, Vec<i64>>,
    rejected: BTreeMap<i64, Vec<i64>>,
    known: BTreeSet<i64>,
    /// Of each transaction that committed: when it was asked for and told, and its numbers.
    committed: Vec<(u64, Option<u64>, Vec<i64>)>,
    findings: Vec<Finding>,
}

impl<'a> Judge<'a> {
    fn new(sender: usize, side: &'a Side) -> Judge<'a> {
        let moved = side.inbox.iter().chain(&side.done);
        Judge {
            sender,
            side,
            there: by_command(moved),
            parked: by_command(side.parked.iter()),
            rejected: by_command(side.rejected.iter()),
            known: BTreeSet::new(),
            committed: Vec::new(),
            findings: Vec::new(),
        }
    }

    fn complain(&mut self, kind: Kind, what: &str) {
        let what = format!("sender {}: {what}", self.sender);
        self.findings.push(Finding::new(kind, what));
    }

    /// All numbers from 1 on are given, each once.
    fn numbers(&mut self) {
        let side = self.side;
        let all = side.inbox.iter().chain(&side.done).chain(&side.parked);
        let mut of: BTreeMap<i64, i64> = BTreeMap::new();
        let mut twice = Vec::new();
        for found in all {
            if let Some(other) = of.insert(found.number, found.command) {
                twice.push((found.number, found.command, other));
            }
        }
        for (number, one, other) in twice.into_iter().take(SHOWN_MAX) {
            let what = format!("number {number} has the commands {one} and {other}");
            self.complain(Kind::Anomaly, &what);
        }
        let last = of.last_key_value().map_or(0, |(number, _)| *number);
        let missing = (1..=last).filter(|number| !of.contains_key(number));
        for number in missing.take(SHOWN_MAX).collect::<Vec<_>>() {
            self.complain(Kind::Lost, &format!("number {number} of {last} is nowhere"));
        }
        if let Some(number) = of.keys().find(|number| **number < 1) {
            self.complain(Kind::Anomaly, &format!("a command has number {number}"));
        }
    }

    fn sending(&mut self, id: i64, sending: &mut Sending) {
        self.known
            .extend(sending.commands.iter().map(|(command, _)| *command));
        let row = self.side.sent.contains(&id);
        let is_there = |(command, _): &(i64, Fate)| {
            self.there.contains_key(command) || self.parked.contains_key(command)
        };
        let committed = match sending.end {
            End::Acknowledged => true,
            End::Failed => false,
            End::Unknown if sending.has_row => row,
            End::Unknown => sending.commands.iter().any(is_there),
        };
        if sending.has_row && row != committed {
            let (kind, what) = match committed {
                true => (Kind::Lost, "the row of the acknowledged one is gone"),
                false => (Kind::Anomaly, "the row of the failed one is there"),
            };
            self.complain(kind, &format!("transaction {id}: {what}"));
        }
        let mut numbers = Vec::new();
        for (command, fate) in &sending.commands {
            let fate = match committed {
                true => *fate,
                false => Fate::TakenBack,
            };
            self.command(id, *command, fate);
            let place = match fate {
                Fate::Comes => &self.there,
                Fate::Collides => &self.parked,
                Fate::TakenBack => continue,
            };
            numbers.extend(place.get(command).and_then(|numbers| numbers.first()));
        }
        if numbers.windows(2).any(|two| two[0] + 1 != two[1]) {
            let what = format!("the commands of transaction {id} have the numbers {numbers:?}");
            self.complain(Kind::Anomaly, &what);
        }
        if committed {
            let told = (sending.end == End::Acknowledged).then_some(sending.told);
            self.committed.push((sending.asked, told, numbers));
        }
        // What was unknown is known from now on; when it was answered is not.
        if sending.end == End::Unknown {
            sending.end = if committed {
                sending.told = u64::MAX;
                End::Acknowledged
            } else {
                End::Failed
            };
        }
    }

    fn command(&mut self, id: i64, command: i64, fate: Fate) {
        let count = |of: &BTreeMap<i64, Vec<i64>>| of.get(&command).map_or(0, Vec::len);
        let is = [&self.there, &self.parked, &self.rejected].map(count);
        let should = match fate {
            Fate::Comes => [1, 0, 0],
            Fate::Collides => [0, 1, 1],
            Fate::TakenBack => [0, 0, 0],
        };
        let places = ["at its receiver", "parked", "rejected"];
        for ((is, should), place) in is.into_iter().zip(should).zip(places) {
            if is == should {
                continue;
            }
            let kind = match is < should {
                true => Kind::Lost,
                false => Kind::Anomaly,
            };
            let what = format!(
                "command {command} of transaction {id} is {place} {is} times and not {should}"
            );
            self.complain(kind, &what);
        }
        let told = (self.parked.get(&command), self.rejected.get(&command));
        if let (Some(parked), Some(rejected)) = told
            && parked != rejected
        {
            let what = format!("command {command} is parked as {parked:?}, rejected {rejected:?}");
            self.complain(Kind::Anomaly, &what);
        }
    }

    /// Nothing is there that nobody has sent.
    fn strangers(&mut self) {
        let places = [&self.there, &self.parked, &self.rejected];
        let all = places.iter().flat_map(|place| place.keys());
        let strangers: BTreeSet<i64> = all.filter(|c| !self.known.contains(c)).copied().collect();
        for command in strangers.into_iter().take(SHOWN_MAX) {
            let what = format!("command {command}, which nobody has sent, is there");
            self.complain(Kind::Anomaly, &what);
        }
    }

    /// What was answered before another's commit was asked for has the smaller numbers.
    fn order(&mut self) {
        // At one moment answers go last: only what lies behind them is bound by them.
        let mut events: Vec<(u64, bool, i64)> = Vec::new();
        for (asked, told, numbers) in &self.committed {
            let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
                continue;
            };
            events.push((*asked, false, *first));
            events.extend(told.map(|told| (told, true, *last)));
        }
        events.sort_unstable();
        let (mut highest, mut wrong) = (0, Vec::new());
        for (_, is_answer, number) in events {
            if is_answer {
                highest = highest.max(number);
            } else if number <= highest {
                wrong.push((number, highest));
            }
        }
        for (number, highest) in wrong.into_iter().take(SHOWN_MAX) {
            let what = format!("number {number} was asked for after {highest} was acknowledged");
            self.complain(Kind::Anomaly, &what);
        }
    }

    /// The trigger has run once for each row that was moved.
    fn triggers(&mut self) {
        let mut times: BTreeMap<Found, (u64, u64)> = BTreeMap::new();
        for done in &self.side.done {
            times.entry(*done).or_default().0 += 1;
        }
        for noted in &self.side.noted {
            times.entry(*noted).or_default().1 += 1;
        }
        let other = times.into_iter().filter(|(_, (rows, runs))| rows != runs);
        for (found, (rows, runs)) in other.take(SHOWN_MAX) {
            let kind = if runs < rows {
                Kind::Lost
            } else {
                Kind::Anomaly
            };
            let Found { number, command } = found;
            let what = format!(
                "sender {}: command {command} under {number} was moved {rows} times, and a trigger has run \
                 {runs} times",
                self.sender
            );
            self.findings.push(Finding::new(kind, what));
        }
    }

    /// Each command that was moved and wants an answer has one, and no other.
    fn replies(&mut self) {
        let side = self.side;
        let replies = by_command(side.replies.iter());
        let done = side.done.iter().map(|found| found.command);
        let wanted: BTreeSet<i64> = done.filter(|command| wants_reply(*command)).collect();
        let lost: Vec<i64> = wanted.iter().copied().collect();
        let lost = lost.into_iter().filter(|c| !replies.contains_key(c));
        for command in lost.take(SHOWN_MAX) {
            self.complain(Kind::Lost, &format!("the reply to {command} has not come"));
        }
        let twice = replies.iter().filter(|(_, numbers)| numbers.len() > 1);
        for (command, numbers) in twice.take(SHOWN_MAX) {
            let what = format!("the reply to {command} has come as {numbers:?}");
            self.complain(Kind::Anomaly, &what);
        }
        let strange = replies.keys().filter(|command| !wanted.contains(command));
        for command in strange.take(SHOWN_MAX) {
            let what = format!("a reply to {command}, which was not moved, has come");
            self.complain(Kind::Anomaly, &what);
        }
        // Rejections go the same way and have numbers, too.
        let numbers: BTreeSet<i64> = side.replies.iter().map(|found| found.number).collect();
        let most = (side.replies.len() + side.parked.len()) as i64;
        let last = numbers.last().copied().unwrap_or(0);
        if numbers.len() != side.replies.len() || last > most {
            let what = format!(
                "{} replies have {} numbers up to {last}, {} rejections beside them",
                side.replies.len(),
                numbers.len(),
                side.parked.len()
            );
            self.complain(Kind::Anomaly, &what);
        }
    }
}

fn by_command<'a>(found: impl Iterator<Item = &'a Found>) -> BTreeMap<i64, Vec<i64>> {
    let mut all: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for one in found {
        all.entry(one.command).or_default().push(one.number);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pairs: &[(i64, i64)]) -> Vec<Found> {
        let one = |(number, command): &(i64, i64)| Found {
            number: *number,
            command: *command,
        };
        pairs.iter().map(one).collect()
    }

    /// A transaction whose commit was asked for at `asked` and answered right afterwards.
    fn sending(end: End, asked: u64, commands: &[(i64, Fate)]) -> Sending {
        Sending {
            sender: 0,
            has_row: true,
            commands: commands.to_vec(),
            asked,
            told: asked + 1,
            end,
        }
    }

    /// Three transactions: 10 sends 1 and 4, with 2 taken back between them; 11 sends 5, which
    /// collides; 12 fails with 6; 13 is unknown with 7.
    fn letters() -> Letters {
        use Fate::{Collides, Comes, TakenBack};
        let mut letters = Letters::default();
        let first = [(1, Comes), (2, TakenBack), (4, Comes)];
        letters.enter(10, sending(End::Acknowledged, 1, &first));
        letters.enter(11, sending(End::Acknowledged, 3, &[(5, Collides)]));
        letters.enter(12, sending(End::Failed, 5, &[(6, Comes)]));
        letters.enter(13, sending(End::Unknown, 7, &[(7, Comes)]));
        letters
    }

    fn side() -> Side {
        Side {
            sent: BTreeSet::from([10, 11]),
            inbox: found(&[(1, 1)]),
            done: found(&[(2, 4)]),
            noted: found(&[(2, 4)]),
            parked: found(&[(3, 5)]),
            rejected: found(&[(3, 5)]),
            replies: found(&[(2, 4)]),
        }
    }

    fn kinds(change: impl FnOnce(&mut Side)) -> Vec<Kind> {
        let mut side = side();
        let done = side.done.clone();
        change(&mut side);
        if side.done != done {
            // Its trigger has run for what is there.
            side.noted.clone_from(&side.done);
        }
        let findings = letters().settle(&[side]);
        findings.iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn a_trigger_runs_once_for_each_row() {
        assert_eq!(kinds(|side| side.noted.clear()), [Kind::Lost]);
        let twice = kinds(|side| side.noted.extend(found(&[(2, 4)])));
        assert_eq!(twice, [Kind::Anomaly]);
        assert_eq!(
            kinds(|side| side.noted = found(&[(9, 4)])),
            [Kind::Lost, Kind::Anomaly]
        );
    }

    #[test]
    fn a_sound_exchange_has_no_finding() {
        assert_eq!(kinds(|_| {}), []);
        let known = kinds(|side| {
            side.sent.insert(13);
            side.inbox.extend(found(&[(4, 7)]));
        });
        assert_eq!(known, [], "the unknown one may have happened");
    }

    #[test]
    fn what_is_lost_is_found() {
        // The number that is missing, and the command.
        assert_eq!(kinds(|side| side.inbox.clear()), [Kind::Lost, Kind::Lost]);
        assert_eq!(kinds(|side| side.rejected.clear()), [Kind::Lost]);
        assert_eq!(kinds(|side| side.replies.clear()), [Kind::Lost]);
        assert_eq!(
            kinds(|side| side.sent = BTreeSet::from([10])),
            [Kind::Lost],
            "the sender's own row"
        );
        let row_alone = kinds(|side| side.sent.extend([13]));
        assert_eq!(row_alone, [Kind::Lost], "the unknown one is whole or not");
    }

    #[test]
    fn what_comes_twice_is_found() {
        let twice = kinds(|side| side.done.extend(found(&[(4, 1)])));
        assert_eq!(twice, [Kind::Anomaly]);
        let under_one_number = kinds(|side| side.inbox.extend(found(&[(2, 4)])));
        assert_eq!(under_one_number, [Kind::Anomaly, Kind::Anomaly]);
        let replied = kinds(|side| side.replies.extend(found(&[(1, 4)])));
        assert_eq!(replied, [Kind::Anomaly]);
    }

    #[test]
    fn what_was_rolled_back_is_found() {
        for command in [2, 6, 99] {
            let there = kinds(|side| side.inbox.extend(found(&[(4, command)])));
            assert_eq!(there, [Kind::Anomaly], "command {command}");
        }
        let alone = kinds(|side| side.inbox.extend(found(&[(4, 7)])));
        assert_eq!(alone, [Kind::Anomaly], "without its row");
    }

    #[test]
    fn a_collision_that_was_accepted_is_found() {
        let accepted = kinds(|side| {
            side.parked.clear();
            side.rejected.clear();
            side.inbox.extend(found(&[(3, 5)]));
        });
        // The last: a number of the replies is given, and no rejection has it.
        let expected = [Kind::Anomaly, Kind::Lost, Kind::Lost, Kind::Anomaly];
        assert_eq!(accepted, expected);
    }

    #[test]
    fn numbers_out_of_order_are_found() {
        let torn = kinds(|side| {
            side.parked = found(&[(2, 5)]);
            side.rejected = found(&[(2, 5)]);
            side.done = found(&[(3, 4)]);
        });
        // The commands of one transaction stand together, and the later one behind them.
        assert_eq!(torn, [Kind::Anomaly, Kind::Anomaly]);
        let turned = kinds(|side| {
            side.inbox = found(&[(2, 1)]);
            side.done = found(&[(3, 4)]);
            side.parked = found(&[(1, 5)]);
            side.rejected = found(&[(1, 5)]);
        });
        assert_eq!(turned, [Kind::Anomaly]);
        let gap = kinds(|side| side.done = found(&[(9, 4)]));
        assert!(gap.contains(&Kind::Lost));
    }

    #[test]
    fn what_was_unknown_once_stays_as_it_was_seen() {
        let mut letters = letters();
        assert_eq!(letters.settle(&[side()]), vec![]);
        let mut later = side();
        later.sent.insert(13);
        later.inbox.extend(found(&[(4, 7)]));
        assert!(!letters.settle(&[later]).is_empty());
    }
}
