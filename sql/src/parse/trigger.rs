//! CREATE, ALTER and DROP TRIGGER, and ALTER TABLE ... ENABLE and DISABLE TRIGGER.

use sqlparser::ast::ObjectName;
use sqlparser::tokenizer::Token;

use super::words::Words;
use super::{CreateTrigger, Ddl, DropTrigger, EnableTrigger, Statement, control};
use crate::Result;
use crate::catalog::{Enabled, Events, Timing};

fn ddl(ddl: Ddl) -> Result<Statement> {
    Ok(Statement::Ddl(Box::new(ddl)))
}

/// CREATE [OR REPLACE] [CONSTRAINT] TRIGGER; `None` if it creates something else.
pub(super) fn create(words: &mut Words<'_>) -> Option<Result<Statement>> {
    let or_replace = words.is_nth(1, "OR") && words.is_nth(2, "REPLACE");
    let mut at = if or_replace { 3 } else { 1 };
    let constraint = words.is_nth(at, "CONSTRAINT") && words.is_nth(at + 1, "TRIGGER");
    at += usize::from(constraint);
    if !words.is_nth(at, "TRIGGER") {
        return None;
    }
    for _ in 0..=at {
        words.advance();
    }
    Some(trigger(words, or_replace, constraint))
}

fn trigger(words: &mut Words<'_>, or_replace: bool, constraint: bool) -> Result<Statement> {
    let name = words.name()?;
    let timing = match words.eat_one(&["BEFORE", "AFTER", "INSTEAD OF"]) {
        Some("BEFORE") => Timing::Before,
        Some("AFTER") => Timing::After,
        Some(_) => Timing::InsteadOf,
        None => return Err(words.syntax()),
    };
    let (events, columns, truncate) = events(words)?;
    words.need("ON")?;
    let table = words.object()?;
    let mut create = CreateTrigger {
        name,
        or_replace,
        timing,
        events,
        columns,
        table,
        when: None,
        routine: ObjectName(Vec::new()),
        arguments: Vec::new(),
        unsupported: constraint.then_some("a constraint trigger"),
    };
    if truncate {
        create.unsupported = Some("a TRUNCATE trigger");
    }
    if words.is("FROM") || words.is("DEFERRABLE") || words.is("NOT") || words.is("INITIALLY") {
        if !constraint {
            return Err(words.syntax());
        }
        while !words.is("FOR") && !words.at_end() {
            words.advance();
        }
    }
    if words.is("REFERENCING") {
        create.unsupported = Some("a transition table");
        while !words.is("FOR") && !words.is("EXECUTE") && !words.at_end() {
            words.advance();
        }
    }
    let each_row = words.eat("FOR") && {
        words.eat("EACH");
        let row = words.eat("ROW");
        if !row {
            words.need("STATEMENT")?;
        }
        row
    };
    if !each_row {
        create.unsupported = create.unsupported.or(Some("a statement trigger"));
    }
    if words.eat("WHEN") {
        words.need_token(&Token::LParen)?;
        create.when = Some(words.sql(|p| p.parse_expr())?.to_string());
        words.need_token(&Token::RParen)?;
    }
    words.need("EXECUTE")?;
    if words.eat_one(&["FUNCTION", "PROCEDURE"]).is_none() {
        return Err(words.syntax());
    }
    create.routine = words.object()?;
    words.need_token(&Token::LParen)?;
    if *words.peek() != Token::RParen {
        create.arguments = words.list(argument)?;
    }
    words.need_token(&Token::RParen)?;
    ddl(Ddl::CreateTrigger(create))
}

/// `INSERT OR UPDATE OF a, b OR DELETE`: the events, the columns, and whether TRUNCATE is among
/// them.
fn events(words: &mut Words<'_>) -> Result<(Events, Vec<String>, bool)> {
    let (mut events, mut columns, mut truncate) = (Events::default(), Vec::new(), false);
    loop {
        let mut again = words.syntax();
        let seen = match words.eat_one(&["INSERT", "UPDATE", "DELETE", "TRUNCATE"]) {
            Some("INSERT") => std::mem::replace(&mut events.insert, true),
            Some("UPDATE") => {
                if words.eat("OF") {
                    columns = words.names()?;
                }
                std::mem::replace(&mut events.update, true)
            }
            Some("DELETE") => std::mem::replace(&mut events.delete, true),
            Some(_) => std::mem::replace(&mut truncate, true),
            None => return Err(words.syntax()),
        };
        if seen {
            let message = again.0.message;
            again.0.message = message.replace("syntax error", "duplicate trigger events specified");
            return Err(again);
        }
        if !words.eat("OR") {
            return Ok((events, columns, truncate));
        }
    }
}

/// An argument: a string, a number or a word.
fn argument(words: &mut Words<'_>) -> Result<String> {
    let text = match words.peek() {
        Token::Number(digits, _) => digits.clone(),
        Token::Word(_) => return words.name(),
        _ => return words.string(),
    };
    words.advance();
    Ok(text)
}

/// ALTER TRIGGER a ON t RENAME TO b.
pub(super) fn alter(words: &mut Words<'_>) -> Result<Statement> {
    words.need("ALTER TRIGGER")?;
    let name = words.name()?;
    words.need("ON")?;
    let table = control::relation(words)?;
    if words.is("DEPENDS") || words.is("NO") {
        return control::skip(words, "ALTER TRIGGER ... DEPENDS ON EXTENSION", None);
    }
    words.need("RENAME TO")?;
    ddl(Ddl::RenameTrigger(name, table, words.name()?))
}

/// DROP TRIGGER.
pub(super) fn drop(words: &mut Words<'_>) -> Result<Statement> {
    words.need("DROP TRIGGER")?;
    let if_exists = words.eat("IF EXISTS");
    let name = words.name()?;
    words.need("ON")?;
    let table = words.object()?;
    if !words.eat("CASCADE") {
        words.eat("RESTRICT");
    }
    ddl(Ddl::DropTrigger(DropTrigger {
        name,
        table,
        if_exists,
    }))
}

/// ENABLE or DISABLE TRIGGER behind ALTER TABLE's name; `None` if it is another action.
pub(super) fn enable(
    words: &mut Words<'_>,
    table: &ObjectName,
    if_exists: bool,
) -> Option<Result<Statement>> {
    let forms = [
        ("ENABLE TRIGGER", Enabled::Origin),
        ("ENABLE REPLICA TRIGGER", Enabled::Replica),
        ("ENABLE ALWAYS TRIGGER", Enabled::Always),
        ("DISABLE TRIGGER", Enabled::Disabled),
    ];
    let (_, enabled) = forms.iter().find(|(form, _)| words.eat(form))?;
    let all = words.eat("ALL") || words.eat("USER");
    let name = match all {
        true => None,
        false => match words.name() {
            Ok(name) => Some(name),
            Err(error) => return Some(Err(error)),
        },
    };
    Some(ddl(Ddl::EnableTrigger(EnableTrigger {
        table: table.clone(),
        if_exists,
        name,
        enabled: *enabled,
    })))
}
