//! Three members of etcd, and puts at the one that leads by the one call that this needs of gRPC:
//! HTTP/2 frames written by hand, one connection and one put at a time for each client, as a
//! PostgreSQL client has it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Result;
use crate::peers::free_port;

/// Longest wait for the members to find each other.
const READY_MAX: Duration = Duration::from_secs(30);

/// HTTP/2 frame types (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// The flag that answers a SETTINGS or PING frame.
const ACK: u8 = 1;

/// The flags of a request's HEADERS (END_HEADERS) and of the last frame of a stream.
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

/// Answers after which the connection's window is opened again, well before it is used up.
const WINDOW_EVERY: u32 = 100;

/// The members; they end when it is dropped.
pub struct Etcd {
    members: Vec<Child>,
    ports: Vec<u16>,
}

impl Etcd {
    /// Starts three members below `folder`.
    pub fn start(folder: &Path) -> Result<Etcd> {
        fs::create_dir_all(folder)?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let peers = [free_port()?, free_port()?, free_port()?];
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let named = peers.iter().enumerate();
        let cluster: Vec<String> = named
            .map(|(n, port)| format!("m{n}={}", url(*port)))
            .collect();
        let mut members = Vec::new();
        for number in 0..3 {
            let (clients, peer) = (url(ports[number]), url(peers[number]));
            let log = fs::File::create(folder.join(format!("m{number}.log")))?;
            let mut command = Command::new("etcd");
            command
                .args(["--name", &format!("m{number}"), "--data-dir"])
                .arg(folder.join(format!("m{number}")))
                .args([
                    "--listen-client-urls",
                    &clients,
                    "--advertise-client-urls",
                    &clients,
                ])
                .args([
                    "--listen-peer-urls",
                    &peer,
                    "--initial-advertise-peer-urls",
                    &peer,
                ])
                .args([
                    "--initial-cluster",
                    &cluster.join(","),
                    "--initial-cluster-state",
                    "new",
                ])
                .stdout(Stdio::null())
                .stderr(log);
            let member = command.spawn();
            members.push(member.map_err(|e| format!("etcd: {e}; apt-get install etcd-server"))?);
        }
        let etcd = Etcd {
            members,
            ports: ports.to_vec(),
        };
        let end = Instant::now() + READY_MAX;
        while etcd.leader().is_none() {
            if Instant::now() > end {
                return Err("etcd has no leader".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(etcd)
    }

    /// The member that leads, asked by putting: the fastest of each one's second put is no proof, so
    /// its own metrics are read.
    fn leader(&self) -> Option<u16> {
        let leads = |port: &&u16| {
            let text = http_get(**port, "/metrics").unwrap_or_default();
            text.lines().any(|line| line == "etcd_server_is_leader 1")
        };
        self.ports.iter().find(leads).copied()
    }

    /// Puts a second, each of a new key of 16 bytes.
    pub fn puts(&self, seconds: u32, clients: u32, value_bytes: usize) -> Result<f64> {
        static RUNS: AtomicU64 = AtomicU64::new(1);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let port = self.leader().ok_or("etcd has no leader")?;
        let value = vec![b'v'; value_bytes];
        let stop = AtomicBool::new(false);
        let mut connections = Vec::new();
        for _ in 0..clients {
            connections.push(Connection::open(port)?);
        }
        let began = Instant::now();
        let (stop, value) = (&stop, &value);
        let puts: Result<u64> = std::thread::scope(|scope| {
            let spawn = |(client, connection): (usize, Connection)| {
                let prefix = (run << 40) | ((client as u64) << 32);
                scope.spawn(move || {
                    put_until(connection, prefix, value, stop).map_err(|e| e.to_string())
                })
            };
            let threads: Vec<_> = connections.into_iter().enumerate().map(spawn).collect();
            std::thread::sleep(Duration::from_secs(u64::from(seconds)));
            stop.store(true, Ordering::Relaxed);
            let mut sum = 0;
            for thread in threads {
                sum += thread.join().map_err(|_| "a client of etcd panicked")??;
            }
            Ok(sum)
        });
        Ok(puts? as f64 / began.elapsed().as_secs_f64())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            // Ending a benchmark must not hide its result.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

fn put_until(
    mut connection: Connection,
    prefix: u64,
    value: &[u8],
    stop: &AtomicBool,
) -> Result<u64> {
    let mut puts = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("{:016x}", prefix + puts);
        connection.put(key.as_bytes(), value)?;
        puts += 1;
    }
    Ok(puts)
}

/// One HTTP/2 connection.
struct Connection {
    socket: TcpStream,
    stream: u32,
    read: Vec<u8>,
    /// Bytes of answers since the window was opened.
    taken: u32,
    answers: u32,
}

impl Connection {
    fn open(port: u16) -> Result<Connection> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        socket.write_all(&frame(SETTINGS, 0, 0, &[]))?;
        Ok(Connection {
            socket,
            stream: 1,
            read: Vec::new(),
            taken: 0,
            answers: 0,
        })
    }

    /// One put, whose answer is a message: an error has trailers only.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut request = frame(HEADERS, END_HEADERS, self.stream, &headers());
        request.extend(frame(DATA, END_STREAM, self.stream, &message(key, value)));
        self.socket.write_all(&request)?;
        let mut is_answered = false;
        loop {
            let (kind, flags, stream, length) = self.next_frame()?;
            match kind {
                SETTINGS if flags & ACK == 0 => {
                    self.socket.write_all(&frame(SETTINGS, ACK, 0, &[]))?;
                }
                PING if flags & ACK == 0 => {
                    let body = self.read.clone();
                    self.socket.write_all(&frame(PING, ACK, 0, &body))?;
                }
                DATA => {
                    self.taken += length;
                    is_answered |= length > 5;
                }
                _ => {}
            }
            if stream == self.stream && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                break;
            }
        }
        self.stream += 2;
        self.answers += 1;
        if self.answers.is_multiple_of(WINDOW_EVERY) {
            let taken = std::mem::take(&mut self.taken);
            self.socket
                .write_all(&frame(WINDOW_UPDATE, 0, 0, &taken.to_be_bytes()))?;
        }
        if is_answered {
            Ok(())
        } else {
            Err("etcd refused a put".into())
        }
    }

    /// Kind, flags, stream and length; the body is in `self.read`.
    fn next_frame(&mut self) -> Result<(u8, u8, u32, u32)> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5] & 0x7F, head[6], head[7], head[8]]);
        self.read.resize(length as usize, 0);
        self.socket.read_exact(&mut self.read)?;
        Ok((head[3], head[4], stream, length))
    }
}

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(body);
    frame
}

/// The headers of the call, each a literal that no table takes (RFC 7541, 6.2.2).
fn headers() -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/etcdserverpb.KV/Put"),
        (":authority", "etcd"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    block
}

/// PutRequest { key = 1, value = 2 } behind gRPC's five bytes.
fn message(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (tag, bytes) in [(0x0A, key), (0x12, value)] {
        // Both are shorter than 128 bytes: their length is one byte.
        body.extend([tag, bytes.len() as u8]);
        body.extend(bytes);
    }
    let mut message = vec![0];
    message.extend((body.len() as u32).to_be_bytes());
    message.extend(body);
    message
}

/// The body of a plain HTTP/1.1 answer.
fn http_get(port: u16, path: &str) -> Result<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(socket, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut text = Vec::new();
    socket.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_nine_bytes_before_its_body() {
        let bytes = frame(DATA, END_STREAM, 5, b"abc");
        assert_eq!(bytes, [0, 0, 3, 0, 1, 0, 0, 0, 5, b'a', b'b', b'c']);
    }

    #[test]
    fn a_put_is_its_key_and_value() {
        let expected = [0, 0, 0, 0, 7, 0x0A, 1, b'k', 0x12, 2, b'v', b'w'];
        assert_eq!(message(b"k", b"vw"), expected);
    }
}
