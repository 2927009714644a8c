//! Hostile bytes, reproducible from a seed: openings and frames that are almost right, for tests of
//! this crate and of the server. Nothing here is used when serving.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Config;
use crate::frontend::Frontend;
use crate::input::Input;
use crate::startup::Packet;

/// Frames sent on one connection before the next is opened; a fatal one ends it earlier.
const FRAMES_PER_CONNECTION: usize = 16;
/// A server that neither answers nor closes for so long counts as hung.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How much a server may say to [`FRAMES_PER_CONNECTION`] frames.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

const SQL: [&str; 10] = [
    "select 1",
    "",
    ";;",
    "begin",
    "rollback",
    "select $1",
    "copy t from stdin",
    "select '\u{1F980}' || $2::text",
    "((((((((",
    "insert into t values (1)",
];
const NAMES: [&str; 5] = ["", "s", "s1", "portal", "\u{e4}\u{f6}\u{fc}"];

/// What an assault has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Frames and openings sent.
    pub frames: usize,
    /// Connections used.
    pub connections: usize,
    /// Bytes that came back.
    pub answered_bytes: u64,
}

/// Sends `count` random frames and openings to a server that lets `user` in by trust, over as many
/// connections as it takes. Fails if the server hangs or refuses a connection; whether it is still
/// well afterwards is for the caller to look at. Deterministic in what it sends.
pub async fn assault(
    server: SocketAddr,
    user: &str,
    seed: u64,
    count: usize,
) -> io::Result<Report> {
    let mut frames = Frames::new(seed);
    let mut report = Report::default();
    while report.frames < count {
        let mut bytes;
        if frames.rng.random_ratio(1, 8) {
            bytes = frames.opening();
            report.frames += 1;
        } else {
            bytes = startup(user);
            for _ in 0..FRAMES_PER_CONNECTION.min(count - report.frames) {
                bytes.extend(frames.frame());
                report.frames += 1;
                if frames.rng.random() {
                    // Or a server that skips to Sync after an error would look at little else.
                    bytes.extend(frame(b'S', &[]));
                }
            }
        }
        report.answered_bytes += timeout(SILENCE_MAX, send(server, &bytes))
            .await
            .map_err(|_| io::Error::other(format!("server hangs after {bytes:02x?}")))??;
        report.connections += 1;
    }
    Ok(report)
}

/// Sends all at once, says that no more will come, and reads to the end.
async fn send(server: SocketAddr, bytes: &[u8]) -> io::Result<u64> {
    let mut tcp = TcpStream::connect(server).await?;
    let (mut from, mut to) = tcp.split();
    let writing = async {
        // The server may close in the middle: that is its right.
        let _ = to.write_all(bytes).await;
        let _ = to.shutdown().await;
    };
    let reading = async {
        let mut answered = 0;
        let mut buffer = vec![0; 64 << 10];
        // A reset is an end too: the server closed with our bytes unread.
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            answered += read as u64;
            if answered > ANSWER_BYTES_MAX {
                return Err(io::Error::other("server answers without end"));
            }
        }
        Ok(answered)
    };
    let ((), answered) = tokio::join!(writing, reading);
    answered
}

/// Runs the framer and all decoders over bytes, first as an opening, then as messages after
/// authentication, and drops what they give. What a fuzzer calls: it must return for any bytes.
pub fn feed(bytes: &[u8]) {
    let config = Config::default();
    let mut input = Input::new(config.message_bytes_max, config.copy_bytes_max);
    input.room().extend_from_slice(bytes);
    while let Ok(Some(packet)) = input.cut_startup() {
        let _ = Packet::decode(packet);
    }
    let _ = input.cut_password();
    let mut input = Input::new(config.message_bytes_max, config.copy_bytes_max);
    input.room().extend_from_slice(bytes);
    while let Ok(Some(frame)) = input.cut() {
        let _ = Frontend::decode(frame.message_type, frame.body);
    }
}

/// A sound startup packet.
pub fn startup(user: &str) -> Vec<u8> {
    let mut body = (3_u32 << 16).to_be_bytes().to_vec();
    for text in ["user", user, "application_name", "attack"] {
        put_string(&mut body, text);
    }
    body.push(0);
    let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

/// An endless source of hostile frames.
#[derive(Debug)]
pub struct Frames {
    rng: StdRng,
}

impl Frames {
    /// The same seed gives the same frames.
    pub fn new(seed: u64) -> Frames {
        Frames {
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// A frame as after authentication: sound, damaged, or noise.
    pub fn frame(&mut self) -> Vec<u8> {
        // What loses the thread is rare, or nothing behind it would be looked at.
        match self.rng.random_range(0..64) {
            0 => self.noise(40),
            1 => {
                let message_type = self.rng.random();
                let body = self.noise(60);
                frame(message_type, &body)
            }
            2 => {
                let mut bytes = self.sound();
                self.damage_length(&mut bytes);
                bytes
            }
            3..=15 => {
                let message_type = self.message_type();
                let body = self.noise(60);
                frame(message_type, &body)
            }
            16..=40 => {
                let mut bytes = self.sound();
                self.damage_body(&mut bytes);
                bytes
            }
            _ => self.sound(),
        }
    }

    /// A beginning of a connection: startup packets, requests and claims, damaged or not.
    pub fn opening(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..10) {
            0 => vec![0x70, 0, 0, 0, 0],
            1 => 0x3fff_ffff_u32.to_be_bytes().to_vec(),
            2 => self.request(5679, 8),
            3 => self.request(5680, 8),
            4 => self.request(5678, 16),
            5 => {
                let code = self.rng.random_range(5670..5690);
                let claimed = self.rng.random_range(0..20);
                self.request(code, claimed)
            }
            6 => self.noise(200),
            _ => {
                let mut packet = startup("nobody");
                for _ in 0..self.rng.random_range(1..4) {
                    let at = self.rng.random_range(0..packet.len());
                    packet[at] = self.byte();
                }
                packet.truncate(self.rng.random_range(1..=packet.len()));
                packet
            }
        }
    }

    fn request(&mut self, code: u32, claimed: u32) -> Vec<u8> {
        let mut packet = claimed.to_be_bytes().to_vec();
        packet.extend(((1234_u32 << 16) | code).to_be_bytes());
        packet.extend(self.noise(24));
        packet
    }

    fn message_type(&mut self) -> u8 {
        if self.rng.random_ratio(1, 64) {
            return *self.pick(b"Xp");
        }
        *self.pick(b"QPBDECHSSdcfF")
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.rng.random_range(0..from.len())]
    }

    /// Bytes that matter to parsers come more often.
    fn byte(&mut self) -> u8 {
        match self.rng.random_range(0..4) {
            0 => *self.pick(&[0, 1, 0x7f, 0x80, 0xff, b'S', b'P', b'\'']),
            _ => self.rng.random(),
        }
    }

    fn noise(&mut self, bytes_max: usize) -> Vec<u8> {
        let len = self.rng.random_range(0..=bytes_max);
        (0..len).map(|_| self.byte()).collect()
    }

    fn count(&mut self, body: &mut Vec<u8>, honest: usize) {
        let count = match self.rng.random_range(0..12) {
            0 => u16::MAX,
            1 => self.rng.random(),
            _ => honest as u16,
        };
        body.extend(count.to_be_bytes());
    }

    fn name(&mut self, body: &mut Vec<u8>) {
        let name = *self.pick(&NAMES);
        put_string(body, name);
    }

    /// A message that is right, but for an odd count now and then.
    fn sound(&mut self) -> Vec<u8> {
        let message_type = self.message_type();
        let mut body = Vec::new();
        match message_type {
            b'Q' => put_string(&mut body, self.pick::<&str>(&SQL)),
            b'P' => self.parse(&mut body),
            b'B' => self.bind(&mut body),
            b'D' | b'C' => {
                body.push(*self.pick(b"SP"));
                self.name(&mut body);
            }
            b'E' => {
                self.name(&mut body);
                body.extend(
                    self.pick(&[0_i32, 1, 2, -1, i32::MAX, i32::MIN])
                        .to_be_bytes(),
                );
            }
            b'f' => self.name(&mut body),
            b'd' | b'F' | b'p' => body = self.noise(200),
            _ => {}
        }
        frame(message_type, &body)
    }

    fn parse(&mut self, body: &mut Vec<u8>) {
        self.name(body);
        put_string(body, self.pick::<&str>(&SQL));
        let types = self.rng.random_range(0..4);
        self.count(body, types);
        for _ in 0..types {
            body.extend(self.pick(&[0_u32, 20, 23, 25, u32::MAX]).to_be_bytes());
        }
    }

    fn bind(&mut self, body: &mut Vec<u8>) {
        self.name(body);
        self.name(body);
        let formats = self.rng.random_range(0..3);
        self.count(body, formats);
        for _ in 0..formats {
            body.extend(self.pick(&[0_i16, 1, 2, -1]).to_be_bytes());
        }
        let parameters = self.rng.random_range(0..4);
        self.count(body, parameters);
        for _ in 0..parameters {
            let value = self.noise(12);
            let len = match self.rng.random_range(0..10) {
                0 => -1,
                1 => *self.pick(&[-2, i32::MIN, i32::MAX, 1 << 30]),
                _ => value.len() as i32,
            };
            body.extend(len.to_be_bytes());
            body.extend(value);
        }
        let formats = self.rng.random_range(0..3);
        self.count(body, formats);
        for _ in 0..formats {
            body.extend(self.pick(&[0_i16, 1]).to_be_bytes());
        }
    }

    /// Changes, cuts or extends the body and keeps the length honest.
    fn damage_body(&mut self, bytes: &mut Vec<u8>) {
        let mut body = bytes.split_off(5);
        match self.rng.random_range(0..3) {
            0 => body.truncate(self.rng.random_range(0..=body.len())),
            1 => body.extend(self.noise(8)),
            _ => {
                for _ in 0..self.rng.random_range(1..4) {
                    let byte = self.byte();
                    if !body.is_empty() {
                        let at = self.rng.random_range(0..body.len());
                        body[at] = byte;
                    }
                }
            }
        }
        *bytes = frame(bytes[0], &body);
    }

    fn damage_length(&mut self, bytes: &mut [u8]) {
        let honest = bytes.len() as u32 - 1;
        let random = self.rng.random();
        let claims = [
            0,
            1,
            3,
            honest - 1,
            honest + 1,
            1 << 30,
            i32::MAX as u32,
            u32::MAX,
            random,
        ];
        let claim = *self.pick(&claims);
        bytes[1..5].copy_from_slice(&claim.to_be_bytes());
    }
}

impl Iterator for Frames {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        Some(self.frame())
    }
}

fn frame(message_type: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![message_type];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn put_string(body: &mut Vec<u8>, text: &str) {
    body.extend(text.as_bytes());
    body.push(0);
}
