//! COPY with both of PostgreSQL's option syntaxes.

use sqlparser::tokenizer::Token;

use super::words::Words;
use super::{Copy, CopyFormat, CopyHeader, CopyOptions, CopySource, Statement};
use crate::{Error, Result, state};

pub(super) fn copy(words: &mut Words<'_>) -> Result<Statement> {
    words.need("COPY")?;
    let mut options = CopyOptions::default();
    if words.eat("BINARY") {
        options.format = Some(CopyFormat::Binary);
    }
    let source = if words.eat_token(&Token::LParen) {
        let dml = ["INSERT", "UPDATE", "DELETE"].iter().any(|w| words.is(w));
        let query = if dml {
            words.sql(|p| p.parse_statement())?
        } else {
            let query = words.sql(|p| p.parse_query())?;
            sqlparser::ast::Statement::Query(query)
        };
        words.need_token(&Token::RParen)?;
        CopySource::Query(Box::new(query))
    } else {
        let table = words.object()?;
        let mut columns = Vec::new();
        if *words.peek() == Token::LParen {
            columns = words.bracketed(Words::name)?;
        }
        CopySource::Table(table, columns)
    };
    let from = words.eat("FROM");
    if !from {
        words.need("TO")?;
    } else if matches!(source, CopySource::Query(_)) {
        return Err(words.syntax());
    }
    let standard = words.eat_one(&["STDIN", "STDOUT"]).is_some();
    if !standard {
        words.eat("PROGRAM");
        words.string()?;
    }
    if words.eat_one(&["USING"]).is_some() {
        words.need("DELIMITERS")?;
        options.delimiter = Some(words.string()?);
    }
    words.eat("WITH");
    if *words.peek() == Token::LParen {
        words.bracketed(|w| generic(w, &mut options))?;
    } else {
        while legacy(words, &mut options)? {}
    }
    let mut condition = None;
    if words.eat("WHERE") {
        if !from {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "WHERE clause not allowed with COPY TO",
            ));
        }
        condition = Some(words.sql(|p| p.parse_expr())?);
    }
    Ok(Statement::Copy(Box::new(Copy {
        source,
        from,
        standard,
        options,
        condition,
    })))
}

fn format(name: &str) -> Result<CopyFormat> {
    match name.to_ascii_lowercase().as_str() {
        "text" => Ok(CopyFormat::Text),
        "csv" => Ok(CopyFormat::Csv),
        "binary" => Ok(CopyFormat::Binary),
        _ => Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!("COPY format \"{name}\" not recognized"),
        )),
    }
}

fn text(words: &mut Words<'_>) -> Result<String> {
    match words.peek() {
        Token::Word(_) => words.name(),
        _ => words.string(),
    }
}

fn generic(words: &mut Words<'_>, options: &mut CopyOptions) -> Result<()> {
    let name = words.name()?;
    match name.as_str() {
        "format" => options.format = Some(format(&text(words)?)?),
        "freeze" => options.freeze = words.switch()?,
        "delimiter" => options.delimiter = Some(text(words)?),
        "null" => options.null = Some(text(words)?),
        "header" => {
            options.header = Some(if words.eat("MATCH") {
                CopyHeader::Match
            } else if words.switch()? {
                CopyHeader::On
            } else {
                CopyHeader::Off
            });
        }
        "quote" => options.quote = Some(text(words)?),
        "escape" => options.escape = Some(text(words)?),
        "force_quote" => options.force_quote = Some(columns(words)?),
        "force_not_null" => options.force_not_null = Some(columns(words)?),
        "force_null" => options.force_null = Some(columns(words)?),
        "encoding" => options.encoding = Some(text(words)?),
        _ => {
            let message = format!("option \"{name}\" not recognized");
            return Err(Error::new(state::SYNTAX_ERROR, message));
        }
    }
    Ok(())
}

/// A list of columns; empty for `*`.
fn columns(words: &mut Words<'_>) -> Result<Vec<String>> {
    if words.eat_token(&Token::Mul) {
        return Ok(Vec::new());
    }
    words.bracketed(Words::name)
}

fn plain_columns(words: &mut Words<'_>) -> Result<Vec<String>> {
    if words.eat_token(&Token::Mul) {
        return Ok(Vec::new());
    }
    words.names()
}

/// One option of the syntax before 9.0; false if none comes.
fn legacy(words: &mut Words<'_>, options: &mut CopyOptions) -> Result<bool> {
    if words.eat("BINARY") {
        options.format = Some(CopyFormat::Binary);
    } else if words.eat("CSV") {
        options.format = Some(CopyFormat::Csv);
    } else if words.eat("FREEZE") {
        options.freeze = true;
    } else if words.eat("HEADER") {
        options.header = Some(CopyHeader::On);
    } else if words.eat("DELIMITER") {
        words.eat("AS");
        options.delimiter = Some(words.string()?);
    } else if words.eat("NULL") {
        words.eat("AS");
        options.null = Some(words.string()?);
    } else if words.eat("QUOTE") {
        words.eat("AS");
        options.quote = Some(words.string()?);
    } else if words.eat("ESCAPE") {
        words.eat("AS");
        options.escape = Some(words.string()?);
    } else if words.eat("FORCE QUOTE") {
        options.force_quote = Some(plain_columns(words)?);
    } else if words.eat("FORCE NOT NULL") {
        options.force_not_null = Some(words.names()?);
    } else if words.eat("FORCE NULL") {
        options.force_null = Some(words.names()?);
    } else if words.eat("ENCODING") {
        options.encoding = Some(words.string()?);
    } else {
        return Ok(false);
    }
    Ok(true)
}
