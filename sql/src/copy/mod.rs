//! COPY's formats: text, csv and binary lines to fields and back, as PostgreSQL reads and writes
//! them. Bytes in, fields out; no session, no table.

mod options;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use options::{Format, Kind};
pub use read::{Reader, Record};
pub use write::Writer;

/// Bytes of one line, quotes and all.
pub const LINE_BYTES_MAX: usize = 256 << 20;

/// The first bytes of the binary format.
pub(crate) const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
