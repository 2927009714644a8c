//! A function's body to its tree: blocks, declarations, and how names of variables and pieces of
//! SQL are read. `statements.rs` reads the statements.

use std::sync::Arc;

use super::conditions::{self, Condition};
use super::lex::{self, Kind as Is, Token, line_of};
use super::query::{Names, Query};
use super::tree::{Block, Handler, Into, Kind, Returns, Statement, Target, Variable};
use crate::bind::{Conflict, DEPTH_MAX, too_deep};
use crate::types::Type;
use crate::{Error, Result, state};

/// How deep blocks, branches and loops may stand in one another.
const NESTING_MAX: usize = 500;
const _: () = assert!(NESTING_MAX < DEPTH_MAX);

/// What types mean that a body names.
pub(super) trait Types {
    /// A type by its text: `integer`, `numeric(10, 2)`, `t%ROWTYPE`, `t.c%TYPE`, `record`.
    ///
    /// # Errors
    /// 42704 and 42P01.
    fn named(&self, text: &str) -> Result<Kind>;
}

/// A label in scope, and whether it is a loop's.
pub(super) struct Label {
    pub name: Option<String>,
    pub is_loop: bool,
}

/// A reader of one body.
pub(super) struct Parser<'a> {
    pub text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    types: &'a dyn Types,
    pub variables: Vec<Variable>,
    pub names: Arc<Names>,
    pub conflict: Conflict,
    pub labels: Vec<Label>,
    pub returns: Returns,
    depth: usize,
    /// CASE operands so far: each has a variable of its own.
    pub cases: usize,
}

impl<'a> Parser<'a> {
    /// A reader with the variables that are there without a declaration; `names` are theirs.
    ///
    /// # Errors
    /// 42601.
    pub fn new(
        text: &'a str,
        types: &'a dyn Types,
        variables: Vec<Variable>,
        names: Arc<Names>,
        returns: Returns,
    ) -> Result<Parser<'a>> {
        Ok(Parser {
            text,
            tokens: lex::tokens(text)?,
            at: 0,
            types,
            variables,
            names,
            conflict: Conflict::Error,
            labels: Vec::new(),
            returns,
            depth: 0,
            cases: 0,
        })
    }

    /// The whole body.
    ///
    /// # Errors
    /// 42601 and what else is found in it.
    pub fn body(&mut self) -> Result<Block> {
        self.options()?;
        let label = self.label()?;
        let block = self.block(label)?;
        self.eat_symbol(";");
        match self.kind() {
            Is::End => Ok(block),
            _ => Err(self.syntax()),
        }
    }

    /// `#variable_conflict use_column` and its kin.
    fn options(&mut self) -> Result<()> {
        while self.eat_symbol("#") {
            let name = self.word()?;
            let value = self.word()?;
            match (name.as_str(), value.as_str()) {
                ("variable_conflict", "error") => self.conflict = Conflict::Error,
                ("variable_conflict", "use_variable") => self.conflict = Conflict::Variable,
                ("variable_conflict", "use_column") => self.conflict = Conflict::Column,
                ("option" | "print_strict_params", _) => {}
                _ => return Err(self.syntax()),
            }
        }
        Ok(())
    }

    pub fn kind(&self) -> &Is {
        &self.tokens[self.at].kind
    }

    pub fn kind_nth(&self, n: usize) -> &Is {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.at + n).min(last)].kind
    }

    pub fn token(&self) -> &Token {
        &self.tokens[self.at]
    }

    /// Where the reader is, for [`Parser::go_back`].
    pub fn position(&self) -> usize {
        self.at
    }

    pub fn go_back(&mut self, position: usize) {
        self.at = position;
    }

    pub fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    pub fn is(&self, word: &str) -> bool {
        self.is_nth(0, word)
    }

    pub fn is_nth(&self, n: usize, word: &str) -> bool {
        matches!(self.kind_nth(n), Is::Word(own) if own == word)
    }

    pub fn eat(&mut self, word: &str) -> bool {
        let found = self.is(word);
        if found {
            self.advance();
        }
        found
    }

    pub fn need(&mut self, word: &str) -> Result<()> {
        match self.eat(word) {
            true => Ok(()),
            false => Err(self.syntax()),
        }
    }

    pub fn is_symbol(&self, symbol: &str) -> bool {
        *self.kind() == Is::Symbol(symbol_of(symbol))
    }

    pub fn eat_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    pub fn need_symbol(&mut self, symbol: &str) -> Result<()> {
        match self.eat_symbol(symbol) {
            true => Ok(()),
            false => Err(self.syntax()),
        }
    }

    /// An unquoted word.
    fn word(&mut self) -> Result<String> {
        match self.kind().clone() {
            Is::Word(word) => {
                self.advance();
                Ok(word)
            }
            _ => Err(self.syntax()),
        }
    }

    /// A name, quoted or not.
    pub fn name(&mut self) -> Result<String> {
        match self.kind().clone() {
            Is::Word(name) | Is::Quoted(name) => {
                self.advance();
                Ok(name)
            }
            _ => Err(self.syntax()),
        }
    }

    /// The line of the next token.
    pub fn line(&self) -> u32 {
        line_of(self.text, self.token().start)
    }

    /// The error at the next token.
    pub fn syntax(&self) -> Error {
        self.error_here("syntax error")
    }

    /// An error that names the next token.
    pub fn error_here(&self, what: &str) -> Error {
        let token = self.token();
        let message = match token.kind {
            Is::End => format!("{what} at end of input"),
            _ => format!(
                "{what} at or near \"{}\"",
                &self.text[token.start..token.end]
            ),
        };
        Error::new(state::SYNTAX_ERROR, message)
    }

    /// `<<label>>`, if there is one.
    pub fn label(&mut self) -> Result<Option<String>> {
        if !self.eat_symbol("<<") {
            return Ok(None);
        }
        let name = self.name()?;
        self.need_symbol(">>")?;
        Ok(Some(name))
    }

    /// The label behind END; it must be the one before.
    pub fn end_label(&mut self, label: Option<&String>) -> Result<()> {
        if !matches!(self.kind(), Is::Word(_) | Is::Quoted(_)) {
            return Ok(());
        }
        let name = self.name()?;
        let message = match label {
            None => format!("end label \"{name}\" specified for unlabeled block"),
            Some(label) if *label != name => {
                format!("end label \"{name}\" differs from block's label \"{label}\"")
            }
            Some(_) => return Ok(()),
        };
        Err(Error::new(state::SYNTAX_ERROR, message))
    }

    /// Runs `read` with names of its own, which are gone afterwards.
    pub fn scoped<R>(
        &mut self,
        label: Option<String>,
        names: Vec<(String, usize)>,
        read: impl FnOnce(&mut Self) -> Result<R>,
    ) -> Result<R> {
        let outer = Arc::clone(&self.names);
        self.names = Arc::new(Names {
            outer: Some(Arc::clone(&outer)),
            label,
            names,
        });
        let result = read(self);
        self.names = outer;
        result
    }

    /// Adds a variable; its slot.
    pub fn declare(&mut self, variable: Variable) -> usize {
        self.variables.push(variable);
        self.variables.len() - 1
    }

    /// A block behind its label, from DECLARE or BEGIN on.
    pub fn block(&mut self, label: Option<String>) -> Result<Block> {
        let line = self.line();
        self.labels.push(Label {
            name: label.clone(),
            is_loop: false,
        });
        let block = self.scoped(label.clone(), Vec::new(), |p| p.block_body(label, line));
        self.labels.pop();
        block
    }

    fn block_body(&mut self, label: Option<String>, mut line: u32) -> Result<Block> {
        let mut declared = Vec::new();
        while self.eat("declare") {
            while !self.is("begin") && !self.is("declare") {
                self.declaration(label.as_ref(), &mut declared)?;
            }
        }
        if !declared.is_empty() {
            line = self.line();
        }
        self.need("begin")?;
        let body = self.statements(&["end", "exception"])?;
        let (mut handlers, mut caught) = (Vec::new(), None);
        if self.eat("exception") {
            let state = self.declare(Variable::made("sqlstate", Kind::Scalar(Type::TEXT)));
            let message = self.declare(Variable::made("sqlerrm", Kind::Scalar(Type::TEXT)));
            caught = Some((state, message));
            let names = vec![
                ("sqlstate".to_owned(), state),
                ("sqlerrm".to_owned(), message),
            ];
            handlers = self.scoped(None, names, Parser::handlers)?;
        }
        self.need("end")?;
        self.end_label(label.as_ref())?;
        Ok(Block {
            label,
            line,
            declared,
            body,
            handlers,
            caught,
        })
    }

    fn handlers(&mut self) -> Result<Vec<Handler>> {
        let mut handlers = Vec::new();
        while self.eat("when") {
            let mut conditions = self.condition()?;
            while self.eat("or") {
                conditions.extend(self.condition()?);
            }
            self.need("then")?;
            let body = self.statements(&["when", "end"])?;
            handlers.push(Handler { conditions, body });
        }
        match handlers.is_empty() {
            true => Err(self.syntax()),
            false => Ok(handlers),
        }
    }

    /// A condition's name, or SQLSTATE and a code.
    pub fn condition(&mut self) -> Result<Vec<Condition>> {
        let name = self.name()?;
        if name != "sqlstate" {
            return conditions::named(&name);
        }
        let Is::Text(code) = self.kind().clone() else {
            return Err(self.syntax());
        };
        self.advance();
        match conditions::parse(&code) {
            Some(state) => Ok(vec![Condition::State(state)]),
            None => Err(Error::new(state::SYNTAX_ERROR, "invalid SQLSTATE code")),
        }
    }

    /// `name [CONSTANT] type [NOT NULL] [:= expression];`
    fn declaration(&mut self, label: Option<&String>, declared: &mut Vec<usize>) -> Result<()> {
        let line = self.line();
        if self
            .names
            .names
            .iter()
            .any(|(own, _)| matches!(self.kind(), Is::Word(name) | Is::Quoted(name) if name == own))
        {
            return Err(self.error_here("duplicate declaration"));
        }
        let name = self.name()?;
        if self.eat("alias") {
            self.need("for")?;
            let slot = self.aliased()?;
            self.need_symbol(";")?;
            self.add_name(label, name, slot);
            return Ok(());
        }
        if self.is("cursor") || (self.is("no") && self.is_nth(1, "scroll")) || self.is("scroll") {
            return Err(Error::unsupported("a cursor variable"));
        }
        let constant = self.eat("constant");
        let kind = self.data_type()?;
        if self.eat("collate") {
            self.name()?;
        }
        let not_null = self.eat("not");
        if not_null {
            self.need("null")?;
        }
        let mut default = None;
        if self.eat_symbol(":=") || self.eat_symbol("=") || self.eat("default") {
            default = Some(self.expression(&[";"])?);
        }
        if not_null && default.is_none() {
            let message = format!(
                "variable \"{name}\" must have a default value, since it's declared NOT NULL"
            );
            return Err(Error::new(state::NULL_VALUE_NOT_ALLOWED, message));
        }
        self.need_symbol(";")?;
        let slot = self.declare(Variable {
            name: name.clone(),
            kind,
            not_null,
            constant,
            default,
            line,
        });
        declared.push(slot);
        self.add_name(label, name, slot);
        Ok(())
    }

    /// What ALIAS stands for: `$1`, or a name.
    fn aliased(&mut self) -> Result<usize> {
        if self.eat_symbol("$") {
            let token = self.token();
            let digits = &self.text[token.start..token.end];
            let number: usize = digits.parse().map_err(|_| self.syntax())?;
            self.advance();
            return match number
                .checked_sub(1)
                .filter(|slot| *slot < self.variables.len())
            {
                Some(slot) => Ok(slot),
                None => Err(self.syntax()),
            };
        }
        let name = self.name()?;
        self.names.find(&name).ok_or_else(|| {
            let message = format!("variable \"{name}\" does not exist");
            Error::new(state::UNDEFINED_OBJECT, message)
        })
    }

    /// The block's names with one more. Expressions keep those that there were before.
    fn add_name(&mut self, label: Option<&String>, name: String, slot: usize) {
        let mut names = self.names.names.clone();
        names.push((name, slot));
        self.names = Arc::new(Names {
            outer: self.names.outer.clone(),
            label: label.cloned(),
            names,
        });
    }

    fn data_type(&mut self) -> Result<Kind> {
        let start = self.token().start;
        let mut end = start;
        let mut depth = 0usize;
        loop {
            match self.kind() {
                Is::Symbol(";" | ":=" | "=") if depth == 0 => break,
                Is::Word(word)
                    if depth == 0
                        && end > start
                        && ["not", "default", "collate"].contains(&word.as_str()) =>
                {
                    break;
                }
                Is::Symbol("(" | "[") => depth += 1,
                Is::Symbol(")" | "]") => depth = depth.saturating_sub(1),
                Is::End => return Err(self.syntax()),
                _ => {}
            }
            end = self.token().end;
            self.advance();
        }
        let text = self.text[start..end].trim();
        if text.is_empty() {
            return Err(self.error_here("missing data type declaration"));
        }
        match variable_type(text) {
            Some(name) if self.names.find(&name).is_some() => {
                let slot = self.names.find(&name).unwrap_or_default();
                Ok(self.variables[slot].kind.clone())
            }
            _ => self.types.named(text),
        }
    }

    /// Statements up to one of these words, which is left.
    pub fn statements(&mut self, ends: &[&str]) -> Result<Vec<Statement>> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(too_deep());
        }
        let all = crate::expr::deep(|| {
            let mut all = Vec::new();
            while !ends.iter().any(|end| self.is(end)) {
                all.push(self.statement()?);
            }
            Ok(all)
        });
        self.depth -= 1;
        all
    }

    /// The text up to a symbol or word that is in no brackets; the word found. Nothing is read of
    /// it but brackets.
    pub fn piece(&mut self, ends: &[&str]) -> Result<(usize, usize)> {
        let start = self.token().start;
        let mut end = start;
        let mut depth = 0usize;
        loop {
            let over = match self.kind() {
                Is::Symbol(symbol) => ends.contains(symbol),
                Is::Word(word) => ends.contains(&word.as_str()),
                _ => false,
            };
            match self.kind() {
                _ if over && depth == 0 => return Ok((start, end)),
                Is::Symbol("(" | "[") => depth += 1,
                Is::Symbol(")" | "]") if depth == 0 => {
                    return Err(self.error_here("mismatched parentheses"));
                }
                Is::Symbol(")" | "]") => depth -= 1,
                Is::End | Is::Symbol(";") => return Err(self.missing(depth, ends)),
                _ => {}
            }
            end = self.token().end;
            self.advance();
        }
    }

    fn missing(&self, depth: usize, ends: &[&str]) -> Error {
        if depth > 0 {
            return self.error_here("mismatched parentheses");
        }
        if *self.kind() == Is::End {
            return self.syntax();
        }
        let wanted = ends.last().copied().unwrap_or(";").to_uppercase();
        let message = format!("missing \"{wanted}\" at end of SQL expression");
        Error::new(state::SYNTAX_ERROR, message)
    }

    /// An expression up to a symbol or word, which is left.
    pub fn expression(&mut self, ends: &[&str]) -> Result<Query> {
        let first = self.at;
        let (start, end) = self.piece(ends)?;
        if start == end {
            return Err(self.error_here("missing expression"));
        }
        let mut query = Query::expression(&self.text[start..end], &self.names, self.conflict)?;
        if self.at == first + 1
            && let Is::Word(name) | Is::Quoted(name) = &self.tokens[first].kind
        {
            query.bare = self.names.find(name);
        }
        Ok(query)
    }

    /// A variable, a field or an element, if the next names are one.
    pub fn target(&mut self) -> Result<Option<Target>> {
        let mut names = Vec::new();
        let mut at = 0;
        while let Is::Word(name) | Is::Quoted(name) = self.kind_nth(at) {
            names.push(name.clone());
            at += 1;
            if *self.kind_nth(at) != Is::Symbol(".") {
                break;
            }
            at += 1;
        }
        let Some((slot, field, used)) = self.resolve(&names) else {
            return Ok(None);
        };
        for _ in 0..(2 * used - 1) {
            self.advance();
        }
        let mut subscripts = Vec::new();
        while self.eat_symbol("[") {
            subscripts.push(Arc::new(self.expression(&["]"])?));
            self.need_symbol("]")?;
        }
        Ok(Some(Target {
            slot,
            field,
            subscripts,
        }))
    }

    /// The variable of a dotted name, a field of it, and how many parts that took.
    fn resolve(&self, names: &[String]) -> Option<(usize, Option<String>, usize)> {
        let is_row = |slot: usize| self.variables[slot].is_row();
        let first = names.first()?;
        if let Some(slot) = self.names.find(first) {
            return match names.get(1) {
                Some(field) if is_row(slot) => Some((slot, Some(field.clone()), 2)),
                None => Some((slot, None, 1)),
                Some(_) => None,
            };
        }
        let slot = self.names.find_in(first, names.get(1)?)?;
        match names.get(2) {
            Some(field) if is_row(slot) => Some((slot, Some(field.clone()), 3)),
            None => Some((slot, None, 2)),
            Some(_) => None,
        }
    }

    /// A variable that may be assigned to.
    pub fn assignable(&mut self) -> Result<Target> {
        let token = self.token();
        let shown = self.text[token.start..token.end].to_owned();
        let Some(target) = self.target()? else {
            return match self.kind() {
                Is::Word(_) | Is::Quoted(_) => {
                    let message = format!("\"{shown}\" is not a known variable");
                    Err(Error::new(state::SYNTAX_ERROR, message))
                }
                _ => Err(self.syntax()),
            };
        };
        self.check_assignable(&target)?;
        Ok(target)
    }

    /// 22005 for a constant.
    pub fn check_assignable(&self, target: &Target) -> Result<()> {
        let variable = &self.variables[target.slot];
        match variable.constant {
            false => Ok(()),
            true => Err(Error::new(
                state::ERROR_IN_ASSIGNMENT,
                format!("variable \"{}\" is declared CONSTANT", variable.name),
            )),
        }
    }

    /// `[STRICT] a, b`, behind INTO.
    pub fn targets_of_into(&mut self) -> Result<(Into, bool)> {
        let strict = self.eat("strict");
        Ok((self.row_targets("INTO")?, strict))
    }

    /// Variables that take a row: one row, or several values.
    pub fn row_targets(&mut self, what: &str) -> Result<Into> {
        let first = self.assignable()?;
        let is_row = self.variables[first.slot].is_row() && first.field.is_none();
        if is_row {
            if self.is_symbol(",") {
                let message =
                    format!("record variable cannot be part of multiple-item {what} list");
                return Err(Error::new(state::SYNTAX_ERROR, message));
            }
            return Ok(Into::Row(first.slot));
        }
        let mut all = vec![first];
        while self.eat_symbol(",") {
            let next = self.assignable()?;
            if self.variables[next.slot].is_row() && next.field.is_none() {
                let name = &self.variables[next.slot].name;
                let message = format!("\"{name}\" is not a scalar variable");
                return Err(Error::new(state::SYNTAX_ERROR, message));
            }
            all.push(next);
        }
        Ok(Into::Each(all))
    }
}

/// The name of `name%TYPE`.
fn variable_type(text: &str) -> Option<String> {
    let (name, suffix) = text.split_once('%')?;
    let name = name.trim();
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (plain && suffix.trim().eq_ignore_ascii_case("type")).then(|| name.to_ascii_lowercase())
}

/// The symbol as the lexer has it.
fn symbol_of(symbol: &str) -> &'static str {
    lex::symbol(symbol).unwrap_or("")
}
