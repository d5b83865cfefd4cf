//! The lab's ProxySQL: the admin interface over real sockets, the read_only monitor, and client sessions in process.
//!
//! ```text
//! socket -> wire -> admin (commands, SQL) -> layers <- monitor <- nodes
//!                                              ^-- sessions -> nodes (writes are counted there)
//! ```

mod admin;
mod layers;
mod monitor;
mod rows;
mod sessions;
mod stats;
mod variables;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

pub use rows::ServerRow;
pub use sessions::{Session, SessionError};
pub use wire::{Answer, Records};

use crate::nodes::Nodes;
use layers::Layers;
use rows::RowKey;
use sessions::Client;
use wire::{Command, Raw, Wire};

/// How this ProxySQL is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `mysql-monitor_read_only_interval`.
    pub monitor_interval: Duration,
    /// `mysql-monitor_ping_interval`.
    pub ping_interval: Duration,
    /// `mysql-monitor_read_only_max_timeout_count`: after so many timeouts a node counts as read-only.
    pub read_only_max_timeouts: u32,
    /// Up to 2.5.2 the monitor wrote memory too, and lost what was staged there (facts §2).
    pub monitor_writes_memory: bool,
    /// `mysql-monitor_writer_is_also_reader`.
    pub writer_is_also_reader: bool,
    /// What `@@version` says.
    pub version: String,
    /// Admin users and their passwords.
    pub users: Vec<(String, String)>,
    /// Those of them that see statistics only (`admin-stats_credentials`).
    pub stats_users: Vec<String>,
    /// How long a shunned server stays out; a tenth of it if there is no other.
    pub shun_recovery: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let user = |name: &str| (name.to_owned(), name.to_owned());
        Self {
            monitor_interval: Duration::from_millis(1_000),
            ping_interval: Duration::from_millis(8_000),
            read_only_max_timeouts: 3,
            monitor_writes_memory: false,
            writer_is_also_reader: true,
            version: "2.7.1-16-g2726c27".to_owned(),
            users: vec![user("admin"), user("radmin"), user("stats")],
            stats_users: vec!["stats".to_owned()],
            shun_recovery: Duration::from_secs(10),
        }
    }
}

/// Between two tries to take the port again.
const REBIND: Duration = Duration::from_millis(5);

/// What a test wants to happen to a statement that has come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It runs.
    Go,
    /// The connection breaks before it runs.
    CutBefore,
    /// It runs, and the connection breaks before its answer.
    CutAfter,
    /// It is refused with these words.
    Refuse(&'static str),
}

type Hook = Box<dyn FnMut(&str) -> Verdict + Send>;

/// Everything behind the sockets.
struct Engine {
    settings: Settings,
    nodes: Nodes,
    layers: Layers,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    /// Rows that ProxySQL shunned by itself, and when.
    shunned: BTreeMap<RowKey, Instant>,
    /// Rows with a connection that nobody uses.
    idle: BTreeSet<RowKey>,
    /// Nodes that the monitor has a connection to.
    connected: BTreeSet<(String, u16)>,
    /// Nodes that hung when they were checked last.
    under_way: BTreeSet<(String, u16)>,
    /// Checks in a row that timed out.
    timeouts: BTreeMap<(String, u16), u32>,
    /// Pings in a row that nothing answered.
    unanswered: BTreeMap<(String, u16), u32>,
    /// Rounds of checks since the start.
    checks: u64,
    turn: usize,
    paused: bool,
    read_only: bool,
    down: bool,
    statements: Vec<String>,
    unknown: Vec<String>,
}

struct Shared {
    engine: Mutex<Engine>,
    hook: Mutex<Option<Hook>>,
    /// A new value ends all connections and the listener.
    life: watch::Sender<u64>,
    address: SocketAddr,
}

/// One ProxySQL of the lab.
#[derive(Clone)]
pub struct ProxySql(Arc<Shared>);

impl ProxySql {
    /// Starts it on a free port, with one pair 10/20 and no servers: add those with [`ProxySql::query`].
    ///
    /// # Errors
    /// No socket, or SQLite refuses the schema.
    pub async fn start(nodes: Nodes, settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let layers = Layers::new(&variables::all(&settings)).map_err(io::Error::other)?;
        let engine = Engine {
            settings: settings.clone(),
            nodes,
            layers,
            clients: BTreeMap::new(),
            next_client: 1,
            shunned: BTreeMap::new(),
            idle: BTreeSet::new(),
            connected: BTreeSet::new(),
            under_way: BTreeSet::new(),
            timeouts: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            checks: 0,
            turn: 0,
            paused: false,
            read_only: false,
            down: false,
            statements: Vec::new(),
            unknown: Vec::new(),
        };
        let shared = Shared { engine: Mutex::new(engine), hook: Mutex::new(None), life: watch::channel(0).0, address };
        let proxy = Self(Arc::new(shared));
        for sql in
            ["INSERT INTO mysql_replication_hostgroups VALUES (10,20,'read_only','')", "LOAD MYSQL SERVERS TO RUNTIME"]
        {
            proxy.query(sql).map_err(io::Error::other)?;
        }
        tokio::spawn(proxy.clone().serve(listener, proxy.0.life.subscribe()));
        tokio::spawn(monitor::watch_nodes(Arc::downgrade(&proxy.0), settings.monitor_interval));
        tokio::spawn(monitor::ping_nodes(Arc::downgrade(&proxy.0), settings.ping_interval));
        Ok(proxy)
    }

    /// The admin interface.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// How the statements begin that it knows.
    pub fn knows() -> impl Iterator<Item = &'static str> {
        admin::OWN.into_iter().chain(admin::SQL)
    }

    /// A statement without a socket: not counted, and no hook sees it.
    ///
    /// # Errors
    /// ProxySQL's words.
    pub fn query(&self, sql: &str) -> Result<Records, String> {
        match self.answer(sql) {
            Answer::Records(records) => Ok(records),
            Answer::Done(..) => Ok(Records::default()),
            Answer::Refused(text) => Err(text),
        }
    }

    /// The same, whole.
    pub fn answer(&self, sql: &str) -> Answer {
        self.engine().run(sql, "admin").text()
    }

    /// The runtime rows, as a client would see them.
    pub fn rows(&self) -> Vec<ServerRow> {
        let mut engine = self.engine();
        engine.purge().and_then(|()| engine.layers.rows()).unwrap_or_default()
    }

    /// How many rounds of checks the monitor has been through.
    pub fn checks(&self) -> u64 {
        self.engine().checks
    }

    /// Every statement that came over a socket.
    pub fn statements(&self) -> Vec<String> {
        self.engine().statements.clone()
    }

    /// How many of them were not merely reading.
    pub fn writes(&self) -> usize {
        self.engine().statements.iter().filter(|sql| !admin::only_reads(sql)).count()
    }

    /// Statements that it did not know.
    pub fn unknown(&self) -> Vec<String> {
        self.engine().unknown.clone()
    }

    /// Lets a test act before each statement that comes over a socket.
    pub fn before_statement(&self, hook: impl FnMut(&str) -> Verdict + Send + 'static) {
        *self.0.hook.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Box::new(hook));
    }

    /// Gives the admin interface other users.
    pub fn set_users(&self, users: Vec<(String, String)>) {
        self.engine().settings.users = users;
    }

    /// Opens a client session on hostgroup 10.
    pub fn connect(&self) -> Session {
        Session::new(self.clone())
    }

    /// Traffic on a hostgroup that is not counted: makes ProxySQL look at shunned servers, and shun dead ones.
    pub fn touch(&self, hostgroup: u32) {
        self.engine().touch(hostgroup);
    }

    /// SIGKILL: its connections and sessions are gone.
    pub fn kill(&self) {
        self.0.life.send_modify(|life| *life += 1);
        let mut engine = self.engine();
        engine.clients.values_mut().for_each(Client::end);
        engine.down = true;
    }

    /// Starts it again from its disk, on the same port.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn restart(&self) -> io::Result<()> {
        self.kill();
        let listener = loop {
            match TcpListener::bind(self.0.address).await {
                // The old listener's task has yet to end.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => tokio::time::sleep(REBIND).await,
                bound => break bound?,
            }
        };
        let mut engine = self.engine();
        engine.layers.restart().map_err(io::Error::other)?;
        engine.clients.clear();
        engine.shunned.clear();
        engine.idle.clear();
        engine.connected.clear();
        engine.under_way.clear();
        engine.timeouts.clear();
        engine.unanswered.clear();
        (engine.paused, engine.read_only, engine.down) = (false, false, false);
        drop(engine);
        tokio::spawn(self.clone().serve(listener, self.0.life.subscribe()));
        Ok(())
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.0.engine.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn serve(self, listener: TcpListener, mut life: watch::Receiver<u64>) {
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => continue,
                },
                _ = life.changed() => return,
            };
            let (proxy, mut life) = (self.clone(), self.0.life.subscribe());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                tokio::select! {
                    _ = proxy.talk(Wire::new(stream)) => {}
                    _ = life.changed() => {}
                }
            });
        }
    }

    async fn talk(&self, mut wire: Wire) -> io::Result<()> {
        let users = self.engine().settings.users.clone();
        let Some(user) = wire.log_in(&users).await? else { return Ok(()) };
        loop {
            match wire.command().await? {
                Command::Quit => return Ok(()),
                Command::Nothing => wire.answer(&Raw::Done(0, String::new())).await?,
                Command::Statistics => wire.say("Uptime: 1 Threads: 0  Questions: 0  Slow queries: 0").await?,
                Command::SetOption => wire.end().await?,
                Command::Reset => wire.refuse_reset().await?,
                Command::Unsupported(code) => wire.refuse(code, "Command not supported").await?,
                Command::Query(sql) => {
                    let verdict = self.judge(&sql);
                    if verdict == Verdict::CutBefore {
                        return Ok(());
                    }
                    let answer = match verdict {
                        Verdict::Refuse(words) => Raw::Refused(format!("ProxySQL Admin Error: {words}")),
                        _ => {
                            let mut engine = self.engine();
                            engine.statements.push(sql.clone());
                            engine.run(&sql, &user)
                        }
                    };
                    if verdict == Verdict::CutAfter {
                        return Ok(());
                    }
                    wire.answer(&answer).await?;
                }
            }
        }
    }

    fn judge(&self, sql: &str) -> Verdict {
        let mut hook = self.0.hook.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        hook.as_mut().map_or(Verdict::Go, |hook| hook(sql))
    }
}
