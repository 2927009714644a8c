//! The session's output, framed into the connection's buffer.

use sql::session::{Field, Output};

use crate::report;

/// Bytes after which the session had better let the client read.
const ANSWER_BYTES_HIGH: usize = 64 << 10;

/// Where one call of the session writes.
pub struct Answer<'a> {
    out: &'a mut wire::Output,
    frame: &'a mut Frame,
}

/// How rows are framed, and the memory to do it in.
#[derive(Default)]
pub struct Frame {
    bytes: Vec<u8>,
    /// COPY TO: rows are CopyData.
    pub copying: bool,
}

impl<'a> Answer<'a> {
    /// Into a connection's buffer.
    pub fn new(out: &'a mut wire::Output, frame: &'a mut Frame) -> Answer<'a> {
        Answer { out, frame }
    }
}

impl Output for Answer<'_> {
    fn columns(&mut self, fields: &[Field]) {
        let fields: Vec<wire::Field> = fields.iter().map(report::field).collect();
        self.out.row_description(&fields);
    }

    fn row(&mut self, write: &mut dyn FnMut(&mut Vec<u8>)) {
        let bytes = &mut self.frame.bytes;
        bytes.clear();
        bytes.extend_from_slice(&[if self.frame.copying { b'd' } else { b'D' }, 0, 0, 0, 0]);
        write(bytes);
        // A row is bounded by the limits of its values, far below the 2 GB of a length.
        let length = u32::try_from(bytes.len() - 1).unwrap_or(u32::MAX);
        bytes[1..5].copy_from_slice(&length.to_be_bytes());
        self.out.append(bytes);
    }

    fn notice(&mut self, severity: &'static str, notice: &sql::Error) {
        self.out
            .notice(&report::fields(report::severity(severity), notice));
    }

    fn parameter(&mut self, name: &str, value: &str) {
        self.out.parameter_status(name, value);
    }

    fn full(&self) -> bool {
        self.out.len() > ANSWER_BYTES_HIGH
    }
}
