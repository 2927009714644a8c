//! The handshake: who is at the other end, which protocol both speak, and whether each of them wants
//! to talk to the other. Nothing else is exchanged before both have said yes.
//!
//! ```text
//! who connects                     who listens
//!   Hello   ────────────────────────>   common version? admit?
//!   common version? admit?   <───────   Hello (or Refuse, and the end)
//!   Admit (or Refuse)  ─────────────>   requests from here on
//! ```
//!
//! Versions come first in a hello and never move, so that programs of any two versions can tell each
//! other why they don't understand each other. Fields that a later version adds stand at the end and
//! are passed over by those that don't know them.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use uuid::Uuid;

use super::Service;
use super::frame::{self, Frame, Kind, Reader};

/// The versions of the protocol that this program speaks.
pub const PROTOCOL_VERSIONS: RangeInclusive<u16> = 1..=1;
/// The version of what is inside: entries, snapshots, requests.
pub const FORMAT_VERSION: u32 = 1;
/// The longest hello: a node says the journal's end for each of its groups in it.
pub const HELLO_BYTES_MAX: usize = 1 << 20;
/// The longest address, `host:port`: a name has at most 253 characters.
pub const ADDRESS_BYTES_MAX: usize = 260;

/// The first bytes of each connection, behind the frame's header.
const MAGIC: &[u8; 8] = b"freehold";

const _: () = assert!(HELLO_BYTES_MAX <= frame::BODY_BYTES_MAX);

/// Who a node is, in every handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that it belongs to; None: to none yet.
    pub cluster: Option<Uuid>,
    /// Its number in the cluster; 0: it has none yet.
    pub node: u32,
    /// Of the data folder: another one under the same number is another node.
    pub incarnation: Uuid,
    /// Where its peers reach it, `host:port`.
    pub address: String,
    /// Where clients reach it, `host:port`.
    pub client_address: String,
}

/// What a connection carries. Each has one of its own per pair of nodes, so that none waits behind
/// another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Votes, heartbeats, the directory: small and urgent.
    Control = 1,
    /// Entries and their acknowledgements.
    Data = 2,
    /// Snapshots and bootstraps.
    Bulk = 3,
    /// Sessions of clients that are passed on, as streams.
    Sessions = 4,
}

impl Lane {
    /// All of them, the most urgent first.
    pub const ALL: [Lane; 4] = [Lane::Control, Lane::Data, Lane::Bulk, Lane::Sessions];

    fn from_code(code: u8) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| *lane as u8 == code)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lane::Control => "control",
            Lane::Data => "data",
            Lane::Bulk => "bulk",
            Lane::Sessions => "sessions",
        })
    }
}

/// What each side says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Versions of the protocol that it speaks.
    pub versions: RangeInclusive<u16>,
    /// Version of what it sends inside.
    pub format: u32,
    /// Who it is.
    pub identity: Identity,
    /// What the connection carries; set by the side that connects, for both.
    pub lane: Lane,
    /// Microseconds since 1970, as it sees them.
    pub clock_micros: u64,
    /// What the layer above wants to be known before anything is asked; not looked at here.
    pub claims: Bytes,
}

impl Hello {
    /// What this program says of itself. The lane is filled in by the connection.
    pub fn new(identity: Identity, clock_micros: u64, claims: Bytes) -> Hello {
        Hello {
            versions: PROTOCOL_VERSIONS,
            format: FORMAT_VERSION,
            identity,
            lane: Lane::Control,
            clock_micros,
            claims,
        }
    }

    /// The version to speak with a peer, the greatest that both know; Err says what is wrong, for
    /// both sides.
    pub fn common_version(&self, peer: &RangeInclusive<u16>) -> Result<u16, String> {
        let least = *self.versions.start().max(peer.start());
        let greatest = *self.versions.end().min(peer.end());
        if least <= greatest {
            return Ok(greatest);
        }
        Err(format!(
            "no version of the protocol between nodes in common: one speaks {}, the other {}; \
             upgrade the older program first",
            span(&self.versions),
            span(peer)
        ))
    }

    /// The body of its frame; None if it is longer than [`HELLO_BYTES_MAX`].
    fn encode(&self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        out.put_slice(MAGIC);
        out.put_u16_le(*self.versions.start());
        out.put_u16_le(*self.versions.end());
        out.put_u32_le(self.format);
        out.put_u8(self.lane as u8);
        out.put_u64_le(self.clock_micros);
        let Identity {
            cluster,
            node,
            incarnation,
            address,
            client_address,
        } = &self.identity;
        out.put_u8(u8::from(cluster.is_some()));
        out.put_slice(cluster.unwrap_or(Uuid::nil()).as_bytes());
        out.put_u32_le(*node);
        out.put_slice(incarnation.as_bytes());
        for text in [address, client_address] {
            if text.len() > ADDRESS_BYTES_MAX {
                return None;
            }
            out.put_u16_le(text.len() as u16);
            out.put_slice(text.as_bytes());
        }
        out.put_u32_le(u32::try_from(self.claims.len()).ok()?);
        out.put_slice(&self.claims);
        (out.len() <= HELLO_BYTES_MAX).then(|| out.freeze())
    }

    /// What a peer sent, behind its versions. None: it is no hello.
    fn decode(mut body: Bytes) -> Option<Hello> {
        let versions = versions(&mut body)?;
        let format = body.try_get_u32_le().ok()?;
        let lane = Lane::from_code(body.try_get_u8().ok()?)?;
        let clock_micros = body.try_get_u64_le().ok()?;
        let in_cluster = body.try_get_u8().ok()?;
        let cluster = uuid(&mut body)?;
        let cluster = match in_cluster {
            0 => None,
            1 => Some(cluster),
            _ => return None,
        };
        let node = body.try_get_u32_le().ok()?;
        let incarnation = uuid(&mut body)?;
        let address = address(&mut body)?;
        let client_address = self::address(&mut body)?;
        let claims_bytes = body.try_get_u32_le().ok()? as usize;
        let claims = cut(&mut body, claims_bytes)?;
        let identity = Identity {
            cluster,
            node,
            incarnation,
            address,
            client_address,
        };
        Some(Hello {
            versions,
            format,
            identity,
            lane,
            clock_micros,
            claims,
        })
    }
}

fn span(versions: &RangeInclusive<u16>) -> String {
    match (versions.start(), versions.end()) {
        (one, same) if one == same => format!("version {one}"),
        (first, last) => format!("versions {first} to {last}"),
    }
}

fn cut(body: &mut Bytes, bytes: usize) -> Option<Bytes> {
    (bytes <= body.len()).then(|| body.split_to(bytes))
}

fn versions(body: &mut Bytes) -> Option<RangeInclusive<u16>> {
    if cut(body, MAGIC.len())? != MAGIC[..] {
        return None;
    }
    let first = body.try_get_u16_le().ok()?;
    let last = body.try_get_u16_le().ok()?;
    (first <= last).then_some(first..=last)
}

fn uuid(body: &mut Bytes) -> Option<Uuid> {
    Uuid::from_slice(&cut(body, 16)?).ok()
}

fn address(body: &mut Bytes) -> Option<String> {
    let bytes = usize::from(body.try_get_u16_le().ok()?);
    if bytes > ADDRESS_BYTES_MAX {
        return None;
    }
    let text = String::from_utf8(cut(body, bytes)?.into()).ok()?;
    // It is shown in logs.
    text.bytes()
        .all(|byte| byte.is_ascii_graphic())
        .then_some(text)
}

/// Why a handshake did not lead to a connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke, or what came was no frame.
    #[error(transparent)]
    Frame(#[from] frame::Error),
    /// It ended without a word.
    #[error("the connection was closed during the handshake")]
    Closed,
    /// What came was no handshake.
    #[error("the peer does not speak the protocol between nodes")]
    Foreign,
    /// The other side does not want to talk to us.
    #[error("the peer refuses: {0}")]
    RefusedThere(String),
    /// We don't want to talk to it.
    #[error("the peer is refused: {0}")]
    RefusedHere(String),
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Frame(error.into())
    }
}

impl Error {
    /// Has one of the two said no? Then to try again at once helps nobody.
    pub fn is_refusal(&self) -> bool {
        match self {
            Error::RefusedThere(_) | Error::RefusedHere(_) => true,
            Error::Frame(_) | Error::Closed | Error::Foreign => false,
        }
    }
}

/// The handshake of the side that connects. Gives the peer's hello.
pub async fn initiate<R, W>(
    reader: &mut Reader<R>,
    writer: &mut W,
    service: &dyn Service,
    lane: Lane,
) -> Result<Hello, Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut ours = service.hello();
    ours.lane = lane;
    say(writer, &ours).await?;
    let theirs = hear(reader, writer, &ours).await?;
    admit(writer, service, &theirs).await?;
    send(writer, &Frame::bare(Kind::Admit, 0)).await?;
    Ok(theirs)
}

/// The handshake of the side that listens. Gives the peer's hello.
pub async fn accept<R, W>(
    reader: &mut Reader<R>,
    writer: &mut W,
    service: &dyn Service,
) -> Result<Hello, Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut ours = service.hello();
    let theirs = hear(reader, writer, &ours).await?;
    admit(writer, service, &theirs).await?;
    ours.lane = theirs.lane;
    say(writer, &ours).await?;
    match next(reader).await?.kind {
        Kind::Admit => Ok(theirs),
        _ => Err(Error::Foreign),
    }
}

async fn admit<W: AsyncWrite + Unpin>(
    writer: &mut W,
    service: &dyn Service,
    theirs: &Hello,
) -> Result<(), Error> {
    match service.admit(theirs) {
        Ok(()) => Ok(()),
        Err(why) => refuse(writer, why).await,
    }
}

/// The peer's hello, if both can speak to each other.
async fn hear<R, W>(reader: &mut Reader<R>, writer: &mut W, ours: &Hello) -> Result<Hello, Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let frame = next(reader).await?;
    if frame.kind != Kind::Hello {
        return Err(Error::Foreign);
    }
    let spoken = versions(&mut frame.body.clone()).ok_or(Error::Foreign)?;
    if let Err(why) = ours.common_version(&spoken) {
        return refuse(writer, why).await;
    }
    Hello::decode(frame.body).ok_or(Error::Foreign)
}

/// The next frame, unless the peer refuses or leaves.
async fn next<R: AsyncRead + Unpin>(reader: &mut Reader<R>) -> Result<Frame, Error> {
    let frame = reader.next().await?.ok_or(Error::Closed)?;
    match frame.kind {
        Kind::Refuse => Err(Error::RefusedThere(frame.text())),
        _ => Ok(frame),
    }
}

async fn say<W: AsyncWrite + Unpin>(writer: &mut W, ours: &Hello) -> Result<(), Error> {
    match ours.encode() {
        Some(body) => Ok(send(writer, &Frame::new(Kind::Hello, 0, body)).await?),
        None => {
            let why = format!("its hello is longer than {HELLO_BYTES_MAX} bytes");
            refuse(writer, why).await
        }
    }
}

async fn refuse<T, W: AsyncWrite + Unpin>(writer: &mut W, why: String) -> Result<T, Error> {
    // The peer may be gone already; we refuse it all the same.
    let _ = send(writer, &Frame::words(Kind::Refuse, 0, &why)).await;
    let _ = writer.shutdown().await;
    Err(Error::RefusedHere(why))
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, frame: &Frame) -> std::io::Result<()> {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    writer.write_all(&bytes).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        let identity = Identity {
            cluster: Some(Uuid::from_u128(7)),
            node: 3,
            incarnation: Uuid::from_u128(u128::MAX),
            address: "n3.example:7432".into(),
            client_address: "[::1]:5432".into(),
        };
        let mut hello = Hello::new(identity, 1_700_000_000_000_000, Bytes::from_static(b"ends"));
        hello.lane = Lane::Bulk;
        hello
    }

    #[test]
    fn hellos_come_back_as_they_were() {
        let mut hello = hello();
        assert_eq!(Hello::decode(hello.encode().unwrap()), Some(hello.clone()));
        hello.identity.cluster = None;
        hello.claims = Bytes::new();
        assert_eq!(Hello::decode(hello.encode().unwrap()), Some(hello));
    }

    #[test]
    fn later_fields_are_passed_over_and_cut_hellos_are_none() {
        let hello = hello();
        let body = hello.encode().unwrap();
        let mut longer = BytesMut::from(&body[..]);
        longer.put_slice(b"what version 2 adds");
        assert_eq!(Hello::decode(longer.freeze()), Some(hello));
        for bytes in 0..body.len() {
            assert_eq!(Hello::decode(body.slice(..bytes)), None, "{bytes} bytes");
        }
    }

    #[test]
    fn what_is_too_long_is_not_said() {
        let mut hello = hello();
        hello.claims = vec![0; HELLO_BYTES_MAX].into();
        assert_eq!(hello.encode(), None);
        hello.claims = Bytes::new();
        hello.identity.address = "a".repeat(ADDRESS_BYTES_MAX + 1);
        assert_eq!(hello.encode(), None);
    }

    #[test]
    fn the_greatest_common_version_is_spoken() {
        let mut hello = hello();
        hello.versions = 2..=5;
        assert_eq!(hello.common_version(&(1..=3)), Ok(3));
        assert_eq!(hello.common_version(&(5..=9)), Ok(5));
        assert_eq!(hello.common_version(&(2..=5)), Ok(5));
        let why = hello.common_version(&(6..=6)).unwrap_err();
        assert!(why.contains("2 to 5") && why.contains("version 6"), "{why}");
        assert!(hello.common_version(&(1..=1)).is_err());
    }
}
