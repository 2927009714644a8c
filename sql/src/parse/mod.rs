//! Text to statements: PostgreSQL's grammar by sqlparser, with a layer of our own for what it
//! can't read. [`parse`] reads a whole query string before anything of it runs.

mod control;
mod copy;
mod cursor;
mod grant;
mod join;
mod lex;
mod object;
mod role;
mod routine;
mod sequence;
mod setting;
mod statement;
mod table;
#[cfg(test)]
mod tests;
mod trigger;
mod walk;
mod words;

use lex::Text;
use sqlparser::tokenizer::Token;
pub use statement::*;
pub(crate) use walk::{Node, NodeMut, walk, walk_mut};
use words::Words;
pub use words::{NAME_BYTES_MAX, boolean, fold, fold_name};

use crate::{Error, Result, state};

/// Bytes of one query string.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// One statement with its own text (without the semicolon).
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What it says.
    pub statement: Statement,
    /// Its text.
    pub text: String,
}

/// Reads all statements of a query string; empty ones are left out. Errors: 42601 with the
/// position, 54001 for too deep nesting.
pub fn parse(sql: &str) -> Result<Vec<Parsed>> {
    if sql.len() > TEXT_BYTES_MAX {
        return Err(Error::new(
            state::PROGRAM_LIMIT_EXCEEDED,
            "query string is too long",
        ));
    }
    if sql.contains('\0') {
        return Err(Error::new(
            state::SYNTAX_ERROR,
            "query string contains a zero byte",
        ));
    }
    let text = Text::new(sql);
    let mut all = Vec::new();
    for piece in lex::split(&text)? {
        let mut words = Words::new(&text, piece.tokens);
        let statement = statement(&mut words, piece.sql)?;
        words.end()?;
        if let Some(at) = join::unconditional(words.tokens()) {
            return Err(text.syntax_error(words.tokens(), at));
        }
        all.push(Parsed {
            statement,
            text: piece.sql.to_owned(),
        });
    }
    Ok(all)
}

/// Reads one SQL expression (defaults, checks, index expressions kept as text).
pub fn parse_expression(sql: &str) -> Result<sqlparser::ast::Expr> {
    let text = Text::new(sql);
    let tokens = lex::split(&text)?
        .into_iter()
        .next()
        .map(|p| p.tokens)
        .unwrap_or_default();
    let mut words = Words::new(&text, tokens);
    let expression = words.sql(|p| p.parse_expr())?;
    words.end()?;
    Ok(expression)
}

/// Reads a name with its qualifiers, folded: of `name%TYPE`.
pub(crate) fn name_parts(sql: &str) -> Result<Vec<String>> {
    let text = Text::new(sql);
    let tokens = lex::split(&text)?
        .into_iter()
        .next()
        .map(|p| p.tokens)
        .unwrap_or_default();
    let mut words = Words::new(&text, tokens);
    let name = words.object()?;
    words.end()?;
    fold_name(&name)
}

/// Reads one type name, e.g. of `format_type` or `::regtype`.
pub fn parse_type(sql: &str) -> Result<sqlparser::ast::DataType> {
    let text = Text::new(sql);
    let tokens = lex::split(&text)?
        .into_iter()
        .next()
        .map(|p| p.tokens)
        .unwrap_or_default();
    let mut words = Words::new(&text, tokens);
    let data_type = words.sql(|p| p.parse_data_type())?;
    words.end()?;
    Ok(data_type)
}

/// One statement, chosen by its first words.
fn statement(words: &mut Words<'_>, sql: &str) -> Result<Statement> {
    let Token::Word(first) = words.peek() else {
        return match words.peek() {
            Token::LParen => query(words),
            _ => Err(words.syntax()),
        };
    };
    if first.quote_style.is_some() {
        return Err(words.syntax());
    }
    let first = first.value.to_ascii_uppercase();
    match first.as_str() {
        "SELECT" | "WITH" | "VALUES" | "TABLE" => query(words),
        "INSERT" | "UPDATE" | "DELETE" | "MERGE" => words
            .sql(|p| p.parse_statement())
            .map(|s| Statement::Query(Box::new(s))),
        "ERASE" => control::erase(words),
        "EXPLAIN" => cursor::explain(words, sql),
        "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT" | "SAVEPOINT" | "RELEASE" => {
            control::transaction(words)
        }
        "SET" | "RESET" | "SHOW" | "DISCARD" => setting::setting(words),
        "COPY" => copy::copy(words),
        "PREPARE" | "EXECUTE" | "DEALLOCATE" | "DECLARE" | "FETCH" | "MOVE" | "CLOSE" => {
            cursor::cursor(words, sql)
        }
        "LISTEN" | "UNLISTEN" | "NOTIFY" | "LOCK" | "VACUUM" | "ANALYZE" | "ANALYSE"
        | "CHECKPOINT" | "WAIT" => control::command(words),
        "GRANT" | "REVOKE" => grant::grant(words),
        "FOLLOW" | "UNFOLLOW" => grant::follow(words),
        "CREATE" => object::create(words),
        "ALTER" => object::alter(words),
        "DROP" => object::drop(words),
        "COMMENT" => object::comment(words),
        "TRUNCATE" => object::truncate(words),
        "DO" => routine::block(words),
        "REINDEX" | "CLUSTER" | "REFRESH" | "REASSIGN" => object::maintain(words),
        _ => control::unsupported(words),
    }
}

/// SELECT, VALUES, TABLE, and WITH in front of any of INSERT, UPDATE, DELETE, ERASE. SELECT INTO is
/// CREATE TABLE AS.
fn query(words: &mut Words<'_>) -> Result<Statement> {
    use sqlparser::ast;
    if words.is("WITH") {
        control::erase_within(words);
    }
    let mut query = words.sql(|p| p.parse_query())?;
    if let ast::SetExpr::Select(select) = query.body.as_mut()
        && let Some(into) = select.into.take()
    {
        return Ok(table::select_into(into, query));
    }
    Ok(Statement::Query(Box::new(ast::Statement::Query(query))))
}
