//! CREATE and ALTER SEQUENCE, and the options of identity columns, in any order.

use sqlparser::ast::ObjectName;
use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::words::Words;
use super::{AlterSequence, CreateSequence, Ddl, IdentityChange, SequenceOptions, Statement};
use crate::{Error, Result, state};

/// After CREATE [TEMP] SEQUENCE.
pub(super) fn create(words: &mut Words<'_>, temporary: bool) -> Result<Statement> {
    let if_not_exists = words.eat("IF NOT EXISTS");
    let name = words.object()?;
    let options = options(words, &mut None)?;
    Ok(Statement::Ddl(Box::new(Ddl::CreateSequence(
        CreateSequence {
            name,
            if_not_exists,
            temporary,
            options,
        },
    ))))
}

/// After ALTER SEQUENCE [IF EXISTS] name.
pub(super) fn alter(words: &mut Words<'_>, name: ObjectName, if_exists: bool) -> Result<Statement> {
    let options = options(words, &mut None)?;
    if options == SequenceOptions::default() {
        return Err(words.syntax());
    }
    Ok(Statement::Ddl(Box::new(Ddl::AlterSequence(
        AlterSequence {
            name,
            if_exists,
            options,
        },
    ))))
}

/// Reads options until something else comes. `SEQUENCE NAME x` goes to `sequence`.
pub(super) fn options(
    words: &mut Words<'_>,
    sequence: &mut Option<ObjectName>,
) -> Result<SequenceOptions> {
    let mut o = SequenceOptions::default();
    loop {
        if words.eat("AS") {
            once(&mut o.data_type, words.sql(|p| p.parse_data_type())?)?;
        } else if words.eat("INCREMENT") {
            words.eat("BY");
            once(&mut o.increment, words.integer()?)?;
        } else if words.eat("NO MINVALUE") {
            once(&mut o.min, None)?;
        } else if words.eat("MINVALUE") {
            once(&mut o.min, Some(words.integer()?))?;
        } else if words.eat("NO MAXVALUE") {
            once(&mut o.max, None)?;
        } else if words.eat("MAXVALUE") {
            once(&mut o.max, Some(words.integer()?))?;
        } else if words.eat("START") {
            words.eat("WITH");
            once(&mut o.start, words.integer()?)?;
        } else if words.eat("RESTART") {
            let with = words.eat("WITH");
            let number = matches!(words.peek(), Token::Number(..) | Token::Minus | Token::Plus);
            let value = if with || number {
                Some(words.integer()?)
            } else {
                None
            };
            once(&mut o.restart, value)?;
        } else if words.eat("CACHE") {
            once(&mut o.cache, words.integer()?)?;
        } else if words.eat("NO CYCLE") {
            once(&mut o.cycle, false)?;
        } else if words.eat("CYCLE") {
            once(&mut o.cycle, true)?;
        } else if words.eat("OWNED BY") {
            let by = if words.eat("NONE") {
                None
            } else {
                Some(words.object()?)
            };
            once(&mut o.owned_by, by)?;
        } else if words.eat("SEQUENCE NAME") {
            *sequence = Some(words.object()?);
        } else if words.eat_one(&["LOGGED", "UNLOGGED"]).is_none() {
            return Ok(o);
        }
    }
}

/// First words of the options that ALTER COLUMN ... SET takes.
const OPTIONS: [&str; 7] = [
    "CACHE",
    "CYCLE",
    "INCREMENT",
    "MAXVALUE",
    "MINVALUE",
    "NO",
    "START",
];

/// What ALTER COLUMN says about an identity: DROP IDENTITY, SET GENERATED, RESTART, SET option.
pub(super) fn identity_change(words: &mut Words<'_>) -> Result<Option<IdentityChange>> {
    if words.eat("DROP IDENTITY") {
        let if_exists = words.eat("IF EXISTS");
        return Ok(Some(IdentityChange::Drop { if_exists }));
    }
    let mut always = None;
    let mut all = SequenceOptions::default();
    loop {
        if words.eat("SET GENERATED") {
            let given = words.eat("ALWAYS");
            if !given {
                words.need("BY DEFAULT")?;
            }
            once(&mut always, given)?;
            continue;
        }
        let set = words.is("SET") && OPTIONS.iter().any(|word| words.is_nth(1, word));
        if !set && !words.is("RESTART") {
            break;
        }
        if set {
            words.advance();
        }
        merge(&mut all, options(words, &mut None)?)?;
    }
    let given = always.is_some() || all != SequenceOptions::default();
    Ok(given.then_some(IdentityChange::Set {
        always,
        options: all,
    }))
}

fn merge(all: &mut SequenceOptions, more: SequenceOptions) -> Result<()> {
    macro_rules! fields {
        ($($field:ident),*) => {
            $(if let Some(value) = more.$field {
                once(&mut all.$field, value)?;
            })*
        };
    }
    fields!(increment, min, max, start, restart, cache, cycle);
    Ok(())
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<()> {
    if slot.replace(value).is_some() {
        return Err(Error::new(
            state::SYNTAX_ERROR,
            "conflicting or redundant options",
        ));
    }
    Ok(())
}

/// The options again as tokens, in the one order that sqlparser reads.
pub(super) fn tokens(options: &SequenceOptions, span: Span) -> Vec<TokenWithSpan> {
    let mut all = Vec::new();
    let mut push = |text: &str, number: Option<i64>| {
        for word in text.split(' ') {
            all.push(Token::make_word(word, None));
        }
        if let Some(number) = number {
            if number < 0 {
                all.push(Token::Minus);
            }
            all.push(Token::Number(number.unsigned_abs().to_string(), false));
        }
    };
    if let Some(by) = options.increment {
        push("INCREMENT BY", Some(by));
    }
    match options.min {
        Some(Some(min)) => push("MINVALUE", Some(min)),
        Some(None) => push("NO MINVALUE", None),
        None => {}
    }
    match options.max {
        Some(Some(max)) => push("MAXVALUE", Some(max)),
        Some(None) => push("NO MAXVALUE", None),
        None => {}
    }
    if let Some(start) = options.start {
        push("START WITH", Some(start));
    }
    if let Some(cache) = options.cache {
        push("CACHE", Some(cache));
    }
    match options.cycle {
        Some(true) => push("CYCLE", None),
        Some(false) => push("NO CYCLE", None),
        None => {}
    }
    let spaced = all.into_iter().flat_map(|t| [t, Token::Whitespace(SPACE)]);
    spaced.map(|token| TokenWithSpan { token, span }).collect()
}

const SPACE: sqlparser::tokenizer::Whitespace = sqlparser::tokenizer::Whitespace::Space;
