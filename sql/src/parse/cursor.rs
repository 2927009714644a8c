//! EXPLAIN, prepared statements and cursors.

use sqlparser::tokenizer::Token;

use super::words::Words;
use super::{
    Declare, Execute, Explain, ExplainFormat, ExplainOptions, Fetch, FetchDirection, Prepare,
    Statement, control,
};
use crate::{Error, Result, state};

/// EXPLAIN [ANALYZE] [VERBOSE] | (options) statement.
pub(super) fn explain(words: &mut Words<'_>, sql: &str) -> Result<Statement> {
    words.need("EXPLAIN")?;
    let mut options = ExplainOptions {
        analyze: false,
        verbose: false,
        costs: true,
        buffers: false,
        timing: true,
        summary: false,
        settings: false,
        format: ExplainFormat::Text,
    };
    // `EXPLAIN (SELECT 1)` is a query in brackets, not a list of options.
    let list = *words.peek() == Token::LParen
        && !["SELECT", "VALUES", "WITH", "TABLE"]
            .iter()
            .any(|w| words.is_nth(1, w))
        && *words.peek_nth(1) != Token::LParen;
    let mut summary = None;
    if list {
        words.bracketed(|w| explain_option(w, &mut options, &mut summary))?;
    } else {
        options.analyze = words.eat_one(&["ANALYZE", "ANALYSE"]).is_some();
        options.verbose = words.eat("VERBOSE");
    }
    options.summary = summary.unwrap_or(options.analyze);
    let statement = super::statement(words, sql)?;
    match statement {
        Statement::Query(_) | Statement::Execute(_) | Statement::Declare(_) | Statement::Ddl(_) => {
            Ok(Statement::Explain(Box::new(Explain { options, statement })))
        }
        _ => Err(words.syntax()),
    }
}

fn explain_option(
    words: &mut Words<'_>,
    options: &mut ExplainOptions,
    summary: &mut Option<bool>,
) -> Result<()> {
    let name = words.name()?;
    match name.as_str() {
        "analyze" | "analyse" => options.analyze = words.switch()?,
        "verbose" => options.verbose = words.switch()?,
        "costs" => options.costs = words.switch()?,
        "buffers" => options.buffers = words.switch()?,
        "timing" => options.timing = words.switch()?,
        "settings" => options.settings = words.switch()?,
        "summary" => *summary = Some(words.switch()?),
        "wal" | "generic_plan" => {
            words.switch()?;
        }
        "format" => {
            let format = match words.peek() {
                Token::SingleQuotedString(_) => words.string()?,
                _ => words.name()?,
            };
            options.format = match format.to_ascii_lowercase().as_str() {
                "text" => ExplainFormat::Text,
                "json" => ExplainFormat::Json,
                "xml" => ExplainFormat::Xml,
                "yaml" => ExplainFormat::Yaml,
                other => {
                    let message =
                        format!("unrecognized value for EXPLAIN option \"format\": \"{other}\"");
                    return Err(Error::new(state::INVALID_PARAMETER_VALUE, message));
                }
            };
        }
        _ => {
            let message = format!("unrecognized EXPLAIN option \"{name}\"");
            return Err(Error::new(state::SYNTAX_ERROR, message));
        }
    }
    Ok(())
}

/// PREPARE ... CLOSE. The first word is known to be one of them.
pub(super) fn cursor(words: &mut Words<'_>, sql: &str) -> Result<Statement> {
    let first = words.name()?;
    match first.as_str() {
        "prepare" if words.is("TRANSACTION") => control::skip(words, "PREPARE TRANSACTION", None),
        "prepare" => prepare(words, sql),
        "execute" => {
            let name = words.name()?;
            let mut arguments = Vec::new();
            if *words.peek() == Token::LParen && *words.peek_nth(1) != Token::RParen {
                arguments = words.bracketed(|w| w.sql(|p| p.parse_expr()))?;
            } else if words.eat_token(&Token::LParen) {
                words.need_token(&Token::RParen)?;
            }
            Ok(Statement::Execute(Box::new(Execute { name, arguments })))
        }
        "deallocate" => {
            words.eat("PREPARE");
            if words.eat("ALL") {
                return Ok(Statement::Deallocate(None));
            }
            Ok(Statement::Deallocate(Some(words.name()?)))
        }
        "declare" => declare(words, sql),
        "fetch" => fetch(words, false),
        "move" => fetch(words, true),
        _ => {
            if words.eat("ALL") {
                return Ok(Statement::Close(None));
            }
            Ok(Statement::Close(Some(words.name()?)))
        }
    }
}

fn prepare(words: &mut Words<'_>, sql: &str) -> Result<Statement> {
    let name = words.name()?;
    let mut types = Vec::new();
    if *words.peek() == Token::LParen {
        types = words.bracketed(|w| w.sql(|p| p.parse_data_type()))?;
    }
    words.need("AS")?;
    let statement = super::statement(words, sql)?;
    match statement {
        Statement::Query(_) => {
            let text = sql.to_owned();
            Ok(Statement::Prepare(Box::new(Prepare {
                name,
                types,
                statement,
                text,
            })))
        }
        _ => Err(words.syntax()),
    }
}

fn declare(words: &mut Words<'_>, sql: &str) -> Result<Statement> {
    let name = words.name()?;
    let (mut binary, mut scroll, mut hold) = (false, None, false);
    loop {
        if words.eat("BINARY") {
            binary = true;
        } else if words.eat("NO SCROLL") {
            scroll = Some(false);
        } else if words.eat("SCROLL") {
            scroll = Some(true);
        } else if words.eat_one(&["INSENSITIVE", "ASENSITIVE"]).is_none() {
            break;
        }
    }
    words.need("CURSOR")?;
    if words.eat("WITH") {
        words.need("HOLD")?;
        hold = true;
    } else if words.eat("WITHOUT") {
        words.need("HOLD")?;
    }
    words.need("FOR")?;
    match super::statement(words, sql)? {
        Statement::Query(query) => {
            let text = sql.to_owned();
            Ok(Statement::Declare(Box::new(Declare {
                name,
                binary,
                scroll,
                hold,
                query,
                text,
            })))
        }
        _ => Err(words.syntax()),
    }
}

fn fetch(words: &mut Words<'_>, discard: bool) -> Result<Statement> {
    use FetchDirection as D;
    let count = |words: &mut Words<'_>, one: i64| -> Result<i64> {
        match words.peek() {
            Token::Number(..) | Token::Minus | Token::Plus => words.integer(),
            _ => Ok(one),
        }
    };
    // A cursor may be called like a direction: `FETCH next` alone means the cursor.
    let alone = matches!(words.peek_nth(1), Token::EOF | Token::SemiColon);
    let direction = if alone || words.eat("NEXT") {
        D::Forward(1)
    } else if words.eat("PRIOR") {
        D::Forward(-1)
    } else if words.eat("FIRST") {
        D::Absolute(1)
    } else if words.eat("LAST") {
        D::Absolute(-1)
    } else if words.eat("ABSOLUTE") {
        D::Absolute(words.integer()?)
    } else if words.eat("RELATIVE") {
        D::Relative(words.integer()?)
    } else if words.eat("FORWARD ALL") || words.eat("ALL") {
        D::ForwardAll
    } else if words.eat("BACKWARD ALL") {
        D::BackwardAll
    } else if words.eat("FORWARD") {
        D::Forward(count(words, 1)?)
    } else if words.eat("BACKWARD") {
        D::Forward(count(words, 1)?.saturating_neg())
    } else {
        D::Forward(count(words, 1)?)
    };
    words.eat_one(&["FROM", "IN"]);
    Ok(Statement::Fetch(Fetch {
        cursor: words.name()?,
        direction,
        discard,
    }))
}
