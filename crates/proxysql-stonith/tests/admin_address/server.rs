//! A fake admin server: it serves one connection by a script, on a thread of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::PASSWORD;

/// Longer than a client needs to answer; a fake that waits for what must not come waits for the end of the connection.
const PATIENCE: Duration = Duration::from_secs(30);

pub const SALT: &[u8; 20] = b"ABCDEFGHIJKLMNOPQRST";

/// Protocol 4.1, plugins, no TLS, as ProxySQL with mysql-have_ssl=false.
pub const WITHOUT_TLS: u32 = 0x808f_a22f;

/// The same with mysql-have_ssl=true.
pub const WITH_TLS: u32 = WITHOUT_TLS | TLS;

/// `CLIENT_SSL`.
const TLS: u32 = 0x800;

/// Long passwords and flags, protocol 4.1, transactions, the 20-byte proof, plugins: above all no LOCAL INFILE (0x80).
const ASKED_FOR: u32 = 0x8_a205;

pub const NATIVE: &str = "mysql_native_password";

pub const SHA2: &str = "caching_sha2_password";

/// Of caching_sha2_password: "I know a hash of it only, give me the password".
pub const FULL: &[u8] = &[1, 4];

/// Of caching_sha2_password: "the proof is right".
pub const PROVED: &[u8] = &[1, 3];

/// A fake that is being talked to.
pub struct Fake<T> {
    pub port: u16,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Fake<T> {
    /// Serves one connection.
    pub fn start(script: impl FnOnce(Talk) -> T + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let stream = listener.accept().unwrap().0;
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            script(Talk { stream, next: 0 })
        });
        Self { port, thread }
    }

    /// What its script came to.
    pub fn end(self) -> T {
        self.thread.join().unwrap()
    }
}

/// A conversation with a client.
pub struct Talk<S = TcpStream> {
    pub stream: S,
    pub next: u8,
}

/// A login as it was heard.
#[derive(Debug, PartialEq, Eq)]
pub struct Login {
    pub proof: Vec<u8>,
    pub plugin: String,
}

impl<S: Read + Write> Talk<S> {
    /// Sends a payload, if the client still listens.
    pub fn say(&mut self, payload: &[u8]) {
        self.say_often(payload, 1);
    }

    /// Sends it so many times in one piece; `false` if the client is gone.
    pub fn say_often(&mut self, payload: &[u8], times: usize) -> bool {
        let mut packets = Vec::new();
        for _ in 0..times {
            packets.extend(&(payload.len() as u32).to_le_bytes()[..3]);
            packets.push(self.next);
            packets.extend(payload);
            self.next = self.next.wrapping_add(1);
        }
        self.raw(&packets)
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The client's next packet; `None` if it has closed the connection.
    pub fn hear(&mut self) -> Option<Vec<u8>> {
        let mut head = [0; 4];
        match self.stream.read_exact(&mut head) {
            Err(error) if is_end(&error) => return None,
            read => read.unwrap(),
        }
        self.next = head[3].wrapping_add(1);
        let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
        self.stream.read_exact(&mut payload).unwrap();
        Some(payload)
    }

    /// All that is still heard until the client closes the connection.
    pub fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Err(error) if is_end(&error) => {}
            read => drop(read.unwrap()),
        }
        rest
    }

    pub fn greet(&mut self, capabilities: u32, plugin: &str) {
        let [a, b, c, d] = capabilities.to_le_bytes();
        let mut greeting = b"\x0a8.0.11\0\x02\0\0\0".to_vec();
        greeting.extend(&SALT[..8]);
        greeting.extend([0, a, b, 33, 2, 0, c, d, 21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        greeting.extend(&SALT[8..]);
        greeting.push(0);
        greeting.extend([plugin.as_bytes(), b"\0"].concat());
        self.say(&greeting);
    }

    /// The client's login.
    pub fn login(&mut self) -> Login {
        self.try_login().expect("a login")
    }

    /// The same, if it is not gone.
    pub fn try_login(&mut self) -> Option<Login> {
        let packet = self.hear()?;
        let asks = u32::from_le_bytes(packet[..4].try_into().unwrap());
        assert_eq!(asks & !TLS, ASKED_FOR, "{asks:x}");
        let rest = packet[32..].strip_prefix(b"radmin\0").expect("the user");
        let (proof, plugin) = rest[1..].split_at(usize::from(rest[0]));
        let plugin = plugin.strip_suffix(b"\0").expect("a plugin");
        Some(Login { proof: proof.to_vec(), plugin: String::from_utf8(plugin.to_vec()).unwrap() })
    }

    pub fn switch(&mut self, plugin: &str) {
        self.say(&[&[0xfe], plugin.as_bytes(), b"\0", SALT, b"\0"].concat());
    }

    pub fn done(&mut self) {
        self.say(&[0, 0, 0, 2, 2, 0, 0]);
    }

    /// Greets and lets in as ProxySQL does, and hears the first statement.
    pub fn let_in(&mut self) -> String {
        self.greet(WITHOUT_TLS, NATIVE);
        let login = self.login();
        assert!(is_proof_of_the_password(&login.proof));
        self.done();
        self.statement().expect("a statement")
    }

    /// The next statement.
    pub fn statement(&mut self) -> Option<String> {
        let packet = self.hear()?;
        let text = packet.strip_prefix(b"\x03").expect("COM_QUERY");
        Some(String::from_utf8(text.to_vec()).unwrap())
    }

    /// The head of a result set with columns of these names.
    pub fn columns(&mut self, names: &[&str]) {
        self.say(&[names.len() as u8]);
        for name in names {
            self.column(name);
        }
        self.end_of_set();
    }

    pub fn column(&mut self, name: &str) {
        let mut column = b"\x03def\0\0\0".to_vec();
        column.push(name.len() as u8);
        column.extend(name.as_bytes());
        column.extend(b"\0\x0c\x21\0\x0f\0\0\0\xfd\x01\0\x1f\0\0");
        self.say(&column);
    }

    pub fn end_of_set(&mut self) {
        self.say(&[0xfe, 0, 0, 2, 2]);
    }
}

impl Talk {
    /// Hears the wish for TLS and grants it.
    pub fn over_tls(mut self, config: Arc<ServerConfig>) -> Talk<StreamOwned<ServerConnection, TcpStream>> {
        let wish = self.hear().expect("a wish");
        assert_eq!(wish.len(), 32, "no user, no proof");
        let asks = u32::from_le_bytes(wish[..4].try_into().unwrap());
        assert_eq!(asks, TLS | ASKED_FOR, "{asks:x}");
        Talk { stream: StreamOwned::new(ServerConnection::new(config).unwrap(), self.stream), next: self.next }
    }
}

/// The connection's end in any form; of TLS also the client's refusal.
fn is_end(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::InvalidData)
}

/// As a server checks it that stores `SHA1(SHA1(password))`.
pub fn is_proof_of_the_password(proof: &[u8]) -> bool {
    let twice = Sha1::digest(Sha1::digest(PASSWORD));
    let salted = Sha1::new().chain_update(SALT).chain_update(twice).finalize();
    let once: Vec<u8> = proof.iter().zip(salted).map(|(a, b)| a ^ b).collect();
    proof.len() == 20 && Sha1::digest(once) == twice
}

/// The same by caching_sha2_password, of a server that stores the password.
pub fn is_sha2_proof_of_the_password(proof: &[u8]) -> bool {
    let once = Sha256::digest(PASSWORD);
    let salted = Sha256::new().chain_update(Sha256::digest(once)).chain_update(SALT).finalize();
    proof == once.iter().zip(salted).map(|(a, b)| a ^ b).collect::<Vec<u8>>()
}
