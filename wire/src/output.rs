//! The encoders: each appends one message of a server to a buffer. Nothing is sent here, so an
//! [`Output`] also serves to prepare an answer on one node and send it from another.

use bytes::{BufMut, BytesMut};

use crate::error::{Error, ErrorFields};
use crate::field::{Field, Format, TransactionStatus};

/// The longest message that is sent; what libpq accepts (PostgreSQL's MaxAllocSize).
const MESSAGE_BYTES_MAX: usize = 0x3fff_ffff;

/// Encoded messages that were not sent yet.
#[derive(Debug, Default)]
pub struct Output {
    bytes: BytesMut,
}

impl Output {
    /// An empty one; allocates with the first message.
    pub fn new() -> Output {
        Output::default()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes that wait.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets what was appended after the buffer had `len` bytes: an answer begun and given up.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Appends whole messages that another [`Output`] encoded.
    pub fn append(&mut self, messages: &[u8]) {
        self.bytes.extend_from_slice(messages);
    }

    /// Takes all bytes out.
    pub fn take(&mut self) -> BytesMut {
        self.bytes.split()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Begins a message; its length is written by [`Output::end`].
    fn begin(&mut self, message_type: u8) -> usize {
        self.bytes.put_u8(message_type);
        let start = self.bytes.len();
        self.bytes.put_i32(0);
        start
    }

    fn end(&mut self, start: usize) {
        let len = self.bytes.len() - start;
        let len = u32::try_from(len).expect("only rows and COPY are long, and they are checked");
        self.bytes[start..start + 4].copy_from_slice(&len.to_be_bytes());
    }

    fn empty_message(&mut self, message_type: u8) {
        self.bytes.put_slice(&[message_type, 0, 0, 0, 4]);
    }

    /// A string of the protocol. A NUL in it would end it early and break the frame: left out.
    fn string(&mut self, text: &str) {
        for piece in text.as_bytes().split(|&byte| byte == 0) {
            self.bytes.put_slice(piece);
        }
        self.bytes.put_u8(0);
    }

    /// Writes how many elements follow. The protocol can't count further than 65,535, and no
    /// statement gets there (PostgreSQL: 1,664 columns); what is above is left out.
    fn counted<'a, T>(&mut self, elements: &'a [T]) -> &'a [T] {
        let count = u16::try_from(elements.len()).unwrap_or(u16::MAX);
        self.bytes.put_u16(count);
        &elements[..usize::from(count)]
    }

    /// RowDescription.
    pub fn row_description(&mut self, fields: &[Field]) {
        let start = self.begin(b'T');
        let fields = self.counted(fields);
        for field in fields {
            self.string(&field.name);
            self.bytes.put_u32(field.table_oid);
            self.bytes.put_i16(field.column);
            self.bytes.put_u32(field.type_oid);
            self.bytes.put_i16(field.type_size);
            self.bytes.put_i32(field.type_modifier);
            self.bytes.put_i16(field.format.code());
        }
        self.end(start);
    }

    /// DataRow, written in place. If the writer is dropped before [`RowWriter::finish`], the row
    /// vanishes, so an error in the middle of a row leaves no half message.
    pub fn data_row(&mut self) -> RowWriter<'_> {
        let begin = self.bytes.len();
        self.bytes.put_slice(&[b'D', 0, 0, 0, 0, 0, 0]);
        RowWriter {
            bytes: &mut self.bytes,
            begin,
            columns: 0,
            finished: false,
        }
    }

    /// CommandComplete with its tag, e.g. `INSERT 0 1`.
    pub fn command_complete(&mut self, tag: &str) {
        let start = self.begin(b'C');
        self.string(tag);
        self.end(start);
    }

    /// ReadyForQuery.
    pub fn ready(&mut self, status: TransactionStatus) {
        self.bytes.put_slice(&[b'Z', 0, 0, 0, 5, status.code()]);
    }

    /// ErrorResponse.
    pub fn error(&mut self, fields: &ErrorFields) {
        self.report(b'E', fields);
    }

    /// NoticeResponse; may be sent at any time.
    pub fn notice(&mut self, fields: &ErrorFields) {
        self.report(b'N', fields);
    }

    fn report(&mut self, message_type: u8, fields: &ErrorFields) {
        let start = self.begin(message_type);
        self.report_field(b'S', fields.severity.as_str());
        self.report_field(b'V', fields.severity.as_str());
        self.report_field(b'C', fields.sqlstate.as_str());
        self.report_field(b'M', &fields.message);
        self.report_option(b'D', fields.detail.as_deref());
        self.report_option(b'H', fields.hint.as_deref());
        self.report_number(b'P', fields.position);
        self.report_number(b'p', fields.internal_position);
        self.report_option(b'q', fields.internal_query.as_deref());
        self.report_option(b'W', fields.context.as_deref());
        self.report_option(b's', fields.schema.as_deref());
        self.report_option(b't', fields.table.as_deref());
        self.report_option(b'c', fields.column.as_deref());
        self.report_option(b'd', fields.data_type.as_deref());
        self.report_option(b'n', fields.constraint.as_deref());
        self.report_option(b'R', fields.routine.as_deref());
        self.bytes.put_u8(0);
        self.end(start);
    }

    fn report_field(&mut self, code: u8, text: &str) {
        self.bytes.put_u8(code);
        self.string(text);
    }

    fn report_option(&mut self, code: u8, text: Option<&str>) {
        if let Some(text) = text {
            self.report_field(code, text);
        }
    }

    fn report_number(&mut self, code: u8, number: Option<u32>) {
        if let Some(number) = number {
            self.report_field(code, &number.to_string());
        }
    }

    /// ParameterStatus; may be sent at any time.
    pub fn parameter_status(&mut self, name: &str, value: &str) {
        let start = self.begin(b'S');
        self.string(name);
        self.string(value);
        self.end(start);
    }

    /// NotificationResponse; may be sent at any time. `pid` is the notifying session's.
    pub fn notification(&mut self, pid: i32, channel: &str, payload: &str) {
        let start = self.begin(b'A');
        self.bytes.put_i32(pid);
        self.string(channel);
        self.string(payload);
        self.end(start);
    }

    /// BackendKeyData: what a CancelRequest must show.
    pub fn backend_key(&mut self, pid: i32, secret: i32) {
        let start = self.begin(b'K');
        self.bytes.put_i32(pid);
        self.bytes.put_i32(secret);
        self.end(start);
    }

    /// ParseComplete.
    pub fn parse_complete(&mut self) {
        self.empty_message(b'1');
    }

    /// BindComplete.
    pub fn bind_complete(&mut self) {
        self.empty_message(b'2');
    }

    /// CloseComplete.
    pub fn close_complete(&mut self) {
        self.empty_message(b'3');
    }

    /// NoData: the answer to Describe of what returns no rows. Never the answer to Execute.
    pub fn no_data(&mut self) {
        self.empty_message(b'n');
    }

    /// PortalSuspended: Execute stopped at its row limit.
    pub fn portal_suspended(&mut self) {
        self.empty_message(b's');
    }

    /// EmptyQueryResponse: instead of CommandComplete for an empty statement.
    pub fn empty_query(&mut self) {
        self.empty_message(b'I');
    }

    /// ParameterDescription: the parameters' type OIDs.
    pub fn parameter_description(&mut self, type_oids: &[u32]) {
        let start = self.begin(b't');
        for oid in self.counted(type_oids) {
            self.bytes.put_u32(*oid);
        }
        self.end(start);
    }

    /// CopyInResponse: the client may send CopyData.
    pub fn copy_in_response(&mut self, overall: Format, columns: &[Format]) {
        self.copy_response(b'G', overall, columns);
    }

    /// CopyOutResponse: CopyData will follow.
    pub fn copy_out_response(&mut self, overall: Format, columns: &[Format]) {
        self.copy_response(b'H', overall, columns);
    }

    /// CopyBothResponse: CopyData may go both ways (replication).
    pub fn copy_both_response(&mut self, overall: Format, columns: &[Format]) {
        self.copy_response(b'W', overall, columns);
    }

    fn copy_response(&mut self, message_type: u8, overall: Format, columns: &[Format]) {
        let start = self.begin(message_type);
        self.bytes.put_u8(u8::from(overall == Format::Binary));
        for format in self.counted(columns) {
            self.bytes.put_i16(format.code());
        }
        self.end(start);
    }

    /// CopyData. [`Error::TooLong`] above 1 GB, and nothing is appended.
    pub fn copy_data(&mut self, data: &[u8]) -> Result<(), Error> {
        if data.len() > MESSAGE_BYTES_MAX - 4 {
            return Err(Error::TooLong);
        }
        self.bytes.reserve(data.len() + 5);
        let start = self.begin(b'd');
        self.bytes.put_slice(data);
        self.end(start);
        Ok(())
    }

    /// CopyDone: the end of COPY TO STDOUT. (A server never sends CopyFail: an error ends it.)
    pub fn copy_done(&mut self) {
        self.empty_message(b'c');
    }

    /// AuthenticationOk.
    pub(crate) fn authentication_ok(&mut self) {
        self.bytes.put_slice(&[b'R', 0, 0, 0, 8, 0, 0, 0, 0]);
    }

    /// NegotiateProtocolVersion: 3.0 is the newest that is spoken here, and these options of the
    /// startup packet are unknown.
    pub(crate) fn negotiate_protocol_version(&mut self, unknown: &[String]) {
        let start = self.begin(b'v');
        self.bytes.put_u32(3 << 16);
        self.bytes
            .put_u32(u32::try_from(unknown.len()).expect("a startup packet is short"));
        for name in unknown {
            self.string(name);
        }
        self.end(start);
    }
}

/// Writes one DataRow straight into the output buffer.
#[derive(Debug)]
#[must_use = "a row that is not finished is not sent"]
pub struct RowWriter<'a> {
    bytes: &'a mut BytesMut,
    begin: usize,
    columns: u16,
    finished: bool,
}

impl RowWriter<'_> {
    /// Appends NULL.
    #[inline]
    pub fn null(&mut self) {
        self.columns = self.columns.saturating_add(1);
        self.bytes.put_i32(-1);
    }

    /// Appends a value: whatever `write` appends to the buffer. It must not touch what is there.
    #[inline]
    pub fn value(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let start = self.open();
        write(self.bytes);
        self.close(start);
    }

    /// As [`RowWriter::value`], for a writer that may fail; then the value wasn't appended. Drop
    /// the row.
    #[inline]
    pub fn try_value<E>(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.open();
        if let Err(error) = write(self.bytes) {
            self.bytes.truncate(start - 4);
            self.columns -= 1;
            return Err(error);
        }
        self.close(start);
        Ok(())
    }

    /// Appends a value that is already encoded.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) {
        let start = self.open();
        self.bytes.put_slice(value);
        self.close(start);
    }

    /// Bytes of the row so far.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.begin
    }

    /// True if no column was written yet.
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// Ends the row. [`Error::TooLong`] if it has more than 1 GB or 65,534 columns; then nothing of
    /// it is kept.
    #[inline]
    pub fn finish(mut self) -> Result<(), Error> {
        let len = self.bytes.len() - self.begin - 1;
        if len > MESSAGE_BYTES_MAX || self.columns == u16::MAX {
            return Err(Error::TooLong);
        }
        self.finished = true;
        let head = &mut self.bytes[self.begin + 1..self.begin + 7];
        head[..4].copy_from_slice(&(len as u32).to_be_bytes());
        head[4..].copy_from_slice(&self.columns.to_be_bytes());
        Ok(())
    }

    #[inline]
    fn open(&mut self) -> usize {
        self.columns = self.columns.saturating_add(1);
        self.bytes.put_i32(0);
        self.bytes.len()
    }

    #[inline]
    fn close(&mut self, start: usize) {
        // A value above 4 GB is cut here, but then `finish` refuses the whole row.
        let len = (self.bytes.len() - start) as u32;
        self.bytes[start - 4..start].copy_from_slice(&len.to_be_bytes());
    }
}

impl Drop for RowWriter<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.bytes.truncate(self.begin);
        }
    }
}
