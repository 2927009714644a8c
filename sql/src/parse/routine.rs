//! DROP FUNCTION and its kin: a routine's name and the types of its arguments.

use sqlparser::ast::DataType;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::words::Words;
use super::{Ddl, DropRoutines, Routine, RoutineArgument, RoutineKind, Statement};
use crate::Result;

/// Words of types that are PostgreSQL's grammar; it shows them with their schema.
const GRAMMAR: [&str; 18] = [
    "bigint",
    "bit",
    "boolean",
    "char",
    "character",
    "dec",
    "decimal",
    "double",
    "float",
    "int",
    "integer",
    "interval",
    "numeric",
    "real",
    "smallint",
    "time",
    "timestamp",
    "varchar",
];

/// DROP FUNCTION, PROCEDURE, ROUTINE, AGGREGATE, from its first word on; `None` if it drops
/// something else.
pub(super) fn drop(words: &mut Words<'_>) -> Option<Result<Statement>> {
    let kind = match () {
        () if words.is_nth(1, "FUNCTION") => RoutineKind::Function,
        () if words.is_nth(1, "PROCEDURE") => RoutineKind::Procedure,
        () if words.is_nth(1, "ROUTINE") => RoutineKind::Routine,
        () if words.is_nth(1, "AGGREGATE") => RoutineKind::Aggregate,
        () => return None,
    };
    words.advance();
    words.advance();
    Some(behind(words, kind))
}

fn behind(words: &mut Words<'_>, kind: RoutineKind) -> Result<Statement> {
    let if_exists = words.eat("IF EXISTS");
    let routines = words.list(|w| routine(w, kind))?;
    if !words.eat("CASCADE") {
        words.eat("RESTRICT");
    }
    let drop = DropRoutines {
        kind,
        routines,
        if_exists,
    };
    Ok(Statement::Ddl(Box::new(Ddl::DropRoutines(drop))))
}

fn routine(words: &mut Words<'_>, kind: RoutineKind) -> Result<Routine> {
    let name = words.object()?;
    let mut arguments = None;
    if kind == RoutineKind::Aggregate || *words.peek() == Token::LParen {
        words.need_token(&Token::LParen)?;
        let none = kind == RoutineKind::Aggregate && words.eat_token(&Token::Mul);
        let mut all = Vec::new();
        if !none && *words.peek() != Token::RParen {
            all = words.list(argument)?;
        }
        words.need_token(&Token::RParen)?;
        arguments = Some(all.into_iter().flatten().collect());
    }
    Ok(Routine { name, arguments })
}

/// `[mode] [name] type`; `None` for OUT, which is no part of a routine's identity.
fn argument(words: &mut Words<'_>) -> Result<Option<RoutineArgument>> {
    let mode = words.eat_one(&["IN", "OUT", "INOUT", "VARIADIC"]);
    let start = words.index();
    let mut depth = 0usize;
    loop {
        match words.peek() {
            Token::Comma | Token::RParen if depth == 0 => break,
            Token::EOF | Token::SemiColon => return Err(words.syntax()),
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        words.advance();
    }
    let is_solid = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
    let tokens: Vec<TokenWithSpan> = words.tokens()[start..words.index()]
        .iter()
        .filter(is_solid)
        .cloned()
        .collect();
    let whole = data_type(words, &tokens);
    let (data_type, tokens) = match whole {
        Ok(data_type) => (data_type, &tokens[..]),
        Err(error) if tokens.len() < 2 => return Err(error),
        // A name goes before.
        Err(_) => (data_type(words, &tokens[1..])?, &tokens[1..]),
    };
    let text = data_type.to_string();
    let first = tokens.first().map(|token| token.token.to_string());
    let first = first.unwrap_or_default().to_lowercase();
    let argument = RoutineArgument {
        in_grammar: GRAMMAR.contains(&first.as_str()),
        text,
    };
    Ok((mode != Some("OUT")).then_some(argument))
}

fn data_type(words: &Words<'_>, tokens: &[TokenWithSpan]) -> Result<DataType> {
    let mut part = words.part(tokens.to_vec());
    let data_type = part.sql(|p| p.parse_data_type())?;
    part.end()?;
    Ok(data_type)
}
