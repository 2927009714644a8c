//! A client that sends any bytes and shows any answer.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A test that waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Raw {
    tcp: TcpStream,
}

/// One message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub message_type: char,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a field of ErrorResponse or NoticeResponse.
    pub fn field(&self, code: u8) -> Option<String> {
        self.body
            .split(|&byte| byte == 0)
            .find(|field| field.first() == Some(&code))
            .map(|field| String::from_utf8(field[1..].to_vec()).unwrap())
    }

    /// `SQLSTATE message` of an error.
    pub fn error(&self) -> String {
        assert_eq!(self.message_type, 'E', "{self:?}");
        format!(
            "{} {}",
            self.field(b'C').unwrap(),
            self.field(b'M').unwrap()
        )
    }
}

impl Raw {
    pub async fn connect(server: SocketAddr) -> Raw {
        let tcp = TcpStream::connect(server).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Raw { tcp }
    }

    /// Connects as `user` by trust and reads up to ReadyForQuery.
    pub async fn login(server: SocketAddr, user: &str) -> Raw {
        let mut raw = Raw::connect(server).await;
        raw.send(&wire::attack::startup(user)).await;
        raw.until('Z').await;
        raw
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.tcp.write_all(bytes).await.unwrap();
    }

    pub async fn byte(&mut self) -> u8 {
        timeout(PATIENCE, self.tcp.read_u8())
            .await
            .unwrap()
            .unwrap()
    }

    pub async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer, not the end")
    }

    /// The next message, or None at the end.
    pub async fn try_answer(&mut self) -> Option<Answer> {
        let message_type = timeout(PATIENCE, self.tcp.read_u8()).await.unwrap().ok()?;
        let len = self.tcp.read_u32().await.ok()?;
        let mut body = vec![0; len as usize - 4];
        self.tcp.read_exact(&mut body).await.ok()?;
        Some(Answer {
            message_type: message_type.into(),
            body,
        })
    }

    /// All messages up to one of this type.
    pub async fn until(&mut self, message_type: char) -> Vec<Answer> {
        let mut answers = Vec::new();
        loop {
            answers.push(self.answer().await);
            if answers.last().unwrap().message_type == message_type {
                return answers;
            }
        }
    }

    /// The types of the messages up to ReadyForQuery.
    pub async fn types(&mut self) -> String {
        self.until('Z')
            .await
            .iter()
            .map(|answer| answer.message_type)
            .collect()
    }

    /// All bytes up to the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = timeout(PATIENCE, self.tcp.read_to_end(&mut rest))
            .await
            .unwrap();
        rest
    }

    /// The error that the server ends the connection with.
    pub async fn fatal(&mut self) -> String {
        let answer = self.answer().await;
        assert_eq!(answer.field(b'S').as_deref(), Some("FATAL"), "{answer:?}");
        assert_eq!(self.rest().await, b"");
        answer.error()
    }

    pub fn into_tcp(self) -> TcpStream {
        self.tcp
    }
}

/// A message of the client.
pub fn frame(message_type: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![message_type];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', format!("{sql}\0").as_bytes())
}

pub fn request(code: u32) -> Vec<u8> {
    let mut packet = 8_u32.to_be_bytes().to_vec();
    packet.extend(((1234_u32 << 16) | code).to_be_bytes());
    packet
}

/// A startup packet of this version with these parameters.
pub fn startup(version: u32, parameters: &[&str]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for text in parameters {
        body.extend(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

/// Parse, Bind, Describe, Execute of the unnamed statement with one text parameter, without Sync.
pub fn extended(parameter: &str) -> Vec<u8> {
    let mut bytes = frame(b'P', b"\0echo\0\0\0");
    bytes.extend(bind(parameter));
    bytes.extend(frame(b'D', b"P\0"));
    bytes.extend(frame(b'E', b"\0\0\0\0\0"));
    bytes
}

pub fn bind(parameter: &str) -> Vec<u8> {
    let mut body = b"\0\0\0\0\0\x01".to_vec();
    body.extend((parameter.len() as u32).to_be_bytes());
    body.extend(parameter.as_bytes());
    body.extend([0, 0]);
    frame(b'B', &body)
}

pub fn sync() -> Vec<u8> {
    frame(b'S', b"")
}
