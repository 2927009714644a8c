//! SET, RESET, SHOW and DISCARD in all their spellings.

use sqlparser::tokenizer::Token;

use super::words::Words;
use super::{SettingStatement as Set, Statement, TransactionStatement as Tx, control};
use crate::Result;

/// The first word is known to be one of them.
pub(super) fn setting(words: &mut Words<'_>) -> Result<Statement> {
    let first = words.name()?;
    match first.as_str() {
        "set" => set(words),
        "reset" => reset(words),
        "show" => show(words),
        _ => discard(words),
    }
}

fn set(words: &mut Words<'_>) -> Result<Statement> {
    if words.eat("SESSION CHARACTERISTICS AS TRANSACTION") {
        return Ok(Statement::Transaction(Tx::Characteristics(control::modes(
            words,
        )?)));
    }
    if words.eat("CONSTRAINTS") {
        let names = if words.eat("ALL") {
            None
        } else {
            Some(words.list(|w| {
                let mut name = w.name()?;
                while w.eat_token(&Token::Period) {
                    name = w.name()?;
                }
                Ok(name)
            })?)
        };
        let deferred = words.eat("DEFERRED");
        if !deferred {
            words.need("IMMEDIATE")?;
        }
        return Ok(Statement::Setting(Set::Constraints(names, deferred)));
    }
    // SESSION and LOCAL are words that may also begin a name (`SET session_x`, not here).
    let local = words.eat("LOCAL");
    if !local && !words.is_nth(1, "TO") && *words.peek_nth(1) != Token::Eq {
        // `SET SESSION AUTHORIZATION` keeps its first word.
        if words.is("SESSION") && !words.is_nth(1, "AUTHORIZATION") {
            words.eat("SESSION");
        }
    }
    if words.eat("TRANSACTION") {
        if words.eat("SNAPSHOT") {
            return Ok(Statement::Transaction(Tx::Snapshot(words.string()?)));
        }
        return Ok(Statement::Transaction(Tx::Set(control::modes(words)?)));
    }
    let make = |name: &str, value: Option<Vec<String>>| {
        Statement::Setting(Set::Set {
            name: name.to_owned(),
            value,
            local,
        })
    };
    if words.eat("TIME ZONE") {
        if words.eat("LOCAL") || words.eat("DEFAULT") {
            return Ok(make("TimeZone", None));
        }
        return Ok(make("TimeZone", Some(vec![time_zone(words)?])));
    }
    if words.eat("NAMES") {
        if words.eat("DEFAULT") || words.at_end() {
            return Ok(make("client_encoding", None));
        }
        return Ok(make("client_encoding", Some(vec![value(words)?])));
    }
    if words.eat("SCHEMA") {
        return Ok(make("search_path", Some(vec![words.string()?])));
    }
    if words.is("ROLE") && !words.is_nth(1, "TO") && *words.peek_nth(1) != Token::Eq {
        words.eat("ROLE");
        let role = if words.is("NONE") {
            "none".to_owned()
        } else {
            String::new()
        };
        let role = if role.is_empty() {
            value(words)?
        } else {
            words.name().map(|_| role)?
        };
        return Ok(make("role", Some(vec![role])));
    }
    words.eat("SESSION SESSION AUTHORIZATION");
    if words.eat("SESSION AUTHORIZATION") {
        let role = if words.eat("DEFAULT") {
            None
        } else {
            Some(value(words)?)
        };
        return Ok(Statement::Setting(Set::SessionAuthorization {
            role,
            local,
        }));
    }
    let name = name(words)?;
    if !words.eat("TO") {
        words.need_token(&Token::Eq)?;
    }
    if words.eat("DEFAULT") {
        return Ok(make(&name, None));
    }
    let values = words.list(value)?;
    Ok(make(&name, Some(values)))
}

/// A setting's name with its dots.
fn name(words: &mut Words<'_>) -> Result<String> {
    let mut name = words.name()?;
    while words.eat_token(&Token::Period) {
        name.push('.');
        name.push_str(&words.name()?);
    }
    Ok(name)
}

/// One value: a string, a number with sign, a word.
pub(super) fn value(words: &mut Words<'_>) -> Result<String> {
    match words.peek() {
        Token::Word(_) => {
            // `ON`, `TRUE` and names alike are text; a quoted one keeps its case.
            words.name()
        }
        Token::Number(..) | Token::Minus | Token::Plus => number(words),
        _ => words.string(),
    }
}

fn number(words: &mut Words<'_>) -> Result<String> {
    let mut text = String::new();
    if words.eat_token(&Token::Minus) {
        text.push('-');
    } else {
        words.eat_token(&Token::Plus);
    }
    let Token::Number(digits, _) = words.peek() else {
        return Err(words.syntax());
    };
    text.push_str(digits);
    words.advance();
    Ok(text)
}

fn time_zone(words: &mut Words<'_>) -> Result<String> {
    if words.eat("INTERVAL") {
        let text = words.string()?;
        if words.eat("HOUR") {
            words.eat("TO MINUTE");
        }
        return Ok(text);
    }
    value(words)
}

fn reset(words: &mut Words<'_>) -> Result<Statement> {
    let set = if words.eat("ALL") {
        Set::ResetAll
    } else if words.eat("TIME ZONE") {
        Set::Reset("TimeZone".to_owned())
    } else if words.eat("TRANSACTION ISOLATION LEVEL") {
        Set::Reset("transaction_isolation".to_owned())
    } else if words.eat("SESSION AUTHORIZATION") {
        Set::SessionAuthorization {
            role: None,
            local: false,
        }
    } else {
        Set::Reset(name(words)?)
    };
    Ok(Statement::Setting(set))
}

fn show(words: &mut Words<'_>) -> Result<Statement> {
    let set = if words.eat("ALL") {
        Set::ShowAll
    } else if words.eat("TIME ZONE") {
        Set::Show("TimeZone".to_owned())
    } else if words.eat("TRANSACTION ISOLATION LEVEL") {
        Set::Show("transaction_isolation".to_owned())
    } else if words.eat("SESSION AUTHORIZATION") {
        Set::Show("session_authorization".to_owned())
    } else {
        Set::Show(name(words)?)
    };
    Ok(Statement::Setting(set))
}

fn discard(words: &mut Words<'_>) -> Result<Statement> {
    let set = match words.name()?.as_str() {
        "all" => Set::DiscardAll,
        "plans" => Set::DiscardPlans,
        "sequences" => Set::DiscardSequences,
        "temp" | "temporary" => Set::DiscardTemp,
        _ => return Err(words.syntax()),
    };
    Ok(Statement::Setting(set))
}
