//! Golden bytes of the encoders, and pgwire's decoders as a second opinion.

use bytes::{BufMut, BytesMut};
use pgwire::messages::{DecodeContext, PgWireBackendMessage};
use wire::{Error, ErrorFields, Field, Format, Output, Severity, TransactionStatus};

fn encoded(write: impl FnOnce(&mut Output)) -> Vec<u8> {
    let mut output = Output::new();
    write(&mut output);
    output.as_bytes().to_vec()
}

#[test]
fn short_messages() {
    for (bytes, expected) in [
        (encoded(|o| o.parse_complete()), &b"1\0\0\0\x04"[..]),
        (encoded(|o| o.bind_complete()), b"2\0\0\0\x04"),
        (encoded(|o| o.close_complete()), b"3\0\0\0\x04"),
        (encoded(|o| o.no_data()), b"n\0\0\0\x04"),
        (encoded(|o| o.portal_suspended()), b"s\0\0\0\x04"),
        (encoded(|o| o.empty_query()), b"I\0\0\0\x04"),
        (encoded(|o| o.copy_done()), b"c\0\0\0\x04"),
        (
            encoded(|o| o.ready(TransactionStatus::Idle)),
            b"Z\0\0\0\x05I",
        ),
        (
            encoded(|o| o.ready(TransactionStatus::Transaction)),
            b"Z\0\0\0\x05T",
        ),
        (
            encoded(|o| o.ready(TransactionStatus::Failed)),
            b"Z\0\0\0\x05E",
        ),
        (
            encoded(|o| o.command_complete("SELECT 1")),
            b"C\0\0\0\x0dSELECT 1\0",
        ),
        (
            encoded(|o| o.parameter_status("TimeZone", "UTC")),
            b"S\0\0\0\x11TimeZone\0UTC\0",
        ),
        (
            encoded(|o| o.notification(7, "c", "p")),
            b"A\0\0\0\x0c\0\0\0\x07c\0p\0",
        ),
        (
            encoded(|o| o.backend_key(1, -2)),
            b"K\0\0\0\x0c\0\0\0\x01\xff\xff\xff\xfe",
        ),
        (
            encoded(|o| o.parameter_description(&[23, u32::MAX])),
            b"t\0\0\0\x0e\0\x02\0\0\0\x17\xff\xff\xff\xff",
        ),
        (encoded(|o| o.copy_data(b"x\n").unwrap()), b"d\0\0\0\x06x\n"),
        (
            encoded(|o| o.copy_in_response(Format::Binary, &[Format::Binary])),
            b"G\0\0\0\x09\x01\0\x01\0\x01",
        ),
        (
            encoded(|o| o.copy_out_response(Format::Text, &[])),
            b"H\0\0\0\x07\0\0\0",
        ),
        (
            encoded(|o| o.copy_both_response(Format::Text, &[])),
            b"W\0\0\0\x07\0\0\0",
        ),
    ] {
        assert_eq!(bytes, expected);
    }
}

#[test]
fn row_description() {
    let field = Field {
        name: "id".into(),
        table_oid: 16384,
        column: 1,
        type_oid: 23,
        type_size: 4,
        type_modifier: -1,
        format: Format::Binary,
    };
    assert_eq!(
        encoded(|o| o.row_description(&[field])),
        b"T\0\0\0\x1b\0\x01id\0\0\0\x40\0\0\x01\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01"
    );
    assert_eq!(encoded(|o| o.row_description(&[])), b"T\0\0\0\x06\0\0");
}

#[test]
fn data_rows() {
    let bytes = encoded(|output| {
        let mut row = output.data_row();
        row.value(|bytes| bytes.put_slice(b"ab"));
        row.null();
        row.bytes(b"");
        let written: Result<(), ()> = row.try_value(|bytes| {
            bytes.put_i32(1);
            Ok(())
        });
        assert_eq!(written, Ok(()));
        row.finish().unwrap();
        output.data_row().finish().unwrap();
    });
    let expected = b"D\0\0\0\x1c\0\x04\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0\0\0\0\x04\0\0\0\x01\
                     D\0\0\0\x06\0\0";
    assert_eq!(bytes, expected);
}

#[test]
fn a_row_given_up_leaves_nothing() {
    let bytes = encoded(|output| {
        output.parse_complete();
        let mut row = output.data_row();
        row.bytes(b"half");
        assert!(row.try_value(|_| Err("overflow")).is_err());
        drop(row);
        output.close_complete();
    });
    assert_eq!(bytes, b"1\0\0\0\x043\0\0\0\x04");
}

#[test]
fn a_value_given_up_leaves_the_row_whole() {
    let bytes = encoded(|output| {
        let mut row = output.data_row();
        let failed = row.try_value(|bytes| {
            bytes.put_slice(b"half");
            Err("overflow")
        });
        assert_eq!(failed, Err("overflow"));
        row.null();
        row.finish().unwrap();
    });
    assert_eq!(bytes, b"D\0\0\0\x0a\0\x01\xff\xff\xff\xff");
}

#[test]
fn a_row_with_too_many_columns_is_refused() {
    let bytes = encoded(|output| {
        let mut row = output.data_row();
        for _ in 0..70_000 {
            row.null();
        }
        assert!(matches!(row.finish(), Err(Error::TooLong)));
    });
    assert_eq!(bytes, b"");
}

#[test]
fn errors_in_postgresql_s_order() {
    let fields = ErrorFields {
        position: Some(8),
        ..ErrorFields::error("42703", "column \"x\" does not exist").with_hint("Look.")
    };
    assert_eq!(
        encoded(|o| o.error(&fields)),
        b"E\0\0\0\x3fSERROR\0VERROR\0C42703\0Mcolumn \"x\" does not exist\0HLook.\0P8\0\0"
    );
    let notice = ErrorFields::new(Severity::Notice, "00000", "hi");
    assert_eq!(
        encoded(|o| o.notice(&notice)),
        b"N\0\0\0\x20SNOTICE\0VNOTICE\0C00000\0Mhi\0\0"
    );
}

#[test]
fn a_nul_in_a_text_does_not_break_the_frame() {
    let bytes = encoded(|o| o.error(&ErrorFields::error("XX000", "a\0b")));
    assert!(bytes.windows(4).any(|window| window == b"Mab\0"));
    assert_eq!(encoded(|o| o.command_complete("\0")), b"C\0\0\0\x05\0");
}

#[test]
fn pgwire_reads_what_is_written_here() {
    let mut output = Output::new();
    output.row_description(&[Field::computed("?column?", 25, -1)]);
    let mut row = output.data_row();
    row.bytes(b"value");
    row.finish().unwrap();
    output.command_complete("SELECT 1");
    output.error(&ErrorFields::fatal("57P01", "bye").with_detail("Now."));
    output.parameter_description(&[1, 2, 3]);
    output.copy_in_response(Format::Text, &[Format::Text, Format::Text]);
    output.notification(1, "channel", "payload");
    output.backend_key(5, 6);
    output.ready(TransactionStatus::Transaction);
    let mut bytes = BytesMut::from(output.as_bytes());
    let mut context = DecodeContext::default();
    context.awaiting_frontend_ssl = false;
    let mut count = 0;
    while let Some(message) = PgWireBackendMessage::decode(&mut bytes, &context).unwrap() {
        count += 1;
        match message {
            PgWireBackendMessage::RowDescription(message) => {
                assert_eq!(message.fields[0].name, "?column?");
            }
            PgWireBackendMessage::DataRow(message) => {
                assert_eq!(&message.data[..], b"\0\0\0\x05value");
            }
            PgWireBackendMessage::ErrorResponse(message) => {
                assert!(message.fields.contains(&(b'D', "Now.".into())));
            }
            PgWireBackendMessage::CopyInResponse(message) => {
                assert_eq!(message.column_formats, [0, 0]);
            }
            _ => {}
        }
    }
    assert_eq!(count, 9);
    assert!(bytes.is_empty());
}
