//! Transaction control, LISTEN / NOTIFY, LOCK, VACUUM and other small commands.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::words::{Words, is_word};
use super::{
    LockTables, Modes, Statement, TransactionStatement as Tx, Vacuum, WaitForLsn, words::boolean,
};
use crate::transaction::{Isolation, TableMode};
use crate::{Error, Result, state};

/// BEGIN ... ROLLBACK TO. The first word is known to be one of them.
pub(super) fn transaction(words: &mut Words<'_>) -> Result<Statement> {
    let first = words.name()?;
    let tx = match first.as_str() {
        "begin" => {
            work(words);
            Tx::Begin(modes(words)?, false)
        }
        "start" => {
            words.need("TRANSACTION")?;
            Tx::Begin(modes(words)?, true)
        }
        "commit" | "end" => {
            if words.is("PREPARED") {
                return skip(words, "COMMIT PREPARED", Some(NO_PREPARED));
            }
            work(words);
            Tx::Commit {
                chain: chain(words)?,
            }
        }
        "rollback" | "abort" => {
            if words.is("PREPARED") {
                return skip(words, "ROLLBACK PREPARED", Some(NO_PREPARED));
            }
            work(words);
            if first == "rollback" && words.eat("TO") {
                words.eat("SAVEPOINT");
                Tx::RollbackTo(words.name()?)
            } else {
                Tx::Rollback {
                    chain: chain(words)?,
                }
            }
        }
        "savepoint" => Tx::Savepoint(words.name()?),
        _ => {
            words.eat("SAVEPOINT");
            Tx::Release(words.name()?)
        }
    };
    Ok(Statement::Transaction(tx))
}

const NO_PREPARED: &str = "Freehold has no two-phase commit; a transaction writes one owner.";

fn work(words: &mut Words<'_>) {
    words.eat_one(&["WORK", "TRANSACTION"]);
}

fn chain(words: &mut Words<'_>) -> Result<bool> {
    if !words.eat("AND") {
        return Ok(false);
    }
    let not = words.eat("NO");
    words.need("CHAIN")?;
    Ok(!not)
}

/// Transaction modes, with or without commas; a repeated one is a syntax error as in PostgreSQL.
pub(super) fn modes(words: &mut Words<'_>) -> Result<Modes> {
    let mut modes = Modes::default();
    let mut first = true;
    loop {
        if !first {
            words.eat_token(&Token::Comma);
        }
        first = false;
        if words.eat("ISOLATION LEVEL") {
            modes.isolation = Some(isolation(words)?);
        } else if words.eat("READ ONLY") {
            modes.read_only = Some(true);
        } else if words.eat("READ WRITE") {
            modes.read_only = Some(false);
        } else if words.eat("NOT DEFERRABLE") {
            modes.deferrable = Some(false);
        } else if words.eat("DEFERRABLE") {
            modes.deferrable = Some(true);
        } else {
            return Ok(modes);
        }
    }
}

fn isolation(words: &mut Words<'_>) -> Result<Isolation> {
    if words.eat("SERIALIZABLE") {
        Ok(Isolation::Serializable)
    } else if words.eat("REPEATABLE READ") {
        Ok(Isolation::RepeatableRead)
    } else if words.eat("READ COMMITTED") || words.eat("READ UNCOMMITTED") {
        Ok(Isolation::ReadCommitted)
    } else {
        Err(words.syntax())
    }
}

/// LISTEN ... WAIT FOR. The first word is known to be one of them.
pub(super) fn command(words: &mut Words<'_>) -> Result<Statement> {
    let first = words.name()?;
    Ok(match first.as_str() {
        "listen" => Statement::Listen(words.name()?),
        "unlisten" if words.eat_token(&Token::Mul) => Statement::Unlisten(None),
        "unlisten" => Statement::Unlisten(Some(words.name()?)),
        "notify" => {
            let channel = words.name()?;
            let payload = if words.eat_token(&Token::Comma) {
                words.string()?
            } else {
                String::new()
            };
            Statement::Notify(channel, payload)
        }
        "lock" => lock(words)?,
        "vacuum" => vacuum(words, false)?,
        "checkpoint" => Statement::Checkpoint,
        "wait" => wait(words)?,
        _ => vacuum(words, true)?,
    })
}

fn lock(words: &mut Words<'_>) -> Result<Statement> {
    words.eat("TABLE");
    let tables = words.list(relation)?;
    let mut mode = TableMode::AccessExclusive;
    if words.eat("IN") {
        mode = table_mode(words)?;
        words.need("MODE")?;
    }
    let no_wait = words.eat("NOWAIT");
    Ok(Statement::Lock(Box::new(LockTables {
        tables,
        mode,
        no_wait,
    })))
}

/// `[ONLY] name [*]`.
pub(super) fn relation(words: &mut Words<'_>) -> Result<sqlparser::ast::ObjectName> {
    words.eat("ONLY");
    let name = words.object()?;
    words.eat_token(&Token::Mul);
    Ok(name)
}

fn table_mode(words: &mut Words<'_>) -> Result<TableMode> {
    let modes = [
        ("ACCESS SHARE", TableMode::AccessShare),
        ("ROW SHARE", TableMode::RowShare),
        ("ROW EXCLUSIVE", TableMode::RowExclusive),
        ("SHARE UPDATE EXCLUSIVE", TableMode::ShareUpdateExclusive),
        ("SHARE ROW EXCLUSIVE", TableMode::ShareRowExclusive),
        ("SHARE", TableMode::Share),
        ("EXCLUSIVE", TableMode::Exclusive),
        ("ACCESS EXCLUSIVE", TableMode::AccessExclusive),
    ];
    match modes.iter().find(|(name, _)| words.eat(name)) {
        Some((_, mode)) => Ok(*mode),
        None => Err(words.syntax()),
    }
}

/// VACUUM (all forms) and ANALYZE: the storage keeps itself tidy, so options are read and left.
fn vacuum(words: &mut Words<'_>, analyze_only: bool) -> Result<Statement> {
    let mut verbose = false;
    if words.eat_token(&Token::LParen) {
        loop {
            let option = words.name()?;
            let known = [
                "verbose",
                "analyze",
                "full",
                "freeze",
                "skip_locked",
                "truncate",
                "parallel",
                "index_cleanup",
                "process_toast",
                "disable_page_skipping",
                "process_main",
                "skip_database_stats",
                "only_database_stats",
                "buffer_usage_limit",
            ];
            if !known.contains(&option.as_str()) {
                let kind = if analyze_only { "ANALYZE" } else { "VACUUM" };
                let message = format!("unrecognized {kind} option \"{option}\"");
                return Err(Error::new(state::SYNTAX_ERROR, message));
            }
            let mut on = true;
            if !matches!(words.peek(), Token::Comma | Token::RParen) {
                on = match words.advance() {
                    Token::Word(w) => boolean(&w.value).unwrap_or(true),
                    Token::Number(n, _) => n != "0",
                    _ => true,
                };
            }
            verbose |= option == "verbose" && on;
            if !words.eat_token(&Token::Comma) {
                break;
            }
        }
        words.need_token(&Token::RParen)?;
    } else {
        while let Some(word) = words.eat_one(&["FULL", "FREEZE", "VERBOSE", "ANALYZE", "ANALYSE"]) {
            verbose |= word == "VERBOSE";
        }
    }
    let mut tables = Vec::new();
    if !words.at_end() {
        tables = words.list(|w| {
            let table = relation(w)?;
            if *w.peek() == Token::LParen {
                w.bracketed(Words::name)?;
            }
            Ok(table)
        })?;
    }
    Ok(Statement::Vacuum(Box::new(Vacuum {
        analyze_only,
        tables,
        verbose,
    })))
}

/// WAIT FOR LSN 'x' [WITH (TIMEOUT '2s', NO_THROW)].
fn wait(words: &mut Words<'_>) -> Result<Statement> {
    words.need("FOR LSN")?;
    let mut wait = WaitForLsn {
        position: words.string()?,
        timeout: None,
        no_throw: false,
    };
    if words.eat("WITH") || *words.peek() == Token::LParen {
        words.bracketed(|w| {
            if w.eat("TIMEOUT") {
                wait.timeout = Some(match w.peek() {
                    Token::Number(..) => w.integer()?.to_string(),
                    _ => w.string()?,
                });
            } else if w.eat("NO_THROW") {
                wait.no_throw = true;
            } else if w.eat("MODE") {
                w.string()?;
            } else {
                return Err(w.syntax());
            }
            Ok(())
        })?;
    }
    Ok(Statement::WaitForLsn(wait))
}

/// `ERASE FROM table ...`: a DELETE that says at its beginning what it is.
pub(super) fn erase(words: &mut Words<'_>) -> Result<Statement> {
    // Not by its index: white space may go before it.
    let erase = words.sql(|p| Ok(p.next_token()))?;
    if !words.is("FROM") {
        return Err(words.syntax());
    }
    let statement = words.sql(|p| p.parse_delete(erase))?;
    Ok(Statement::Query(Box::new(statement)))
}

/// ERASE FROM in a WITH, or behind it: the word stands for DELETE, and says what it is itself.
pub(super) fn erase_within(words: &mut Words<'_>) {
    let mut tokens = words.tokens()[words.index()..].to_vec();
    let solid = |t: &&TokenWithSpan| !matches!(t.token, Token::Whitespace(_));
    let (mut depth, mut behind, mut found) = (0_usize, Token::EOF, false);
    // Behind the WITH's last query stands the statement's own verb.
    let mut verb = false;
    for at in 0..tokens.len() {
        let next = tokens[at + 1..].iter().find(solid);
        let from = next.is_some_and(|next| is_word(&next.token, "FROM"));
        let token = &mut tokens[at].token;
        let erase = is_word(token, "ERASE");
        let begins = match behind {
            Token::LParen => true,
            Token::RParen => depth == 0 && !verb,
            _ => false,
        };
        match token {
            Token::Whitespace(_) => continue,
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Word(word) if begins && from && erase => {
                word.keyword = Keyword::DELETE;
                found = true;
            }
            Token::Word(word) if depth == 0 => {
                verb |= matches!(
                    word.keyword,
                    Keyword::SELECT
                        | Keyword::INSERT
                        | Keyword::UPDATE
                        | Keyword::DELETE
                        | Keyword::VALUES
                        | Keyword::TABLE
                );
            }
            _ => {}
        }
        behind = token.clone();
    }
    if found {
        words.replace(tokens);
    }
}

/// Takes the rest of a statement that is not supported.
pub(super) fn skip(
    words: &mut Words<'_>,
    what: &'static str,
    hint: Option<&'static str>,
) -> Result<Statement> {
    while !words.at_end() {
        words.advance();
    }
    Ok(Statement::Unsupported(what, hint))
}

/// What PostgreSQL (or a later Freehold) has and this version has not; anything else is a syntax
/// error.
pub(super) fn unsupported(words: &mut Words<'_>) -> Result<Statement> {
    let table: [(&str, &'static str, Option<&'static str>); 9] = [
        (
            "DO",
            "DO",
            Some("Freehold has no procedural language yet; send the statements."),
        ),
        ("CALL", "CALL", Some("Freehold has no procedures.")),
        ("LOAD", "LOAD", Some("Freehold loads no libraries.")),
        ("IMPORT", "IMPORT FOREIGN SCHEMA", None),
        ("SECURITY", "SECURITY LABEL", None),
        ("START_REPLICATION", "replication protocol", None),
        ("IDENTIFY_SYSTEM", "replication protocol", None),
        ("CREATE_REPLICATION_SLOT", "replication protocol", None),
        ("DROP_REPLICATION_SLOT", "replication protocol", None),
    ];
    for (word, name, hint) in table {
        if words.is(word) {
            return skip(words, name, hint);
        }
    }
    Err(words.syntax())
}
