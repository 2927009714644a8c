//! Replays what PostgreSQL 15 answered (`values/*.golden`, written by `values/generate.py`): text
//! input, casts, operators and functions must give the same text, or the same error.

use sql::functions::evaluation::Bare;
use sql::functions::{self, Argument, Evaluation};
use sql::types::{CastContext, Datum, FormatSettings, Type, cast};
use sql::{Error, Result, state};

/// 2000-01-01, as an instant: no golden line depends on it.
const NOW: i64 = 0;

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some(other) => out.push(other),
            None => out.push('\\'),
        }
    }
    out
}

fn with_evaluation<T>(run: impl FnOnce(&mut Evaluation<'_>) -> T) -> T {
    let format = FormatSettings {
        transaction_start: NOW,
        ..FormatSettings::default()
    };
    let bare = Bare::default();
    run(&mut Evaluation::new(&format, NOW, &bare))
}

/// The text of a value as a cast to text gives it.
fn shown(value: Datum, kind: Type, evaluation: &mut Evaluation<'_>) -> Result<Option<String>> {
    let text = cast(&value, kind, Type::TEXT, CastContext::Explicit, evaluation)?;
    Ok(text.as_str().map(str::to_owned))
}

fn argument(field: &str) -> Result<(Type, Datum)> {
    let (kind, text) = split_field(field);
    let kind = Type::parse(kind)?;
    if text == "\\N" {
        return Ok((kind, Datum::Null));
    }
    Ok((
        kind,
        Datum::from_text(&unescape(text), kind, &FormatSettings::default())?,
    ))
}

fn split_field(field: &str) -> (&str, &str) {
    field.split_once(':').expect("a field is type:text")
}

type Answer = Result<Option<String>>;

fn input(fields: &[&str]) -> Answer {
    let kind = Type::parse(fields[0])?;
    with_evaluation(|e| {
        let value = Datum::from_text(&unescape(fields[1]), kind, e.format)?;
        shown(value, kind, e)
    })
}

fn casts(fields: &[&str]) -> Answer {
    let (from, to) = (Type::parse(fields[0])?, Type::parse(fields[2])?);
    with_evaluation(|e| {
        let value = Datum::from_text(&unescape(fields[1]), from, e.format)?;
        let value = cast(&value, from, to, CastContext::Explicit, e)?;
        shown(value, to, e)
    })
}

fn arguments(fields: &[&str]) -> Result<(Vec<Type>, Vec<Datum>)> {
    let pairs: Result<Vec<(Type, Datum)>> = fields.iter().map(|field| argument(field)).collect();
    Ok(pairs?.into_iter().unzip())
}

fn call(
    resolved: &functions::Resolved,
    types: &[Type],
    values: Vec<Datum>,
    e: &mut Evaluation<'_>,
) -> Answer {
    let mut converted = Vec::new();
    for ((value, from), to) in values.iter().zip(types).zip(&resolved.arguments) {
        converted.push(cast(value, *from, *to, CastContext::Implicit, e)?);
    }
    let result = resolved.call(e, &converted)?;
    shown(result, resolved.result, e)
}

fn calls(fields: &[&str]) -> Answer {
    let oid = fields[0].parse().expect("the first field is an OID");
    let function = functions::function(oid).expect("the function is in the catalog");
    let (types, values) = arguments(&fields[1..])?;
    let given: Vec<Argument<'_>> = types
        .iter()
        .map(|kind| Argument {
            name: None,
            kind: *kind,
        })
        .collect();
    let variadic = function.variadic != 0 && function.variadic != Type::ANY.oid;
    let resolved = functions::resolve_call(function.name, &given, variadic)?;
    with_evaluation(|e| call(&resolved, &types, values, e))
}

fn operators(fields: &[&str]) -> Answer {
    let (types, values) = arguments(&fields[1..])?;
    let left = (types.len() == 2).then(|| types[0]);
    let right = types[types.len() - 1];
    let resolved = functions::resolve_operator(fields[0], left, right)?;
    with_evaluation(|e| call(&resolved.call, &types, values, e))
}

fn report(error: &Error) -> String {
    format!("!{} {}", error.state().as_str(), error)
}

/// Replays a list; differences fail unless `known.txt` names the line and why. Lines about what is not supported count
/// as skipped.
fn replay(name: &str, list: &str, answer: fn(&[&str]) -> Answer) {
    let known: Vec<&str> = include_str!("values/known.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let (mut same, mut skipped) = (0, 0);
    let mut differences = Vec::new();
    for line in list.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let (expected, asked) = fields.split_last().expect("a line has fields");
        let expected = unescape(expected);
        let got = std::panic::catch_unwind(|| answer(asked));
        let got = match got {
            Ok(Ok(Some(text))) => format!("={text}"),
            Ok(Ok(None)) => "~".to_owned(),
            Ok(Err(error))
                if error.state() == state::FEATURE_NOT_SUPPORTED
                    && error.to_string().ends_with("is not supported")
                    && expected != report(&error) =>
            {
                skipped += 1;
                continue;
            }
            Ok(Err(error)) => report(&error),
            Err(_) => "panic".to_owned(),
        };
        if got == expected {
            same += 1;
        } else if known.contains(&asked.join("\t").as_str()) {
            skipped += 1;
        } else {
            differences.push(format!(
                "{}\n  expected {expected}\n  got      {got}",
                asked.join(" | ")
            ));
        }
    }
    println!(
        "{name}: {same} same, {skipped} not supported, {} different",
        differences.len()
    );
    for difference in &differences {
        println!("{difference}");
    }
    assert!(
        differences.is_empty(),
        "{name}: {} lines differ",
        differences.len()
    );
}

#[test]
fn text_input_is_postgresqls() {
    replay("input", include_str!("values/input.golden"), input);
}

#[test]
fn casts_are_postgresqls() {
    replay("casts", include_str!("values/casts.golden"), casts);
}

#[test]
fn operators_are_postgresqls() {
    replay(
        "operators",
        include_str!("values/operators.golden"),
        operators,
    );
}

#[test]
fn functions_are_postgresqls() {
    replay("calls", include_str!("values/calls.golden"), calls);
}

#[test]
fn formatting_is_postgresqls() {
    replay("formats", include_str!("values/formats.golden"), calls);
}
