//! CREATE, ALTER and DROP ROLE (USER, GROUP) with options in any order.

use sqlparser::tokenizer::Token;

use super::grant::role_name;
use super::setting::value;
use super::words::Words;
use super::{AlterRole, AlterRoleSet, CreateRole, Ddl, RoleName, RoleOptions, Statement};
use crate::{Error, Result, state};

fn ddl(ddl: Ddl) -> Statement {
    Statement::Ddl(Box::new(ddl))
}

/// After CREATE ROLE | USER | GROUP.
pub(super) fn create(words: &mut Words<'_>, user: bool) -> Result<Statement> {
    let name = words.name()?;
    let mut options = options(words)?;
    if user && options.login.is_none() {
        options.login = Some(true);
    }
    Ok(ddl(Ddl::CreateRole(CreateRole { name, options })))
}

/// After ALTER ROLE | USER.
pub(super) fn alter(words: &mut Words<'_>) -> Result<Statement> {
    let role = if words.eat("ALL") {
        None
    } else {
        Some(role_name(words)?)
    };
    if words.eat("RENAME TO") {
        let Some(RoleName::Name(old)) = role else {
            return Err(words.syntax());
        };
        return Ok(ddl(Ddl::RenameRole(old, words.name()?)));
    }
    let database = if words.eat("IN DATABASE") {
        Some(words.name()?)
    } else {
        None
    };
    if words.is("SET") || words.is("RESET") {
        return set(words, role, database);
    }
    let Some(role) = role else {
        return Err(words.syntax());
    };
    let options = options(words)?;
    Ok(ddl(Ddl::AlterRole(AlterRole { role, options })))
}

/// `SET name TO values | RESET name` of ALTER ROLE and ALTER DATABASE.
pub(super) fn set(
    words: &mut Words<'_>,
    role: Option<RoleName>,
    database: Option<String>,
) -> Result<Statement> {
    let reset = words.eat("RESET");
    if !reset {
        words.need("SET")?;
    }
    let (mut setting, mut to) = (None, None);
    if !(reset && words.eat("ALL")) {
        let mut name = if words.eat("TIME ZONE") {
            "timezone".to_owned()
        } else {
            words.name()?
        };
        while words.eat_token(&Token::Period) {
            name = format!("{name}.{}", words.name()?);
        }
        setting = Some(name);
        if !reset {
            if !words.eat("TO") {
                words.eat_token(&Token::Eq);
            }
            if !words.eat("DEFAULT") {
                to = Some(words.list(value)?);
            }
        }
    }
    Ok(ddl(Ddl::AlterRoleSet(AlterRoleSet {
        role,
        database,
        setting,
        value: to,
    })))
}

/// After DROP ROLE | USER | GROUP.
pub(super) fn drop(words: &mut Words<'_>) -> Result<Statement> {
    let if_exists = words.eat("IF EXISTS");
    Ok(ddl(Ddl::DropRole(words.list(role_name)?, if_exists)))
}

fn options(words: &mut Words<'_>) -> Result<RoleOptions> {
    words.eat("WITH");
    let mut o = RoleOptions::default();
    while !words.at_end() {
        let word = words.name()?;
        match word.as_str() {
            "superuser" => once(&mut o.superuser, true)?,
            "nosuperuser" => once(&mut o.superuser, false)?,
            "createdb" => once(&mut o.create_db, true)?,
            "nocreatedb" => once(&mut o.create_db, false)?,
            "createrole" => once(&mut o.create_role, true)?,
            "nocreaterole" => once(&mut o.create_role, false)?,
            "inherit" => once(&mut o.inherit, true)?,
            "noinherit" => once(&mut o.inherit, false)?,
            "login" => once(&mut o.login, true)?,
            "nologin" => once(&mut o.login, false)?,
            "replication" => once(&mut o.replication, true)?,
            "noreplication" => once(&mut o.replication, false)?,
            "bypassrls" => once(&mut o.bypass_rls, true)?,
            "nobypassrls" => once(&mut o.bypass_rls, false)?,
            "connection" => {
                words.need("LIMIT")?;
                let limit = words.integer()?;
                let limit = i32::try_from(limit).ok().filter(|l| *l >= -1);
                let Some(limit) = limit else {
                    let message = "invalid connection limit";
                    return Err(Error::new(state::INVALID_PARAMETER_VALUE, message));
                };
                once(&mut o.connection_limit, limit)?;
            }
            "encrypted" | "password" => {
                if word == "encrypted" {
                    words.need("PASSWORD")?;
                }
                let password = if words.eat("NULL") {
                    None
                } else {
                    Some(words.string()?)
                };
                once(&mut o.password, password)?;
            }
            "valid" => {
                words.need("UNTIL")?;
                once(&mut o.valid_until, words.string()?)?;
            }
            "in" => {
                if words.eat_one(&["ROLE", "GROUP"]).is_none() {
                    return Err(words.syntax());
                }
                o.in_role = words.list(role_name)?;
            }
            "role" | "user" => o.role = words.list(role_name)?,
            "admin" => o.admin = words.list(role_name)?,
            "sysid" => {
                words.integer()?;
            }
            _ => {
                let message = format!("unrecognized role option \"{word}\"");
                return Err(Error::new(state::SYNTAX_ERROR, message));
            }
        }
    }
    Ok(o)
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
