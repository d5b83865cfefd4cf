//! Clients of the application: sessions of every kind, and where their writes go.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use mysql_async::prelude::Queryable;

use super::process::{Running, append_to, output};
use super::proxy::Proxy;

/// A write that says where it went, and when it was sent.
fn insert() -> String {
    format!("insert into t.a (host,sent) select @@report_host,{:.3}", now())
}

/// The time, in seconds since 1970. The nodes stamp their rows by the same clock.
pub fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs_f64()
}

/// A statement that takes longer hangs: its client gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The kinds of sessions, and what opens each (facts §4).
pub const SESSIONS: [(&str, &str); 3] =
    [("plain", "select 1"), ("transactional", "begin"), ("pinned", "create temporary table x (a int)")];

/// An interactive stock client, one statement a line.
pub struct Client(Running);

impl Client {
    /// Opens it.
    pub fn open(proxy: &Proxy) -> Self {
        let mut command = stock(proxy);
        command.args(["-N", "--unbuffered", "--force", "--reconnect", "t"]).stdin(Stdio::piped());
        command.stdout(append_to(&proxy.file("client.log"))).stderr(append_to(&proxy.file("client.log")));
        Self(Running(command.spawn().expect("mariadb")))
    }

    /// Sends a statement, without waiting for the answer.
    pub fn send(&mut self, statement: &str) {
        use std::io::Write;
        let stdin = self.0.0.stdin.as_mut().expect("a pipe");
        let _ = writeln!(stdin, "{statement};").and_then(|()| stdin.flush());
    }
}

/// One write in a session of its own; `true` if it was taken.
pub fn write(proxy: &Proxy) -> bool {
    output(stock(proxy).args(["--connect-timeout=2", "-e", &insert()])).is_some()
}

fn stock(proxy: &Proxy) -> Command {
    let (host, port) = (format!("-h{}", proxy.address()), format!("-P{}", proxy.client_port));
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", &host, &port, "-uapp", "-papp"]);
    command
}

/// How the application's client logs in.
pub fn login(proxy: &Proxy) -> mysql_async::Opts {
    login_as(proxy, "app")
}

/// How a client logs in, whose password is its name.
pub fn login_as(proxy: &Proxy, user: &str) -> mysql_async::Opts {
    mysql_async::OptsBuilder::default()
        .ip_or_hostname(proxy.address())
        .tcp_port(proxy.client_port)
        .user(Some(user))
        .pass(Some(user))
        .db_name(Some("t"))
        .prefer_socket(false)
        .stmt_cache_size(0)
        .into()
}

/// Sessions of every kind that write without end, each by a thread of its own; one that is ended is opened again.
pub struct Writers {
    end: Arc<AtomicBool>,
    errors: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Opens one session of each kind, and writes in each every 50 ms until it is dropped.
    pub fn start(proxy: &Proxy) -> Self {
        let (end, errors) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let threads = SESSIONS.map(|session| {
            let (end, errors, login) = (end.clone(), errors.clone(), login(proxy));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                while !end.load(Ordering::Relaxed) {
                    if let Err(error) = runtime.block_on(write_until(&end, login.clone(), session)) {
                        errors.lock().expect("the errors").push(format!("{}: {error}", session.0));
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            })
        });
        Self { end, errors, threads: threads.into() }
    }

    /// The errors that their clients have seen so far.
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().expect("the errors").clone()
    }

    /// Ends them, and gives the errors that their clients saw.
    pub fn end(self) -> Vec<String> {
        let errors = self.errors.clone();
        drop(self);
        Arc::try_unwrap(errors).map(|errors| errors.into_inner().expect("the errors")).unwrap_or_default()
    }
}

async fn write_until(
    end: &AtomicBool,
    login: mysql_async::Opts,
    (kind, opening): (&str, &str),
) -> Result<(), mysql_async::Error> {
    let mut session = in_time(mysql_async::Conn::new(login)).await?;
    in_time(session.query_drop(opening)).await?;
    for n in 1_u32.. {
        if end.load(Ordering::Relaxed) {
            break;
        }
        in_time(session.query_drop(insert())).await?;
        // What a transaction wrote is counted only once it is committed.
        if kind == "transactional" && n.is_multiple_of(5) {
            in_time(session.query_drop("commit")).await?;
            in_time(session.query_drop(opening)).await?;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    in_time(session.disconnect()).await
}

async fn in_time<T>(statement: impl Future<Output = Result<T, mysql_async::Error>>) -> Result<T, mysql_async::Error> {
    let hung = || mysql_async::Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
    tokio::time::timeout(PATIENCE, statement).await.map_err(|_| hung())?
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
