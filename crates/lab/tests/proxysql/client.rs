//! A client of the MySQL protocol that takes every packet as it comes, for the lab and for the real ProxySQL.

use std::net::SocketAddr;

use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const LONG_PASSWORD: u32 = 0x0000_0001;
pub const PROTOCOL_41: u32 = 0x0000_0200;
pub const SECURE_CONNECTION: u32 = 0x0000_8000;
pub const PLUGIN_AUTH: u32 = 0x0008_0000;

/// A sequence number and a payload.
pub type Packet = (u8, Vec<u8>);

/// One connection.
pub struct Client {
    stream: TcpStream,
    /// The greeting.
    pub greeting: Vec<u8>,
}

/// What a statement was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Done; so many records matched; a remark.
    Done(u64, String),
    /// Column names and records.
    Rows(Vec<String>, Vec<Vec<Option<String>>>),
    /// Refused.
    Refused(String),
    /// The connection is gone.
    Gone,
}

impl Client {
    /// Connects, and hears the greeting.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut client = Self { stream, greeting: Vec::new() };
        client.greeting = client.receive().await.expect("a greeting").1;
        client
    }

    /// Connects and logs in.
    pub async fn log_in(address: SocketAddr, user: &str, password: &str) -> Self {
        Self::try_log_in(address, user, password).await.unwrap_or_else(|answer| panic!("{user} is refused: {answer:?}"))
    }

    /// Connects and logs in, or says how that was refused.
    pub async fn try_log_in(address: SocketAddr, user: &str, password: &str) -> Result<Self, Packet> {
        let mut client = Self::connect(address).await;
        let flags = LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;
        let answer = client.say_hello(flags, 33, user, password, "mysql_native_password").await;
        if answer.1[0] == 0 { Ok(client) } else { Err(answer) }
    }

    /// Says who it is; what is answered.
    pub async fn say_hello(&mut self, flags: u32, charset: u8, user: &str, password: &str, plugin: &str) -> Packet {
        let proof = token(password, &self.salt());
        let mut hello = flags.to_le_bytes().to_vec();
        hello.extend([0, 0, 0, 1]);
        hello.push(charset);
        hello.extend([0; 23]);
        hello.extend(user.as_bytes());
        hello.push(0);
        hello.push(proof.len() as u8);
        hello.extend(proof);
        if flags & PLUGIN_AUTH != 0 {
            hello.extend(plugin.as_bytes());
            hello.push(0);
        }
        self.send(1, &hello).await;
        self.receive().await.expect("an answer to the hello")
    }

    /// Proves the password again, with the salt of a switch.
    pub async fn switch(&mut self, switch: &[u8], password: &str) -> Packet {
        let salt = switch.split(|byte| *byte == 0).nth(1).expect("a salt").to_vec();
        self.send(3, &token(password, &salt)).await;
        self.receive().await.expect("an answer to the proof")
    }

    /// The greeting's salt.
    pub fn salt(&self) -> Vec<u8> {
        let version = self.greeting.iter().skip(1).position(|byte| *byte == 0).unwrap() + 2;
        let first = &self.greeting[version + 4..version + 12];
        let second = &self.greeting[version + 31..version + 43];
        [first, second].concat()
    }

    pub async fn send(&mut self, sequence: u8, payload: &[u8]) {
        let mut bytes = (payload.len() as u32).to_le_bytes()[..3].to_vec();
        bytes.push(sequence);
        bytes.extend(payload);
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next packet; `None`: the connection is gone.
    pub async fn receive(&mut self) -> Option<Packet> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((head[3], payload))
    }

    /// Sends a command; every packet of the answer.
    pub async fn ask(&mut self, command: &[u8]) -> Vec<Packet> {
        self.send(0, command).await;
        let Some(first) = self.receive().await else { return Vec::new() };
        // All but a query are answered with one packet; a query with OK, an error, or columns and records.
        let is_whole = command.first() != Some(&3) || matches!(first.1.first(), Some(0 | 0xff) | None);
        let mut packets = vec![first];
        let mut ends = if is_whole { 0 } else { 2 };
        while ends > 0 {
            let Some(packet) = self.receive().await else { break };
            ends -= u8::from(packet.1.first() == Some(&0xfe) && packet.1.len() < 9);
            packets.push(packet);
        }
        packets
    }

    /// A statement, and its answer in words.
    pub async fn query(&mut self, sql: &str) -> Said {
        Said::by(&self.ask(&[b"\x03", sql.as_bytes()].concat()).await)
    }
}

impl Said {
    /// The packets of an answer in words.
    pub fn by(packets: &[Packet]) -> Self {
        match packets.first().map(|(_, payload)| payload.as_slice()) {
            None => Self::Gone,
            Some([0, rest @ ..]) => {
                let (affected, rest) = number(rest);
                let (_, rest) = number(rest);
                Self::Done(affected, rest.get(4..).map(|rest| texts(rest).concat()).unwrap_or_default())
            }
            Some([0xff, _, _, text @ ..]) => Self::Refused(String::from_utf8_lossy(&text[6..]).into_owned()),
            Some(_) => rows(packets),
        }
    }
}

fn rows(packets: &[Packet]) -> Said {
    let is_end = |(_, payload): &Packet| payload.first() == Some(&0xfe) && payload.len() < 9;
    let mut parts = packets[1..].split(is_end);
    let column = |(_, payload): &Packet| texts(payload)[4].clone();
    let columns: Vec<String> = parts.next().unwrap_or_default().iter().map(column).collect();
    let record = |(_, payload): &Packet| values(payload);
    Said::Rows(columns, parts.next().unwrap_or_default().iter().map(record).collect())
}

/// The values of a record.
fn values(mut payload: &[u8]) -> Vec<Option<String>> {
    let mut values = Vec::new();
    while let Some(first) = payload.first() {
        if *first == 0xfb {
            values.push(None);
            payload = &payload[1..];
        } else {
            let (length, rest) = number(payload);
            let (text, rest) = rest.split_at(length as usize);
            values.push(Some(String::from_utf8_lossy(text).into_owned()));
            payload = rest;
        }
    }
    values
}

/// Texts with their lengths before them, as far as there are any: a column's definition ends otherwise.
fn texts(mut payload: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while !payload.is_empty() {
        let (length, rest) = number(payload);
        let Some((text, rest)) = rest.split_at_checked(length as usize) else { break };
        texts.push(String::from_utf8_lossy(text).into_owned());
        payload = rest;
    }
    texts
}

fn number(bytes: &[u8]) -> (u64, &[u8]) {
    let (size, from) = match bytes.first() {
        Some(0xfc) => (2, 1),
        Some(0xfd) => (3, 1),
        Some(0xfe) => (8, 1),
        _ => (1, 0),
    };
    let (number, rest) = bytes[from..].split_at(size.min(bytes.len() - from));
    (number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), rest)
}

/// `SHA1(password) XOR SHA1(salt + SHA1(SHA1(password)))`.
fn token(password: &str, salt: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha1::digest(password.as_bytes());
    let salted = Sha1::new().chain_update(salt).chain_update(Sha1::digest(once)).finalize();
    once.iter().zip(salted).map(|(a, b)| a ^ b).collect()
}
