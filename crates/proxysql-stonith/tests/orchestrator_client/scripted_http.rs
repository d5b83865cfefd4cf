//! A server on a raw socket that answers each request as a test's script says, well or badly.
//!
//! It writes down every request with the connection it came on, so that a test can also say what must *not* be asked.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The `Date` of every well-made answer: 2026-11-23 06:20:36 UTC.
pub const DATE: &str = "Mon, 23 Nov 2026 06:20:36 GMT";
/// [`DATE`] in seconds since 1970.
pub const DATE_S: i64 = 1_795_414_836;

/// One request, as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which connection it came on, from 0.
    pub connection: usize,
    /// The request target.
    pub path: String,
    /// The request line and the headers.
    pub head: String,
}

/// What the script does with a request.
pub enum Reply {
    /// A whole answer with this status and body.
    Json(u16, String),
    /// These bytes, and nothing more; the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, then the connection is closed.
    BytesThenClose(Vec<u8>),
    /// A head, then a piece again and again: at most so many bytes, or until the client goes away.
    Endless(Vec<u8>, Vec<u8>, u64),
    /// A whole answer, then the connection is closed; whether the answer says that it will be.
    JsonThenClose(u16, String, bool),
    /// Nothing; the connection stays open.
    Hang,
    /// Nothing; the connection is closed.
    Close,
    /// Another reply after a while.
    After(Duration, Box<Reply>),
}

impl Reply {
    /// 200 with this body.
    pub fn ok(body: impl Into<String>) -> Self {
        Self::Json(200, body.into())
    }

    /// The same, and the connection is closed after it.
    pub fn then_close(self, says: bool) -> Self {
        match self {
            Self::Json(status, body) => Self::JsonThenClose(status, body, says),
            other => other,
        }
    }

    /// This text, and nothing more; the connection stays open.
    pub fn bytes(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

/// A running server; it serves until the test's process ends.
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Request>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    accepted: Arc<AtomicUsize>,
    written: Arc<AtomicU64>,
}

impl Server {
    /// Serves plain HTTP.
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(None, script)
    }

    /// Serves https.
    pub fn start_tls(config: Arc<ServerConfig>, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(Some(config), script)
    }

    fn serve(tls: Option<Arc<ServerConfig>>, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            scheme: if tls.is_some() { "https" } else { "http" },
            seen: Arc::default(),
            open: Arc::default(),
            accepted: Arc::default(),
            written: Arc::default(),
        };
        let script: Arc<Script> = Arc::new(script);
        let (seen, open) = (server.seen.clone(), server.open.clone());
        let (accepted, written) = (server.accepted.clone(), server.written.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let _ = stream.set_nodelay(true);
                open.lock().unwrap().push(stream.try_clone().unwrap());
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let talk = Talk { number, seen: seen.clone(), script: script.clone(), written: written.clone() };
                let tls = tls.clone();
                std::thread::spawn(move || match tls {
                    None => talk.run(stream.try_clone().unwrap(), &stream),
                    Some(config) => {
                        let session = ServerConnection::new(config).unwrap();
                        talk.run(StreamOwned::new(session, stream.try_clone().unwrap()), &stream);
                    }
                });
            }
        });
        server
    }

    /// Where it is, with another host name for the same address.
    pub fn url_as(&self, host: &str) -> String {
        format!("{}://{host}:{}", self.scheme, self.address.port())
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.url_as("127.0.0.1")
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// The paths asked so far, each with its connection's number, as in `0 /api/leader-check`.
    pub fn asked(&self) -> Vec<String> {
        self.requests().iter().map(|request| format!("{} {}", request.connection, request.path)).collect()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How many bytes the client's side has taken.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    /// Closes every connection, as a restart does.
    pub fn close_connections(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn whole(status: u16, body: &str, header: &str) -> String {
    format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json; charset=UTF-8\r\nDate: {DATE}\r\n{header}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One connection's conversation.
struct Talk {
    number: usize,
    seen: Arc<Mutex<Vec<Request>>>,
    script: Arc<Script>,
    written: Arc<AtomicU64>,
}

impl Talk {
    fn run(self, mut stream: impl Read + Write, socket: &TcpStream) {
        while let Some(head) = read_head(&mut stream) {
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let request = Request { connection: self.number, path, head };
            self.seen.lock().unwrap().push(request.clone());
            if !self.reply(&mut stream, (self.script)(&request)) {
                break;
            }
        }
        let _ = stream.flush();
        let _ = socket.shutdown(Shutdown::Both);
    }

    /// Whether the connection goes on.
    fn reply(&self, stream: &mut (impl Read + Write), reply: Reply) -> bool {
        match reply {
            Reply::Json(status, body) => self.write(stream, whole(status, &body, "").as_bytes()),
            Reply::JsonThenClose(status, body, says) => {
                self.write(stream, whole(status, &body, if says { "Connection: close\r\n" } else { "" }).as_bytes());
                false
            }
            Reply::Bytes(bytes) => self.write(stream, &bytes),
            Reply::BytesThenClose(bytes) => {
                self.write(stream, &bytes);
                false
            }
            Reply::Endless(head, piece, most) => {
                let mut sent = 0;
                let mut goes_on = self.write(stream, &head);
                while goes_on && sent < most {
                    goes_on = self.write(stream, &piece);
                    sent += piece.len() as u64;
                }
                goes_on
            }
            Reply::Hang => true,
            Reply::Close => false,
            Reply::After(wait, reply) => {
                std::thread::sleep(wait);
                self.reply(stream, *reply)
            }
        }
    }

    fn write(&self, stream: &mut impl Write, bytes: &[u8]) -> bool {
        let done = stream.write_all(bytes).and_then(|()| stream.flush()).is_ok();
        if done {
            self.written.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        }
        done
    }
}

fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 || head.len() > 65_536 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}
