//! CREATE FUNCTION, DO, and DROP FUNCTION and its kin.

use sqlparser::ast::DataType;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::words::Words;
use super::{
    Block, CreateRoutine, Ddl, DropRoutines, NewArgument, Routine, RoutineArgument, RoutineKind,
    Statement,
};
use crate::catalog::Volatility;
use crate::{Error, Result, state};

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
    let cascade = words.eat("CASCADE");
    if !cascade {
        words.eat("RESTRICT");
    }
    let drop = DropRoutines {
        kind,
        routines,
        if_exists,
        cascade,
    };
    Ok(Statement::Ddl(Box::new(Ddl::DropRoutines(drop))))
}

/// A function's name, with the types of its arguments or without.
pub(super) fn named(words: &mut Words<'_>) -> Result<Routine> {
    routine(words, RoutineKind::Function)
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
    let tokens = tokens_before(words, |_| false)?;
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

/// The solid tokens up to a comma, the end of the brackets, or a word that `ends` knows.
fn tokens_before(
    words: &mut Words<'_>,
    ends: impl Fn(&Words<'_>) -> bool,
) -> Result<Vec<TokenWithSpan>> {
    let start = words.index();
    let mut depth = 0usize;
    loop {
        match words.peek() {
            Token::Comma | Token::RParen if depth == 0 => break,
            Token::EOF | Token::SemiColon => return Err(words.syntax()),
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ if depth == 0 && ends(words) => break,
            _ => {}
        }
        words.advance();
    }
    let is_solid = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
    let tokens = words.tokens()[start..words.index()].iter().filter(is_solid);
    Ok(tokens.cloned().collect())
}

/// CREATE [OR REPLACE] FUNCTION; `None` if it creates something else.
pub(super) fn create(words: &mut Words<'_>) -> Option<Result<Statement>> {
    let or_replace = words.is_nth(1, "OR") && words.is_nth(2, "REPLACE");
    let at = if or_replace { 3 } else { 1 };
    if !words.is_nth(at, "FUNCTION") {
        return None;
    }
    for _ in 0..=at {
        words.advance();
    }
    Some(function(words, or_replace))
}

fn function(words: &mut Words<'_>, or_replace: bool) -> Result<Statement> {
    let mut create = CreateRoutine {
        name: words.object()?,
        or_replace,
        arguments: Vec::new(),
        returns: None,
        language: None,
        body: None,
        volatility: Volatility::Volatile,
        strict: false,
        unsupported: None,
    };
    words.need_token(&Token::LParen)?;
    if *words.peek() != Token::RParen {
        let arguments = words.list(|w| new_argument(w))?;
        for (argument, unsupported) in arguments {
            create.arguments.push(argument);
            create.unsupported = create.unsupported.or(unsupported);
        }
    }
    words.need_token(&Token::RParen)?;
    if words.eat("RETURNS") {
        returned(words, &mut create)?;
    }
    let mut given = Vec::new();
    while !words.at_end() {
        let option = option(words, &mut create)?;
        if !option.is_empty() && given.contains(&option) {
            let message = "conflicting or redundant options";
            return Err(Error::new(state::SYNTAX_ERROR, message));
        }
        given.push(option);
    }
    Ok(Statement::Ddl(Box::new(Ddl::CreateRoutine(create))))
}

fn returned(words: &mut Words<'_>, create: &mut CreateRoutine) -> Result<()> {
    if words.eat("TABLE") {
        create.unsupported = Some("a function that returns a set");
        words.bracketed(|w| tokens_before(w, |_| false))?;
        return Ok(());
    }
    if words.eat("SETOF") {
        create.unsupported = Some("a function that returns a set");
    }
    let data_type = words.sql(|p| p.parse_data_type())?;
    create.returns = Some(data_type.to_string());
    Ok(())
}

/// An argument, and what of it is not supported.
fn new_argument(words: &mut Words<'_>) -> Result<(NewArgument, Option<&'static str>)> {
    let unsupported = match words.eat_one(&["INOUT", "IN", "OUT", "VARIADIC"]) {
        Some("OUT" | "INOUT") => Some("an OUT argument"),
        Some("VARIADIC") => Some("a VARIADIC argument"),
        _ => None,
    };
    let tokens = tokens_before(words, |w| w.is("DEFAULT") || *w.peek() == Token::Eq)?;
    let (name, data_type) = match data_type(words, &tokens) {
        Ok(data_type) => (None, data_type),
        Err(error) if tokens.len() < 2 => return Err(error),
        Err(_) => {
            let name = words.part(tokens[..1].to_vec()).name()?;
            (Some(name), data_type(words, &tokens[1..])?)
        }
    };
    let mut default = None;
    if words.eat("DEFAULT") || words.eat_token(&Token::Eq) {
        default = Some(words.sql(|p| p.parse_expr())?.to_string());
    }
    let ty = data_type.to_string();
    Ok((NewArgument { name, ty, default }, unsupported))
}

/// One clause of CREATE FUNCTION; its name, for those that may come once.
fn option(words: &mut Words<'_>, create: &mut CreateRoutine) -> Result<&'static str> {
    for (word, volatility) in [
        ("IMMUTABLE", Volatility::Immutable),
        ("STABLE", Volatility::Stable),
        ("VOLATILE", Volatility::Volatile),
    ] {
        if words.eat(word) {
            create.volatility = volatility;
            return Ok("volatility");
        }
    }
    if words.eat("LANGUAGE") {
        create.language = Some(match words.peek() {
            Token::SingleQuotedString(_) => words.string()?,
            _ => words.name()?,
        });
        return Ok("language");
    }
    if words.eat("AS") {
        create.body = Some(words.string()?);
        if *words.peek() == Token::Comma {
            return Err(Error::unsupported("a function in another language"));
        }
        return Ok("as");
    }
    if words.eat("STRICT") || words.eat("RETURNS NULL ON NULL INPUT") {
        create.strict = true;
        return Ok("strict");
    }
    if words.eat("CALLED ON NULL INPUT") {
        return Ok("strict");
    }
    if words.eat("NOT LEAKPROOF") || words.eat("LEAKPROOF") {
        return Ok("leakproof");
    }
    if words.eat("EXTERNAL SECURITY INVOKER") || words.eat("SECURITY INVOKER") {
        return Ok("security");
    }
    if words.eat("EXTERNAL SECURITY DEFINER") || words.eat("SECURITY DEFINER") {
        create.unsupported = Some("SECURITY DEFINER");
        return Ok("security");
    }
    if words.eat("PARALLEL") {
        words.name()?;
        return Ok("parallel");
    }
    if let Some(word) = words.eat_one(&["COST", "ROWS"]) {
        words.sql(|p| p.parse_number_value())?;
        return Ok(if word == "COST" { "cost" } else { "rows" });
    }
    let rest = [
        ("SET", "SET of a function"),
        ("WINDOW", "a window function"),
        ("TRANSFORM", "TRANSFORM"),
        ("SUPPORT", "SUPPORT"),
        ("RETURN", "a function body without quotes"),
        ("BEGIN", "a function body without quotes"),
    ];
    let Some((_, unsupported)) = rest.iter().find(|(word, _)| words.is(word)) else {
        return Err(words.syntax());
    };
    create.unsupported = Some(unsupported);
    while !words.at_end() {
        words.advance();
    }
    Ok("")
}

/// DO.
pub(super) fn block(words: &mut Words<'_>) -> Result<Statement> {
    words.need("DO")?;
    let (mut language, mut body) = (None, None);
    while !words.at_end() {
        if words.eat("LANGUAGE") {
            language = Some(words.name()?);
        } else {
            body = Some(words.string()?);
        }
    }
    match body {
        Some(body) => Ok(Statement::Do(Block { language, body })),
        None => Err(words.syntax()),
    }
}

fn data_type(words: &Words<'_>, tokens: &[TokenWithSpan]) -> Result<DataType> {
    let mut part = words.part(tokens.to_vec());
    let data_type = part.sql(|p| p.parse_data_type())?;
    part.end()?;
    Ok(data_type)
}
