//! CREATE TABLE and ALTER TABLE: what sqlparser can't read (LIKE among columns, identity options
//! in any order, WITH NO DATA, storage clauses) is cut out of the tokens first.

use sqlparser::ast;
use sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::words::{Words, is_word};
use super::{CreateTable, Ddl, Including, LikeClause, Statement, fold, sequence};
use crate::{Error, Result, state};

/// CREATE [TEMP | UNLOGGED] TABLE, from its first word on.
pub(super) fn create(words: &mut Words<'_>) -> Result<Statement> {
    let with_data = cut_tail(words);
    type_names(words);
    let likes = cut_likes(words)?;
    let sequences = rewrite_identities(words)?;
    let bracket = words.tokens().iter().any(|t| t.token == Token::LParen);
    let statement = words.sql(|p| p.parse_statement())?;
    let ast::Statement::CreateTable(table) = statement else {
        return Err(words.syntax());
    };
    if !bracket && table.query.is_none() && table.partition_of.is_none() {
        return Err(words.syntax());
    }
    Ok(Statement::Ddl(Box::new(Ddl::CreateTable(CreateTable {
        table,
        likes,
        with_data,
        sequences,
    }))))
}

/// ALTER TABLE, from its first word on.
pub(super) fn alter(words: &mut Words<'_>) -> Result<Statement> {
    rewrite_identities(words)?;
    let statement = words.sql(|p| p.parse_statement())?;
    Ok(Statement::Ddl(Box::new(Ddl::Sql(statement))))
}

/// The actions of ALTER TABLE: what stands between commas outside of brackets.
pub(super) fn actions(tokens: &[TokenWithSpan]) -> Vec<&[TokenWithSpan]> {
    let mut depth = 0usize;
    tokens
        .split(|token| {
            match token.token {
                Token::LParen | Token::LBracket => depth += 1,
                Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && token.token == Token::Comma
        })
        .collect()
}

/// SELECT ... INTO table is CREATE TABLE AS.
pub(super) fn select_into(into: ast::SelectInto, query: Box<ast::Query>) -> Statement {
    let name = match into.targets.into_iter().next() {
        Some(ast::Expr::Identifier(ident)) => ast::ObjectName::from(vec![ident]),
        Some(ast::Expr::CompoundIdentifier(idents)) => ast::ObjectName::from(idents),
        _ => return Statement::Unsupported("SELECT INTO an expression", None),
    };
    let builder = CreateTableBuilder::new(name)
        .temporary(into.temporary)
        .query(Some(query));
    Statement::Ddl(Box::new(Ddl::CreateTable(CreateTable {
        table: builder.build(),
        likes: Vec::new(),
        with_data: true,
        sequences: Vec::new(),
    })))
}

fn solid(tokens: &[TokenWithSpan]) -> Vec<usize> {
    let is = |t: &TokenWithSpan| !matches!(t.token, Token::Whitespace(_) | Token::EOF);
    (0..tokens.len()).filter(|i| is(&tokens[*i])).collect()
}

/// Cuts WITH [NO] DATA, TABLESPACE x, WITHOUT OIDS and USING heap; returns whether data is wanted.
pub(super) fn cut_tail(words: &mut Words<'_>) -> bool {
    let mut tokens = words.tokens().to_vec();
    let mut with_data = true;
    let mut changed = false;
    loop {
        let at = solid(&tokens);
        let tail = |n: usize, word: &str| {
            at.len()
                .checked_sub(n)
                .is_some_and(|i| is_word(&tokens[at[i]].token, word))
        };
        let cut = if tail(3, "WITH") && tail(2, "NO") && tail(1, "DATA") {
            with_data = false;
            3
        } else if (tail(2, "WITH") && tail(1, "DATA"))
            || (tail(2, "WITHOUT") && tail(1, "OIDS"))
            || tail(2, "TABLESPACE")
        {
            2
        } else {
            break;
        };
        let from = at[at.len() - cut];
        tokens.drain(from..);
        changed = true;
    }
    // `USING heap` stands behind the columns.
    let at = solid(&tokens);
    let using = at.windows(2).position(|w| {
        is_word(&tokens[w[0]].token, "USING") && is_word(&tokens[w[1]].token, "HEAP")
    });
    if let Some(i) = using {
        tokens.drain(at[i]..=at[i + 1]);
        changed = true;
    }
    if changed {
        words.replace(tokens);
    }
    with_data
}

/// `CREATE TABLE x (a, b) AS`: sqlparser wants a type behind each name. Any will do, for the
/// query has the types.
fn type_names(words: &mut Words<'_>) {
    let tokens = words.tokens().to_vec();
    let at = solid(&tokens);
    let Some(open) = at.iter().position(|i| tokens[*i].token == Token::LParen) else {
        return;
    };
    let mut names = Vec::new();
    let mut next = open + 1;
    loop {
        let token = |n: usize| at.get(n).map(|i| &tokens[*i].token);
        let (Some(Token::Word(_)), Some(behind)) = (token(next), token(next + 1)) else {
            return;
        };
        names.push(at[next]);
        next += 2;
        match behind {
            Token::Comma => {}
            Token::RParen if token(next).is_some_and(|t| is_word(t, "AS")) => break,
            _ => return,
        }
    }
    let mut new = Vec::with_capacity(tokens.len() + 2 * names.len());
    for (i, token) in tokens.into_iter().enumerate() {
        let span = token.span;
        new.push(token);
        if names.contains(&i) {
            let blank = Token::Whitespace(sqlparser::tokenizer::Whitespace::Space);
            new.push(TokenWithSpan { token: blank, span });
            new.push(TokenWithSpan {
                token: Token::make_word("text", None),
                span,
            });
        }
    }
    words.replace(new);
}

/// Cuts `LIKE x [INCLUDING | EXCLUDING y ...]` elements out of the column list.
fn cut_likes(words: &mut Words<'_>) -> Result<Vec<LikeClause>> {
    let tokens = words.tokens().to_vec();
    let at = solid(&tokens);
    // The list opens with the first bracket, unless a query comes first.
    let Some(open) = at.iter().position(|i| tokens[*i].token == Token::LParen) else {
        return Ok(Vec::new());
    };
    if at[..open].iter().any(|i| is_word(&tokens[*i].token, "AS")) {
        return Ok(Vec::new());
    }
    let mut elements: Vec<(usize, usize)> = Vec::new();
    let (mut depth, mut start) = (0usize, open + 1);
    let mut close = None;
    for (i, index) in at.iter().enumerate().skip(open) {
        match tokens[*index].token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => {
                depth -= 1;
                if depth == 0 {
                    elements.push((start, i));
                    close = Some(i);
                    break;
                }
            }
            Token::Comma if depth == 1 => {
                elements.push((start, i));
                start = i + 1;
            }
            _ => {}
        }
    }
    let Some(close) = close else {
        return Ok(Vec::new());
    };
    let is_like = |e: &(usize, usize)| e.0 < e.1 && is_word(&tokens[at[e.0]].token, "LIKE");
    if !elements.iter().any(is_like) {
        return Ok(Vec::new());
    }
    let mut likes = Vec::new();
    let mut kept: Vec<TokenWithSpan> = tokens[..=at[open]].to_vec();
    let mut columns = 0;
    let mut first = true;
    for element in &elements {
        let part = &tokens[at[element.0]..at[element.1]];
        if is_like(element) {
            likes.push(like(words, part, columns)?);
            continue;
        }
        if !first && let Some(comma) = element.0.checked_sub(1) {
            kept.push(TokenWithSpan {
                token: Token::Comma,
                span: tokens[at[comma]].span,
            });
        }
        first = false;
        kept.extend_from_slice(part);
        let constraint = [
            "CONSTRAINT",
            "PRIMARY",
            "UNIQUE",
            "CHECK",
            "FOREIGN",
            "EXCLUDE",
        ];
        if !constraint.iter().any(|w| is_word(&part[0].token, w)) {
            columns += 1;
        }
    }
    kept.extend_from_slice(&tokens[at[close]..]);
    words.replace(kept);
    Ok(likes)
}

fn like(words: &Words<'_>, tokens: &[TokenWithSpan], after_columns: usize) -> Result<LikeClause> {
    let mut words = words.part(tokens.to_vec());
    words.need("LIKE")?;
    let table = words.object()?;
    let mut including = Including::default();
    while let Some(word) = words.eat_one(&["INCLUDING", "EXCLUDING"]) {
        let on = word == "INCLUDING";
        let all = Including {
            comments: on,
            constraints: on,
            defaults: on,
            generated: on,
            identity: on,
            indexes: on,
        };
        match words.name()?.as_str() {
            "all" => including = all,
            "comments" => including.comments = on,
            "constraints" => including.constraints = on,
            "defaults" => including.defaults = on,
            "generated" => including.generated = on,
            "identity" => including.identity = on,
            "indexes" => including.indexes = on,
            "statistics" | "storage" | "compression" => {}
            _ => return Err(words.syntax()),
        }
    }
    words.end()?;
    Ok(LikeClause {
        after_columns,
        table,
        including,
    })
}

/// Rewrites `IDENTITY ( options )` into sqlparser's order; collects SEQUENCE NAME by column.
fn rewrite_identities(words: &mut Words<'_>) -> Result<Vec<(String, ast::ObjectName)>> {
    let mut names = Vec::new();
    let mut from = 0;
    loop {
        let tokens = words.tokens().to_vec();
        let at = solid(&tokens);
        let found = at.windows(2).skip(from).position(|w| {
            is_word(&tokens[w[0]].token, "IDENTITY") && tokens[w[1]].token == Token::LParen
        });
        let Some(i) = found.map(|i| i + from) else {
            return Ok(names);
        };
        let rest = &at[i + 2..];
        let Some(close) = rest.iter().position(|j| tokens[*j].token == Token::RParen) else {
            return Err(words.syntax());
        };
        let (open, close) = (at[i + 1], rest[close]);
        let mut inner = words.part(tokens[open + 1..close].to_vec());
        let mut sequence = None;
        let options = sequence::options(&mut inner, &mut sequence)?;
        inner.end()?;
        if let Some(sequence) = sequence {
            names.push((column_of(&tokens, &at[..i])?, sequence));
        }
        let span = tokens[open].span;
        let mut new = tokens[..=open].to_vec();
        let replaced = sequence::tokens(&options, span);
        if replaced.is_empty() {
            // Empty brackets are not read: leave them out.
            new.pop();
            new.extend_from_slice(&tokens[close + 1..]);
        } else {
            new.extend(replaced);
            new.extend_from_slice(&tokens[close..]);
        }
        words.replace(new);
        from = i + 1;
    }
}

/// The column that an identity clause belongs to: the first word of its element, or the word
/// after ALTER [COLUMN].
fn column_of(tokens: &[TokenWithSpan], before: &[usize]) -> Result<String> {
    let mut depth = 0usize;
    let mut start = 0;
    for (i, index) in before.iter().enumerate().rev() {
        match tokens[*index].token {
            Token::RParen => depth += 1,
            Token::LParen if depth == 0 => {
                start = i + 1;
                break;
            }
            Token::LParen => depth -= 1,
            Token::Comma if depth == 0 => {
                start = i + 1;
                break;
            }
            _ => {}
        }
        if is_word(&tokens[*index].token, "COLUMN") {
            start = i + 1;
            break;
        }
    }
    match before.get(start).map(|i| &tokens[*i].token) {
        Some(Token::Word(word)) => Ok(fold(&word.clone().into_ident(tokens[0].span))),
        _ => Err(Error::new(
            state::SYNTAX_ERROR,
            "syntax error in an identity column",
        )),
    }
}
