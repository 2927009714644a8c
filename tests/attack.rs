//! Hostile peers against the running program: random frames before and after authentication, and
//! each known way to break a PostgreSQL server loop. What it costs the server is measured.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::fixture::place::{Place, SUPERUSER};
use crate::fixture::program::Program;

/// The role whose connections bring the frames that come after authentication.
pub const ATTACKER: &str = "attacker";
/// Memory by which an assault may make the server grow, at its peak and afterwards.
pub const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// A server that neither answers nor closes for so long has hung.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Frames between two looks at the server's memory.
const FRAMES_PER_LOOK: usize = 2_000;
/// Peers of [`claims`] at the same time.
const CLAIMANTS: usize = 100;
/// What each of them sends of what it has claimed.
const CLAIM_BYTES: usize = 1 << 20;

/// What an assault has done to a server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Toll {
    /// Frames and openings sent.
    pub frames: usize,
    /// Connections that brought them.
    pub connections: usize,
    /// Resident memory before it.
    pub before_bytes: u64,
    /// The most that was seen.
    pub peak_bytes: u64,
    /// When it was over.
    pub after_bytes: u64,
}

impl Toll {
    /// How much more memory the server has now than before.
    pub fn growth_bytes(&self) -> u64 {
        self.after_bytes.saturating_sub(self.before_bytes)
    }

    /// How much more it had at the worst moment.
    pub fn peak_growth_bytes(&self) -> u64 {
        self.peak_bytes.saturating_sub(self.before_bytes)
    }
}

/// Sends `count` frames of the seed's, and the known attacks in between, and looks at the memory.
/// The program lets [`ATTACKER`] in by trust, or asks for a password that the frames don't have:
/// then they are all frames of strangers.
///
/// # Errors
/// If the server hangs, refuses a connection, or does not close where it must.
pub fn assault(program: &Program, seed: u64, count: usize) -> Result<Toll, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let address = ([127, 0, 0, 1], program.place().port).into();
    let before_bytes = program.resident_bytes();
    let mut toll = Toll {
        before_bytes,
        peak_bytes: before_bytes,
        ..Toll::default()
    };
    let mut look = 0;
    while toll.frames < count {
        let wanted = FRAMES_PER_LOOK.min(count - toll.frames);
        // Another source for each part, and still all of it from the one seed.
        let part = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(look);
        let done = runtime
            .block_on(wire::attack::assault(address, ATTACKER, part, wanted))
            .map_err(|e| format!("seed {seed}, frame {} and later: {e}", toll.frames))?;
        toll.frames += done.frames;
        toll.connections += done.connections;
        toll.peak_bytes = toll.peak_bytes.max(program.resident_bytes());
        look += 1;
    }
    five_bytes(program.place())?;
    plain_bytes_behind_ssl_request(program.place())?;
    claims(program, &mut toll)?;
    toll.after_bytes = program.resident_bytes();
    Ok(toll)
}

/// The five bytes that panic pgwire's decoder, as the first of a connection and as a password.
///
/// # Errors
/// If the server does not refuse and close.
pub fn five_bytes(place: &Place) -> Result<(), String> {
    let five = [b'p', 0, 0, 0, 0];
    for opening in [Vec::new(), wire::attack::startup(SUPERUSER)] {
        let said = send(place, &[&opening[..], &five[..]].concat())?;
        if last_error(&said).as_deref() != Some("08P01") {
            return Err(format!("no protocol violation: {said:?}"));
        }
    }
    Ok(())
}

/// Bytes in clear behind a request for encryption (CVE-2021-23214): nothing of them may be heard.
///
/// # Errors
/// If the server goes on to authenticate, or does not close.
pub fn plain_bytes_behind_ssl_request(place: &Place) -> Result<(), String> {
    let mut bytes = vec![0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    bytes.extend(wire::attack::startup(SUPERUSER));
    match send(place, &bytes)? {
        said if said.is_empty() => Ok(()),
        said => Err(format!("an answer to what came in clear: {said:?}")),
    }
}

/// Strangers who claim messages of up to 1 GB and begin to send them, many at a time.
///
/// # Errors
/// If the server takes more than its 10 KB before it closes.
pub fn claims(program: &Program, toll: &mut Toll) -> Result<(), String> {
    let mut claimants = Vec::new();
    for number in 0..CLAIMANTS {
        let mut stream = connect(program.place())?;
        let mut bytes = match number % 2 {
            0 => 0x3fff_ffff_u32.to_be_bytes().to_vec(),
            _ => {
                let mut bytes = wire::attack::startup(SUPERUSER);
                bytes.extend(b"p\x3f\xff\xff\xff");
                bytes
            }
        };
        bytes.resize(bytes.len() + CLAIM_BYTES, b'x');
        // The server closes in the middle of it: that is what it should do.
        let _ = stream.write_all(&bytes);
        claimants.push(stream);
        toll.connections += 1;
    }
    toll.peak_bytes = toll.peak_bytes.max(program.resident_bytes());
    for stream in claimants {
        read_to_end(stream)?;
    }
    Ok(())
}

fn connect(place: &Place) -> Result<TcpStream, String> {
    TcpStream::connect(("127.0.0.1", place.port)).map_err(|e| format!("no connection: {e}"))
}

/// Sends all of it and gives what the server says until it closes.
fn send(place: &Place, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = connect(place)?;
    // It may have closed already.
    let _ = stream.write_all(bytes);
    read_to_end(stream)
}

/// Everything that comes until the server closes.
///
/// # Errors
/// If it does not.
pub fn read_to_end(mut stream: TcpStream) -> Result<Vec<u8>, String> {
    let limit = stream.set_read_timeout(Some(SILENCE_MAX));
    limit.map_err(|e| e.to_string())?;
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => Ok(said),
        // The server closed with our bytes unread.
        Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(said),
        Err(e) => Err(format!("the server does not close: {e}")),
    }
}

/// The SQLSTATE of an ErrorResponse at the end of what a server said.
fn last_error(said: &[u8]) -> Option<String> {
    let at = said.windows(2).rposition(|pair| pair == b"\0C")?;
    let state = said.get(at + 2..at + 7)?;
    String::from_utf8(state.to_vec()).ok()
}
