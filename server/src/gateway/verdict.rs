//! The home of a session has fallen in the middle of a turn: what becomes of the turn.

use std::collections::HashMap;

use sql::session::Portable;
use wire::{ErrorFields, Fate, TransactionStatus};

/// Words without which no text ends a transaction. What EXECUTE runs may be a COMMIT, for a driver
/// prepares what it likes.
const ENDS: [&str; 7] = [
    "commit", "end", "rollback", "abort", "prepare", "call", "execute",
];

/// What becomes of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is run again at another home, its first messages, so many, without an answer.
    Again(u64),
    /// It is answered with this; the client is in this status then.
    Fails(Box<ErrorFields>, TransactionStatus),
    /// The connection ends.
    Closes(Box<ErrorFields>),
}

/// Judges a turn by what is known of it, by its messages (type and body) that are kept, and by the
/// texts of prepared statements.
pub fn judge<'a>(
    fate: &Fate,
    messages: impl Iterator<Item = (u8, &'a [u8])>,
    known: &Portable,
) -> Verdict {
    if fate.bound {
        return Verdict::Closes(Box::new(gone(
            "It held session-level advisory locks or cursors WITH HOLD.",
        )));
    }
    if !fate.kept {
        return Verdict::Closes(Box::new(gone(
            "What it was sent since its last answer was too much to be kept; the outcome of the \
             transaction is unknown.",
        )));
    }
    let turn = Turn::of(messages, known);
    let committed_nothing = match fate.status {
        _ if fate.commits_nothing => true,
        TransactionStatus::Idle => !turn.runs,
        TransactionStatus::Transaction => !turn.runs || turn.ends == Ends::No,
        TransactionStatus::Failed => !turn.runs || turn.ends != Ends::Maybe,
    };
    // What ends a block, and nothing else, does so at another home as well.
    let rolls_back = fate.status == TransactionStatus::Transaction && turn.ends == Ends::RollsBack;
    // Drivers don't look at the end of a turn that only prepares: an error there would be lost.
    let goes_on = !turn.runs && !fate.failed && !fate.halved;
    match (committed_nothing || rolls_back, fate.answered) {
        (true, false) => Verdict::Again(fate.muted),
        (true, true) if goes_on && let Some(replies) = fate.replies => {
            Verdict::Again(turn.behind(fate.muted, replies))
        }
        (true, true) => {
            let status = match fate.status {
                TransactionStatus::Idle => TransactionStatus::Idle,
                _ if rolls_back => TransactionStatus::Idle,
                TransactionStatus::Transaction | TransactionStatus::Failed => {
                    TransactionStatus::Failed
                }
            };
            Verdict::Fails(Box::new(moved()), status)
        }
        (false, _) => Verdict::Fails(Box::new(unknown()), TransactionStatus::Idle),
    }
}

/// Does a turn, as far as it has come, nothing but prepare?
pub fn prepares<'a>(messages: impl Iterator<Item = (u8, &'a [u8])>, known: &Portable) -> bool {
    !Turn::of(messages, known).runs
}

/// Can a turn end the block that is open?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// It can't.
    No,
    /// It is one ROLLBACK.
    RollsBack,
    /// It is one COMMIT.
    Commits,
    /// Perhaps.
    Maybe,
}

/// What a turn's messages tell.
struct Turn {
    /// Something in it is run.
    runs: bool,
    ends: Ends,
    /// Of each message, whether it is answered by itself.
    answers: Vec<bool>,
}

impl Turn {
    fn of<'a>(messages: impl Iterator<Item = (u8, &'a [u8])>, known: &Portable) -> Turn {
        let mut parsed: HashMap<&[u8], Ends> = HashMap::new();
        let mut portals: HashMap<&[u8], Ends> = HashMap::new();
        let (mut runs, mut answers) = (Vec::new(), Vec::new());
        for (message_type, body) in messages {
            answers.push(message_type != b'H');
            match message_type {
                b'P' => {
                    let (name, rest) = cut(body);
                    parsed.insert(name, ends(cut(rest).0));
                }
                b'B' => {
                    let (portal, rest) = cut(body);
                    let name = cut(rest).0;
                    let text = || {
                        let name = std::str::from_utf8(name).ok()?;
                        Some(ends(known.statement(name)?.as_bytes()))
                    };
                    let ends = parsed.get(name).copied().or_else(text);
                    portals.insert(portal, ends.unwrap_or(Ends::Maybe));
                }
                b'E' => {
                    let bound = portals.get(cut(body).0).copied();
                    runs.push(bound.unwrap_or(Ends::Maybe));
                }
                b'Q' => runs.push(ends(cut(body).0)),
                b'F' => runs.push(Ends::Maybe),
                b'S' => break,
                _ => {}
            }
            if message_type == b'Q' {
                break;
            }
        }
        let ends = match runs[..] {
            [] => Ends::No,
            [one] => one,
            ref many if many.iter().all(|ends| *ends == Ends::No) => Ends::No,
            _ => Ends::Maybe,
        };
        Turn {
            runs: !runs.is_empty(),
            ends,
            answers,
        }
    }

    /// How many messages are over if the first, `muted`, were answered before, and `replies` since.
    fn behind(&self, muted: u64, replies: u64) -> u64 {
        let mut left = replies;
        let over = |answers: &&bool| {
            let takes = u64::from(**answers);
            let over = left >= takes && left > 0;
            left = left.saturating_sub(takes);
            over
        };
        let rest = self.answers.iter().skip(muted as usize);
        muted + rest.take_while(over).count() as u64
    }
}

/// A string of a message, and what is behind it.
fn cut(body: &[u8]) -> (&[u8], &[u8]) {
    let end = body.iter().position(|byte| *byte == 0);
    let end = end.unwrap_or(body.len());
    (&body[..end], body.get(end + 1..).unwrap_or_default())
}

/// What a text can do to the block that is open.
fn ends(text: &[u8]) -> Ends {
    let lower = text.to_ascii_lowercase();
    let has = |word: &str| lower.windows(word.len()).any(|w| w == word.as_bytes());
    if !ENDS.into_iter().any(has) {
        return Ends::No;
    }
    let trimmed = lower.trim_ascii();
    let statement = trimmed.strip_suffix(b";").unwrap_or(trimmed);
    let mut words = statement.split(|byte| !byte.is_ascii_alphabetic());
    let word = words.next();
    let mut others = words.filter(|word| !word.is_empty());
    match word {
        _ if statement.contains(&b';') => Ends::Maybe,
        Some(b"rollback" | b"abort") => match (others.next(), others.next()) {
            (None | Some(b"work" | b"transaction"), None) => Ends::RollsBack,
            (Some(b"to"), _) => Ends::No,
            _ => Ends::Maybe,
        },
        Some(b"commit" | b"end") => Ends::Commits,
        Some(b"select" | b"insert" | b"update" | b"delete" | b"erase" | b"values" | b"fetch") => {
            Ends::No
        }
        _ => Ends::Maybe,
    }
}

/// 40001, as if leadership had moved.
fn moved() -> ErrorFields {
    ErrorFields::error(
        "40001",
        "could not serialize access: the node that ran the transaction has gone",
    )
    .with_hint("Run the transaction again.")
}

/// 08007.
fn unknown() -> ErrorFields {
    ErrorFields::error("08007", "the outcome of the transaction is unknown")
        .with_detail("The node that ran it has gone before it answered.")
        .with_hint(
            "pg_xact_status() tells the outcome, if pg_current_xact_id() was asked for beforehand.",
        )
}

/// 57P01.
fn gone(detail: &str) -> ErrorFields {
    ErrorFields::fatal(
        "57P01",
        "terminating connection because the node that ran the session has gone",
    )
    .with_detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_end_a_block_ends_it() {
        for (text, expected) in [
            ("insert into t values (1)", Ends::No),
            ("select 'the end; of it'", Ends::Maybe),
            ("update t set amended = true", Ends::No),
            ("ROLLBACK", Ends::RollsBack),
            (" Abort work; ", Ends::RollsBack),
            ("commit", Ends::Commits),
            ("END;", Ends::Commits),
            ("insert into t values (1); commit", Ends::Maybe),
            ("rollback; insert into t values (1)", Ends::Maybe),
            ("/* now */ commit", Ends::Maybe),
            ("prepare transaction 'x'", Ends::Maybe),
            ("execute c", Ends::Maybe),
            ("insert into t values ('execute')", Ends::No),
            ("rollback transaction;", Ends::RollsBack),
            ("rollback to s", Ends::No),
            ("rollback to savepoint s", Ends::No),
            ("rollback work to s", Ends::Maybe),
            ("rollback and chain", Ends::Maybe),
            ("savepoint s", Ends::No),
        ] {
            assert_eq!(ends(text.as_bytes()), expected, "{text}");
        }
    }

    fn turn(messages: &[(u8, &[u8])]) -> (bool, Ends) {
        let turn = Turn::of(messages.iter().copied(), &Portable::default());
        (turn.runs, turn.ends)
    }

    #[test]
    fn an_extended_turn_is_known_by_its_texts() {
        let insert: (u8, &[u8]) = (b'P', b"s\0insert into t values ($1)\0\0\0");
        let commit: (u8, &[u8]) = (b'P', b"\0commit\0\0\0");
        let (bind_s, bind): (&[u8], &[u8]) = (b"\0s\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\0\0");
        let execute: (u8, &[u8]) = (b'E', b"\0\0\0\0\0");
        let sync: (u8, &[u8]) = (b'S', b"");
        assert_eq!(turn(&[insert, (b'B', bind_s)]), (false, Ends::No));
        let inserts = [insert, (b'B', bind_s), execute, sync];
        assert_eq!(turn(&inserts), (true, Ends::No));
        let commits = [commit, (b'B', bind), execute, sync];
        assert_eq!(turn(&commits), (true, Ends::Commits));
        let both = [
            insert,
            (b'B', bind_s),
            execute,
            commit,
            (b'B', bind),
            execute,
        ];
        assert_eq!(turn(&both), (true, Ends::Maybe));
        // A statement that nobody knows, a portal of an earlier turn.
        assert_eq!(turn(&[(b'B', bind_s), execute]), (true, Ends::Maybe));
        assert_eq!(turn(&[execute, sync]), (true, Ends::Maybe));
        // What comes behind Sync belongs to the next turn.
        assert_eq!(
            turn(&[sync, commit, (b'B', bind), execute]),
            (false, Ends::No)
        );
    }

    #[test]
    fn a_turn_that_prepares_goes_on_behind_its_answers() {
        let (parse, describe): (&[u8], &[u8]) = (b"s\0select 1\0\0\0", b"Ss\0");
        let messages = [
            (b'C', &b"Sr\0"[..]),
            (b'H', b""),
            (b'P', parse),
            (b'D', describe),
        ];
        let judged = |fate: &Fate| judge(fate, messages.into_iter(), &Portable::default());
        let fate = |replies, halved| Fate {
            answered: true,
            replies,
            halved,
            ..fate(TransactionStatus::Transaction)
        };
        assert_eq!(judged(&fate(Some(1), false)), Verdict::Again(1));
        assert_eq!(judged(&fate(Some(2), false)), Verdict::Again(3));
        assert_eq!(judged(&fate(Some(3), false)), Verdict::Again(4));
        let later = Fate {
            muted: 2,
            ..fate(Some(1), false)
        };
        assert_eq!(judged(&later), Verdict::Again(3));
        for unclear in [fate(Some(2), true), fate(None, false)] {
            assert!(
                matches!(judged(&unclear), Verdict::Fails(..)),
                "{unclear:?}"
            );
        }
    }

    fn fate(status: TransactionStatus) -> Fate {
        Fate::new(status, 0)
    }

    fn code(fate: &Fate, text: &str) -> String {
        let body = format!("{text}\0");
        let messages = [(b'Q', body.as_bytes())];
        match judge(fate, messages.into_iter(), &Portable::default()) {
            Verdict::Again(0) => "again".into(),
            Verdict::Again(answered) => format!("again behind {answered}"),
            Verdict::Fails(fields, status) => {
                format!("{} {}", fields.sqlstate, char::from(status.code()))
            }
            Verdict::Closes(fields) => format!("{} closes", fields.sqlstate),
        }
    }

    #[test]
    fn a_turn_is_run_again_only_if_it_has_committed_nothing() {
        let idle = fate(TransactionStatus::Idle);
        assert_eq!(code(&idle, "select 1"), "08007 I");
        let promised = Fate {
            commits_nothing: true,
            ..idle
        };
        assert_eq!(code(&promised, "select 1"), "again");
        let answered = Fate {
            answered: true,
            ..promised
        };
        assert_eq!(code(&answered, "select 1"), "40001 I");

        let block = fate(TransactionStatus::Transaction);
        assert_eq!(code(&block, "insert into t values (1)"), "again");
        assert_eq!(code(&block, "rollback"), "again");
        assert_eq!(code(&block, "commit"), "08007 I");
        let answered = Fate {
            answered: true,
            ..block
        };
        assert_eq!(code(&answered, "select * from t"), "40001 E");

        let failed = fate(TransactionStatus::Failed);
        assert_eq!(code(&failed, "commit"), "again");
        assert_eq!(
            code(&failed, "rollback; insert into t values (1)"),
            "08007 I"
        );

        let bound = Fate {
            bound: true,
            ..idle
        };
        assert_eq!(code(&bound, "select 1"), "57P01 closes");
        let unkept = Fate {
            kept: false,
            ..block
        };
        assert_eq!(code(&unkept, "select 1"), "57P01 closes");
    }
}
