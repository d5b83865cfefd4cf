//! The MySQL protocol as the admin interface speaks it (facts §1, [5-admin]): text protocol only, greeting `8.0.30`,
//! mysql_native_password.

use std::io;

use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The answer to a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<V = String> {
    /// The statement was done; with the number of matched records and an info text.
    Done(u64, String),
    /// Columns and records, every value as text.
    Records(Records<V>),
    /// The statement was refused; with ProxySQL's error.
    Refused(String),
}

/// An answer on the wire: values are bytes, not always UTF-8 (facts §2).
pub(super) type Raw = Answer<Vec<u8>>;

/// A result set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records<V = String> {
    /// Column names.
    pub columns: Vec<String>,
    /// Values; `None` is NULL.
    pub records: Vec<Vec<Option<V>>>,
}

impl<V> Answer<V> {
    fn map<W>(self, of: impl Fn(V) -> W) -> Answer<W> {
        match self {
            Self::Done(affected, info) => Answer::Done(affected, info),
            Self::Refused(text) => Answer::Refused(text),
            Self::Records(Records { columns, records }) => {
                let record = |record: Vec<Option<V>>| record.into_iter().map(|value| value.map(&of)).collect();
                Answer::Records(Records { columns, records: records.into_iter().map(record).collect() })
            }
        }
    }

    /// The bytes of a text.
    pub(super) fn raw(self) -> Raw
    where
        V: Into<Vec<u8>>,
    {
        self.map(Into::into)
    }
}

impl Raw {
    /// The answer as text for people. Bytes that are not UTF-8 are replaced.
    pub(super) fn text(self) -> Answer {
        self.map(|value| String::from_utf8_lossy(&value).into_owned())
    }
}

/// A command of a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// COM_QUERY.
    Query(String),
    /// COM_PING, COM_INIT_DB: answered OK.
    Nothing,
    /// COM_STATISTICS.
    Statistics,
    /// COM_SET_OPTION.
    SetOption,
    /// COM_RESET_CONNECTION.
    Reset,
    /// COM_QUIT, COM_CHANGE_USER, or a lost connection.
    Quit,
    /// Any other command, such as COM_STMT_PREPARE, with the code of its error.
    Unsupported(u16),
}

/// The code of SQL errors, which is that of "access denied" (facts §1).
const REFUSED: u16 = 1045;

const CLIENT_CAPABILITIES: u32 = 0x0000_0001 // long password
    | 0x0000_0004 // long flag
    | 0x0000_0008 // connect with db
    | 0x0000_0200 // protocol 41
    | 0x0000_2000 // transactions
    | 0x0000_8000 // secure connection
    | 0x0008_0000; // plugin auth

const NATIVE: &[u8] = b"mysql_native_password\0";
const SALT: &[u8; 20] = b"the-lab's-fixed-salt";
const AUTOCOMMIT: u16 = 0x0002;
/// The status in each answer: autocommit, and literal backslashes.
const STATUS: u16 = AUTOCOMMIT | 0x0200;
/// The bytes after a column's names. Every column is a VAR_STRING, never NULL, utf8, 15 long, with 31 decimals.
const COLUMN: [u8; 13] = [0x0c, 33, 0, 15, 0, 0, 0, 0xfd, 1, 0, 0x1f, 0, 0];
/// The end of columns, of records, and COM_SET_OPTION's answer.
const END: [u8; 5] = [0xfe, 0, 0, STATUS.to_le_bytes()[0], STATUS.to_le_bytes()[1]];
const PACKET_MAX: usize = 16 << 20;

/// A connection of a client.
pub struct Wire {
    stream: BufReader<TcpStream>,
    sequence: u8,
}

impl Wire {
    /// Takes a connection.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream: BufReader::new(stream), sequence: 0 }
    }

    /// Greets the client and checks its password. Returns the user; `None` if the login is refused.
    pub async fn log_in(&mut self, users: &[(String, String)]) -> io::Result<Option<String>> {
        let mut greeting = vec![10];
        greeting.extend(b"8.0.30\0");
        greeting.extend(1_u32.to_le_bytes());
        greeting.extend(&SALT[..8]);
        greeting.push(0);
        greeting.extend((CLIENT_CAPABILITIES as u16).to_le_bytes());
        greeting.push(33);
        greeting.extend(AUTOCOMMIT.to_le_bytes());
        greeting.extend(((CLIENT_CAPABILITIES >> 16) as u16).to_le_bytes());
        greeting.push(21);
        greeting.extend([0; 10]);
        greeting.extend(&SALT[8..]);
        greeting.push(0);
        greeting.extend(NATIVE);
        self.send(&greeting).await?;
        let hello = self.receive().await?;
        let (user, mut proof, plugin) = read_hello(&hello).ok_or(io::ErrorKind::InvalidData)?;
        if plugin.is_some_and(|plugin| plugin != b"mysql_native_password") {
            // A client that starts with caching_sha2_password is switched to mysql_native_password.
            let mut switch = vec![0xfe];
            switch.extend(NATIVE);
            switch.extend(SALT);
            switch.push(0);
            self.send(&switch).await?;
            proof = self.receive().await?;
        }
        let knows = |(name, password): &(String, String)| *name == user && proof == token(password);
        if users.iter().any(knows) {
            self.answer(&Raw::Done(0, String::new())).await?;
            return Ok(Some(user));
        }
        let used = if proof.is_empty() { "NO" } else { "YES" };
        let text = format!("ProxySQL Error: Access denied for user '{user}'@'127.0.0.1' (using password: {used})");
        self.answer(&Raw::Refused(text)).await?;
        Ok(None)
    }

    /// Reads the next command.
    pub async fn command(&mut self) -> io::Result<Command> {
        self.sequence = 0;
        let packet = match self.receive().await {
            Ok(packet) => packet,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Command::Quit),
            Err(error) => return Err(error),
        };
        Ok(match packet.split_first() {
            Some((3, text)) => Command::Query(String::from_utf8_lossy(text).into_owned()),
            Some((1 | 17, _)) | None => Command::Quit,
            Some((2 | 14, _)) => Command::Nothing,
            Some((9, _)) => Command::Statistics,
            Some((12, _)) => Command::Unsupported(9003),
            Some((27, _)) => Command::SetOption,
            Some((31, _)) => Command::Reset,
            Some(_) => Command::Unsupported(REFUSED),
        })
    }

    /// Sends an answer.
    pub async fn answer<V: AsRef<[u8]>>(&mut self, answer: &Answer<V>) -> io::Result<()> {
        match answer {
            Answer::Done(affected, info) => {
                let mut packet = vec![0];
                length(&mut packet, *affected);
                length(&mut packet, 0);
                packet.extend(STATUS.to_le_bytes());
                packet.extend([0, 0]);
                if !info.is_empty() {
                    bytes(&mut packet, info.as_bytes());
                }
                self.send(&packet).await
            }
            Answer::Refused(text) => self.refuse(REFUSED, text).await,
            Answer::Records(records) => self.records(records).await,
        }
    }

    /// Refuses with a code.
    pub async fn refuse(&mut self, code: u16, text: &str) -> io::Result<()> {
        let mut packet = vec![0xff];
        packet.extend(code.to_le_bytes());
        packet.extend(b"#28000");
        packet.extend(text.as_bytes());
        self.send(&packet).await
    }

    /// Refuses COM_RESET_CONNECTION with a wrong sequence number. A client that checks it fails (facts §1).
    pub async fn refuse_reset(&mut self) -> io::Result<()> {
        self.sequence += 1;
        let text = "Received unsupported 'COM_RESET_CONNECTION' for session type 'PROXYSQL_SESSION_ADMIN'";
        self.refuse(1047, text).await
    }

    /// Sends a text.
    pub async fn say(&mut self, text: &str) -> io::Result<()> {
        self.send(text.as_bytes()).await
    }

    /// EOF.
    pub async fn end(&mut self) -> io::Result<()> {
        self.send(&END).await
    }

    async fn records<V: AsRef<[u8]>>(&mut self, records: &Records<V>) -> io::Result<()> {
        let mut all = Vec::new();
        let mut count = Vec::new();
        length(&mut count, records.columns.len() as u64);
        self.frame(&mut all, &count);
        for column in &records.columns {
            let mut definition = Vec::new();
            for text in ["def", "", "", "", column, ""] {
                bytes(&mut definition, text.as_bytes());
            }
            definition.extend(COLUMN);
            self.frame(&mut all, &definition);
        }
        self.frame(&mut all, &END);
        for record in &records.records {
            let mut row = Vec::new();
            for value in record {
                match value {
                    Some(value) => bytes(&mut row, value.as_ref()),
                    None => row.push(0xfb),
                }
            }
            self.frame(&mut all, &row);
        }
        self.frame(&mut all, &END);
        self.stream.write_all(&all).await
    }

    fn frame(&mut self, out: &mut Vec<u8>, packet: &[u8]) {
        out.extend(&(packet.len() as u32).to_le_bytes()[..3]);
        out.push(self.sequence);
        out.extend(packet);
        self.sequence = self.sequence.wrapping_add(1);
    }

    async fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        let mut out = Vec::new();
        self.frame(&mut out, packet);
        self.stream.write_all(&out).await
    }

    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).await?;
        let size = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        if size >= PACKET_MAX - 1 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.sequence = head[3].wrapping_add(1);
        let mut packet = vec![0; size];
        self.stream.read_exact(&mut packet).await?;
        Ok(packet)
    }
}

type Hello<'h> = (String, Vec<u8>, Option<&'h [u8]>);

/// Parses user, proof and plugin of a handshake response 41.
fn read_hello(hello: &[u8]) -> Option<Hello<'_>> {
    let flags = u32::from_le_bytes(hello.get(..4)?.try_into().ok()?);
    let mut rest = hello.get(32..)?;
    let until_zero = |rest: &mut &'_ [u8]| -> Option<Vec<u8>> {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let text = rest[..end].to_vec();
        *rest = &rest[end + 1..];
        Some(text)
    };
    let user = String::from_utf8_lossy(&until_zero(&mut rest)?).into_owned();
    let size = usize::from(*rest.first()?);
    let proof = rest.get(1..1 + size)?.to_vec();
    rest = &rest[1 + size..];
    if flags & 0x8 != 0 {
        until_zero(&mut rest)?;
    }
    let plugin = (flags & 0x0008_0000 != 0).then_some(rest).map(|rest| {
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        &rest[..end]
    });
    Some((user, proof, plugin))
}

/// The proof `SHA1(password) XOR SHA1(salt + SHA1(SHA1(password)))`.
fn token(password: &str) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha1::digest(password.as_bytes());
    let twice = Sha1::digest(once);
    let salted = Sha1::new().chain_update(SALT).chain_update(twice).finalize();
    once.iter().zip(salted).map(|(a, b)| a ^ b).collect()
}

fn length(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=250 => out.push(number as u8),
        251..=0xffff => {
            out.push(0xfc);
            out.extend((number as u16).to_le_bytes());
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend(&(number as u32).to_le_bytes()[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend(number.to_le_bytes());
        }
    }
}

fn bytes(out: &mut Vec<u8>, text: &[u8]) {
    length(out, text.len() as u64);
    out.extend(text);
}
