//! A server on a raw socket: what it says to each thing that it hears is up to the test, byte for byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What is said next.
pub enum Said {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These, and then the connection is closed.
    Last(Vec<u8>),
}

/// Is asked with the connection's number, how much was said on it, and what was heard since (nothing at its begin).
type Script = Box<dyn FnMut(usize, usize, &[u8]) -> Option<Said> + Send>;

/// A running server; it serves until the test's process ends.
pub struct Server {
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent: Script = Box::new(|_, _, _| None);
        let server = Self { address: listener.local_addr().unwrap(), script: Arc::new(Mutex::new(silent)) };
        let script = server.script.clone();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (Ok(stream), script) = (stream, script.clone()) else { return };
                std::thread::spawn(move || talk(number, stream, &script));
            }
        });
        server
    }

    /// From now on it says this.
    pub fn script(&self, script: impl FnMut(usize, usize, &[u8]) -> Option<Said> + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }
}

fn talk(number: usize, mut stream: TcpStream, script: &Mutex<Script>) {
    let _ = stream.set_nodelay(true);
    let (mut heard, mut turn) = (Vec::new(), 0);
    loop {
        let said = (script.lock().unwrap())(number, turn, &heard);
        let (bytes, last) = match said {
            None => (Vec::new(), false),
            Some(Said::Bytes(bytes)) => (bytes, false),
            Some(Said::Last(bytes)) => (bytes, true),
        };
        if stream.write_all(&bytes).is_err() || last {
            return;
        }
        heard.resize(65_536, 0);
        match stream.read(&mut heard) {
            Ok(size @ 1..) => heard.truncate(size),
            _ => return,
        }
        turn += 1;
    }
}
