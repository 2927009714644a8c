//! Tokens of a query string, cut into statements, with the way back from a token's line and
//! column to PostgreSQL's character positions.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, TokenizerError};

use crate::{Error, Result, state};

/// Open brackets within each other.
const NESTING_MAX: usize = 2_000;
/// Operators of one expression at one bracket level, e.g. terms of `1 + 1 + ...`: the tree of such
/// a chain is as deep as it is long.
const CHAIN_MAX: usize = 3_000;

/// The text of a query with the beginnings of its lines.
pub(super) struct Text<'a> {
    pub sql: &'a str,
    lines: Vec<usize>,
}

impl<'a> Text<'a> {
    pub fn new(sql: &'a str) -> Text<'a> {
        let ends = sql
            .bytes()
            .enumerate()
            .filter(|(_, b)| *b == b'\n')
            .map(|(i, _)| i + 1);
        Text {
            sql,
            lines: std::iter::once(0).chain(ends).collect(),
        }
    }

    /// The byte offset of a token; the end of the text if the location is not in it.
    pub fn byte(&self, at: Location) -> usize {
        let line = usize::try_from(at.line).unwrap_or(0);
        let column = usize::try_from(at.column).unwrap_or(0);
        let Some(start) = line.checked_sub(1).and_then(|l| self.lines.get(l)) else {
            return self.sql.len();
        };
        let rest = &self.sql[*start..];
        let into = rest
            .char_indices()
            .nth(column.saturating_sub(1))
            .map_or(rest.len(), |(i, _)| i);
        start + into
    }

    /// The 1-based character position of a byte offset.
    pub fn position(&self, byte: usize) -> u32 {
        let count = self.sql.get(..byte).map_or(0, |s| s.chars().count());
        u32::try_from(count + 1).unwrap_or(u32::MAX)
    }

    /// `syntax error at or near "x"`, or at the end of input.
    pub fn syntax_error(&self, tokens: &[TokenWithSpan], at: usize) -> Error {
        let token = tokens
            .iter()
            .skip(at)
            .find(|t| !matches!(t.token, Token::Whitespace(_)));
        match token {
            Some(t) if t.token != Token::EOF => self.near(t),
            _ => self.at_end(tokens),
        }
    }

    /// The error behind the last token: at the semicolon, if there is one.
    fn at_end(&self, tokens: &[TokenWithSpan]) -> Error {
        let solid = |t: &&TokenWithSpan| !matches!(t.token, Token::Whitespace(_) | Token::EOF);
        let end = tokens
            .iter()
            .rev()
            .find(solid)
            .map_or(self.sql.len(), |last| self.byte(last.span.end));
        let rest = self.sql.get(end..).unwrap_or_default();
        let blank = rest.len() - rest.trim_start().len();
        if rest[blank..].starts_with(';') {
            return Error::new(state::SYNTAX_ERROR, "syntax error at or near \";\"")
                .at(self.position(end + blank));
        }
        let end = self.position(self.sql.len());
        Error::new(state::SYNTAX_ERROR, "syntax error at end of input").at(end)
    }

    /// The error at one token.
    pub fn near(&self, token: &TokenWithSpan) -> Error {
        let (start, end) = (self.byte(token.span.start), self.byte(token.span.end));
        let text = self.sql.get(start..end.max(start)).unwrap_or_default();
        let message = format!("syntax error at or near \"{text}\"");
        Error::new(state::SYNTAX_ERROR, message).at(self.position(start))
    }
}

/// The tokens of one statement, white space included, and its text.
pub(super) struct Piece<'a> {
    pub tokens: Vec<TokenWithSpan>,
    pub sql: &'a str,
}

/// Cuts a query string at its semicolons. Pieces without any token are left out.
pub(super) fn split<'a>(text: &Text<'a>) -> Result<Vec<Piece<'a>>> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text.sql)
        .tokenize_with_location()
        .map_err(|e| lexical(text, &e))?;
    check_depth(&tokens)?;
    let mut pieces = Vec::new();
    let mut piece: Vec<TokenWithSpan> = Vec::new();
    let mut depth = 0usize;
    for token in tokens {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        if token.token == Token::SemiColon && depth == 0 {
            finish(text, &mut pieces, std::mem::take(&mut piece));
        } else {
            piece.push(token);
        }
    }
    finish(text, &mut pieces, piece);
    Ok(pieces)
}

fn finish<'a>(text: &Text<'a>, pieces: &mut Vec<Piece<'a>>, mut tokens: Vec<TokenWithSpan>) {
    let solid = |t: &&TokenWithSpan| !matches!(t.token, Token::Whitespace(_) | Token::EOF);
    let Some(first) = tokens.iter().find(solid) else {
        return;
    };
    let last = tokens.iter().rev().find(solid).unwrap_or(first);
    let (start, end) = (text.byte(first.span.start), text.byte(last.span.end));
    let sql = text.sql.get(start..end.max(start)).unwrap_or(text.sql);
    crate::bind::syntax::prepare(&mut tokens);
    pieces.push(Piece { tokens, sql });
}

fn lexical(text: &Text<'_>, error: &TokenizerError) -> Error {
    let at = text.byte(error.location);
    let rest = text.sql.get(at..).unwrap_or_default();
    let what = match error.message.to_ascii_lowercase() {
        m if m.contains("dollar-quoted") => "unterminated dollar-quoted string",
        m if m.contains("multi-line comment") => "unterminated /* comment",
        m if m.contains("close delimiter") => "unterminated quoted identifier",
        m if m.contains("unterminated") => "unterminated quoted string",
        _ => "syntax error",
    };
    let near: String = rest.chars().take(64).collect();
    Error::new(state::SYNTAX_ERROR, format!("{what} at or near \"{near}\"")).at(text.position(at))
}

/// Refuses what would make the tree deeper than the stack (54001), before any tree exists.
fn check_depth(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut chains: Vec<usize> = vec![0];
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => chains.push(0),
            Token::RParen | Token::RBracket => {
                chains.pop();
                if chains.is_empty() {
                    chains.push(0);
                }
            }
            Token::Comma | Token::SemiColon => reset(&mut chains),
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::CASE
                | Keyword::IS
                | Keyword::COLLATE
                | Keyword::UNION
                | Keyword::JOIN
                | Keyword::INTERSECT
                | Keyword::EXCEPT => grow(&mut chains),
                Keyword::WHERE | Keyword::FROM | Keyword::SET | Keyword::VALUES => {
                    reset(&mut chains);
                }
                _ => {}
            },
            Token::Word(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Whitespace(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::EOF => {}
            _ => grow(&mut chains),
        }
        if chains.len() > NESTING_MAX || chains.last().is_some_and(|n| *n > CHAIN_MAX) {
            return Err(too_deep());
        }
    }
    Ok(())
}

fn reset(chains: &mut [usize]) {
    if let Some(last) = chains.last_mut() {
        *last = 0;
    }
}

fn grow(chains: &mut [usize]) {
    if let Some(last) = chains.last_mut() {
        *last += 1;
    }
}

/// 54001.
pub(super) fn too_deep() -> Error {
    Error::new(state::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
        .hint("Write the expression with fewer levels, e.g. IN (...) or = ANY (...) for a chain.")
}
