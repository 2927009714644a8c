//! The way back from the marks that `syntax` leaves in a query to the text that they stand for: a
//! stored query is read again, by Freehold and by who asks for a view's definition.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::syntax::{EXCLUDE, FIELDS, exclusion_words};

/// A query's text without the marks that have one.
pub fn restore(text: String) -> String {
    if !text.contains(EXCLUDE) && !text.contains(FIELDS) {
        return text;
    }
    // Strings stay as they are written, so that they can be written again.
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, &text)
        .with_unescape(false)
        .tokenize();
    let Ok(tokens) = tokens else {
        return text;
    };
    let mut out = String::with_capacity(text.len());
    // What goes before the bracket that closes, per open bracket.
    let mut open: Vec<Option<&'static str>> = Vec::new();
    for token in &tokens {
        match token {
            Token::LParen => open.push(None),
            Token::RParen => {
                if let Some(Some(what)) = open.pop() {
                    out += &format!(" EXCLUDE {}", what.to_uppercase());
                }
            }
            Token::Word(word) if word.value.starts_with(EXCLUDE) => {
                let (what, refined) = exclusion_words(&word.value[EXCLUDE.len()..]);
                if let Some(last) = open.last_mut() {
                    *last = Some(what);
                }
                if let Some(name) = refined {
                    out += &format!("\"{name}\"");
                }
                continue;
            }
            Token::Word(word) if word.value == FIELDS => {
                out.push('*');
                continue;
            }
            _ => {}
        }
        out += &token.to_string();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusions_go_back_to_the_end_of_their_window() {
        let text = "SELECT 'it''s', sum(a) OVER (\"\u{1}exclude ties\" ORDER BY (b) ROWS CURRENT \
                    ROW) FROM t WINDOW v AS (\"\u{1}exclude current row w\" ROWS 1 PRECEDING)";
        let restored = "SELECT 'it''s', sum(a) OVER ( ORDER BY (b) ROWS CURRENT ROW EXCLUDE TIES) \
                        FROM t WINDOW v AS (\"w\" ROWS 1 PRECEDING EXCLUDE CURRENT ROW)";
        assert_eq!(restore(text.to_owned()), restored);
    }

    #[test]
    fn expansions_are_stars_again() {
        let text = "SELECT (a).\"\u{1}fields\", 1 FROM t AS a";
        assert_eq!(restore(text.to_owned()), "SELECT (a).*, 1 FROM t AS a");
    }
}
