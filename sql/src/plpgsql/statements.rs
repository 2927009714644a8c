//! The statements of a function's body.

use super::lex::Kind as Is;
use super::parse::{Label, Parser};
use super::query::Query;
use super::tree::{
    Case, Dynamic, Execute, Exit, ForEach, ForQuery, ForRange, Item, Kind, Level, Raise,
    RaiseOption, Returns, Source, Sql, Statement, Variable, What,
};
use crate::types::Type;
use crate::{Error, Result, state};

impl Parser<'_> {
    /// One statement with its semicolon.
    pub fn statement(&mut self) -> Result<Statement> {
        let label = self.label()?;
        let line = self.line();
        let Is::Word(word) = self.kind().clone() else {
            return Ok(Statement {
                line,
                what: self.other()?,
            });
        };
        // A variable may have a keyword's name.
        let assigned = matches!(self.kind_nth(1), Is::Symbol(":=" | "="));
        let what = match word.as_str() {
            _ if assigned => self.other()?,
            "declare" | "begin" => {
                let block = self.block(label)?;
                self.need_symbol(";")?;
                What::Block(block)
            }
            "loop" | "while" | "for" | "foreach" => self.labelled_loop(label, &word)?,
            _ if label.is_some() => return Err(self.syntax()),
            "if" => self.branches()?,
            "case" => self.case()?,
            "exit" | "continue" => self.exit()?,
            "return" => self.returned()?,
            "raise" => self.raise()?,
            "assert" => self.assert()?,
            "perform" => self.perform()?,
            "execute" => self.execute()?,
            "get" => self.diagnostics()?,
            "null" => {
                self.advance();
                self.need_symbol(";")?;
                What::Null
            }
            "open" | "fetch" | "move" | "close" if !assigned => {
                return Err(Error::unsupported("a cursor in a function"));
            }
            "call" => return Err(Error::unsupported("CALL in a function")),
            "commit" | "rollback" => {
                let message = "invalid transaction termination";
                return Err(Error::new(state::INVALID_TRANSACTION_TERMINATION, message));
            }
            _ => self.other()?,
        };
        Ok(Statement { line, what })
    }

    /// An assignment, or SQL.
    fn other(&mut self) -> Result<What> {
        let before = self.position();
        let known = self.target()?;
        if let Some(target) = known
            && (self.eat_symbol(":=") || self.eat_symbol("="))
        {
            self.check_assignable(&target)?;
            let value = self.expression(&[";"])?;
            self.need_symbol(";")?;
            return Ok(What::Assign(target, value));
        }
        self.go_back(before);
        match (self.kind(), self.kind_nth(1)) {
            (Is::Word(_) | Is::Quoted(_), Is::Symbol(":=" | "=" | "[")) => {
                let token = self.token();
                let shown = &self.text[token.start..token.end];
                let message = format!("\"{shown}\" is not a known variable");
                Err(Error::new(state::SYNTAX_ERROR, message))
            }
            (Is::Word(_), Is::Symbol(";")) | (Is::Symbol(_) | Is::Other | Is::End, _) => {
                Err(self.syntax())
            }
            _ => self.sql(),
        }
    }

    /// An SQL statement up to its semicolon; INTO is cut out.
    fn sql(&mut self) -> Result<What> {
        let start = self.token().start;
        let mut text = String::new();
        let mut copied = start;
        let mut end = start;
        let (mut depth, mut into, mut behind) = (0usize, None, String::new());
        loop {
            match self.kind() {
                Is::Symbol(";") if depth == 0 => break,
                Is::End => return Err(self.syntax()),
                Is::Symbol("(" | "[") => depth += 1,
                Is::Symbol(")" | "]") => depth = depth.saturating_sub(1),
                Is::Word(word) if word == "into" && !["insert", "merge"].contains(&&*behind) => {
                    if into.is_some() {
                        let message = "INTO specified more than once";
                        return Err(Error::new(state::SYNTAX_ERROR, message));
                    }
                    text.push_str(&self.text[copied..self.token().start]);
                    self.advance();
                    into = Some(self.targets_of_into()?);
                    copied = self.token().start;
                    text.push(' ');
                    behind.clear();
                    continue;
                }
                _ => {}
            }
            behind.clear();
            if let Is::Word(word) = self.kind() {
                behind.push_str(word);
            }
            end = self.token().end;
            self.advance();
        }
        text.push_str(&self.text[copied..end.max(copied)]);
        self.need_symbol(";")?;
        let shown = self.text[start..end.max(start)].to_owned();
        let shown = match into {
            None => shown,
            Some(_) => text.clone(),
        };
        let query = Query::statement(&text, &shown, &self.names, self.conflict)?;
        Ok(What::Sql(Box::new(Sql { query, into })))
    }

    fn branches(&mut self) -> Result<What> {
        let (mut branches, mut otherwise) = (Vec::new(), None);
        self.advance();
        loop {
            let condition = self.expression(&["then"])?;
            self.need("then")?;
            let body = self.statements(&["elsif", "elseif", "else", "end"])?;
            branches.push((condition, body));
            if !self.eat("elsif") && !self.eat("elseif") {
                break;
            }
        }
        if self.eat("else") {
            otherwise = Some(self.statements(&["end"])?);
        }
        self.need("end")?;
        self.need("if")?;
        self.need_symbol(";")?;
        Ok(What::If(branches, otherwise))
    }

    fn case(&mut self) -> Result<What> {
        self.advance();
        if self.is("when") {
            return self.case_whens(None);
        }
        let operand = self.expression(&["when"])?;
        self.cases += 1;
        let name = format!("__case__variable_{}__", self.cases);
        let slot = self.declare(Variable::made(&name, Kind::Record));
        self.scoped(None, vec![(name.clone(), slot)], |parser| {
            parser.case_whens(Some((slot, operand, name)))
        })
    }

    fn case_whens(&mut self, operand: Option<(usize, Query, String)>) -> Result<What> {
        let (mut whens, mut otherwise) = (Vec::new(), None);
        while self.eat("when") {
            let condition = match &operand {
                None => self.expression(&["then"])?,
                Some((_, _, name)) => {
                    let (start, end) = self.piece(&["then"])?;
                    let values = &self.text[start..end];
                    let text = format!("\"{name}\".v IN ({values})");
                    Query::expression(&text, &self.names, self.conflict)?
                }
            };
            self.need("then")?;
            whens.push((condition, self.statements(&["when", "else", "end"])?));
        }
        if self.eat("else") {
            otherwise = Some(self.statements(&["end"])?);
        }
        self.need("end")?;
        self.need("case")?;
        self.need_symbol(";")?;
        Ok(What::Case(Case {
            operand: operand.map(|(slot, query, _)| (slot, query)),
            whens,
            otherwise,
        }))
    }

    fn labelled_loop(&mut self, label: Option<String>, word: &str) -> Result<What> {
        self.advance();
        self.labels.push(Label {
            name: label.clone(),
            is_loop: true,
        });
        let what = match word {
            "loop" => {
                let body = self.loop_body(label.as_ref(), true);
                body.map(|body| What::Loop(label, body))
            }
            "while" => self.while_loop(label),
            "for" => self.for_loop(label),
            _ => self.for_each(label),
        };
        self.labels.pop();
        what
    }

    /// Statements up to END LOOP, and that; with LOOP before them unless it was read.
    fn loop_body(&mut self, label: Option<&String>, read: bool) -> Result<Vec<Statement>> {
        if !read {
            self.need("loop")?;
        }
        let body = self.statements(&["end"])?;
        self.need("end")?;
        self.need("loop")?;
        self.end_label(label)?;
        self.need_symbol(";")?;
        Ok(body)
    }

    fn while_loop(&mut self, label: Option<String>) -> Result<What> {
        let condition = self.expression(&["loop"])?;
        let body = self.loop_body(label.as_ref(), false)?;
        Ok(What::While(label, condition, body))
    }

    fn for_loop(&mut self, label: Option<String>) -> Result<What> {
        // Whether it is a range shows only behind IN: its variable is made then.
        let before = self.position();
        while !self.is("in") {
            if matches!(self.kind(), Is::Symbol(";") | Is::End) {
                return Err(self.syntax());
            }
            self.advance();
        }
        self.advance();
        if self.is("execute") {
            self.go_back(before);
            return self.for_query(label);
        }
        let reverse = self.eat("reverse");
        let from = self.position();
        let mut depth = 0usize;
        loop {
            match self.kind() {
                Is::Symbol("(" | "[") => depth += 1,
                Is::Symbol(")" | "]") => depth = depth.saturating_sub(1),
                Is::Symbol("..") if depth == 0 => break,
                Is::Word(word) if depth == 0 && word == "loop" => {
                    self.go_back(before);
                    return self.for_query(label);
                }
                Is::Symbol(";") | Is::End => {
                    let message = "missing \"LOOP\" at end of SQL expression";
                    return Err(Error::new(state::SYNTAX_ERROR, message));
                }
                _ => {}
            }
            self.advance();
        }
        self.go_back(before);
        let name = self.name()?;
        if !self.is("in") {
            let message = "integer FOR loop must have only one target variable";
            return Err(Error::new(state::SYNTAX_ERROR, message));
        }
        self.go_back(from);
        self.for_range(label, name, reverse)
    }

    fn for_range(&mut self, label: Option<String>, name: String, reverse: bool) -> Result<What> {
        let from = self.expression(&[".."])?;
        self.need_symbol("..")?;
        let to = self.expression(&["by", "loop"])?;
        let by = match self.eat("by") {
            true => Some(self.expression(&["loop"])?),
            false => None,
        };
        self.need("loop")?;
        let slot = self.declare(Variable::made(&name, Kind::Scalar(Type::INT4)));
        let body = self.scoped(label.clone(), vec![(name, slot)], |parser| {
            parser.loop_body(label.as_ref(), true)
        })?;
        Ok(What::ForRange(Box::new(ForRange {
            label,
            slot,
            reverse,
            from,
            to,
            by,
            body,
        })))
    }

    fn for_query(&mut self, label: Option<String>) -> Result<What> {
        let known = self.target_is_known();
        if !known {
            let message = "loop variable of loop over rows must be a record variable or list of \
                           scalar variables";
            return Err(Error::new(state::SYNTAX_ERROR, message));
        }
        let targets = self.row_targets("INTO")?;
        self.need("in")?;
        let source = if self.eat("execute") {
            let text = self.expression(&["using", "loop"])?;
            let using = self.using(&["loop"])?;
            Source::Execute(Dynamic { text, using })
        } else {
            let (start, end) = self.piece(&["loop"])?;
            let text = &self.text[start..end];
            Source::Query(Query::statement(text, text, &self.names, self.conflict)?)
        };
        let body = self.loop_body(label.as_ref(), false)?;
        Ok(What::ForQuery(Box::new(ForQuery {
            label,
            targets,
            source,
            body,
        })))
    }

    fn target_is_known(&mut self) -> bool {
        let before = self.position();
        let known = matches!(self.target(), Ok(Some(_)));
        self.go_back(before);
        known
    }

    /// `USING a, b`, if it comes.
    fn using(&mut self, ends: &[&str]) -> Result<Vec<Query>> {
        let mut all = Vec::new();
        if !self.eat("using") {
            return Ok(all);
        }
        let mut stops = vec![","];
        stops.extend(ends);
        loop {
            all.push(self.expression(&stops)?);
            if !self.eat_symbol(",") {
                return Ok(all);
            }
        }
    }

    fn for_each(&mut self, label: Option<String>) -> Result<What> {
        let targets = self.row_targets("INTO")?;
        if self.is("slice") {
            return Err(Error::unsupported("FOREACH ... SLICE"));
        }
        self.need("in")?;
        self.need("array")?;
        let array = self.expression(&["loop"])?;
        let body = self.loop_body(label.as_ref(), false)?;
        Ok(What::ForEach(Box::new(ForEach {
            label,
            targets,
            array,
            body,
        })))
    }

    fn exit(&mut self) -> Result<What> {
        let continues = self.is("continue");
        self.advance();
        let mut label = None;
        if !self.is("when") && !self.is_symbol(";") {
            let name = self.name()?;
            let known = self.labels.iter().rev();
            let Some(found) = known.into_iter().find(|l| l.name.as_ref() == Some(&name)) else {
                let message = format!(
                    "there is no label \"{name}\" attached to any block or loop enclosing this \
                     statement"
                );
                return Err(Error::new(state::SYNTAX_ERROR, message));
            };
            if continues && !found.is_loop {
                let message = format!("block label \"{name}\" cannot be used in CONTINUE");
                return Err(Error::new(state::SYNTAX_ERROR, message));
            }
            label = Some(name);
        } else if !self.labels.iter().any(|label| label.is_loop) {
            let message = match continues {
                true => "CONTINUE cannot be used outside a loop",
                false => "EXIT cannot be used outside a loop, unless it has a label",
            };
            return Err(Error::new(state::SYNTAX_ERROR, message));
        }
        let when = match self.eat("when") {
            true => Some(self.expression(&[";"])?),
            false => None,
        };
        self.need_symbol(";")?;
        Ok(What::Exit(Exit {
            continues,
            label,
            when,
        }))
    }

    fn returned(&mut self) -> Result<What> {
        self.advance();
        if self.is("next") || self.is("query") {
            let what = if self.is("next") { "NEXT" } else { "QUERY" };
            let message = format!("cannot use RETURN {what} in a non-SETOF function");
            return Err(Error::new(state::DATATYPE_MISMATCH, message));
        }
        if self.returns == Returns::Nothing {
            if !self.eat_symbol(";") {
                let message = "RETURN cannot have a parameter in function returning void";
                return Err(Error::new(state::DATATYPE_MISMATCH, message));
            }
            return Ok(What::Return(None));
        }
        let value = self.expression(&[";"])?;
        self.need_symbol(";")?;
        Ok(What::Return(Some(value)))
    }

    fn perform(&mut self) -> Result<What> {
        self.advance();
        let (start, end) = self.piece(&[";"])?;
        if start == end {
            return Err(self.error_here("missing expression"));
        }
        let query = Query::expression(&self.text[start..end], &self.names, self.conflict)?;
        self.need_symbol(";")?;
        Ok(What::Perform(query))
    }

    fn execute(&mut self) -> Result<What> {
        self.advance();
        let text = self.expression(&["into", "using", ";"])?;
        let (mut into, mut using) = (None, Vec::new());
        loop {
            if self.is("using") && using.is_empty() {
                using = self.using(&["into", ";"])?;
            } else if into.is_none() && self.eat("into") {
                into = Some(self.targets_of_into()?);
            } else {
                break;
            }
        }
        self.need_symbol(";")?;
        let dynamic = Dynamic { text, using };
        Ok(What::Execute(Box::new(Execute { dynamic, into })))
    }

    fn assert(&mut self) -> Result<What> {
        self.advance();
        let condition = self.expression(&[",", ";"])?;
        let message = match self.eat_symbol(",") {
            true => Some(self.expression(&[";"])?),
            false => None,
        };
        self.need_symbol(";")?;
        Ok(What::Assert(condition, message))
    }

    fn raise(&mut self) -> Result<What> {
        self.advance();
        let mut raise = Raise {
            level: None,
            condition: None,
            condition_text: None,
            message: None,
            arguments: Vec::new(),
            options: Vec::new(),
        };
        if self.eat_symbol(";") {
            return Ok(What::Raise(Box::new(raise)));
        }
        raise.level = Some(self.level());
        if let Is::Text(message) = self.kind().clone() {
            self.advance();
            raise.message = Some(message);
            while self.eat_symbol(",") {
                raise.arguments.push(self.expression(&[",", "using", ";"])?);
            }
        } else if !self.is("using") {
            raise.condition_text = Some(self.condition_text()?);
            raise.condition = self.condition()?.first().copied();
        }
        if self.eat("using") {
            self.raise_options(&mut raise)?;
        }
        self.need_symbol(";")?;
        check_arguments(&raise)?;
        Ok(What::Raise(Box::new(raise)))
    }

    fn level(&mut self) -> Level {
        for (word, level) in [
            ("exception", Level::Exception),
            ("warning", Level::Warning),
            ("notice", Level::Notice),
            ("info", Level::Info),
            ("log", Level::Log),
            ("debug", Level::Debug),
        ] {
            if self.eat(word) {
                return level;
            }
        }
        Level::Exception
    }

    /// The condition's name, or the code behind SQLSTATE, without reading it.
    fn condition_text(&self) -> Result<String> {
        match (self.kind(), self.kind_nth(1)) {
            (Is::Word(word), Is::Text(code)) if word == "sqlstate" => Ok(code.clone()),
            (Is::Word(name) | Is::Quoted(name), _) => Ok(name.clone()),
            _ => Err(self.syntax()),
        }
    }

    fn raise_options(&mut self, raise: &mut Raise) -> Result<()> {
        loop {
            let name = self.name().map_err(|_| self.unknown_option())?;
            let option = match name.as_str() {
                "errcode" => RaiseOption::Errcode,
                "message" => RaiseOption::Message,
                "detail" => RaiseOption::Detail,
                "hint" => RaiseOption::Hint,
                "column" => RaiseOption::Column,
                "constraint" => RaiseOption::Constraint,
                "datatype" => RaiseOption::Datatype,
                "table" => RaiseOption::Table,
                "schema" => RaiseOption::Schema,
                _ => {
                    let message =
                        format!("unrecognized RAISE statement option at or near \"{name}\"");
                    return Err(Error::new(state::SYNTAX_ERROR, message));
                }
            };
            if !self.eat_symbol("=") {
                self.need_symbol(":=")?;
            }
            raise.options.push((option, self.expression(&[",", ";"])?));
            if !self.eat_symbol(",") {
                return Ok(());
            }
        }
    }

    fn unknown_option(&self) -> Error {
        self.error_here("unrecognized RAISE statement option")
    }

    fn diagnostics(&mut self) -> Result<What> {
        self.advance();
        let stacked = self.eat("stacked");
        if !stacked {
            self.eat("current");
        }
        self.need("diagnostics")?;
        let mut items = Vec::new();
        loop {
            let target = self.assignable()?;
            if !self.eat_symbol("=") {
                self.need_symbol(":=")?;
            }
            items.push((target, self.diagnostics_item(stacked)?));
            if !self.eat_symbol(",") {
                break;
            }
        }
        self.need_symbol(";")?;
        Ok(What::Diagnostics(stacked, items))
    }

    fn diagnostics_item(&mut self, stacked: bool) -> Result<Item> {
        let unknown = self.error_here("unrecognized GET DIAGNOSTICS item");
        let Ok(name) = self.name() else {
            return Err(unknown);
        };
        let (item, of_stacked) = match name.as_str() {
            "row_count" => (Item::RowCount, false),
            "pg_context" => (Item::Context, false),
            "returned_sqlstate" => (Item::State, true),
            "message_text" => (Item::Message, true),
            "pg_exception_detail" => (Item::Detail, true),
            "pg_exception_hint" => (Item::Hint, true),
            "pg_exception_context" => (Item::ErrorContext, true),
            "column_name" => (Item::Column, true),
            "constraint_name" => (Item::Constraint, true),
            "pg_datatype_name" => (Item::Datatype, true),
            "table_name" => (Item::Table, true),
            "schema_name" => (Item::Schema, true),
            _ => return Err(unknown),
        };
        if of_stacked == stacked {
            return Ok(item);
        }
        let kind = if stacked { "STACKED" } else { "CURRENT" };
        let message = format!(
            "diagnostics item {} is not allowed in GET {kind} DIAGNOSTICS",
            name.to_uppercase()
        );
        Err(Error::new(state::SYNTAX_ERROR, message))
    }
}

/// As many arguments as percent signs.
fn check_arguments(raise: &Raise) -> Result<()> {
    let Some(message) = &raise.message else {
        return Ok(());
    };
    let wanted = message.replace("%%", "").matches('%').count();
    let few_or_many = match raise.arguments.len().cmp(&wanted) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less => "few",
        std::cmp::Ordering::Greater => "many",
    };
    let message = format!("too {few_or_many} parameters specified for RAISE");
    Err(Error::new(state::SYNTAX_ERROR, message))
}
