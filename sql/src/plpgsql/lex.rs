//! The tokens of a function's body. SQL inside it is only cut out by them, never read: that is
//! done by the parser of statements.

use crate::{Error, Result, state};

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier or keyword, folded to lower case.
    Word(String),
    /// An identifier in quotes.
    Quoted(String),
    /// A string constant, its value.
    Text(String),
    /// A number.
    Number,
    /// `:=`, `..`, `<<`, `>>`, `::`, `=>`, or one other character.
    Symbol(&'static str),
    /// Any other character.
    Other,
    /// The end of the body.
    End,
}

/// A token and where it stands, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// Symbols that the grammar knows; longer ones come first.
const SYMBOLS: [&str; 18] = [
    ":=", "..", "<<", ">>", "::", "=>", "=", ";", ",", "(", ")", "[", "]", ".", "#", "%", ":", "$",
];

/// A symbol as tokens have it.
pub(super) fn symbol(text: &str) -> Option<&'static str> {
    SYMBOLS.iter().copied().find(|symbol| *symbol == text)
}

/// Cuts a body into tokens, the last one being [`Kind::End`].
///
/// # Errors
/// 42601 for what is not closed.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut lexer = Lexer { text, at: 0 };
    let mut all = Vec::new();
    loop {
        lexer.skip()?;
        let start = lexer.at;
        let kind = lexer.next()?;
        let end = lexer.at;
        let over = kind == Kind::End;
        all.push(Token { kind, start, end });
        if over {
            return Ok(all);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Passes over white space and comments.
    fn skip(&mut self) -> Result<()> {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            self.at += blank;
            let rest = self.rest();
            if rest.starts_with("--") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                self.comment()?;
            } else if blank == 0 {
                return Ok(());
            }
        }
    }

    fn comment(&mut self) -> Result<()> {
        let start = self.at;
        let mut depth = 0usize;
        loop {
            let rest = self.rest();
            if rest.starts_with("/*") {
                (depth, self.at) = (depth + 1, self.at + 2);
            } else if rest.starts_with("*/") {
                (depth, self.at) = (depth - 1, self.at + 2);
                if depth == 0 {
                    return Ok(());
                }
            } else {
                match rest.chars().next() {
                    Some(c) => self.at += c.len_utf8(),
                    None => return Err(self.unterminated("/* comment", start)),
                }
            }
        }
    }

    fn unterminated(&self, what: &str, start: usize) -> Error {
        let message = format!("unterminated {what} at or near \"{}\"", &self.text[start..]);
        Error::new(state::SYNTAX_ERROR, message)
    }

    fn next(&mut self) -> Result<Kind> {
        let Some(first) = self.peek() else {
            return Ok(Kind::End);
        };
        let escapes = matches!(first, 'e' | 'E') && self.rest()[1..].starts_with('\'');
        if escapes {
            self.at += 1;
            return self.string(true);
        }
        match first {
            '\'' => self.string(false),
            '"' => self.quoted(),
            '$' if let Some(tag) = dollar_tag(self.rest()) => self.dollar_quoted(tag),
            c if c.is_ascii_digit() => {
                self.number();
                Ok(Kind::Number)
            }
            '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                self.number();
                Ok(Kind::Number)
            }
            c if is_first(c) => Ok(Kind::Word(self.word())),
            c => {
                let symbol = SYMBOLS.iter().find(|s| self.rest().starts_with(**s));
                self.at += symbol.map_or(c.len_utf8(), |symbol| symbol.len());
                Ok(symbol.map_or(Kind::Other, |symbol| Kind::Symbol(symbol)))
            }
        }
    }

    fn word(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(|c: char| !(is_first(c) || c.is_ascii_digit() || c == '$'));
        let word = rest[..end.unwrap_or(rest.len())].to_ascii_lowercase();
        self.at += word.len();
        word
    }

    /// Digits, a fraction unless two dots come, an exponent.
    fn number(&mut self) {
        let digits = |rest: &str| {
            let end = rest.find(|c: char| !c.is_ascii_digit());
            end.unwrap_or(rest.len())
        };
        self.at += digits(self.rest());
        if self.rest().starts_with('.') && !self.rest().starts_with("..") {
            self.at += 1;
            self.at += digits(self.rest());
        }
        let rest = self.rest();
        if rest.starts_with(['e', 'E']) {
            let sign = usize::from(rest[1..].starts_with(['+', '-']));
            let exponent = digits(&rest[1 + sign..]);
            if exponent > 0 {
                self.at += 1 + sign + exponent;
            }
        }
    }

    fn string(&mut self, escapes: bool) -> Result<Kind> {
        let start = self.at;
        self.at += 1;
        let mut value = String::new();
        loop {
            let Some(c) = self.peek() else {
                return Err(self.unterminated("quoted string", start));
            };
            self.at += c.len_utf8();
            match c {
                '\'' if self.peek() == Some('\'') => {
                    self.at += 1;
                    value.push('\'');
                }
                '\'' => return Ok(Kind::Text(value)),
                '\\' if escapes => {
                    let Some(c) = self.peek() else {
                        return Err(self.unterminated("quoted string", start));
                    };
                    self.at += c.len_utf8();
                    value.push(match c {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        other => other,
                    });
                }
                c => value.push(c),
            }
        }
    }

    fn quoted(&mut self) -> Result<Kind> {
        let start = self.at;
        self.at += 1;
        let mut name = String::new();
        loop {
            let Some(c) = self.peek() else {
                return Err(self.unterminated("quoted identifier", start));
            };
            self.at += c.len_utf8();
            match c {
                '"' if self.peek() == Some('"') => {
                    self.at += 1;
                    name.push('"');
                }
                '"' => return Ok(Kind::Quoted(name)),
                c => name.push(c),
            }
        }
    }

    fn dollar_quoted(&mut self, tag: String) -> Result<Kind> {
        let start = self.at;
        self.at += tag.len();
        let rest = self.rest();
        let Some(end) = rest.find(&tag) else {
            return Err(self.unterminated("dollar-quoted string", start));
        };
        let value = rest[..end].to_owned();
        self.at += end + tag.len();
        Ok(Kind::Text(value))
    }
}

/// `$tag$` at the beginning of a text.
fn dollar_tag(text: &str) -> Option<String> {
    let end = text[1..].find('$')? + 1;
    let tag = &text[1..end];
    let valid = tag.chars().all(|c| is_first(c) || c.is_ascii_digit())
        && !tag.starts_with(|c: char| c.is_ascii_digit());
    valid.then(|| text[..=end].to_owned())
}

fn is_first(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

/// The line of a byte, 1-based.
pub(super) fn line_of(text: &str, at: usize) -> u32 {
    let before = &text.as_bytes()[..at.min(text.len())];
    let breaks = before.iter().filter(|b| **b == b'\n').count();
    u32::try_from(breaks + 1).unwrap_or(u32::MAX)
}
