//! Requests and errors as bytes between nodes.
//!
//! ```text
//! request  1, group, at, known: pairs of group and position; view, shape, reader,
//!          columns: count, then a number of 32 bits each; conditions: count, then column,
//!          1 = | 2 > | 3 >=, value in its storage form; asker, started, begun, 0 | 1 holds
//! error    code (5 bytes), message, detail: 0 | 1 and text, hint: likewise
//! ```
//! Little-endian; texts and bytes behind their length.

use storage::{GroupId, Position};

use super::{Compare, Condition, Request};
use crate::catalog::{RoleId, TableId};
use crate::cluster::{Reader, Writer};
use crate::types::codec::{decode_next, encode_value};
use crate::{Error, Result, SqlState, state};

const VERSION: u8 = 1;

/// XX001.
pub(super) fn damaged() -> Error {
    Error::new(
        state::DATA_CORRUPTED,
        "what another node says of a view can't be read",
    )
}

impl Request {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(vec![VERSION]);
        out.u32(self.group.0);
        out.u64(self.at.0);
        out.count(self.known.len());
        for (group, at) in &self.known {
            out.u32(group.0);
            out.u64(at.0);
        }
        out.u32(self.view.0);
        out.bytes(&self.shape);
        out.u32(self.reader.0);
        out.count(self.columns.len());
        self.columns.iter().for_each(|n| out.u32(u32::from(*n)));
        out.count(self.conditions.len());
        for condition in &self.conditions {
            out.u32(u32::from(condition.column));
            out.u8(match condition.compare {
                Compare::Equal => 1,
                Compare::Above => 2,
                Compare::From => 3,
            });
            let mut value = Vec::new();
            encode_value(&condition.value, &mut value);
            out.bytes(&value);
        }
        out.bytes(&self.asker);
        out.u64(self.started);
        out.u64(self.begun);
        out.u8(u8::from(self.holds));
        out.0
    }

    /// The inverse.
    ///
    /// # Errors
    /// XX001 for what is none.
    pub fn decode(bytes: &[u8]) -> Result<Request> {
        let mut r = Reader(bytes);
        let request = read(&mut r).filter(|_| r.is_empty());
        request.ok_or_else(damaged)
    }
}

fn read(r: &mut Reader<'_>) -> Option<Request> {
    if r.u8()? != VERSION {
        return None;
    }
    Some(Request {
        group: GroupId(r.u32()?),
        at: Position(r.u64()?),
        known: r.list(|r| Some((GroupId(r.u32()?), Position(r.u64()?))))?,
        view: TableId(r.u32()?),
        shape: r.bytes()?.to_vec(),
        reader: RoleId(r.u32()?),
        columns: r.list(|r| u16::try_from(r.u32()?).ok())?,
        conditions: r.list(read_condition)?,
        asker: r.bytes()?.to_vec(),
        started: r.u64()?,
        begun: r.u64()?,
        holds: r.flag()?,
    })
}

fn read_condition(r: &mut Reader<'_>) -> Option<Condition> {
    let column = u16::try_from(r.u32()?).ok()?;
    let compare = match r.u8()? {
        1 => Compare::Equal,
        2 => Compare::Above,
        3 => Compare::From,
        _ => return None,
    };
    let mut bytes = r.bytes()?;
    let value = decode_next(&mut bytes).ok()?;
    bytes.is_empty().then_some(Condition {
        column,
        compare,
        value,
    })
}

/// What the reader's client is told of an error at the source: what it says, not where.
pub fn encode_error(error: &Error) -> Vec<u8> {
    let mut out = Writer::default();
    error.0.state.0.iter().for_each(|byte| out.u8(*byte));
    out.text(&error.0.message);
    for part in [&error.0.detail, &error.0.hint] {
        out.u8(u8::from(part.is_some()));
        if let Some(part) = part {
            out.text(part);
        }
    }
    out.0
}

/// The inverse.
///
/// # Errors
/// XX001 for what is none.
pub fn decode_error(bytes: &[u8]) -> Result<Error> {
    let mut r = Reader(bytes);
    let error = read_error(&mut r).filter(|_| r.is_empty());
    error.ok_or_else(damaged)
}

fn read_error(r: &mut Reader<'_>) -> Option<Error> {
    let mut code = [0; 5];
    for byte in &mut code {
        *byte = r.u8().filter(u8::is_ascii_alphanumeric)?;
    }
    let mut error = Error::new(SqlState(code), r.text()?);
    if r.flag()? {
        error = error.detail(r.text()?);
    }
    if r.flag()? {
        error = error.hint(r.text()?);
    }
    Some(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Datum;

    #[test]
    fn requests_and_errors_come_back_and_damaged_ones_do_not() {
        let request = Request {
            group: GroupId(7),
            at: Position(70),
            known: vec![
                (GroupId::DIRECTORY, Position(3)),
                (GroupId(7), Position(60)),
            ],
            view: TableId(16_500),
            shape: b"SELECT".to_vec(),
            reader: RoleId(16_400),
            columns: vec![0, 3],
            conditions: vec![
                Condition {
                    column: 3,
                    compare: Compare::From,
                    value: Datum::Int4(-5),
                },
                Condition {
                    column: 0,
                    compare: Compare::Equal,
                    value: Datum::text("x"),
                },
            ],
            asker: vec![1, 2, 3],
            started: 5,
            begun: 6,
            holds: true,
        };
        let bytes = request.encode();
        assert_eq!(Request::decode(&bytes).unwrap(), request);
        for cut in 0..bytes.len() {
            assert!(Request::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let error = Error::new(state::DIVISION_BY_ZERO, "division by zero").hint("Don't.");
        let bytes = encode_error(&error.table("orders", "secret"));
        let told = decode_error(&bytes).unwrap();
        assert_eq!(told.state(), state::DIVISION_BY_ZERO);
        assert_eq!(told.0.hint.as_deref(), Some("Don't."));
        assert_eq!(told.0.table, None, "where it happened is not told");
        assert!(decode_error(&bytes[1..]).is_err());
    }
}
