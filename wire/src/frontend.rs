//! The messages of a client, decoded from exactly one frame each. Decoding is total: any bytes give
//! a message or an error, and a frame that isn't used up is an error too.

use std::ffi::CStr;

use bytes::{Buf, Bytes};

use crate::error::{Error, ErrorFields};

/// What Describe and Close are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement.
    Statement,
    /// A portal: a statement with its parameters.
    Portal,
}

/// A message from the client after authentication (PostgreSQL, chapter 55.7). Strings are UTF-8
/// without NUL. An empty name means the unnamed statement or portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frontend {
    /// One or more statements as text.
    Query(String),
    /// Prepare a statement.
    Parse {
        /// The statement's name.
        name: String,
        /// One statement.
        sql: String,
        /// OIDs of the first parameters' types; 0 = infer.
        parameter_types: Vec<u32>,
    },
    /// Make a portal of a prepared statement.
    Bind {
        /// The portal's name.
        portal: String,
        /// The statement's name.
        statement: String,
        /// None (all text), one for all, or one per parameter.
        parameter_formats: Vec<i16>,
        /// None = NULL.
        parameters: Vec<Option<Bytes>>,
        /// None (all text), one for all, or one per result column.
        result_formats: Vec<i16>,
    },
    /// Ask for parameters and columns.
    Describe {
        /// Statement or portal.
        target: Target,
        /// Its name.
        name: String,
    },
    /// Run a portal.
    Execute {
        /// The portal's name.
        portal: String,
        /// 0 = all.
        rows_max: u32,
    },
    /// Forget a statement or portal.
    Close {
        /// Statement or portal.
        target: Target,
        /// Its name.
        name: String,
    },
    /// Send what there is, without ending the sequence.
    Flush,
    /// End of a sequence of extended messages.
    Sync,
    /// A piece of COPY FROM STDIN.
    CopyData(Bytes),
    /// The end of COPY FROM STDIN.
    CopyDone,
    /// The client gives COPY up, for this reason.
    CopyFail(String),
    /// The fast-path call, which Freehold doesn't offer (0A000).
    FunctionCall,
    /// The client leaves.
    Terminate,
}

/// Short messages have a short limit, as in PostgreSQL's `SocketBackend`; None = unknown type.
pub(crate) fn body_bytes_max(message_type: u8, long: usize) -> Option<usize> {
    match message_type {
        b'Q' | b'P' | b'B' | b'F' => Some(long),
        b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' => Some(SHORT_BYTES_MAX),
        b'd' => Some(COPY_MESSAGE_BYTES_MAX),
        _ => None,
    }
}

/// PostgreSQL's PQ_SMALL_MESSAGE_LIMIT, and the limit of each message before authentication.
pub(crate) const SHORT_BYTES_MAX: usize = 10_000;
/// PostgreSQL's PQ_LARGE_MESSAGE_LIMIT; only CopyData may claim it, for it is handed on in pieces.
pub(crate) const COPY_MESSAGE_BYTES_MAX: usize = 0x3fff_ffff;

impl Frontend {
    /// Decodes the body (what follows type and length) of one frame.
    pub(crate) fn decode(message_type: u8, body: Bytes) -> Result<Frontend, Error> {
        let mut body = Body(body);
        decode_body(message_type, &mut body)
            .and_then(|message| body.end().map(|()| message))
            .map_err(|fields| Error::Message {
                message_type,
                fields,
            })
    }
}

fn decode_body(message_type: u8, body: &mut Body) -> Decoded<Frontend> {
    Ok(match message_type {
        b'Q' => Frontend::Query(body.string()?),
        b'P' => decode_parse(body)?,
        b'B' => decode_bind(body)?,
        b'D' => Frontend::Describe {
            target: body.target("DESCRIBE")?,
            name: body.string()?,
        },
        b'E' => {
            let portal = body.string()?;
            // Zero and below mean no limit, as in PostgreSQL.
            Frontend::Execute {
                portal,
                rows_max: u32::try_from(body.i32()?).unwrap_or(0),
            }
        }
        b'C' => Frontend::Close {
            target: body.target("CLOSE")?,
            name: body.string()?,
        },
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'd' => Frontend::CopyData(body.rest()),
        b'c' => Frontend::CopyDone,
        b'f' => Frontend::CopyFail(body.string()?),
        b'F' => {
            body.rest();
            Frontend::FunctionCall
        }
        b'X' => Frontend::Terminate,
        other => return Err(violation(format!("invalid frontend message type {other}"))),
    })
}

fn decode_parse(body: &mut Body) -> Decoded<Frontend> {
    let name = body.string()?;
    let sql = body.string()?;
    let count = body.count(4)?;
    let mut parameter_types = Vec::with_capacity(count);
    for _ in 0..count {
        parameter_types.push(body.u32()?);
    }
    Ok(Frontend::Parse {
        name,
        sql,
        parameter_types,
    })
}

fn decode_bind(body: &mut Body) -> Decoded<Frontend> {
    let portal = body.string()?;
    let statement = body.string()?;
    let parameter_formats = body.formats()?;
    let count = body.count(4)?;
    if parameter_formats.len() > 1 && parameter_formats.len() != count {
        let formats = parameter_formats.len();
        return Err(violation(format!(
            "bind message has {formats} parameter formats but {count} parameters"
        )));
    }
    let mut parameters = Vec::with_capacity(count);
    for _ in 0..count {
        parameters.push(match body.i32()? {
            -1 => None,
            len => Some(body.bytes(usize::try_from(len).map_err(|_| short())?)?),
        });
    }
    let result_formats = body.formats()?;
    Ok(Frontend::Bind {
        portal,
        statement,
        parameter_formats,
        parameters,
        result_formats,
    })
}

type Decoded<T> = Result<T, Box<ErrorFields>>;

fn violation(message: impl Into<String>) -> Box<ErrorFields> {
    Box::new(ErrorFields::error("08P01", message))
}

fn short() -> Box<ErrorFields> {
    violation("insufficient data left in message")
}

/// The body of a frame, taken from its front. Nothing here trusts a count or a length.
struct Body(Bytes);

impl Body {
    fn string(&mut self) -> Decoded<String> {
        let text = CStr::from_bytes_until_nul(&self.0)
            .map_err(|_| violation("invalid string in message"))?;
        let owned = utf8(text.to_bytes())?.to_owned();
        self.0.advance(owned.len() + 1);
        Ok(owned)
    }

    fn i32(&mut self) -> Decoded<i32> {
        self.0.try_get_i32().map_err(|_| short())
    }

    fn u32(&mut self) -> Decoded<u32> {
        self.0.try_get_u32().map_err(|_| short())
    }

    /// A 16-bit unsigned count of elements of at least `bytes_each`, all of which must be here.
    fn count(&mut self, bytes_each: usize) -> Decoded<usize> {
        let count = usize::from(self.0.try_get_u16().map_err(|_| short())?);
        if count * bytes_each > self.0.len() {
            return Err(short());
        }
        Ok(count)
    }

    fn formats(&mut self) -> Decoded<Vec<i16>> {
        let count = self.count(2)?;
        (0..count)
            .map(|_| self.0.try_get_i16().map_err(|_| short()))
            .collect()
    }

    fn bytes(&mut self, len: usize) -> Decoded<Bytes> {
        if len > self.0.len() {
            return Err(short());
        }
        Ok(self.0.split_to(len))
    }

    fn target(&mut self, message: &str) -> Decoded<Target> {
        match self.0.try_get_u8().map_err(|_| short())? {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            other => Err(violation(format!(
                "invalid {message} message subtype {other}"
            ))),
        }
    }

    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    fn end(&self) -> Decoded<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(violation("invalid message format"))
        }
    }
}

/// The text of a message, or 22021 naming the first bad bytes as PostgreSQL does.
pub(crate) fn utf8(bytes: &[u8]) -> Decoded<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let rest = &bytes[error.valid_up_to()..];
        // PostgreSQL shows as many bytes as the first one announces.
        let announced = match rest[0] {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => 1,
        };
        let shown: Vec<String> = rest
            .iter()
            .take(announced)
            .map(|byte| format!("0x{byte:02x}"))
            .collect();
        let message = format!(
            "invalid byte sequence for encoding \"UTF8\": {}",
            shown.join(" ")
        );
        Box::new(ErrorFields::error("22021", message))
    })
}
