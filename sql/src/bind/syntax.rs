//! What sqlparser's query grammar lacks: a dialect for its hooks, and a rewrite over tokens that
//! leaves marks (quoted identifiers that begin with U+0001) for the binder.

use std::any::TypeId;

use sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, UnaryOperator,
};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace, Word};

use crate::expr::Exclude;
use crate::parse;

/// First character of every mark.
pub const MARK: char = '\u{1}';
/// The function that `x BETWEEN SYMMETRIC a AND b` becomes.
pub const BETWEEN_SYMMETRIC: &str = "\u{1}between symmetric";
/// The mark before the table names of `FOR ... OF`: strength, then the tables.
pub const LOCK: &str = "\u{1}lock ";
/// The mark that holds an ON CONFLICT target's text.
pub const ARBITER: &str = "\u{1}arbiter ";
/// The marks before the target of INSERT ... OVERRIDING.
pub const OVERRIDING_SYSTEM: &str = "\u{1}overriding system";
/// The same for USER VALUE.
pub const OVERRIDING_USER: &str = "\u{1}overriding user";
/// The mark for a frame's EXCLUDE: what is excluded, then the name of the window that is refined.
pub const EXCLUDE: &str = "\u{1}exclude ";
/// The mark for a column of ON DELETE SET NULL or SET DEFAULT, last among the referenced columns.
pub const DELETE_SETS: &str = "\u{1}delete sets ";

/// The field that stands for all fields of a row: `(row).*`.
pub const FIELDS: &str = "\u{1}fields";

/// PostgreSQL's dialect with the gaps of sqlparser's filled.
#[derive(Debug)]
pub struct QueryDialect {
    inner: PostgreSqlDialect,
    /// Tables may be read as they were. Not always, for sqlparser then takes the aliases "at",
    /// "before" and "changes" for other databases' words.
    versions: bool,
}

/// Parses statements the way the session does, for stored text (defaults, views, tests).
pub fn parser(text: &str) -> Result<Parser<'static>, ParserError> {
    let mut tokens = Tokenizer::new(&PLAIN, text).tokenize_with_location()?;
    prepare(&mut tokens);
    Ok(Parser::new(dialect_of(&tokens))
        .with_recursion_limit(RECURSION_MAX)
        .with_tokens_with_locations(tokens))
}

static PLAIN: QueryDialect = QueryDialect::new(false);
static WITH_VERSIONS: QueryDialect = QueryDialect::new(true);

/// The dialect for a statement's tokens.
pub fn dialect_of(tokens: &[TokenWithSpan]) -> &'static QueryDialect {
    let solid = tokens
        .iter()
        .filter(|t| !matches!(t.token, Token::Whitespace(_)));
    let mut words = solid.map(word);
    let mut after_for = false;
    let versions = words.any(|word| {
        let found = after_for && word == Some(Keyword::SYSTEM_TIME);
        after_for = word == Some(Keyword::FOR);
        found
    });
    match versions {
        true => &WITH_VERSIONS,
        false => &PLAIN,
    }
}

/// How deep queries and expressions may nest in text; the parser grows its stack as needed.
pub const RECURSION_MAX: usize = 1000;

macro_rules! delegate {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        $(fn $name(&self, $($arg: $ty),*) -> $out { self.inner.$name($($arg),*) })*
    };
}

impl Dialect for QueryDialect {
    fn dialect(&self) -> TypeId {
        self.inner.dialect()
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if let Token::Word(word) = &parser.peek_token_ref().token
            && word.quote_style.is_none()
            && word.value.eq_ignore_ascii_case("variadic")
        {
            parser.next_token();
            let prefix = Ident::with_quote('"', VARIADIC);
            return Some(parser.parse_expr().map(|value| Expr::Prefixed {
                prefix,
                value: Box::new(value),
            }));
        }
        // PostgreSQL's unary sign binds tighter than `^`.
        let op = match parser.peek_token_ref().token {
            Token::Minus => UnaryOperator::Minus,
            Token::Plus => UnaryOperator::Plus,
            _ => return None,
        };
        parser.next_token();
        let operand = parser.parse_subexpr(self.prec_value(Precedence::Caret));
        Some(operand.map(|expr| Expr::UnaryOp {
            op,
            expr: Box::new(expr),
        }))
    }

    fn parse_infix(
        &self,
        parser: &mut Parser,
        expr: &Expr,
        _precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        let negated = matches!(word(parser.peek_token_ref()), Some(Keyword::NOT));
        let offset = usize::from(negated);
        let between = word(&parser.peek_nth_token(offset)) == Some(Keyword::BETWEEN);
        let symmetric = parser.peek_nth_token(offset + 1);
        let Token::Word(modifier) = &symmetric.token else {
            return None;
        };
        let is_symmetric = modifier.value.eq_ignore_ascii_case("symmetric");
        let is_asymmetric = modifier.value.eq_ignore_ascii_case("asymmetric");
        if !between || modifier.quote_style.is_some() || !(is_symmetric || is_asymmetric) {
            return None;
        }
        for _ in 0..offset + 2 {
            parser.next_token();
        }
        Some(self.between(parser, expr.clone(), negated, is_symmetric))
    }

    // `FOR SYSTEM_TIME AS OF`.
    fn supports_table_versioning(&self) -> bool {
        self.versions
    }

    // `name => value` and `name := value`: the name is an identifier, as in PostgreSQL 15.
    fn supports_named_fn_args_with_assignment_operator(&self) -> bool {
        true
    }

    delegate! {
        identifier_quote_style(identifier: &str) -> Option<char>;
        is_delimited_identifier_start(ch: char) -> bool;
        is_identifier_start(ch: char) -> bool;
        is_identifier_part(ch: char) -> bool;
        supports_unicode_string_literal() -> bool;
        is_reserved_for_identifier(kw: Keyword) -> bool;
        is_table_alias(kw: &Keyword, parser: &mut Parser) -> bool;
        is_custom_operator_part(ch: char) -> bool;
        get_next_precedence(parser: &Parser) -> Option<Result<u8, ParserError>>;
        supports_filter_during_aggregation() -> bool;
        supports_group_by_expr() -> bool;
        supports_alter_user_as_alter_role() -> bool;
        prec_value(prec: Precedence) -> u8;
        allow_extract_custom() -> bool;
        allow_extract_single_quotes() -> bool;
        supports_create_index_with_clause() -> bool;
        supports_explain_with_utility_options() -> bool;
        supports_listen_notify() -> bool;
        supports_exclude_constraint() -> bool;
        supports_factorial_operator() -> bool;
        supports_bitwise_shift_operators() -> bool;
        supports_comment_on() -> bool;
        supports_load_extension() -> bool;
        supports_empty_projections() -> bool;
        supports_nested_comments() -> bool;
        supports_string_escape_constant() -> bool;
        supports_numeric_literal_underscores() -> bool;
        supports_array_typedef_with_brackets() -> bool;
        supports_geometric_types() -> bool;
        supports_order_by_using_operator() -> bool;
        supports_set_names() -> bool;
        supports_alter_column_type_using() -> bool;
        supports_left_associative_joins_without_parens() -> bool;
        supports_notnull_operator() -> bool;
        supports_interval_options() -> bool;
        supports_insert_table_alias() -> bool;
        supports_create_table_like_parenthesized() -> bool;
        supports_select_wildcard_with_alias() -> bool;
        supports_comma_separated_trim() -> bool;
        supports_xml_expressions() -> bool;
        supports_aliased_function_args() -> bool;
        supports_comment_optimizer_hint() -> bool;
    }
}

impl QueryDialect {
    const fn new(versions: bool) -> QueryDialect {
        QueryDialect {
            inner: PostgreSqlDialect {},
            versions,
        }
    }

    fn between(
        &self,
        parser: &mut Parser,
        expr: Expr,
        negated: bool,
        symmetric: bool,
    ) -> Result<Expr, ParserError> {
        let precedence = self.prec_value(Precedence::Between);
        let low = parser.parse_subexpr(precedence)?;
        parser.expect_keyword(Keyword::AND)?;
        let high = parser.parse_subexpr(precedence)?;
        if !symmetric {
            let (expr, low, high) = (Box::new(expr), Box::new(low), Box::new(high));
            return Ok(Expr::Between {
                expr,
                negated,
                low,
                high,
            });
        }
        let args = [expr, low, high]
            .into_iter()
            .map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)))
            .collect();
        let call = Expr::Function(Function {
            name: ObjectName::from(Ident::with_quote('"', BETWEEN_SYMMETRIC)),
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args: FunctionArguments::List(FunctionArgumentList {
                duplicate_treatment: None,
                args,
                clauses: Vec::new(),
            }),
            within_group: Vec::new(),
            filter: None,
            null_treatment: None,
            over: None,
        });
        Ok(if negated {
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: Box::new(call),
            }
        } else {
            call
        })
    }
}

/// The array behind `VARIADIC`, which `prepare` turns into a marked name before the argument.
pub fn variadic(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Prefixed { prefix, value } if prefix.value == VARIADIC => Some(value),
        _ => None,
    }
}

/// The mark of a VARIADIC argument.
const VARIADIC: &str = "\u{1}variadic";

fn word(token: &TokenWithSpan) -> Option<Keyword> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}

/// Rewrites the tokens of one or more statements.
pub fn prepare(tokens: &mut Vec<TokenWithSpan>) {
    join_strings(tokens);
    if !is_interesting(tokens) {
        return;
    }
    let input = std::mem::take(tokens);
    let solid: Vec<usize> = (0..input.len())
        .filter(|index| !matches!(input[*index].token, Token::Whitespace(_)))
        .collect();
    let mut at = 0;
    let mut reader = Reader {
        input: &input,
        solid: &solid,
    };
    while at < solid.len() {
        let used = reader
            .lock(at, tokens)
            .or_else(|| reader.arbiter(at, tokens))
            .or_else(|| reader.exclude(at, tokens))
            .or_else(|| reader.table(at, tokens))
            .or_else(|| reader.typed_literal(at, tokens))
            .or_else(|| reader.trim(at, tokens))
            .or_else(|| reader.only(at))
            .or_else(|| reader.overriding(at, tokens))
            .or_else(|| reader.delete_sets(at, tokens))
            .or_else(|| reader.fields(at, tokens))
            .or_else(|| reader.is_null(at, tokens));
        match used {
            Some(next) => at = next,
            None => {
                tokens.push(input[solid[at]].clone());
                at += 1;
            }
        }
    }
}

/// A string goes on in the next one if nothing but white space with a line's end lies between them
/// (PostgreSQL 4.1.2.1).
fn join_strings(tokens: &mut Vec<TokenWithSpan>) {
    if !(0..tokens.len()).any(|at| continuation(tokens, at).is_some()) {
        return;
    }
    let input = std::mem::take(tokens);
    let mut at = 0;
    while at < input.len() {
        let mut token = input[at].clone();
        while let Some(next) = continuation(&input, at)
            && extend(&mut token.token, &input[next].token)
        {
            token.span.end = input[next].span.end;
            at = next;
        }
        tokens.push(token);
        at += 1;
    }
}

/// The index of the string that goes on with the one at `at`.
fn continuation(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    if !is_string(&tokens[at].token) {
        return None;
    }
    let mut line_ends = false;
    for (offset, token) in tokens[at + 1..].iter().enumerate() {
        match &token.token {
            Token::Whitespace(Whitespace::MultiLineComment(_)) => return None,
            Token::Whitespace(Whitespace::Newline | Whitespace::SingleLineComment { .. }) => {
                line_ends = true;
            }
            Token::Whitespace(_) => {}
            Token::SingleQuotedString(_) if line_ends => return Some(at + 1 + offset),
            _ => return None,
        }
    }
    None
}

fn is_string(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
    )
}

/// Appends a continuation, which means what the beginning says: the tokenizer took it for a plain
/// string, so that one with escapes is read again.
fn extend(first: &mut Token, rest: &Token) -> bool {
    let Token::SingleQuotedString(rest) = rest else {
        return false;
    };
    let again = |prefix: &str| {
        let text = format!("{prefix}'{}'", rest.replace('\'', "''"));
        Tokenizer::new(&PostgreSqlDialect {}, &text).tokenize()
    };
    match first {
        Token::SingleQuotedString(text)
        | Token::NationalStringLiteral(text)
        | Token::HexStringLiteral(text)
        | Token::SingleQuotedByteStringLiteral(text) => text.push_str(rest),
        Token::EscapedStringLiteral(text) => match again("E").as_deref() {
            Ok([Token::EscapedStringLiteral(rest)]) => text.push_str(rest),
            _ => return false,
        },
        Token::UnicodeStringLiteral(text) => match again("U&").as_deref() {
            Ok([Token::UnicodeStringLiteral(rest)]) => text.push_str(rest),
            _ => return false,
        },
        _ => return false,
    }
    true
}

/// Whether any of the rewrites may find something.
fn is_interesting(tokens: &[TokenWithSpan]) -> bool {
    const WORDS: [&str; 4] = ["only", "overriding", "isnull", "notnull"];
    let (mut before, mut earlier): (Option<&Token>, Option<&Token>) = (None, None);
    for token in tokens {
        let found = match &token.token {
            Token::Whitespace(_) => continue,
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::FOR
                | Keyword::CONFLICT
                | Keyword::EXCLUDE
                | Keyword::TABLE
                | Keyword::TRIM => true,
                // ON DELETE SET NULL (a).
                Keyword::NULL | Keyword::DEFAULT => matches!(
                    before,
                    Some(Token::Word(word)) if word.keyword == Keyword::SET
                ),
                _ => WORDS.iter().any(|own| word.value.eq_ignore_ascii_case(own)),
            },
            Token::SingleQuotedString(_) => match before {
                Some(Token::Word(word)) => is_type_word(word),
                // `interval(3) '1 s'`.
                Some(Token::RParen) => true,
                _ => false,
            },
            Token::Mul => before == Some(&Token::Period) && earlier == Some(&Token::RParen),
            _ => false,
        };
        if found {
            return true;
        }
        earlier = before.replace(&token.token);
    }
    false
}

/// Types whose name may stand before a string and that sqlparser does not know.
fn is_type_word(word: &Word) -> bool {
    const TYPES: [&str; 12] = [
        "bpchar",
        "jsonpath",
        "name",
        "oid",
        "pg_lsn",
        "regclass",
        "regnamespace",
        "regproc",
        "regprocedure",
        "regrole",
        "regtype",
        "xid8",
    ];
    word.quote_style.is_none() && TYPES.iter().any(|own| word.value.eq_ignore_ascii_case(own))
}

/// Tokens that MATCH and ON UPDATE may put before ON DELETE.
const ACTION_TOKENS_MAX: usize = 7;

struct Reader<'t> {
    input: &'t [TokenWithSpan],
    /// Indices of the tokens that are not white space.
    solid: &'t [usize],
}

impl Reader<'_> {
    fn token(&self, at: usize) -> Option<&TokenWithSpan> {
        self.solid.get(at).map(|index| &self.input[*index])
    }

    fn is_word(&self, at: usize, text: &str) -> bool {
        match self.token(at).map(|token| &token.token) {
            Some(Token::Word(word)) => {
                word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text)
            }
            _ => false,
        }
    }

    fn words(&self, at: usize, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(offset, word)| self.is_word(at + offset, word))
    }

    /// `FOR <strength> [OF a, b]` with a strength or a list that sqlparser doesn't read.
    fn lock(&mut self, at: usize, out: &mut Vec<TokenWithSpan>) -> Option<usize> {
        let (strength, mut next) = if self.words(at, &["for", "no", "key", "update"]) {
            ("no key update", at + 4)
        } else if self.words(at, &["for", "key", "share"]) {
            ("key share", at + 3)
        } else if self.words(at, &["for", "update"]) {
            ("update", at + 2)
        } else if self.words(at, &["for", "share"]) {
            ("share", at + 2)
        } else {
            return None;
        };
        let like = &self.input[self.solid[at]];
        let push = |out: &mut Vec<TokenWithSpan>, token: Token| {
            out.push(TokenWithSpan {
                token,
                span: like.span,
            });
        };
        push(out, keyword("FOR", Keyword::FOR));
        push(out, keyword("UPDATE", Keyword::UPDATE));
        push(out, keyword("OF", Keyword::OF));
        push(out, quoted(&format!("{LOCK}{strength}")));
        if self.is_word(next, "of") {
            next += 1;
            while let Some(Token::Word(name)) = self.token(next).map(|token| &token.token) {
                let mut name = name.clone();
                next += 1;
                // A qualified name keeps its last part; PostgreSQL takes aliases only.
                while matches!(self.token(next).map(|t| &t.token), Some(Token::Period)) {
                    if let Some(Token::Word(last)) = self.token(next + 1).map(|t| &t.token) {
                        name = last.clone();
                    }
                    next += 2;
                }
                push(out, Token::Period);
                push(out, Token::Word(name));
                if !matches!(self.token(next).map(|t| &t.token), Some(Token::Comma)) {
                    break;
                }
                next += 1;
            }
        }
        Some(next)
    }

    /// `ON CONFLICT (anything) [WHERE condition] DO`: the text goes into one identifier.
    fn arbiter(&mut self, at: usize, out: &mut Vec<TokenWithSpan>) -> Option<usize> {
        if !self.is_word(at, "conflict")
            || !matches!(self.token(at + 1).map(|t| &t.token), Some(Token::LParen))
        {
            return None;
        }
        let mut end = at + 1;
        while end < self.solid.len() && !self.words(end, &["do"]) {
            end += 1;
        }
        if !(self.words(end, &["do", "nothing"]) || self.words(end, &["do", "update"])) {
            return None;
        }
        let text: String = self.input[self.solid[at + 1]..self.solid[end]]
            .iter()
            .map(|token| token.token.to_string())
            .collect();
        let span = self.input[self.solid[at]].span;
        out.push(self.input[self.solid[at]].clone());
        for token in [
            Token::LParen,
            quoted(&format!("{ARBITER}{text}")),
            Token::RParen,
        ] {
            out.push(TokenWithSpan { token, span });
        }
        Some(end)
    }

    /// `TABLE x` as a query (sqlparser eats what follows it) is `SELECT * FROM x`.
    fn table(&mut self, at: usize, out: &mut Vec<TokenWithSpan>) -> Option<usize> {
        let begins = at == 0
            || matches!(self.token(at - 1).map(|t| &t.token), Some(Token::LParen))
            || ["union", "all", "intersect", "except", "distinct"]
                .iter()
                .any(|word| self.is_word(at - 1, word));
        if !begins || !self.is_word(at, "table") {
            return None;
        }
        let span = self.input[self.solid[at]].span;
        let select = keyword("SELECT", Keyword::SELECT);
        for token in [select, Token::Mul, keyword("FROM", Keyword::FROM)] {
            out.push(TokenWithSpan { token, span });
        }
        Some(at + 1)
    }

    /// `pg_lsn '0/0'` is `CAST('0/0' AS pg_lsn)`, and `interval(3) '1 s'` alike.
    fn typed_literal(&self, at: usize, out: &mut Vec<TokenWithSpan>) -> Option<usize> {
        let is = |at: usize, token: Token| self.token(at).is_some_and(|t| t.token == token);
        let precise = self.is_word(at, "interval") && is(at + 1, Token::LParen);
        let end = at + if precise { 4 } else { 1 };
        let (name, value) = (self.token(at)?, self.token(end)?);
        match (&name.token, &value.token) {
            (Token::Word(_), Token::SingleQuotedString(_)) if precise => {
                let Token::Number(..) = self.token(at + 2)?.token else {
                    return None;
                };
            }
            (Token::Word(word), Token::SingleQuotedString(_)) if is_type_word(word) => {}
            _ => return None,
        }
        let push = |out: &mut Vec<TokenWithSpan>, token: Token, span| {
            out.push(TokenWithSpan { token, span });
        };
        push(out, keyword("CAST", Keyword::CAST), name.span);
        push(out, Token::LParen, name.span);
        out.push(value.clone());
        push(out, keyword("AS", Keyword::AS), value.span);
        out.extend((at..end).filter_map(|i| self.token(i).cloned()));
        push(out, Token::RParen, value.span);
        Some(end + 1)
    }

    /// `TRIM([LEADING | TRAILING | BOTH] FROM x)`: the characters are a blank.
    fn trim(&self, at: usize, out: &mut Vec<TokenWithSpan>) -> Option<usize> {
        let open = matches!(self.token(at + 1).map(|t| &t.token), Some(Token::LParen));
        if !self.is_word(at, "trim") || !open {
            return None;
        }
        let side = ["leading", "trailing", "both"]
            .iter()
            .any(|word| self.is_word(at + 2, word));
        let from = at + 2 + usize::from(side);
        if !self.is_word(from, "from") {
            return None;
        }
        out.extend((at..from).filter_map(|i| self.token(i).cloned()));
        if side {
            let span = self.token(from)?.span;
            let blank = Token::SingleQuotedString(" ".to_owned());
            out.push(TokenWithSpan { token: blank, span });
            return Some(from);
        }
        Some(from + 1)
    }

    /// There is no inheritance: `ONLY` before a table changes nothing.
    fn only(&self, at: usize) -> Option<usize> {
        let before = ["update", "from", "join"];
        let behind = at.checked_sub(1)?;
        let named = matches!(self.token(at + 1).map(|t| &t.token), Some(Token::Word(_)));
        (self.is_word(at, "only") && named && before.iter().any(|word| self.is_word(behind, word)))
            .then_some(at + 1)
    }

    /// `INSERT INTO x ... OVERRIDING USER VALUE`: a mark goes before the name.
    fn overriding(&self, at: usize, out: &mut Vec<TokenWithSpan>) -> Option<usize> {
        for kind in ["system", "user"] {
            if self.words(at, &["overriding", kind, "value"]) {
                return Some(at + 3);
            }
        }
        if !self.words(at, &["insert", "into"]) {
            return None;
        }
        let mut next = at + 2;
        let mut depth = 0usize;
        while let Some(token) = self.token(next) {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.checked_sub(1)?,
                Token::SemiColon => return None,
                _ if depth > 0 => {}
                _ if ["values", "select", "with", "default", "table"]
                    .iter()
                    .any(|word| self.is_word(next, word)) =>
                {
                    return None;
                }
                _ if self.is_word(next, "overriding") => break,
                _ => {}
            }
            next += 1;
        }
        let mark = match () {
            () if self.is_word(next + 1, "system") => OVERRIDING_SYSTEM,
            () if self.is_word(next + 1, "user") => OVERRIDING_USER,
            () => return None,
        };
        let span = self.token(at + 2)?.span;
        out.extend((at..at + 2).filter_map(|i| self.token(i).cloned()));
        for token in [quoted(mark), Token::Period] {
            out.push(TokenWithSpan { token, span });
        }
        Some(at + 2)
    }

    /// `REFERENCES x [(a)] ... ON DELETE SET NULL (b)`: the columns go, marked, behind `a`.
    fn delete_sets(&self, at: usize, out: &mut Vec<TokenWithSpan>) -> Option<usize> {
        if !self.is_word(at, "references") {
            return None;
        }
        let is = |at: usize, token: Token| self.token(at).is_some_and(|t| t.token == token);
        let mut name = at + 1;
        while is(name + 1, Token::Period) {
            name += 2;
        }
        let referred = match is(name + 1, Token::LParen) {
            true => Some(self.name_list(name + 1)?),
            false => None,
        };
        let clauses = referred.map_or(name + 1, |close| close + 1);
        let set = (clauses..clauses + ACTION_TOKENS_MAX)
            .find(|at| self.words(*at, &["on", "delete", "set"]) && is(*at + 4, Token::LParen))?;
        let close = self.name_list(set + 4)?;
        let span = self.token(set + 4)?.span;
        let copy = |out: &mut Vec<TokenWithSpan>, from: usize, to: usize| {
            out.extend((from..to).filter_map(|i| self.token(i).cloned()));
        };
        copy(out, at, referred.unwrap_or(name + 1));
        let mut before = match referred {
            Some(_) => Token::Comma,
            None => Token::LParen,
        };
        for column in (set + 5..close).step_by(2) {
            let Token::Word(word) = &self.token(column)?.token else {
                return None;
            };
            let folded = parse::fold(&word.clone().into_ident(span));
            let mark = quoted(&format!("{DELETE_SETS}{folded}"));
            for token in [std::mem::replace(&mut before, Token::Comma), mark] {
                out.push(TokenWithSpan { token, span });
            }
        }
        let token = Token::RParen;
        out.push(TokenWithSpan { token, span });
        copy(out, clauses, set + 4);
        Some(close + 1)
    }

    /// The index of the bracket that closes `(a, b)`, opened at `at`.
    fn name_list(&self, at: usize) -> Option<usize> {
        let mut next = at + 1;
        loop {
            let Token::Word(_) = self.token(next)?.token else {
                return None;
            };
            match self.token(next + 1)?.token {
                Token::Comma => next += 2,
                Token::RParen => return Some(next + 1),
                _ => return None,
            }
        }
    }

    /// `x ISNULL`, `x NOTNULL`.
    fn is_null(&self, at: usize, out: &mut Vec<TokenWithSpan>) -> Option<usize> {
        let negated = self.is_word(at, "notnull");
        if !negated && !self.is_word(at, "isnull") {
            return None;
        }
        let operand = match &self.token(at.checked_sub(1)?)?.token {
            Token::Word(word) => {
                word.quote_style.is_some()
                    || matches!(
                        word.keyword,
                        Keyword::NoKeyword | Keyword::NULL | Keyword::TRUE | Keyword::FALSE
                    )
            }
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Placeholder(_)
            | Token::RParen
            | Token::RBracket => true,
            _ => false,
        };
        if !operand {
            return None;
        }
        let span = self.token(at)?.span;
        let mut push = |token| out.push(TokenWithSpan { token, span });
        push(keyword("IS", Keyword::IS));
        if negated {
            push(keyword("NOT", Keyword::NOT));
        }
        push(keyword("NULL", Keyword::NULL));
        Some(at + 1)
    }

    /// `(row).*`, which sqlparser reads of names alone, becomes a field.
    fn fields(&self, at: usize, out: &mut Vec<TokenWithSpan>) -> Option<usize> {
        let is = |at: usize, token: Token| self.token(at).is_some_and(|t| t.token == token);
        if !is(at.checked_sub(1)?, Token::RParen) || !is(at, Token::Period) {
            return None;
        }
        let star = self.token(at + 1).filter(|t| t.token == Token::Mul)?;
        out.push(self.token(at)?.clone());
        let (token, span) = (quoted(FIELDS), star.span);
        out.push(TokenWithSpan { token, span });
        Some(at + 2)
    }

    /// A frame's EXCLUDE goes, marked, to where the name of a refined window stands. NO OTHERS is
    /// the default and left out.
    fn exclude(&mut self, at: usize, out: &mut Vec<TokenWithSpan>) -> Option<usize> {
        const ENDS_FRAME: [&str; 3] = ["row", "preceding", "following"];
        let framed = at
            .checked_sub(1)
            .is_some_and(|end| ENDS_FRAME.iter().any(|word| self.is_word(end, word)));
        if !framed || !self.is_word(at, "exclude") {
            return None;
        }
        if self.words(at + 1, &["no", "others"]) {
            return Some(at + 3);
        }
        let (what, _) = EXCLUSIONS.iter().find(|(what, _)| {
            let words: Vec<&str> = what.split(' ').collect();
            self.words(at + 1, &words)
        })?;
        let name = opened(out)? + 1;
        let mut mark = format!("{EXCLUDE}{what}");
        if let Some(Token::Word(word)) = out.get(name).map(|token| &token.token)
            && word.keyword == Keyword::NoKeyword
        {
            let folded = parse::fold(&word.clone().into_ident(out[name].span));
            mark = format!("{mark} {folded}");
            out.remove(name);
        }
        let (token, span) = (quoted(&mark), self.token(at)?.span);
        out.insert(name, TokenWithSpan { token, span });
        Some(at + 1 + what.split(' ').count())
    }
}

/// What a frame may leave out.
const EXCLUSIONS: [(&str, Exclude); 3] = [
    ("current row", Exclude::CurrentRow),
    ("group", Exclude::Group),
    ("ties", Exclude::Ties),
];

/// The row of `(row).*`.
pub fn expansion(expr: &Expr) -> Option<Expr> {
    let Expr::CompoundFieldAccess { root, access_chain } = expr else {
        return None;
    };
    let (last, before) = access_chain.split_last()?;
    match last {
        AccessExpr::Dot(Expr::Identifier(name)) if name.value == FIELDS => {}
        AccessExpr::Dot(_) | AccessExpr::Subscript(_) => return None,
    }
    if before.is_empty() {
        return Some((**root).clone());
    }
    Some(Expr::CompoundFieldAccess {
        root: root.clone(),
        access_chain: before.to_vec(),
    })
}

/// What the mark at the head of a window definition says, and the window that is refined.
pub fn exclusion(name: Option<&Ident>) -> (Exclude, Option<Ident>) {
    let Some(marked) = name.and_then(|name| name.value.strip_prefix(EXCLUDE)) else {
        return (Exclude::NoOthers, name.cloned());
    };
    let (words, refined) = exclusion_words(marked);
    let found = EXCLUSIONS.iter().find(|(own, _)| *own == words);
    let exclude = found.map_or(Exclude::NoOthers, |(_, exclude)| *exclude);
    (exclude, refined.map(|name| Ident::with_quote('"', name)))
}

/// The two parts of a mark's text: what is excluded, and the name of the window that is refined.
pub fn exclusion_words(marked: &str) -> (&'static str, Option<&str>) {
    let found = EXCLUSIONS
        .iter()
        .find_map(|(words, _)| Some((*words, marked.strip_prefix(words)?)));
    let (words, rest) = found.unwrap_or(("no others", ""));
    (words, rest.strip_prefix(' '))
}

/// The index of the innermost bracket that is open behind these tokens.
fn opened(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().rev() {
        match token.token {
            Token::RParen => depth += 1,
            Token::LParen if depth == 0 => return Some(at),
            Token::LParen => depth -= 1,
            _ => {}
        }
    }
    None
}

fn keyword(text: &str, keyword: Keyword) -> Token {
    Token::Word(Word {
        value: text.to_owned(),
        quote_style: None,
        keyword,
    })
}

fn quoted(text: &str) -> Token {
    Token::Word(Word {
        value: text.to_owned(),
        quote_style: Some('"'),
        keyword: Keyword::NoKeyword,
    })
}
