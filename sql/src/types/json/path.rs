//! `jsonpath`: the SQL/JSON path language, parsed and printed as PostgreSQL does.

use std::sync::Arc;

use crate::error::{Error, Result, state};
use crate::types::{Json, Numeric};

/// How deep a path may nest.
const DEPTH_MAX: usize = 256;

/// A parsed path.
#[derive(Clone, Debug)]
pub struct Path {
    /// `strict` was given.
    pub strict: bool,
    /// The expression.
    pub expression: Expression,
}

/// An operator between two expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    StartsWith,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Operator {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Operator::Or => "||",
            Operator::And => "&&",
            Operator::Equal => "==",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterEqual => ">=",
            Operator::StartsWith => "starts with",
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::Modulo => "%",
        }
    }

    fn priority(self) -> u8 {
        match self {
            Operator::Or => 0,
            Operator::And => 1,
            Operator::Add | Operator::Subtract => 3,
            Operator::Multiply | Operator::Divide | Operator::Modulo => 4,
            _ => 2,
        }
    }

    /// Gives true, false or unknown instead of values.
    pub fn is_predicate(self) -> bool {
        self.priority() <= 2
    }
}

/// An expression.
#[derive(Clone, Debug)]
pub enum Expression {
    /// `$`.
    Root,
    /// `@`.
    Current,
    /// `$name`.
    Variable(Arc<str>),
    /// `last`.
    Last,
    /// A scalar.
    Literal(Json),
    /// An expression with steps behind it.
    Steps(Box<Expression>, Vec<Step>),
    /// Two operands.
    Binary(Operator, Box<Expression>, Box<Expression>),
    /// `+x`, `-x`; true = minus.
    Signed(bool, Box<Expression>),
    /// `!(p)`.
    Not(Box<Expression>),
    /// `exists (e)`.
    Exists(Box<Expression>),
    /// `(p) is unknown`.
    IsUnknown(Box<Expression>),
    /// `e like_regex "pattern" flag "flags"`.
    LikeRegex(Box<Expression>, Arc<str>, Arc<str>),
}

/// A step of a path.
#[derive(Clone, Debug)]
pub enum Step {
    /// `.key`.
    Key(Arc<str>),
    /// `.*`.
    AnyKey,
    /// `[*]`.
    AnyElement,
    /// `[1, 2 to last]`.
    Elements(Vec<(Expression, Option<Expression>)>),
    /// `.**{from to until}`; `None` = last.
    Levels(Option<u32>, Option<u32>),
    /// `?(p)`.
    Filter(Box<Expression>),
    /// `.size()` and other methods.
    Method(&'static str),
    /// `.datetime()`, with its template.
    Datetime(Option<Arc<str>>),
}

const METHODS: [&str; 7] = [
    "abs", "size", "type", "floor", "double", "ceiling", "keyvalue",
];

/// The canonical text of a path.
///
/// # Errors
/// 42601 for malformed text.
pub fn normalize(text: &str) -> Result<String> {
    Ok(parse(text)?.to_string())
}

/// Parses a path.
///
/// # Errors
/// 42601 for malformed text.
pub fn parse(text: &str) -> Result<Path> {
    if text.trim().is_empty() {
        return Err(Error::new(
            state::INVALID_TEXT_REPRESENTATION,
            format!("invalid input syntax for type jsonpath: \"{text}\""),
        ));
    }
    let tokens = tokenize(text)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
        in_filter: 0,
        in_subscript: 0,
    };
    let strict = parser.take_word("strict");
    if !strict {
        parser.take_word("lax");
    }
    let expression = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(Path { strict, expression }),
        _ => Err(parser.unexpected()),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Number(Numeric),
    Variable(String),
    Symbol(&'static str),
    End,
}

const SYMBOLS: [&str; 28] = [
    "**", "&&", "||", "==", "<>", "!=", "<=", ">=", "$", "@", ".", "*", "[", "]", "(", ")", "{",
    "}", "?", ",", "+", "-", "/", "%", "<", ">", "=", "!",
];

fn syntax(near: &str) -> Error {
    if near.is_empty() {
        return Error::new(state::SYNTAX_ERROR, "syntax error at end of jsonpath input");
    }
    Error::new(
        state::SYNTAX_ERROR,
        format!("syntax error at or near \"{near}\" of jsonpath input"),
    )
}

fn tokenize(text: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if let Some(tail) = rest.strip_prefix("/*") {
            let end = tail.find("*/").ok_or_else(|| {
                Error::new(
                    state::SYNTAX_ERROR,
                    "unexpected end of comment at end of jsonpath input",
                )
            })?;
            rest = &tail[end + 2..];
            continue;
        }
        let Some(first) = rest.chars().next() else {
            tokens.push(Token::End);
            return Ok(tokens);
        };
        let number = first.is_ascii_digit()
            || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()));
        if first == '"' {
            let (value, tail) = quoted(rest)?;
            tokens.push(Token::Text(value));
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("$\"") {
            let (value, tail) = quoted(&rest[rest.len() - tail.len() - 1..])?;
            tokens.push(Token::Variable(value));
            rest = tail;
        } else if first == '$' && rest[1..].starts_with(is_word_char) {
            let end = word_end(&rest[1..]) + 1;
            tokens.push(Token::Variable(rest[1..end].to_owned()));
            rest = &rest[end..];
        } else if number {
            let end = number_end(rest);
            if rest[end..].starts_with(|c: char| c.is_alphabetic() || c == '_') {
                return Err(Error::new(
                    state::SYNTAX_ERROR,
                    format!(
                        "trailing junk after numeric literal at or near \"{}\" of jsonpath input",
                        &rest[..end + 1]
                    ),
                ));
            }
            tokens.push(Token::Number(Numeric::parse(&rest[..end])?));
            rest = &rest[end..];
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else if is_word_char(first) || first == '\\' {
            let end = word_end(rest);
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        } else {
            return Err(syntax(&rest[..first.len_utf8()]));
        }
    }
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || (c as u32) >= 0x80
}

fn word_end(text: &str) -> usize {
    text.find(|c: char| !is_word_char(c)).unwrap_or(text.len())
}

fn number_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut at = digits(0);
    if bytes.get(at) == Some(&b'.') && !text[at..].starts_with(".**") {
        let after = digits(at + 1);
        // `1.type()` is no number with a point.
        if after > at + 1 || !text[after..].starts_with(is_word_char) {
            at = after;
        }
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let end = digits(at + 1 + sign);
        if end > at + 1 + sign {
            at = end;
        }
    }
    at
}

/// A quoted string at the head of `text`, and what follows it.
fn quoted(text: &str) -> Result<(String, &str)> {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => {
                return match super::parse(&text[..=at]) {
                    Ok(Json::String(value)) => Ok((value.to_string(), &text[at + 1..])),
                    Ok(_) => Err(syntax(text)),
                    Err(error) => Err(error),
                };
            }
            _ => at += 1,
        }
    }
    Err(Error::new(
        state::SYNTAX_ERROR,
        "unterminated quoted string at end of jsonpath input",
    ))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    in_filter: usize,
    in_subscript: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(own) if *own == symbol)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<()> {
        if self.take(symbol) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(own) if own.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn unexpected(&self) -> Error {
        match self.peek() {
            // PostgreSQL's scanner has read on when it finds the end of a word.
            Token::Word(_) if self.tokens.len() <= self.at + 2 => syntax(""),
            Token::Word(text) | Token::Text(text) | Token::Variable(text) => syntax(text),
            Token::Number(number) => syntax(&number.to_string()),
            Token::Symbol(symbol) => syntax(symbol),
            Token::End => syntax(""),
        }
    }

    fn expression(&mut self) -> Result<Expression> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::new(
                state::STATEMENT_TOO_COMPLEX,
                "stack depth limit exceeded",
            ));
        }
        let result = self.or();
        self.depth -= 1;
        result
    }

    fn or(&mut self) -> Result<Expression> {
        let mut left = self.and()?;
        while self.take("||") {
            let right = self.and()?;
            left = Expression::Binary(Operator::Or, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression> {
        let mut left = self.not()?;
        while self.take("&&") {
            let right = self.not()?;
            left = Expression::Binary(Operator::And, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expression> {
        if self.take("!") {
            let inner = if self.is_word("exists") {
                self.not()?
            } else {
                self.parenthesized()?
            };
            return Ok(Expression::Not(Box::new(inner)));
        }
        self.comparison()
    }

    fn parenthesized(&mut self) -> Result<Expression> {
        self.expect("(")?;
        let inner = self.expression()?;
        self.expect(")")?;
        Ok(inner)
    }

    fn comparison(&mut self) -> Result<Expression> {
        let parenthesized = self.is("(");
        let left = self.sum()?;
        const OPERATORS: [(&str, Operator); 8] = [
            ("==", Operator::Equal),
            ("=", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<>", Operator::NotEqual),
            ("<=", Operator::LessEqual),
            (">=", Operator::GreaterEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        for (symbol, operator) in OPERATORS {
            if self.take(symbol) {
                let right = self.sum()?;
                return Ok(Expression::Binary(
                    operator,
                    Box::new(left),
                    Box::new(right),
                ));
            }
        }
        if self.take_word("starts") {
            if !self.take_word("with") {
                return Err(self.unexpected());
            }
            let right = match self.next() {
                Token::Text(text) => Expression::Literal(Json::string(text)),
                Token::Variable(name) => Expression::Variable(Arc::from(name)),
                _ => return Err(self.unexpected()),
            };
            return Ok(Expression::Binary(
                Operator::StartsWith,
                Box::new(left),
                Box::new(right),
            ));
        }
        if self.take_word("like_regex") {
            return self.like_regex(left);
        }
        if parenthesized && self.is_word("is") {
            self.at += 1;
            if !self.take_word("unknown") {
                return Err(self.unexpected());
            }
            return Ok(Expression::IsUnknown(Box::new(left)));
        }
        Ok(left)
    }

    fn like_regex(&mut self, left: Expression) -> Result<Expression> {
        let Token::Text(pattern) = self.next() else {
            self.at -= 1;
            return Err(self.unexpected());
        };
        let mut flags = String::new();
        if self.take_word("flag") {
            match self.next() {
                Token::Text(text) => flags = text,
                _ => {
                    self.at -= 1;
                    return Err(self.unexpected());
                }
            }
        }
        if let Some(flag) = flags.chars().find(|flag| !"ismxq".contains(*flag)) {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "invalid input syntax for type jsonpath",
            )
            .detail(format!(
                "Unrecognized flag character \"{flag}\" in LIKE_REGEX predicate."
            )));
        }
        Ok(Expression::LikeRegex(
            Box::new(left),
            Arc::from(pattern),
            Arc::from(flags),
        ))
    }

    fn sum(&mut self) -> Result<Expression> {
        let mut left = self.product()?;
        loop {
            let operator = if self.take("+") {
                Operator::Add
            } else if self.take("-") {
                Operator::Subtract
            } else {
                return Ok(left);
            };
            let right = self.product()?;
            left = Expression::Binary(operator, Box::new(left), Box::new(right));
        }
    }

    fn product(&mut self) -> Result<Expression> {
        let mut left = self.signed()?;
        loop {
            let operator = if self.take("*") {
                Operator::Multiply
            } else if self.take("/") {
                Operator::Divide
            } else if self.take("%") {
                Operator::Modulo
            } else {
                return Ok(left);
            };
            let right = self.signed()?;
            left = Expression::Binary(operator, Box::new(left), Box::new(right));
        }
    }

    fn signed(&mut self) -> Result<Expression> {
        let minus = self.is("-");
        if minus || self.is("+") {
            self.at += 1;
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(Error::new(
                    state::STATEMENT_TOO_COMPLEX,
                    "stack depth limit exceeded",
                ));
            }
            let inner = self.signed()?;
            self.depth -= 1;
            return Ok(match inner {
                Expression::Literal(Json::Number(number)) if minus => {
                    Expression::Literal(Json::Number(number.neg()))
                }
                literal @ Expression::Literal(Json::Number(_)) => literal,
                inner => Expression::Signed(minus, Box::new(inner)),
            });
        }
        let primary = self.primary()?;
        let mut steps = Vec::new();
        while let Some(step) = self.step()? {
            steps.push(step);
        }
        Ok(if steps.is_empty() {
            primary
        } else {
            Expression::Steps(Box::new(primary), steps)
        })
    }

    fn primary(&mut self) -> Result<Expression> {
        match self.next() {
            Token::Symbol("$") => Ok(Expression::Root),
            Token::Symbol("@") if self.in_filter > 0 => Ok(Expression::Current),
            Token::Symbol("@") => Err(Error::new(
                state::SYNTAX_ERROR,
                "@ is not allowed in root expressions",
            )),
            Token::Symbol("(") => {
                self.at -= 1;
                self.parenthesized()
            }
            Token::Variable(name) => Ok(Expression::Variable(Arc::from(name))),
            Token::Text(text) => Ok(Expression::Literal(Json::string(text))),
            Token::Number(number) => Ok(Expression::Literal(Json::Number(number))),
            Token::Word(word) if word == "true" => Ok(Expression::Literal(Json::Bool(true))),
            Token::Word(word) if word == "false" => Ok(Expression::Literal(Json::Bool(false))),
            Token::Word(word) if word == "null" => Ok(Expression::Literal(Json::Null)),
            Token::Word(word) if word.eq_ignore_ascii_case("last") => {
                if self.in_subscript == 0 {
                    return Err(Error::new(
                        state::SYNTAX_ERROR,
                        "LAST is allowed only in array subscripts",
                    ));
                }
                Ok(Expression::Last)
            }
            Token::Word(word) if word.eq_ignore_ascii_case("exists") => {
                Ok(Expression::Exists(Box::new(self.parenthesized()?)))
            }
            _ => {
                self.at -= 1;
                Err(self.unexpected())
            }
        }
    }

    fn step(&mut self) -> Result<Option<Step>> {
        if self.take("?") {
            self.in_filter += 1;
            let predicate = self.parenthesized()?;
            self.in_filter -= 1;
            return Ok(Some(Step::Filter(Box::new(predicate))));
        }
        if self.take("[") {
            if self.take("*") {
                self.expect("]")?;
                return Ok(Some(Step::AnyElement));
            }
            return self.subscripts().map(Some);
        }
        if !self.take(".") {
            return Ok(None);
        }
        if self.take("**") {
            return self.levels().map(Some);
        }
        if self.take("*") {
            return Ok(Some(Step::AnyKey));
        }
        match self.next() {
            Token::Text(key) => Ok(Some(Step::Key(Arc::from(key)))),
            Token::Word(word) => {
                if !self.is("(") {
                    return Ok(Some(Step::Key(Arc::from(word))));
                }
                self.at += 1;
                let step = self.method(&word)?;
                self.expect(")")?;
                Ok(Some(step))
            }
            // Key words of literals and variables are keys here, too.
            _ => {
                self.at -= 1;
                Err(self.unexpected())
            }
        }
    }

    fn method(&mut self, word: &str) -> Result<Step> {
        if word.eq_ignore_ascii_case("datetime") {
            if let Token::Text(template) = self.peek().clone() {
                self.at += 1;
                return Ok(Step::Datetime(Some(Arc::from(template))));
            }
            return Ok(Step::Datetime(None));
        }
        METHODS
            .iter()
            .find(|method| method.eq_ignore_ascii_case(word))
            .map(|method| Step::Method(method))
            .ok_or_else(|| syntax("("))
    }

    fn subscripts(&mut self) -> Result<Step> {
        self.in_subscript += 1;
        let mut list = Vec::new();
        loop {
            let from = self.expression()?;
            let to = if self.take_word("to") {
                Some(self.expression()?)
            } else {
                None
            };
            list.push((from, to));
            if !self.take(",") {
                break;
            }
        }
        self.expect("]")?;
        self.in_subscript -= 1;
        Ok(Step::Elements(list))
    }

    fn level(&mut self) -> Result<Option<u32>> {
        if self.take_word("last") {
            return Ok(None);
        }
        match self.next() {
            Token::Number(number) => {
                let level = number.to_i64().and_then(|level| u32::try_from(level).ok());
                level.map(Some).ok_or_else(|| syntax(&number.to_string()))
            }
            _ => {
                self.at -= 1;
                Err(self.unexpected())
            }
        }
    }

    fn levels(&mut self) -> Result<Step> {
        if !self.take("{") {
            return Ok(Step::Levels(Some(0), None));
        }
        let from = self.level()?;
        let to = if self.take_word("to") {
            self.level()?
        } else {
            from
        };
        self.expect("}")?;
        Ok(Step::Levels(from, to))
    }
}

fn string(text: &str, out: &mut String) {
    let mut bytes = Vec::new();
    super::write_string(text, &mut bytes);
    out.push_str(&String::from_utf8_lossy(&bytes));
}

fn priority(expression: &Expression) -> u8 {
    match expression {
        Expression::Binary(operator, ..) => operator.priority(),
        Expression::Signed(..) => 5,
        _ => 6,
    }
}

/// Prints; `brackets` = put an operator's expression into parentheses.
fn print(expression: &Expression, brackets: bool, out: &mut String) {
    match expression {
        Expression::Root => out.push('$'),
        Expression::Current => out.push('@'),
        Expression::Variable(name) => {
            out.push('$');
            string(name, out);
        }
        Expression::Last => out.push_str("last"),
        Expression::Literal(value) => out.push_str(&value.to_string()),
        Expression::Steps(base, steps) => {
            match &**base {
                number @ Expression::Literal(Json::Number(_)) => {
                    out.push('(');
                    print(number, false, out);
                    out.push(')');
                }
                base => print(base, true, out),
            }
            for step in steps {
                print_step(step, out);
            }
        }
        Expression::Binary(operator, left, right) => {
            if brackets {
                out.push('(');
            }
            print(left, priority(left) <= operator.priority(), out);
            out.push(' ');
            out.push_str(operator.symbol());
            out.push(' ');
            print(right, priority(right) <= operator.priority(), out);
            if brackets {
                out.push(')');
            }
        }
        Expression::Signed(minus, inner) => {
            if brackets {
                out.push('(');
            }
            out.push(if *minus { '-' } else { '+' });
            print(inner, priority(inner) <= 5, out);
            if brackets {
                out.push(')');
            }
        }
        Expression::Not(inner) => {
            out.push_str("!(");
            print(inner, false, out);
            out.push(')');
        }
        Expression::Exists(inner) => {
            out.push_str("exists (");
            print(inner, false, out);
            out.push(')');
        }
        Expression::IsUnknown(inner) => {
            out.push('(');
            print(inner, false, out);
            out.push_str(") is unknown");
        }
        Expression::LikeRegex(left, pattern, flags) => {
            if brackets {
                out.push('(');
            }
            print(left, priority(left) <= 6, out);
            out.push_str(" like_regex ");
            string(pattern, out);
            if !flags.is_empty() {
                out.push_str(" flag \"");
                out.push_str(flags);
                out.push('"');
            }
            if brackets {
                out.push(')');
            }
        }
    }
}

fn print_step(step: &Step, out: &mut String) {
    match step {
        Step::Key(key) => {
            out.push('.');
            string(key, out);
        }
        Step::AnyKey => out.push_str(".*"),
        Step::AnyElement => out.push_str("[*]"),
        Step::Elements(list) => {
            out.push('[');
            for (index, (from, to)) in list.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                print(from, false, out);
                if let Some(to) = to {
                    out.push_str(" to ");
                    print(to, false, out);
                }
            }
            out.push(']');
        }
        Step::Levels(from, to) => {
            let level = |level: &Option<u32>| level.map_or("last".to_owned(), |n| n.to_string());
            match (from, to) {
                (Some(0), None) => out.push_str(".**"),
                (from, to) if from == to => out.push_str(&format!(".**{{{}}}", level(from))),
                (from, to) => {
                    out.push_str(&format!(".**{{{} to {}}}", level(from), level(to)));
                }
            }
        }
        Step::Filter(predicate) => {
            out.push_str("?(");
            print(predicate, false, out);
            out.push(')');
        }
        Step::Method(name) => out.push_str(&format!(".{name}()")),
        Step::Datetime(template) => {
            out.push_str(".datetime(");
            if let Some(template) = template {
                string(template, out);
            }
            out.push(')');
        }
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::new();
        if self.strict {
            out.push_str("strict ");
        }
        print(&self.expression, true, &mut out);
        f.write_str(&out)
    }
}
