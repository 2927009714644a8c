//! Errors of the wire and the fields of ErrorResponse and NoticeResponse, in PostgreSQL's words.

use std::fmt;
use std::io;

/// How grave a report is (field `S` and `V` of ErrorResponse and NoticeResponse).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Severity {
    /// The statement failed; the connection lives on.
    #[default]
    Error,
    /// The connection ends after this message.
    Fatal,
    /// All connections of the server end after this message.
    Panic,
    /// Something that the user should look at.
    Warning,
    /// Something that the user may want to know.
    Notice,
    /// For `client_min_messages = debug1` and below.
    Debug,
    /// What the user asked for, whatever `client_min_messages` says.
    Info,
    /// What belongs to the server's log.
    Log,
}

impl Severity {
    /// The word that PostgreSQL sends.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
            Severity::Panic => "PANIC",
            Severity::Warning => "WARNING",
            Severity::Notice => "NOTICE",
            Severity::Debug => "DEBUG",
            Severity::Info => "INFO",
            Severity::Log => "LOG",
        }
    }
}

/// What ErrorResponse or NoticeResponse carries. A NUL inside a text is left out when it is sent,
/// for the protocol's strings end at the first one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErrorFields {
    /// ERROR, FATAL, NOTICE, ...
    pub severity: Severity,
    /// Five characters (PostgreSQL, appendix A).
    pub sqlstate: SqlState,
    /// The primary message: lower case, no period.
    pub message: String,
    /// DETAIL: full sentences.
    pub detail: Option<String>,
    /// HINT: full sentences.
    pub hint: Option<String>,
    /// Where in the query text, in characters, from 1.
    pub position: Option<u32>,
    /// Where in `internal_query`, in characters, from 1.
    pub internal_position: Option<u32>,
    /// The text of a statement that the server generated itself and that failed.
    pub internal_query: Option<String>,
    /// CONTEXT: the stack of what was going on.
    pub context: Option<String>,
    /// The schema of the object that the error is about.
    pub schema: Option<String>,
    /// The table that the error is about.
    pub table: Option<String>,
    /// The column that the error is about.
    pub column: Option<String>,
    /// The data type that the error is about.
    pub data_type: Option<String>,
    /// The constraint that the error is about.
    pub constraint: Option<String>,
    /// The routine that reported it (shown by `\set VERBOSITY verbose`).
    pub routine: Option<String>,
}

/// Five ASCII characters that name the kind of an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// From its five characters. Anything else than `A-Z` and `0-9` becomes `XX000`
    /// (internal_error), so that a bad constant can't break a frame.
    pub const fn new(code: &str) -> SqlState {
        let bytes = code.as_bytes();
        if bytes.len() != 5 {
            return SqlState(*b"XX000");
        }
        let mut index = 0;
        while index < 5 {
            if !bytes[index].is_ascii_uppercase() && !bytes[index].is_ascii_digit() {
                return SqlState(*b"XX000");
            }
            index += 1;
        }
        SqlState([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]])
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the constructor lets only ASCII pass")
    }
}

impl Default for SqlState {
    fn default() -> Self {
        SqlState::new("XX000")
    }
}

impl From<&str> for SqlState {
    fn from(code: &str) -> Self {
        SqlState::new(code)
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ErrorFields {
    /// An ERROR.
    pub fn error(sqlstate: &str, message: impl Into<String>) -> ErrorFields {
        ErrorFields::new(Severity::Error, sqlstate, message)
    }

    /// A FATAL: the connection is to be closed after it.
    pub fn fatal(sqlstate: &str, message: impl Into<String>) -> ErrorFields {
        ErrorFields::new(Severity::Fatal, sqlstate, message)
    }

    /// A report of any severity.
    pub fn new(severity: Severity, sqlstate: &str, message: impl Into<String>) -> ErrorFields {
        ErrorFields {
            severity,
            sqlstate: SqlState::new(sqlstate),
            message: message.into(),
            ..ErrorFields::default()
        }
    }

    /// The same with a DETAIL.
    pub fn with_detail(mut self, detail: impl Into<String>) -> ErrorFields {
        self.detail = Some(detail.into());
        self
    }

    /// The same with a HINT.
    pub fn with_hint(mut self, hint: impl Into<String>) -> ErrorFields {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ErrorFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} ({})",
            self.severity.as_str(),
            self.message,
            self.sqlstate
        )
    }
}

/// What can go wrong on a connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One message was not understood, but its frame was whole: the connection is in step. Answer
    /// with the ERROR; then skip to Sync or send ReadyForQuery, as [`Error::skips_to_sync`] says.
    #[error("{fields}")]
    Message {
        /// The first byte of the frame.
        message_type: u8,
        /// What to tell the client.
        fields: Box<ErrorFields>,
    },
    /// The byte stream makes no sense from here on: send the FATAL, flush and close.
    #[error("{0}")]
    Protocol(Box<ErrorFields>),
    /// A message to the client would be longer than the protocol can say. Nothing of it was kept.
    #[error("message to the client is longer than 1 GB")]
    TooLong,
    /// The socket failed, or the peer closed it in the middle of a message.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// What the client should be told, if anything can be.
    pub fn fields(&self) -> Option<&ErrorFields> {
        match self {
            Error::Message { fields, .. } => Some(fields),
            Error::Protocol(fields) => Some(fields),
            Error::TooLong | Error::Io(_) => None,
        }
    }

    /// True if the connection can't go on.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Error::Protocol(_) | Error::Io(_))
    }

    /// True if the message belongs to the extended protocol, where everything up to Sync is dropped
    /// after an error; false if ReadyForQuery follows the error at once.
    pub fn skips_to_sync(&self) -> bool {
        let Error::Message { message_type, .. } = self else {
            return false;
        };
        matches!(message_type, b'P' | b'B' | b'D' | b'E' | b'C' | b'H')
    }

    /// The byte stream makes no sense, for this reason.
    pub fn protocol(sqlstate: &str, message: impl Into<String>) -> Error {
        Error::Protocol(Box::new(ErrorFields::fatal(sqlstate, message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_sqlstate_becomes_internal_error() {
        assert_eq!(SqlState::new("28P01").as_str(), "28P01");
        for bad in ["", "28p01", "28P0", "28P011", "28\u{e9}1"] {
            assert_eq!(SqlState::new(bad).as_str(), "XX000");
        }
    }
}
