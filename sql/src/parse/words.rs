//! A cursor over one statement's tokens for the grammar that is ours: words by their text,
//! names folded as PostgreSQL folds them, and sqlparser for expressions and queries.

use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use super::lex::{Text, too_deep};
use crate::bind::syntax::dialect_of;
use crate::{Error, Result, state};

/// How deep sqlparser may go: brackets, subqueries, types.
const RECURSION_MAX: usize = 300;
/// PostgreSQL's NAMEDATALEN - 1, in bytes.
pub const NAME_BYTES_MAX: usize = 63;

pub(super) struct Words<'a> {
    parser: Parser<'static>,
    tokens: Vec<TokenWithSpan>,
    text: &'a Text<'a>,
}

impl<'a> Words<'a> {
    pub fn new(text: &'a Text<'a>, tokens: Vec<TokenWithSpan>) -> Words<'a> {
        let parser = Parser::new(dialect_of(&tokens))
            .with_recursion_limit(RECURSION_MAX)
            .with_tokens_with_locations(tokens.clone());
        Words {
            parser,
            tokens,
            text,
        }
    }

    /// Goes on with other tokens (a rewritten statement).
    pub fn replace(&mut self, tokens: Vec<TokenWithSpan>) {
        *self = Words::new(self.text, tokens);
    }

    /// A cursor over some of the tokens of the same text.
    pub fn part(&self, tokens: Vec<TokenWithSpan>) -> Words<'a> {
        Words::new(self.text, tokens)
    }

    /// All tokens, white space included.
    pub fn tokens(&self) -> &[TokenWithSpan] {
        &self.tokens
    }

    /// Index into [`Words::tokens`] of the next token (white space not skipped).
    pub fn index(&self) -> usize {
        self.parser.index()
    }

    pub fn peek(&self) -> &Token {
        &self.parser.peek_token_ref().token
    }

    pub fn peek_nth(&self, n: usize) -> &Token {
        &self.parser.peek_nth_token_ref(n).token
    }

    pub fn advance(&mut self) -> Token {
        self.parser.next_token().token
    }

    /// Whether the n-th next token is this unquoted word (given in upper case).
    pub fn is_nth(&self, n: usize, word: &str) -> bool {
        is_word(self.peek_nth(n), word)
    }

    pub fn is(&self, word: &str) -> bool {
        self.is_nth(0, word)
    }

    /// Takes the words if they come in this order; all or none.
    pub fn eat(&mut self, words: &str) -> bool {
        let mut count = 0;
        for word in words.split(' ') {
            if !self.is_nth(count, word) {
                return false;
            }
            count += 1;
        }
        for _ in 0..count {
            self.parser.advance_token();
        }
        true
    }

    pub fn need(&mut self, words: &str) -> Result<()> {
        for word in words.split(' ') {
            if !self.eat(word) {
                return Err(self.syntax());
            }
        }
        Ok(())
    }

    /// Takes the one of these words that comes, if any.
    pub fn eat_one<'w>(&mut self, words: &[&'w str]) -> Option<&'w str> {
        words.iter().copied().find(|w| self.eat(w))
    }

    pub fn eat_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub fn need_token(&mut self, token: &Token) -> Result<()> {
        if self.eat_token(token) {
            Ok(())
        } else {
            Err(self.syntax())
        }
    }

    pub fn at_end(&self) -> bool {
        matches!(self.peek(), Token::EOF | Token::SemiColon)
    }

    /// Everything must have been read.
    pub fn end(&self) -> Result<()> {
        if self.at_end() {
            Ok(())
        } else {
            Err(self.syntax())
        }
    }

    /// The error at the next token.
    pub fn syntax(&self) -> Error {
        self.text.syntax_error(&self.tokens, self.parser.index())
    }

    /// An identifier, folded.
    pub fn name(&mut self) -> Result<String> {
        match self.peek() {
            Token::Word(word) => {
                let name = fold_parts(&word.value, word.quote_style.is_some());
                self.parser.advance_token();
                Ok(name)
            }
            _ => Err(self.syntax()),
        }
    }

    pub fn names(&mut self) -> Result<Vec<String>> {
        self.list(Words::name)
    }

    /// One or more, separated by commas.
    pub fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut all = vec![one(self)?];
        while self.eat_token(&Token::Comma) {
            all.push(one(self)?);
        }
        Ok(all)
    }

    /// `( list )`.
    pub fn bracketed<T>(&mut self, one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.need_token(&Token::LParen)?;
        let all = self.list(one)?;
        self.need_token(&Token::RParen)?;
        Ok(all)
    }

    /// A name with its qualifiers.
    pub fn object(&mut self) -> Result<ast::ObjectName> {
        let mut parts = vec![self.ident()?];
        while self.eat_token(&Token::Period) {
            parts.push(self.ident()?);
        }
        Ok(ast::ObjectName::from(parts))
    }

    fn ident(&mut self) -> Result<ast::Ident> {
        match self.peek() {
            Token::Word(word) => {
                let ident = word.clone().into_ident(self.parser.peek_token_ref().span);
                self.parser.advance_token();
                Ok(ident)
            }
            _ => Err(self.syntax()),
        }
    }

    pub fn string(&mut self) -> Result<String> {
        let text = match self.peek() {
            Token::SingleQuotedString(s)
            | Token::EscapedStringLiteral(s)
            | Token::UnicodeStringLiteral(s)
            | Token::NationalStringLiteral(s) => s.clone(),
            Token::DollarQuotedString(s) => s.value.clone(),
            _ => return Err(self.syntax()),
        };
        self.parser.advance_token();
        Ok(text)
    }

    /// An integer with an optional sign.
    pub fn integer(&mut self) -> Result<i64> {
        let negative = self.eat_token(&Token::Minus);
        if !negative {
            self.eat_token(&Token::Plus);
        }
        let Token::Number(digits, _) = self.peek() else {
            return Err(self.syntax());
        };
        let Ok(value) = format!("{}{digits}", if negative { "-" } else { "" }).parse() else {
            return Err(self.syntax());
        };
        self.parser.advance_token();
        Ok(value)
    }

    /// ON / OFF / TRUE / FALSE / 1 / 0, or nothing (true).
    pub fn switch(&mut self) -> Result<bool> {
        let value = match self.peek() {
            Token::Word(w) => boolean(&w.value),
            Token::SingleQuotedString(s) => boolean(s),
            Token::Number(n, _) => boolean(n),
            _ => return Ok(true),
        };
        let value = value.ok_or_else(|| self.syntax())?;
        self.parser.advance_token();
        Ok(value)
    }

    /// Runs a piece of sqlparser's grammar; its errors become PostgreSQL's.
    pub fn sql<T>(
        &mut self,
        run: impl FnOnce(&mut Parser<'static>) -> std::result::Result<T, ParserError>,
    ) -> Result<T> {
        let result = run(&mut self.parser);
        result.map_err(|e| self.translate(e))
    }

    fn translate(&self, error: ParserError) -> Error {
        match error {
            ParserError::RecursionLimitExceeded => too_deep(),
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
                match location(&message) {
                    Some(at) => {
                        let same = |t: &TokenWithSpan| t.span.start == at;
                        match self.tokens.iter().position(same) {
                            Some(index) => self.text.syntax_error(&self.tokens, index),
                            None => self.syntax(),
                        }
                    }
                    None if message.contains("found: EOF") => {
                        self.text.syntax_error(&self.tokens, self.tokens.len())
                    }
                    None => self.syntax().detail(format!("{message}.")),
                }
            }
        }
    }
}

/// ` at Line: 1, Column: 5` at the end of a message.
fn location(message: &str) -> Option<Location> {
    let (_, tail) = message.rsplit_once(" at Line: ")?;
    let (line, column) = tail.split_once(", Column: ")?;
    let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
    Some(Location::new(line.parse().ok()?, digits.parse().ok()?))
}

/// Whether a token is an unquoted word with this text (given in upper case).
pub(super) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// A boolean as PostgreSQL's options spell it.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// An identifier as the catalog knows it: lower case unless quoted, at most 63 bytes.
pub fn fold(ident: &ast::Ident) -> String {
    fold_parts(&ident.value, ident.quote_style.is_some())
}

/// The parts of a name, folded. Function-like parts (none in PostgreSQL) are 42602.
pub fn fold_name(name: &ast::ObjectName) -> Result<Vec<String>> {
    let part = |p: &ast::ObjectNamePart| match p.as_ident() {
        Some(ident) => Ok(fold(ident)),
        None => Err(Error::new(
            state::INVALID_NAME,
            format!("invalid name: {name}"),
        )),
    };
    name.0.iter().map(part).collect()
}

fn fold_parts(value: &str, quoted: bool) -> String {
    let mut name = if quoted {
        value.to_owned()
    } else {
        value.to_lowercase()
    };
    if name.len() > NAME_BYTES_MAX {
        let end = (0..=NAME_BYTES_MAX)
            .rev()
            .find(|i| name.is_char_boundary(*i))
            .unwrap_or(0);
        name.truncate(end);
    }
    name
}
