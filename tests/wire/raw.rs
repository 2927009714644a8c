//! A client of bare frames: what drivers and `Session` hide is what is looked at here.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tests::{DATABASE, Place};

use super::PATIENCE;

/// A connection that shows every frame.
pub struct Raw {
    pub stream: TcpStream,
}

/// One message of the server: its type, and its body.
pub type Frame = (u8, Vec<u8>);

impl Raw {
    /// Connects and says nothing.
    pub fn connect(place: &Place) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", place.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Raw { stream }
    }

    /// Logs in by trust.
    pub fn login(place: &Place, user: &str) -> Raw {
        let mut raw = Raw::connect(place);
        let mut out = BytesMut::new();
        let parameters = [
            ("user", user),
            ("database", DATABASE),
            ("client_encoding", "UTF8"),
        ];
        frontend::startup_message(parameters, &mut out).unwrap();
        raw.send(&out);
        raw.until_ready();
        raw
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The one byte that answers a request for encryption.
    pub fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        byte[0]
    }

    pub fn frame(&mut self) -> Frame {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).unwrap();
        let len = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4;
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).unwrap();
        (head[0], body)
    }

    /// Frames until one of this type, that one included.
    pub fn until(&mut self, end: u8) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            frames.push(self.frame());
            if frames.last().is_some_and(|(kind, _)| *kind == end) {
                return frames;
            }
        }
    }

    pub fn until_ready(&mut self) -> Vec<Frame> {
        self.until(b'Z')
    }
}

/// A field of an ErrorResponse or NoticeResponse.
pub fn field(body: &[u8], letter: u8) -> String {
    body.split(|byte| *byte == 0)
        .find(|field| field.first() == Some(&letter))
        .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
        .unwrap_or_default()
}

/// What two servers must agree in: everything but OIDs of tables and words of errors.
pub fn shown((kind, body): &Frame) -> String {
    let kind = char::from(*kind);
    match kind {
        'E' | 'N' => format!("{kind} {}", field(body, b'C')),
        // Names and formats are compared where rows are.
        'T' => format!("{kind} {} columns", u16::from_be_bytes([body[0], body[1]])),
        'S' => format!("{kind} {}", String::from_utf8_lossy(body)),
        _ => format!("{kind} {}", body.escape_ascii()),
    }
}

/// Messages of the extended protocol, one after the other.
#[derive(Default)]
pub struct Script(pub BytesMut);

impl Script {
    pub fn query(mut self, sql: &str) -> Script {
        frontend::query(sql, &mut self.0).unwrap();
        self
    }

    pub fn parse(mut self, name: &str, sql: &str) -> Script {
        frontend::parse(name, sql, [], &mut self.0).unwrap();
        self
    }

    /// Binds text values; results in one format for all.
    pub fn bind(mut self, portal: &str, statement: &str, values: &[&str], format: i16) -> Script {
        let write = |value: &&str, out: &mut BytesMut| {
            out.extend_from_slice(value.as_bytes());
            Ok(IsNull::No)
        };
        let bound = frontend::bind(portal, statement, [0], values, write, [format], &mut self.0);
        assert!(bound.is_ok());
        self
    }

    pub fn describe(mut self, kind: u8, name: &str) -> Script {
        frontend::describe(kind, name, &mut self.0).unwrap();
        self
    }

    pub fn execute(mut self, portal: &str, rows_max: i32) -> Script {
        frontend::execute(portal, rows_max, &mut self.0).unwrap();
        self
    }

    pub fn close(mut self, kind: u8, name: &str) -> Script {
        frontend::close(kind, name, &mut self.0).unwrap();
        self
    }

    pub fn flush(mut self) -> Script {
        frontend::flush(&mut self.0);
        self
    }

    pub fn sync(mut self) -> Script {
        frontend::sync(&mut self.0);
        self
    }

    pub fn data(mut self, data: &[u8]) -> Script {
        frontend::CopyData::new(data).unwrap().write(&mut self.0);
        self
    }

    pub fn done(mut self) -> Script {
        frontend::copy_done(&mut self.0);
        self
    }

    pub fn fail(mut self, reason: &str) -> Script {
        frontend::copy_fail(reason, &mut self.0).unwrap();
        self
    }
}
