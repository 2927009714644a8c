//! GRANT and REVOKE: of privileges, on patterns too, and of roles. FOLLOW and UNFOLLOW.

use sqlparser::tokenizer::Token;

use super::words::Words;
use super::{
    Ddl, Follow, FollowName, Grant, GrantObjects, GrantRole, ObjectKind, PrivilegeName, RoleName,
    Statement,
};
use crate::{Error, Result, SqlState, state};

/// The privileges that exist, READ among them (SELECT + follow + feed).
const PRIVILEGES: [&str; 14] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "TRUNCATE",
    "REFERENCES",
    "TRIGGER",
    "USAGE",
    "CREATE",
    "CONNECT",
    "TEMPORARY",
    "TEMP",
    "EXECUTE",
    "READ",
];

pub(super) fn grant(words: &mut Words<'_>) -> Result<Statement> {
    let revoke = words.eat("REVOKE");
    if !revoke {
        words.need("GRANT")?;
    }
    let mut option = revoke && words.eat("GRANT OPTION FOR");
    let admin = revoke && (words.eat("ADMIN OPTION FOR") || words.eat("INHERIT OPTION FOR"));
    let list = words.list(item)?;
    if !words.eat("ON") {
        return roles(words, revoke, admin, list);
    }
    let (privileges, all_columns) = privileges(list)?;
    let objects = objects(words)?;
    words.need(if revoke { "FROM" } else { "TO" })?;
    let grantees = words.list(|w| {
        w.eat("GROUP");
        role_name(w)
    })?;
    if !revoke {
        option = words.eat("WITH GRANT OPTION");
    }
    let granted_by = granted_by(words)?;
    let cascade = words.eat("CASCADE");
    if !cascade {
        words.eat("RESTRICT");
    }
    Ok(Statement::Ddl(Box::new(Ddl::Grant(Grant {
        revoke,
        grant_option: option,
        privileges,
        all_columns,
        objects,
        grantees,
        granted_by,
        cascade,
    }))))
}

/// FOLLOW and UNFOLLOW: tables and patterns.
pub(super) fn follow(words: &mut Words<'_>) -> Result<Statement> {
    let ends = words.eat("UNFOLLOW");
    if !ends {
        words.need("FOLLOW")?;
    }
    let what = words.list(|words| {
        Ok(match pattern(words, state::FEATURE_NOT_SUPPORTED)? {
            Some(text) => FollowName::Pattern(text),
            None => FollowName::Table(words.object()?),
        })
    })?;
    Ok(Statement::Ddl(Box::new(Ddl::Follow(Follow { ends, what }))))
}

/// A privilege or a role with an optional list of columns.
fn item(words: &mut Words<'_>) -> Result<(RoleName, Vec<String>)> {
    let name = role_name(words)?;
    // `ALL PRIVILEGES`
    if matches!(&name, RoleName::Name(n) if n == "all") {
        words.eat("PRIVILEGES");
    }
    let mut columns = Vec::new();
    if *words.peek() == Token::LParen {
        columns = words.bracketed(Words::name)?;
    }
    Ok((name, columns))
}

type Privileges = (Option<Vec<PrivilegeName>>, Vec<String>);

fn privileges(list: Vec<(RoleName, Vec<String>)>) -> Result<Privileges> {
    if let [(RoleName::Name(name), columns)] = list.as_slice()
        && name == "all"
    {
        return Ok((None, columns.clone()));
    }
    let mut all = Vec::new();
    for (name, columns) in list {
        let name = match name {
            RoleName::Name(name) => name.to_ascii_uppercase(),
            other => format!("{other:?}"),
        };
        if !PRIVILEGES.contains(&name.as_str()) {
            let message = format!("unrecognized privilege type \"{}\"", name.to_lowercase());
            return Err(Error::new(state::SYNTAX_ERROR, message));
        }
        let name = if name == "TEMP" {
            "TEMPORARY".to_owned()
        } else {
            name
        };
        all.push(PrivilegeName { name, columns });
    }
    Ok((Some(all), Vec::new()))
}

fn roles(
    words: &mut Words<'_>,
    revoke: bool,
    admin: bool,
    list: Vec<(RoleName, Vec<String>)>,
) -> Result<Statement> {
    words.need(if revoke { "FROM" } else { "TO" })?;
    let grantees = words.list(role_name)?;
    let mut admin_option = admin;
    if !revoke && words.eat("WITH") {
        words.need("ADMIN")?;
        admin_option = words.eat("OPTION") || words.switch()?;
    }
    let granted_by = granted_by(words)?;
    let cascade = words.eat("CASCADE");
    if !cascade {
        words.eat("RESTRICT");
    }
    let roles = list.into_iter().map(|(name, _)| name).collect();
    let grant = GrantRole {
        revoke,
        roles,
        grantees,
        admin_option,
        granted_by,
        cascade,
    };
    Ok(Statement::Ddl(Box::new(Ddl::GrantRole(grant))))
}

fn granted_by(words: &mut Words<'_>) -> Result<Option<RoleName>> {
    if words.eat("GRANTED BY") {
        role_name(words).map(Some)
    } else {
        Ok(None)
    }
}

/// A role, PUBLIC, CURRENT_USER, SESSION_USER.
pub(super) fn role_name(words: &mut Words<'_>) -> Result<RoleName> {
    if words.eat_one(&["CURRENT_USER", "CURRENT_ROLE"]).is_some() {
        return Ok(RoleName::CurrentUser);
    }
    if words.eat("SESSION_USER") {
        return Ok(RoleName::SessionUser);
    }
    if words.eat("PUBLIC") {
        return Ok(RoleName::Public);
    }
    words.name().map(RoleName::Name)
}

fn objects(words: &mut Words<'_>) -> Result<GrantObjects> {
    for (what, kind) in [
        ("TABLES", 0),
        ("SEQUENCES", 1),
        ("FUNCTIONS", 2),
        ("ROUTINES", 2),
    ] {
        if words.eat(&format!("ALL {what} IN SCHEMA")) {
            let names = words.names()?;
            return Ok(match kind {
                0 => GrantObjects::AllTablesIn(names),
                1 => GrantObjects::AllSequencesIn(names),
                _ => GrantObjects::AllFunctionsIn(names),
            });
        }
    }
    // A table may be called like one of these words: they are kinds only before another name.
    let kind = matches!(words.peek_nth(1), Token::Word(_)) && !ends_list(words);
    if kind {
        if words.eat("SCHEMA") {
            return words.names().map(GrantObjects::Schemas);
        }
        if words.eat("DATABASE") {
            return words.names().map(GrantObjects::Databases);
        }
        if words.eat("SEQUENCE") {
            return words.list(Words::object).map(GrantObjects::Sequences);
        }
        if words
            .eat_one(&["FUNCTION", "PROCEDURE", "ROUTINE"])
            .is_some()
        {
            let routines = words.list(super::routine::named)?;
            return Ok(GrantObjects::Routines(routines));
        }
        for (word, kind) in [
            ("LANGUAGE", ObjectKind::Language),
            ("TYPE", ObjectKind::Type),
            ("DOMAIN", ObjectKind::Domain),
            ("TABLESPACE", ObjectKind::Tablespace),
        ] {
            if words.eat(word) {
                let names = words.list(|w| {
                    let name = w.object()?;
                    skip_brackets(w)?;
                    Ok(name)
                })?;
                return Ok(GrantObjects::Other(kind, names));
            }
        }
        words.eat("TABLE");
    }
    tables(words)
}

/// Whether the word after the next ends the list of objects (`ON sequence TO x`).
fn ends_list(words: &Words<'_>) -> bool {
    ["TO", "FROM"].iter().any(|w| words.is_nth(1, w))
}

fn skip_brackets(words: &mut Words<'_>) -> Result<()> {
    if words.eat_token(&Token::LParen) {
        let mut depth = 1;
        while depth > 0 {
            match words.advance() {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                Token::EOF => return Err(words.syntax()),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Tables, or patterns if any name has a star.
fn tables(words: &mut Words<'_>) -> Result<GrantObjects> {
    let mut names = Vec::new();
    let mut patterns = Vec::new();
    loop {
        match pattern(words, state::INVALID_GRANT_OPERATION)? {
            Some(text) => patterns.push(text),
            None => names.push(words.object()?),
        }
        if !words.eat_token(&Token::Comma) {
            break;
        }
    }
    match (names.is_empty(), patterns.is_empty()) {
        (_, true) => Ok(GrantObjects::Tables(names)),
        (true, false) => Ok(GrantObjects::Patterns(patterns)),
        (false, false) => Err(Error::new(
            state::SYNTAX_ERROR,
            "patterns and plain names cannot be mixed in one GRANT",
        )),
    }
}

/// `order_*`, `public.order_*`, `*_v1`: words and stars without space between them.
fn pattern(words: &mut Words<'_>, elsewhere: SqlState) -> Result<Option<String>> {
    let start = words.index();
    let rest = words.tokens().get(start..).unwrap_or_default();
    let mut solid = rest
        .iter()
        .skip_while(|t| matches!(t.token, Token::Whitespace(_)));
    let mut text = String::new();
    let mut taken = 0usize;
    let mut stars = false;
    for token in solid.by_ref() {
        match &token.token {
            Token::Word(w) if w.quote_style.is_some() => text.push_str(&w.value),
            Token::Word(w) => text.push_str(&w.value.to_lowercase()),
            Token::Number(n, _) => text.push_str(n),
            Token::Period => text.push('.'),
            Token::Mul => {
                stars = true;
                text.push('*');
            }
            _ => break,
        }
        taken += 1;
    }
    if !stars {
        return Ok(None);
    }
    for _ in 0..taken {
        words.advance();
    }
    let name = match text.split_once('.') {
        None => text.as_str(),
        Some(("public", name)) => name,
        Some((schema, _)) => {
            return Err(
                Error::new(elsewhere, "patterns cover tables in schema \"public\" only")
                    .detail(format!("The pattern names schema \"{schema}\".")),
            );
        }
    };
    Ok(Some(name.to_owned()))
}
