//! What stands between an agent and Orchestrator: a load balancer, a gateway, or a long way.
//!
//! A request is forwarded as it is, to a member that is chosen at that moment. So a connection of the agent may get
//! answers of several members, as behind a load balancer that works by the request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a relay treats the next request.
#[derive(Clone)]
pub struct Way {
    /// The members that get the requests in turn, `host:port` each.
    pub to: Vec<String>,
    /// How long each answer is on its way.
    pub delay: Duration,
    /// A gateway's own answer, in place of the member's.
    pub gateway_error: Option<u16>,
    /// The status of the answer to the question for the fork's ProxySQL hooks, in place of the member's (facts §14).
    pub hooks: Option<u16>,
    /// A connection is closed after so many answers; the last one says so.
    pub answers_per_connection: usize,
}

/// A relay on loopback; it ends with the tests.
pub struct Relay {
    address: String,
    way: Arc<Mutex<Way>>,
}

impl Relay {
    /// One that forwards to this member, without further ado.
    pub fn to(member: String) -> Self {
        let listener = TcpListener::bind("127.0.3.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let to = vec![member];
        let plain =
            Way { to, delay: Duration::ZERO, gateway_error: None, hooks: None, answers_per_connection: usize::MAX };
        let way = Arc::new(Mutex::new(plain));
        let shared = way.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let way = shared.clone();
                std::thread::spawn(move || serve(client, &way));
            }
        });
        Self { address, way }
    }

    /// Where an agent finds it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How it treats the requests from now on.
    pub fn set(&self, change: impl FnOnce(&mut Way)) {
        change(&mut lock(&self.way));
    }
}

fn lock(way: &Mutex<Way>) -> MutexGuard<'_, Way> {
    way.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one client until it goes, or has had its share.
fn serve(client: TcpStream, way: &Mutex<Way>) -> Option<()> {
    let mut requests = BufReader::new(client.try_clone().ok()?);
    let mut answers = client;
    for nth in 1_usize.. {
        let request = head(&mut requests)?;
        let way = lock(way).clone();
        std::thread::sleep(way.delay);
        let is_last = nth >= way.answers_per_connection;
        let hooks =
            way.hooks.filter(|_| request.first().is_some_and(|line| line.contains(" /api/v2/proxysql/servers ")));
        let answer = match (way.gateway_error, hooks) {
            (Some(code), _) => Answer::of_gateway(code),
            (None, Some(code)) => Answer::of_the_fork(code),
            (None, None) => forward(&way.to[nth % way.to.len()], &request).unwrap_or_else(|| Answer::of_gateway(502)),
        };
        answers.write_all(&answer.bytes(is_last)).ok()?;
        if is_last {
            break;
        }
    }
    Some(())
}

/// The lines of a request or of an answer up to the empty one; none where the other side went.
fn head(from: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        match line.trim_end() {
            "" => return Some(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

struct Answer {
    status: String,
    content_type: String,
    body: Vec<u8>,
}

impl Answer {
    /// What nginx says of an upstream that it does not reach.
    fn of_gateway(code: u16) -> Self {
        let body = format!("<html>\r\n<head><title>{code}</title></head>\r\n<body>nginx</body>\r\n</html>\r\n");
        Self { status: format!("{code} Gateway"), content_type: "text/html".into(), body: body.into_bytes() }
    }

    /// What the fork's build says of its hooks.
    fn of_the_fork(code: u16) -> Self {
        Self { status: format!("{code} Fork"), content_type: "application/json".into(), body: b"[]".into() }
    }

    fn bytes(&self, is_last: bool) -> Vec<u8> {
        let Self { status, content_type, body } = self;
        let length = body.len();
        let connection = if is_last { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    }
}

/// Asks a member, by HTTP/1.0: its answer ends where the connection does.
fn forward(member: &str, request: &[String]) -> Option<Answer> {
    let (line, headers) = request.split_first()?;
    let mut upstream = TcpStream::connect(member).ok()?;
    upstream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let line = line.strip_suffix("HTTP/1.1")?;
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(upstream, "{line}HTTP/1.0\r\n{headers}\r\n").ok()?;
    let mut answer = BufReader::new(upstream);
    let head = head(&mut answer)?;
    let status = head.first()?.split_once(' ')?.1.to_owned();
    let content_type = |line: &String| line.strip_prefix("Content-Type: ").map(str::to_owned);
    let content_type = head.iter().find_map(content_type).unwrap_or_else(|| "text/plain".into());
    let mut body = Vec::new();
    answer.read_to_end(&mut body).ok()?;
    Some(Answer { status, content_type, body })
}
