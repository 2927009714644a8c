//! Damaged bytes are refused, or read as another value: nothing panics, and no memory is taken for
//! what is only announced.

use super::*;
use crate::types::settings::FormatSettings;

fn encoded(values: &[Datum]) -> Vec<u8> {
    let mut out = Vec::new();
    values
        .iter()
        .for_each(|value| encode_value(value, &mut out));
    out
}

/// The text of a type, as its input reads it.
fn of(kind: Type, text: &str) -> Datum {
    Datum::from_text(text, kind, &FormatSettings::default()).unwrap()
}

fn samples() -> Vec<Datum> {
    let int4 = |n| Datum::Int4(n);
    let shape = Shape {
        names: vec!["a".into(), "b".into()],
        types: vec![Type::INT4, Type::TEXT],
    };
    vec![
        Datum::Null,
        Datum::Bool(true),
        int4(-70_000),
        Datum::Int8(i64::MIN),
        Datum::Float8(1.5),
        of(Type::NUMERIC, "-12345.678"),
        of(
            Type::NUMERIC,
            "123456789012345678901234567890123456789012345678.9",
        ),
        Datum::text("späť"),
        of(Type::BYTEA, "\\x0102"),
        of(Type::DATE, "2026-01-31"),
        of(Type::TIMETZ, "12:30:00+05"),
        of(Type::TIMESTAMPTZ, "2026-01-31 12:30:00+00"),
        of(Type::INTERVAL, "1 mon -3 days 04:05:06"),
        of(Type::UUID, "00112233-4455-6677-8899-aabbccddeeff"),
        of(Type::JSONB, r#"{"a": [1, "x", null, {"b": 2.5}], "c": {}}"#),
        Datum::array(Array::starting_at(
            Type::INT4,
            -1,
            vec![int4(1), Datum::Null],
        )),
        Datum::array(Array::empty(Type::TEXT)),
        Datum::Record(Arc::new(Record::new(
            Arc::new(shape),
            vec![int4(1), Datum::text("b")],
        ))),
    ]
}

#[test]
fn damaged_values_are_refused_or_other_values() {
    for value in samples() {
        let bytes = encoded(std::slice::from_ref(&value));
        let mut rest = &bytes[..];
        assert_eq!(encoded(&[decode_next(&mut rest).unwrap()]), bytes);
        assert!(rest.is_empty());
        for end in 0..bytes.len() {
            assert!(decode_next(&mut &bytes[..end]).is_err(), "{value:?}: {end}");
        }
        for at in 0..bytes.len() {
            for new in 0..=u8::MAX {
                let mut damaged = bytes.clone();
                damaged[at] = new;
                if let Ok(other) = decode_next(&mut &damaged[..]) {
                    encoded(&[other]);
                }
            }
        }
    }
}

#[test]
fn a_value_of_another_type_is_refused() {
    let bytes = encoded(&[Datum::Int8(5)]);
    assert!(decode_next_as(Type::INT8, &mut &bytes[..]).is_ok());
    assert!(decode_next_as(Type::INT4, &mut &bytes[..]).is_err());
    assert!(decode_value(Type::TEXT, &bytes).is_err());
}

#[test]
fn an_array_has_a_last_subscript_and_one_without_elements_no_dimensions() {
    let array = |length: u8, lower: i64| {
        let mut bytes = vec![24, 23, 1, length];
        write_signed(i128::from(lower), &mut bytes);
        bytes.extend(vec![0; usize::from(length)]);
        decode_next(&mut &bytes[..])
    };
    assert!(array(1, i64::from(i32::MAX) - 1).is_ok());
    assert!(array(2, i64::from(i32::MAX) - 1).is_err());
    assert!(array(1, i64::from(i32::MIN)).is_ok());
    let Ok(Datum::Array(empty)) = array(0, 7) else {
        panic!("it is an array");
    };
    assert_eq!(empty.dimensions, []);
}

/// Everything that nests, as deep as it goes, on a thread's ordinary stack.
#[test]
fn what_nests_too_deep_is_refused_before_the_stack_ends() {
    let record = [31, 1, 0, 23, 0];
    let array = [24, 23, 1, 1, 2];
    for (head, nested) in [
        (&[][..], &record[..]),
        (&[], &array),
        (&[23], &[5, 1]),
        (&[23], &[6, 1, 0]),
    ] {
        for depth in [DEPTH_MAX - 1, DEPTH_MAX + 1, 100_000] {
            let bytes = [head, &nested.repeat(depth), &[0]].concat();
            let read = decode_next(&mut &bytes[..]);
            assert_eq!(read.is_ok(), depth < DEPTH_MAX, "{nested:?} {depth}");
            if let Ok(value) = read {
                assert_eq!(encoded(&[value]), bytes);
            }
        }
    }
}

/// Each of many levels announces as many elements as there could be bytes for.
#[test]
fn no_memory_is_taken_for_what_is_announced() {
    let peak_kb = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmPeak:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.unwrap().parse().unwrap()
    };
    let announced = 32 << 20;
    let mut level = vec![5];
    write_unsigned(announced, &mut level);
    let mut bytes = [&[23], &level.repeat(1_000)[..]].concat();
    bytes.resize(bytes.len() + announced as usize, 0xff);
    let before = peak_kb();
    assert!(decode_next(&mut &bytes[..]).is_err());
    let more = peak_kb() - before;
    assert!(more < 64 << 20, "{more} kB of addresses were taken");
}
