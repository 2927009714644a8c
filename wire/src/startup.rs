//! What a connection begins with: encryption requests, the startup packet or a cancel request.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::{Buf, Bytes};

use crate::error::{Error, ErrorFields};
use crate::frontend::utf8;

const CANCEL_REQUEST: u32 = (1234 << 16) | 5678;
const SSL_REQUEST: u32 = (1234 << 16) | 5679;
const GSSENC_REQUEST: u32 = (1234 << 16) | 5680;
/// The only major version, and the newest minor version of it that is spoken here.
const MAJOR: u32 = 3;
const MINOR: u32 = 0;
/// Options of the protocol itself begin so; none is known here.
const PROTOCOL_OPTION: &str = "_pq_.";

/// Who connects, and how he wants the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// The role's name, as the client wrote it; never empty.
    pub user: String,
    /// The database's name; the user's if none was named.
    pub database: String,
    /// All other parameters: `application_name`, `client_encoding`, `options`, `replication`, ...
    pub parameters: BTreeMap<String, String>,
    /// Where the client is.
    pub peer: SocketAddr,
    /// True if the connection is encrypted.
    pub tls: bool,
}

impl Startup {
    /// The settings that `options` asks for (`-c name=value`, `--name=value`, backslash escapes),
    /// in order. 42601 for anything else, as PostgreSQL.
    pub fn settings(&self) -> Result<Vec<(String, String)>, Box<ErrorFields>> {
        let Some(options) = self.parameters.get("options") else {
            return Ok(Vec::new());
        };
        let mut words = split_options(options).into_iter();
        let mut settings = Vec::new();
        while let Some(word) = words.next() {
            let assignment = if word == "-c" {
                words.next()
            } else {
                word.strip_prefix("--")
                    .or_else(|| word.strip_prefix("-c"))
                    .map(str::to_owned)
            };
            let Some((name, value)) = assignment.as_deref().and_then(|a| a.split_once('=')) else {
                return Err(Box::new(ErrorFields::fatal(
                    "42601",
                    format!("invalid command-line argument for server process: {word}"),
                )));
            };
            settings.push((name.replace('-', "_"), value.to_owned()));
        }
        Ok(settings)
    }

    /// The name under which the client shows itself; empty if it gave none.
    pub fn application_name(&self) -> &str {
        self.parameters
            .get("application_name")
            .map_or("", String::as_str)
    }
}

/// Splits at white space; a backslash takes the next character literally (`pg_split_opts`).
fn split_options(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

/// The first packets of a connection.
#[derive(Debug)]
pub(crate) enum Packet {
    Ssl,
    GssEnc,
    Cancel {
        pid: i32,
        secret: i32,
    },
    Startup {
        user: String,
        parameters: BTreeMap<String, String>,
        /// Unknown options of the protocol, if they or a newer minor version were asked for.
        negotiate: Option<Vec<String>>,
    },
}

impl Packet {
    /// Decodes a packet without its length. At least four bytes.
    pub fn decode(mut packet: Bytes) -> Result<Packet, Error> {
        let code = packet.try_get_u32().map_err(|_| layout())?;
        match code {
            SSL_REQUEST if packet.is_empty() => Ok(Packet::Ssl),
            GSSENC_REQUEST if packet.is_empty() => Ok(Packet::GssEnc),
            CANCEL_REQUEST => match (packet.try_get_i32(), packet.try_get_i32(), packet.len()) {
                (Ok(pid), Ok(secret), 0) => Ok(Packet::Cancel { pid, secret }),
                _ => Err(Error::protocol("08P01", "invalid length of startup packet")),
            },
            version if version >> 16 == MAJOR => decode_startup(version, packet),
            version => Err(unsupported(version)),
        }
    }
}

/// The error for a version that isn't spoken, or for a second request for encryption.
pub(crate) fn unsupported(version: u32) -> Error {
    let (major, minor) = (version >> 16, version & 0xffff);
    let message = format!(
        "unsupported frontend protocol {major}.{minor}: server supports {MAJOR}.0 to \
         {MAJOR}.{MINOR}"
    );
    Error::protocol("0A000", message)
}

/// A second SSLRequest or GSSENCRequest is no version that anybody speaks.
pub(crate) fn unsupported_again(packet: &Packet) -> Error {
    unsupported(if matches!(packet, Packet::Ssl) {
        SSL_REQUEST
    } else {
        GSSENC_REQUEST
    })
}

fn decode_startup(version: u32, packet: Bytes) -> Result<Packet, Error> {
    let mut parameters = BTreeMap::new();
    let mut unknown = Vec::new();
    let mut rest = &packet[..];
    loop {
        let name = take_string(&mut rest)?;
        if name.is_empty() {
            break;
        }
        let value = take_string(&mut rest)?;
        if name.starts_with(PROTOCOL_OPTION) {
            unknown.push(name);
        } else {
            parameters.insert(name, value);
        }
    }
    if !rest.is_empty() {
        return Err(layout());
    }
    let user = parameters.remove("user").unwrap_or_default();
    if user.is_empty() {
        let message = "no PostgreSQL user name specified in startup packet";
        return Err(Error::protocol("28000", message));
    }
    let newer = version & 0xffff > MINOR;
    let negotiate = (newer || !unknown.is_empty()).then_some(unknown);
    Ok(Packet::Startup {
        user,
        parameters,
        negotiate,
    })
}

fn take_string(rest: &mut &[u8]) -> Result<String, Error> {
    let end = rest.iter().position(|&byte| byte == 0).ok_or_else(layout)?;
    let (text, after) = rest.split_at(end);
    *rest = &after[1..];
    match utf8(text) {
        Ok(text) => Ok(text.to_owned()),
        Err(fields) => Err(Error::protocol("22021", fields.message)),
    }
}

fn layout() -> Error {
    let message = "invalid startup packet layout: expected terminator as last byte";
    Error::protocol("08P01", message)
}
