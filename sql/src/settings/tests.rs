//! Values as PostgreSQL 15 takes and prints them.

use super::state::Place;
use super::*;

fn set(name: &str, value: &str) -> Result<String> {
    let mut values = Values::default();
    values.set(name, Some(&[value.to_owned()]), Place::Session, true)?;
    values.show(&Settings::default(), name)
}

#[test]
fn units_and_spellings() {
    for (name, value, shown) in [
        ("work_mem", "64MB", "64MB"),
        ("work_mem", "65536", "64MB"),
        ("work_mem", "1000kB", "1000kB"),
        ("statement_timeout", "2s", "2s"),
        ("statement_timeout", "1500", "1500ms"),
        ("STATEMENT_TIMEOUT", "0", "0"),
        ("enable_seqscan", "tru", "on"),
        ("synchronous_commit", "LOCAL", "local"),
        ("client_encoding", "utf-8", "UTF8"),
        ("datestyle", "german", "German, DMY"),
        ("extra_float_digits", "3", "3"),
        ("random_page_cost", "1.5", "1.5"),
        ("my.own", "x", "x"),
    ] {
        assert_eq!(set(name, value).unwrap(), shown, "{name} = {value}");
    }
}

#[test]
fn refusals() {
    for (name, value, message) in [
        (
            "nonsense",
            "1",
            "unrecognized configuration parameter \"nonsense\"",
        ),
        (
            "work_mem",
            "1",
            "1 kB is outside the valid range for parameter \"work_mem\" (64 .. 2147483647)",
        ),
        (
            "work_mem",
            "x",
            "invalid value for parameter \"work_mem\": \"x\"",
        ),
        (
            "enable_seqscan",
            "maybe",
            "parameter \"enable_seqscan\" requires a Boolean value",
        ),
        (
            "max_connections",
            "5",
            "parameter \"max_connections\" cannot be changed without restarting the server",
        ),
        (
            "server_version",
            "5",
            "parameter \"server_version\" cannot be changed",
        ),
        (
            "TimeZone",
            "Nowhere/Else",
            "invalid value for parameter \"TimeZone\": \"Nowhere/Else\"",
        ),
    ] {
        assert_eq!(set(name, value).expect_err(name).0.message, message);
    }
}

#[test]
fn search_path_is_a_list() {
    assert_eq!(
        value::split_list("\"$user\", public").unwrap(),
        ["$user", "public"]
    );
    assert_eq!(value::split_list("A,\"B\"\"c\"").unwrap(), ["a", "B\"c"]);
    assert_eq!(value::split_list("a,,b"), None);
    assert!(value::split_list("").unwrap().is_empty());
}

#[test]
fn every_row_of_the_table_is_read() {
    assert_eq!(all().len(), POSTGRES.lines().count() + OWN.lines().count());
    for name in REPORTED {
        assert!(find(name).is_some(), "{name}");
    }
}

#[test]
fn a_traceparent_is_what_w3c_says() {
    let known = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-will-be";
    let set = |value: &str| set("freehold.traceparent", value);
    for value in ["", known, later] {
        set(value).unwrap_or_else(|error| panic!("{value}: {error}"));
    }
    for (at, other) in [
        (0, "ff"),
        (0, "0g"),
        (2, "_"),
        (3, "00000000000000000000000000000000"),
        (3, "4BF92F3577B34DA6A3CE929D0E0E4736"),
        (36, "0000000000000000"),
        (52, "_0"),
        (53, "x1"),
    ] {
        let mut value = known.to_owned();
        value.replace_range(at..at + other.len(), other);
        let error = set(&value).expect_err(&value);
        assert_eq!(error.state(), crate::state::INVALID_PARAMETER_VALUE);
    }
    for length in 1..known.len() {
        assert!(set(&known[..length]).is_err(), "{}", &known[..length]);
    }
    assert!(set(&format!("{known}-more")).is_err());
    assert!(set(&format!("{later}{}", "x".repeat(256))).is_err());
    assert!(set(&format!("{later} x")).is_err());
}
