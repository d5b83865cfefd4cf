//! A server on loopback in the client's own thread. One that said something changed does not leave the client waiting for
//! more: the connection ends as soon as the client had all its turns and is still silent. So no input waits for a timer.

use std::future::Future;
use std::io::ErrorKind;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, yield_now};

/// How often everybody else gets a turn before a silent client counts as one that waits for more.
const TURNS: usize = 200;

/// What is said next.
pub enum Said {
    /// These bytes, and then the client may take its time.
    Well(Vec<u8>),
    /// These, of which nobody knows what the client makes.
    Changed(Vec<u8>),
    /// Nothing more.
    End,
}

/// Is asked with how often something was said on the connection, and what was heard since (nothing at its begin).
pub type Script = Arc<dyn Fn(usize, &[u8]) -> Said + Send + Sync>;

/// A runtime and a port, for one input after the other.
pub struct Stage {
    runtime: Runtime,
    listener: TcpListener,
}

impl Stage {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        Self { runtime, listener }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Plays the script to a client until that is done.
    pub fn play<T>(&self, script: &Script, client: impl Future<Output = T>) -> T {
        let serve = async {
            let mut connections = JoinSet::new();
            loop {
                if let Ok((stream, _)) = self.listener.accept().await {
                    connections.spawn(talk(stream, script.clone()));
                }
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                done = client => done,
                () = serve => unreachable!("it serves for as long as it is asked"),
            }
        })
    }
}

async fn talk(mut stream: TcpStream, script: Script) {
    let _ = stream.set_nodelay(true);
    let mut heard = Vec::new();
    for turn in 0.. {
        let (bytes, is_patient) = match script(turn, &heard) {
            Said::Well(bytes) => (bytes, true),
            Said::Changed(bytes) => (bytes, false),
            Said::End => return,
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
        match hear(&stream, is_patient).await {
            Some(bytes) => heard = bytes,
            None => return,
        }
    }
}

async fn hear(stream: &TcpStream, is_patient: bool) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 16_384];
    let mut turns = 0;
    loop {
        match stream.try_read(&mut buffer) {
            Ok(size @ 1..) => {
                buffer.truncate(size);
                return Some(buffer);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => return None,
        }
        if is_patient {
            stream.readable().await.ok()?;
        } else if turns == TURNS {
            return None;
        } else {
            turns += 1;
            yield_now().await;
        }
    }
}
