//! CREATE, ALTER, DROP, COMMENT, TRUNCATE and maintenance: which grammar reads what.

use sqlparser::ast::ObjectName;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::grant::role_name;
use super::words::{Words, is_word};
use super::{
    AlterIdentity, AlterTableParts, Comment, Ddl, Drop, ObjectKind as Kind, ResetOptions,
    Statement, Truncate, control, role, routine, sequence, table, trigger,
};
use crate::Result;

fn ddl(ddl: Ddl) -> Result<Statement> {
    Ok(Statement::Ddl(Box::new(ddl)))
}

/// Kinds in the order in which their words are tried.
const KINDS: [(&str, Kind); 18] = [
    ("MATERIALIZED VIEW", Kind::MaterializedView),
    ("TABLE", Kind::Table),
    ("VIEW", Kind::View),
    ("INDEX", Kind::Index),
    ("SEQUENCE", Kind::Sequence),
    ("SCHEMA", Kind::Schema),
    ("DATABASE", Kind::Database),
    ("COLUMN", Kind::Column),
    ("CONSTRAINT", Kind::Constraint),
    ("FUNCTION", Kind::Function),
    ("TYPE", Kind::Type),
    ("DOMAIN", Kind::Domain),
    ("EXTENSION", Kind::Extension),
    ("LANGUAGE", Kind::Language),
    ("TRIGGER", Kind::Trigger),
    ("POLICY", Kind::Policy),
    ("COLLATION", Kind::Collation),
    ("TABLESPACE", Kind::Tablespace),
];

/// What nobody reads yet: the words behind CREATE, ALTER or DROP, and the name in the error.
const ABSENT: [(&str, &str); 17] = [
    ("PUBLICATION", "PUBLICATION"),
    ("SUBSCRIPTION", "SUBSCRIPTION"),
    ("DATABASE", "more than one database"),
    ("TABLESPACE", "TABLESPACE"),
    ("RULE", "RULE"),
    ("EVENT TRIGGER", "EVENT TRIGGER"),
    ("FOREIGN", "FOREIGN DATA WRAPPER"),
    ("SERVER", "FOREIGN DATA WRAPPER"),
    ("STATISTICS", "extended STATISTICS"),
    ("AGGREGATE", "AGGREGATE"),
    ("CAST", "CAST"),
    ("CONVERSION", "CONVERSION"),
    ("ACCESS METHOD", "ACCESS METHOD"),
    ("TRANSFORM", "TRANSFORM"),
    ("TEXT SEARCH", "TEXT SEARCH"),
    ("PROCEDURE", "PROCEDURE"),
    ("OPERATOR", "OPERATOR"),
];

fn absent(words: &mut Words<'_>) -> Option<Result<Statement>> {
    let (_, name) = ABSENT.iter().find(|(word, _)| starts(words, word))?;
    Some(control::skip(words, name, None))
}

fn starts(words: &Words<'_>, phrase: &str) -> bool {
    phrase
        .split(' ')
        .enumerate()
        .all(|(i, w)| words.is_nth(i + 1, w))
}

/// CREATE ...
pub(super) fn create(words: &mut Words<'_>) -> Result<Statement> {
    if let Some(answer) = absent(words) {
        return answer;
    }
    for (word, user) in [("ROLE", false), ("USER", true), ("GROUP", false)] {
        if words.is_nth(1, word) && !words.is_nth(2, "MAPPING") {
            words.advance();
            words.advance();
            return role::create(words, user);
        }
    }
    if let Some(answer) = routine::create(words).or_else(|| trigger::create(words)) {
        return answer;
    }
    let mut n = 1;
    let mut temporary = false;
    while ["TEMP", "TEMPORARY", "UNLOGGED", "LOCAL", "GLOBAL"]
        .iter()
        .any(|w| words.is_nth(n, w))
    {
        temporary |= words.is_nth(n, "TEMP") || words.is_nth(n, "TEMPORARY");
        n += 1;
    }
    if words.is_nth(n, "SEQUENCE") {
        for _ in 0..=n {
            words.advance();
        }
        return sequence::create(words, temporary);
    }
    if words.is_nth(n, "TABLE") {
        return table::create(words);
    }
    if words.is_nth(n, "MATERIALIZED") {
        table::cut_tail(words);
    }
    let statement = words.sql(|p| p.parse_statement())?;
    ddl(Ddl::Sql(statement))
}

/// ALTER ...
pub(super) fn alter(words: &mut Words<'_>) -> Result<Statement> {
    if starts(words, "DATABASE") {
        words.need("ALTER DATABASE")?;
        let database = words.name()?;
        if words.is("SET") || words.is("RESET") {
            return role::set(words, None, Some(database));
        }
        return control::skip(words, "ALTER DATABASE", None);
    }
    if let Some(answer) = absent(words) {
        return answer;
    }
    if starts(words, "DEFAULT PRIVILEGES") {
        return control::skip(
            words,
            "ALTER DEFAULT PRIVILEGES",
            Some("GRANT ... ON order_* covers present and future tables in public."),
        );
    }
    if starts(words, "SYSTEM") {
        return control::skip(words, "ALTER SYSTEM", Some("Settings are given at start."));
    }
    if ["ROLE", "USER"].iter().any(|w| words.is_nth(1, w)) {
        words.advance();
        words.advance();
        return role::alter(words);
    }
    if words.is_nth(1, "TABLE") {
        return alter_table(words);
    }
    if words.is_nth(1, "TRIGGER") {
        return trigger::alter(words);
    }
    for (word, kind) in KINDS {
        let named = matches!(
            kind,
            Kind::View | Kind::MaterializedView | Kind::Sequence | Kind::Schema | Kind::Index
        );
        if named && starts(words, word) {
            return alter_named(words, word, kind);
        }
    }
    let statement = words.sql(|p| p.parse_statement())?;
    ddl(Ddl::Sql(statement))
}

/// ALTER TABLE: the forms that also sequences and views have are read here.
fn alter_table(words: &mut Words<'_>) -> Result<Statement> {
    let tokens = words.tokens().to_vec();
    words.need("ALTER TABLE")?;
    let if_exists = words.eat("IF EXISTS");
    let name = control::relation(words)?;
    if let Some(parts) = alter_parts(words, &tokens)? {
        return ddl(Ddl::AlterTableParts(AlterTableParts {
            table: name,
            if_exists,
            parts,
        }));
    }
    if words.eat("SET SCHEMA") {
        return ddl(Ddl::SetSchema(Kind::Table, name, words.name()?, if_exists));
    }
    if words.eat("OWNER TO") {
        let owner = role_name(words)?;
        return ddl(Ddl::AlterOwner(Kind::Table, name, owner, if_exists));
    }
    if words.eat("RENAME TO") {
        return ddl(Ddl::Rename(Kind::Table, name, words.name()?, if_exists));
    }
    if let Some(answer) = trigger::enable(words, &name, if_exists) {
        return answer;
    }
    if words.eat("CLUSTER ON") {
        words.name()?;
        return maintained(name, if_exists);
    }
    if words.eat("RESET") {
        let options = words.bracketed(|w| w.name())?;
        return ddl(Ddl::ResetOptions(ResetOptions {
            table: name,
            if_exists,
            options,
        }));
    }
    if words.eat("ALTER") {
        words.eat("COLUMN");
        let column = words.name()?;
        if let Some(change) = sequence::identity_change(words)? {
            return ddl(Ddl::AlterIdentity(AlterIdentity {
                table: name,
                if_exists,
                column,
                change,
            }));
        }
        if words.eat("SET STATISTICS") {
            words.integer()?;
            return maintained(name, if_exists);
        }
        if words.eat_one(&["SET STORAGE", "SET COMPRESSION"]).is_some() {
            words.name()?;
            return maintained(name, if_exists);
        }
        words.replace(tokens);
        return table::alter(words);
    }
    if words.eat("SET WITHOUT") {
        words.name()?;
        return maintained(name, if_exists);
    }
    words.replace(tokens);
    table::alter(words)
}

/// There is nothing to do, if the table is there.
fn maintained(table: ObjectName, if_exists: bool) -> Result<Statement> {
    let parts = vec![Ddl::Maintain("ALTER TABLE", Some(table.clone()))];
    ddl(Ddl::AlterTableParts(AlterTableParts {
        table,
        if_exists,
        parts,
    }))
}

/// The actions behind a table's name, one by one, if there are several and one of them is about an
/// identity, which sqlparser does not read.
fn alter_parts(words: &mut Words<'_>, tokens: &[TokenWithSpan]) -> Result<Option<Vec<Ddl>>> {
    let (head, tail) = tokens.split_at(words.index());
    let actions = table::actions(tail);
    if actions.len() < 2
        || !actions
            .iter()
            .any(|a| is_identity_change(words.part(a.to_vec())))
    {
        return Ok(None);
    }
    let mut parts = Vec::with_capacity(actions.len());
    for action in actions {
        let mut part = words.part([head, action].concat());
        let statement = alter_table(&mut part)?;
        part.end()?;
        match statement {
            Statement::Ddl(one) => parts.push(*one),
            _ => return Err(words.syntax()),
        }
    }
    while !words.at_end() {
        words.advance();
    }
    Ok(Some(parts))
}

fn is_identity_change(mut action: Words<'_>) -> bool {
    if !action.eat("ALTER") {
        return false;
    }
    action.eat("COLUMN");
    let named = action.name().is_ok();
    named && matches!(sequence::identity_change(&mut action), Ok(Some(_)))
}

fn alter_named(words: &mut Words<'_>, word: &str, kind: Kind) -> Result<Statement> {
    let tokens = words.tokens().to_vec();
    words.need("ALTER")?;
    words.need(word)?;
    let if_exists = words.eat("IF EXISTS");
    let name = words.object()?;
    if words.eat("RENAME TO") {
        return ddl(Ddl::Rename(kind, name, words.name()?, if_exists));
    }
    if words.eat("SET SCHEMA") {
        return ddl(Ddl::SetSchema(kind, name, words.name()?, if_exists));
    }
    if words.eat("OWNER TO") {
        let owner = role_name(words)?;
        return ddl(Ddl::AlterOwner(kind, name, owner, if_exists));
    }
    if kind == Kind::Sequence {
        return sequence::alter(words, name, if_exists);
    }
    if kind == Kind::MaterializedView {
        words.replace(as_table(tokens));
        return match alter_table(words)? {
            Statement::Ddl(alter) => ddl(Ddl::AlterMaterializedView(name, alter)),
            other => Ok(other),
        };
    }
    words.replace(tokens);
    let statement = words.sql(|p| p.parse_statement())?;
    ddl(Ddl::Sql(statement))
}

/// ALTER MATERIALIZED VIEW has some of the actions of ALTER TABLE.
fn as_table(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let place = |word: &str| tokens.iter().position(|t| is_word(&t.token, word));
    if let (Some(first), Some(second)) = (place("MATERIALIZED"), place("VIEW")) {
        tokens[second].token = Token::make_keyword("TABLE");
        tokens.remove(first);
    }
    tokens
}

/// DROP ...
pub(super) fn drop(words: &mut Words<'_>) -> Result<Statement> {
    if starts(words, "OWNED BY") {
        words.need("DROP OWNED BY")?;
        let roles = words.list(role_name)?;
        let cascade = cascade(words);
        return ddl(Ddl::DropOwned(roles, cascade));
    }
    if words.is_nth(1, "TRIGGER") {
        return trigger::drop(words);
    }
    if let Some(answer) = routine::drop(words).or_else(|| absent(words)) {
        return answer;
    }
    if ["ROLE", "USER", "GROUP"].iter().any(|w| words.is_nth(1, w)) {
        words.advance();
        words.advance();
        return role::drop(words);
    }
    for (word, kind) in KINDS {
        let listed = !matches!(
            kind,
            Kind::Function | Kind::Trigger | Kind::Policy | Kind::Column | Kind::Constraint
        );
        if listed && starts(words, word) {
            words.need("DROP")?;
            words.need(word)?;
            let concurrently = kind == Kind::Index && words.eat("CONCURRENTLY");
            let if_exists = words.eat("IF EXISTS");
            let names = words.list(Words::object)?;
            let cascade = cascade(words);
            return ddl(Ddl::Drop(Drop {
                kind,
                names,
                if_exists,
                cascade,
                concurrently,
            }));
        }
    }
    let statement = words.sql(|p| p.parse_statement())?;
    ddl(Ddl::Sql(statement))
}

fn cascade(words: &mut Words<'_>) -> bool {
    let cascade = words.eat("CASCADE");
    if !cascade {
        words.eat("RESTRICT");
    }
    cascade
}

/// COMMENT ON.
pub(super) fn comment(words: &mut Words<'_>) -> Result<Statement> {
    words.need("COMMENT ON")?;
    let roles = [("ROLE", Kind::Role)];
    let found = KINDS
        .iter()
        .chain(&roles)
        .find(|(word, _)| words.eat(word))
        .map(|(_, k)| *k);
    let Some(kind) = found else {
        return control::skip(words, "COMMENT ON this kind of object", None);
    };
    let routine = match kind {
        Kind::Function => Some(routine::named(words)?),
        _ => None,
    };
    let name = match &routine {
        Some(routine) => routine.name.clone(),
        None => words.object()?,
    };
    let on = if words.eat("ON") {
        words.eat("DOMAIN");
        Some(words.object()?)
    } else {
        None
    };
    words.need("IS")?;
    let text = if words.eat("NULL") {
        None
    } else {
        Some(words.string()?)
    };
    ddl(Ddl::Comment(Comment {
        kind,
        name,
        routine,
        on,
        text,
    }))
}

/// TRUNCATE.
pub(super) fn truncate(words: &mut Words<'_>) -> Result<Statement> {
    words.need("TRUNCATE")?;
    words.eat("TABLE");
    let tables = words.list(control::relation)?;
    let restart_identity = words.eat("RESTART IDENTITY");
    if !restart_identity {
        words.eat("CONTINUE IDENTITY");
    }
    let cascade = cascade(words);
    ddl(Ddl::Truncate(Truncate {
        tables,
        restart_identity,
        cascade,
    }))
}

/// REINDEX, CLUSTER, REFRESH MATERIALIZED VIEW, REASSIGN OWNED.
pub(super) fn maintain(words: &mut Words<'_>) -> Result<Statement> {
    if words.eat("REASSIGN OWNED BY") {
        let roles = words.list(role_name)?;
        words.need("TO")?;
        return ddl(Ddl::Reassign(roles, role_name(words)?));
    }
    if words.eat("REFRESH MATERIALIZED VIEW") {
        words.eat("CONCURRENTLY");
        let name = words.object()?;
        if words.eat("WITH") {
            words.eat("NO");
            words.need("DATA")?;
        }
        return ddl(Ddl::Refresh(name));
    }
    if words.eat("CLUSTER") {
        words.eat("VERBOSE");
        let name = if words.at_end() {
            None
        } else {
            Some(words.object()?)
        };
        if words.eat("USING") {
            words.name()?;
        }
        return ddl(Ddl::Maintain("CLUSTER", name));
    }
    words.need("REINDEX")?;
    if *words.peek() == Token::LParen {
        words.bracketed(|w| {
            w.name()?;
            if !matches!(w.peek(), Token::Comma | Token::RParen) {
                w.advance();
            }
            Ok(())
        })?;
    }
    let kind = words.eat_one(&["TABLE", "INDEX", "SCHEMA", "DATABASE", "SYSTEM"]);
    let Some(kind) = kind else {
        return Err(words.syntax());
    };
    words.eat("CONCURRENTLY");
    let relation = matches!(kind, "TABLE" | "INDEX");
    let name = words.object()?;
    ddl(Ddl::Maintain("REINDEX", relation.then_some(name)))
}
