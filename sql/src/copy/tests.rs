//! COPY's formats against PostgreSQL's rules; portions of any size give the same records.

use super::*;
use crate::parse::{CopyFormat, CopyHeader, CopyOptions};

fn format(kind: CopyFormat, with: impl FnOnce(&mut CopyOptions)) -> Format {
    let mut options = CopyOptions {
        format: Some(kind),
        ..CopyOptions::default()
    };
    with(&mut options);
    Format::new(&options, &["a".into(), "b".into()], true).unwrap()
}

/// All records, the data given in portions of `size`.
fn read(format: &Format, data: &[u8], size: usize) -> crate::Result<Vec<Vec<Option<String>>>> {
    let mut reader = Reader::new(format.clone());
    let mut all = Vec::new();
    let mut portions = data.chunks(size);
    let mut finished = false;
    loop {
        while let Some(record) = reader.record()? {
            let field = |i| {
                record
                    .field(i)
                    .map(|b| String::from_utf8_lossy(b).into_owned())
            };
            all.push((0..record.len()).map(field).collect());
        }
        match portions.next() {
            Some(portion) => reader.push(portion)?,
            None if finished => return Ok(all),
            None => {
                reader.finish();
                finished = true;
            }
        }
    }
}

fn some(values: &[&str]) -> Vec<Option<String>> {
    values
        .iter()
        .map(|v| (*v != "NULL").then(|| (*v).to_owned()))
        .collect()
}

#[test]
fn text_lines() {
    let data = b"1\tx\\ty\\\\z\n\\N\t\n2\t\\x41\\102\\N\r\n3\ta\\\nb\n\\.\nrest\n";
    let f = format(CopyFormat::Text, |_| {});
    let expected = [
        some(&["1", "x\ty\\z"]),
        some(&["NULL", ""]),
        some(&["2", "ABN"]),
        some(&["3", "a\nb"]),
    ];
    for size in 1..data.len() + 1 {
        assert_eq!(
            read(&f, data, size).unwrap(),
            expected,
            "portions of {size}"
        );
    }
    assert_eq!(read(&f, b"last line", 4).unwrap(), [some(&["last line"])]);
    assert!(read(&f, b"", 1).unwrap().is_empty());
}

#[test]
fn csv_lines() {
    let data = b"1,\"x\"\"y\nz\"\r\n,\"\"\n\"a,b\",c\n";
    let f = format(CopyFormat::Csv, |_| {});
    let expected = [
        some(&["1", "x\"y\nz"]),
        some(&["NULL", ""]),
        some(&["a,b", "c"]),
    ];
    for size in 1..data.len() + 1 {
        assert_eq!(
            read(&f, data, size).unwrap(),
            expected,
            "portions of {size}"
        );
    }
    let f = format(CopyFormat::Csv, |o| {
        o.delimiter = Some(";".into());
        o.escape = Some("\\".into());
        o.force_not_null = Some(vec!["a".into()]);
        o.force_null = Some(vec!["b".into()]);
    });
    let data = b";\"\"\n\"a\\\"b\";x\n";
    for size in 1..data.len() + 1 {
        assert_eq!(
            read(&f, data, size).unwrap(),
            [some(&["", "NULL"]), some(&["a\"b", "x"])]
        );
    }
    assert!(read(&f, b"\"open", 3).is_err());
}

#[test]
fn binary_rows_round_trip() {
    use crate::types::{Datum, FormatSettings, Type};
    let f = format(CopyFormat::Binary, |_| {});
    let mut writer = Writer::new(
        f.clone(),
        vec!["a".into(), "b".into()],
        vec![Type::INT4, Type::TEXT],
    );
    let mut out = Vec::new();
    writer.begin(&mut out);
    let settings = FormatSettings::default();
    writer.row(&[Datum::Int4(7), Datum::Null], &settings, &mut out);
    writer.row(&[Datum::Null, Datum::Text("é".into())], &settings, &mut out);
    writer.end(&mut out);
    for size in 1..out.len() + 1 {
        let rows = read(&f, &out, size).unwrap();
        assert_eq!(
            rows,
            [some(&["\0\0\0\u{7}", "NULL"]), some(&["NULL", "é"])],
            "{size}"
        );
    }
    for cut in 1..out.len() - 2 {
        let result = read(&f, &out[..cut], 5);
        assert!(result.is_err() || result.unwrap().len() < 3, "cut at {cut}");
    }
    assert!(read(&f, b"not a signature at all", 7).is_err());
}

#[test]
fn text_and_csv_are_written_as_they_are_read() {
    use crate::types::{Datum, FormatSettings, Type};
    let text = |s: &str| Datum::Text(s.into());
    let rows = [
        vec![text("a\tb\\c\nd"), Datum::Null],
        vec![text(""), text("x,\"y\"")],
        vec![text("\\."), text("\\N")],
    ];
    for kind in [CopyFormat::Text, CopyFormat::Csv] {
        let f = format(kind, |o| o.header = Some(CopyHeader::On));
        let types = vec![Type::TEXT, Type::TEXT];
        let mut writer = Writer::new(f.clone(), vec!["a".into(), "b".into()], types);
        let mut out = Vec::new();
        writer.begin(&mut out);
        for row in &rows {
            writer.row(row, &FormatSettings::default(), &mut out);
        }
        writer.end(&mut out);
        let back = read(&f, &out, 3).unwrap();
        assert_eq!(back[0], some(&["a", "b"]));
        for (row, back) in rows.iter().zip(&back[1..]) {
            let expected: Vec<_> = row.iter().map(|d| d.as_str().map(str::to_owned)).collect();
            assert_eq!(back, &expected, "{kind:?}");
        }
    }
}

#[test]
fn options_are_refused_as_in_postgresql() {
    let refuse = |with: fn(&mut CopyOptions), message: &str| {
        let mut options = CopyOptions::default();
        with(&mut options);
        let error = Format::new(&options, &["a".into()], true).expect_err(message);
        assert_eq!(error.0.message, message);
    };
    refuse(
        |o| o.delimiter = Some("ab".into()),
        "COPY delimiter must be a single one-byte character",
    );
    refuse(
        |o| o.delimiter = Some("a".into()),
        "COPY delimiter cannot be \"a\"",
    );
    refuse(
        |o| o.quote = Some("'".into()),
        "COPY quote available only in CSV mode",
    );
    refuse(
        |o| o.null = Some("a\nb".into()),
        "COPY null representation cannot use newline or carriage return",
    );
    refuse(
        |o| {
            o.format = Some(CopyFormat::Binary);
            o.null = Some("".into());
        },
        "cannot specify NULL in BINARY mode",
    );
    refuse(
        |o| {
            o.format = Some(CopyFormat::Csv);
            o.force_null = Some(vec!["x".into()]);
        },
        "FORCE_NULL column \"x\" not referenced by COPY",
    );
}
