//! Splitting a template into its fields and the text between them.

/// One part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// A field by its upper-case name, as written, with its modifiers.
    Field(Field),
    /// A character to copy.
    Text(char),
    /// A blank.
    Space(char),
    /// Punctuation that may stand between fields.
    Separator(char),
}

/// A field of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// The canonical (upper-case) name.
    pub name: &'static str,
    /// As it stands in the template: its case decides that of words.
    pub written: String,
    /// `FM`: no padding.
    pub fill: bool,
    /// `TH` or `th` after it: `Some(true)` = upper case.
    pub ordinal: Option<bool>,
}

/// Field names, longer ones before their beginnings.
const DATE_FIELDS: &[&str] = &[
    "A.D.", "A.M.", "AD", "AM", "B.C.", "BC", "CC", "DAY", "DDD", "DD", "DY", "D", "FF1", "FF2",
    "FF3", "FF4", "FF5", "FF6", "FX", "HH24", "HH12", "HH", "IDDD", "ID", "IW", "IYYY", "IYY",
    "IY", "I", "J", "MI", "MM", "MONTH", "MON", "MS", "OF", "P.M.", "PM", "Q", "RM", "SSSSS",
    "SSSS", "SS", "TZH", "TZM", "TZ", "US", "WW", "W", "Y,YYY", "YYYY", "YYY", "YY", "Y",
];

/// Fields whose name must be written in one case throughout, or capitalized.
fn case_fits(name: &str, written: &str) -> bool {
    let upper = written.chars().all(|c| !c.is_ascii_lowercase());
    let lower = written.chars().all(|c| !c.is_ascii_uppercase());
    if upper || lower {
        // OF has no lower-case form.
        return upper || name != "OF";
    }
    let capitalized = written.chars().skip(1).all(|c| !c.is_ascii_uppercase());
    capitalized && matches!(name, "DAY" | "DY" | "MONTH" | "MON")
}

fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    match text.get(..prefix.len()) {
        Some(head) if head == prefix => Some(&text[prefix.len()..]),
        _ => None,
    }
}

fn either<'a>(text: &'a str, upper: &str, lower: &str) -> Option<&'a str> {
    strip(text, upper).or_else(|| strip(text, lower))
}

fn is_separator(c: char) -> bool {
    c.is_ascii() && !c.is_ascii_alphanumeric() && !c.is_ascii_control() && c != ' '
}

/// Splits a date template.
pub(super) fn date(pattern: &str) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut rest = pattern;
    while !rest.is_empty() {
        let mut fill = false;
        let mut at = rest;
        // Prefixes: FM and TM in any order.
        loop {
            if let Some(tail) = either(at, "FM", "fm") {
                fill = true;
                at = tail;
            } else if let Some(tail) = either(at, "TM", "tm") {
                at = tail;
            } else {
                break;
            }
        }
        let found = DATE_FIELDS.iter().find(|name| {
            at.get(..name.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(name) && case_fits(name, head))
        });
        if let Some(name) = found {
            let written = at[..name.len()].to_owned();
            at = &at[name.len()..];
            let mut ordinal = None;
            if let Some(tail) = strip(at, "TH") {
                ordinal = Some(true);
                at = tail;
            } else if let Some(tail) = strip(at, "th") {
                ordinal = Some(false);
                at = tail;
            }
            if let Some(tail) = either(at, "SP", "sp") {
                at = tail;
            }
            nodes.push(Node::Field(Field {
                name,
                written,
                fill,
                ordinal,
            }));
            rest = at;
            continue;
        }
        if at.len() < rest.len() {
            // A prefix without a field says nothing.
            rest = at;
            continue;
        }
        rest = literal(rest, &mut nodes);
    }
    nodes
}

/// Takes quoted text, an escaped quote or one character.
pub(super) fn literal<'a>(text: &'a str, nodes: &mut Vec<Node>) -> &'a str {
    let mut chars = text.chars();
    let Some(first) = chars.next() else {
        return text;
    };
    if first == '"' {
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => nodes.extend(chars.next().map(Node::Text)),
                c => nodes.push(Node::Text(c)),
            }
        }
        return chars.as_str();
    }
    if first == '\\' && chars.as_str().starts_with('"') {
        chars.next();
        nodes.push(Node::Text('"'));
        return chars.as_str();
    }
    nodes.push(if first.is_whitespace() {
        Node::Space(first)
    } else if is_separator(first) {
        Node::Separator(first)
    } else {
        Node::Text(first)
    });
    chars.as_str()
}
