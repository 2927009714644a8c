//! Every JOIN that is neither CROSS nor NATURAL needs its ON or USING. sqlparser lets it go without
//! and keeps no place in its tree, so the tokens are looked at once they are known to be a
//! statement.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::words::is_word;

/// The index of the token that stands where ON or USING should.
pub(super) fn unconditional(tokens: &[TokenWithSpan]) -> Option<usize> {
    if !tokens.iter().any(|t| keyword(t) == Some(Keyword::JOIN)) {
        return None;
    }
    // Joins without a condition so far, per bracket; `a JOIN b JOIN c ON x ON y` closes the inner
    // one first.
    let mut open = vec![0usize];
    // CROSS or NATURAL stands before the JOIN to come.
    let mut free = false;
    let mut before = &Token::EOF;
    for (at, token) in tokens.iter().enumerate() {
        let pending = open.last_mut()?;
        // Behind these stands a name, whatever it is called.
        let named = *before == Token::Period || is_word(before, "AS");
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen => open.push(0),
            Token::RParen | Token::Comma | Token::EOF if *pending > 0 => return Some(at),
            Token::RParen => {
                open.pop();
            }
            _ if named => {}
            _ => match keyword(token) {
                Some(Keyword::CROSS | Keyword::NATURAL) => free = true,
                Some(Keyword::JOIN) => {
                    *pending += usize::from(!std::mem::take(&mut free));
                }
                // A table as it was; its JOIN goes on.
                Some(Keyword::FOR) if next(&tokens[at..]) == Some(Keyword::SYSTEM_TIME) => {}
                Some(Keyword::ON | Keyword::USING) => *pending = pending.saturating_sub(1),
                Some(word) if *pending > 0 && ends_from(word) => return Some(at),
                _ => {}
            },
        }
        before = &token.token;
    }
    (*open.first()? > 0).then_some(tokens.len())
}

/// The word behind the first token.
fn next(tokens: &[TokenWithSpan]) -> Option<Keyword> {
    let solid = |t: &&TokenWithSpan| !matches!(t.token, Token::Whitespace(_));
    tokens.iter().skip(1).find(solid).and_then(keyword)
}

fn keyword(token: &TokenWithSpan) -> Option<Keyword> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}

/// Reserved words that end a FROM list.
fn ends_from(word: Keyword) -> bool {
    matches!(
        word,
        Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::WINDOW
            | Keyword::ORDER
            | Keyword::LIMIT
            | Keyword::OFFSET
            | Keyword::FETCH
            | Keyword::FOR
            | Keyword::UNION
            | Keyword::INTERSECT
            | Keyword::EXCEPT
            | Keyword::RETURNING
    )
}
