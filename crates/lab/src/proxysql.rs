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
mod versions;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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

/// The settings of this ProxySQL.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address on which the admin interface listens, on a free port.
    pub listen: IpAddr,
    /// `mysql-monitor_read_only_interval`.
    pub monitor_interval: Duration,
    /// `mysql-monitor_ping_interval`.
    pub ping_interval: Duration,
    /// `mysql-monitor_read_only_max_timeout_count`: after this many timeouts a node counts as read-only.
    pub read_only_max_timeouts: u32,
    /// Whether the monitor writes memory too and loses staged edits there, as before 2.5.2, whatever the version.
    pub monitor_writes_memory: bool,
    /// `mysql-monitor_writer_is_also_reader`.
    pub writer_is_also_reader: bool,
    /// The value of `@@version`. What a version has follows from it, from 2.4 to an invented 4.0.
    pub version: String,
    /// The admin users and their passwords.
    pub users: Vec<(String, String)>,
    /// The users that see statistics only (`admin-stats_credentials`).
    pub stats_users: Vec<String>,
    /// How long a shunned server stays out; a tenth of that if there is no other server.
    pub shun_recovery: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let user = |name: &str| (name.to_owned(), name.to_owned());
        Self {
            listen: Ipv4Addr::LOCALHOST.into(),
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

/// The pause between two tries to take the port again.
const REBIND: Duration = Duration::from_millis(5);

/// What happens to a received statement, as a test chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The statement runs.
    Go,
    /// The connection breaks before it runs.
    CutBefore,
    /// The statement runs, and the connection breaks before its answer.
    CutAfter,
    /// The statement is refused with this text.
    Refuse(&'static str),
}

type Hook = Box<dyn FnMut(&str) -> Verdict + Send>;

/// The whole state behind the sockets.
struct Engine {
    settings: Settings,
    nodes: Nodes,
    layers: Layers,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    /// The rows that ProxySQL shunned on its own, with the time.
    shunned: BTreeMap<RowKey, Instant>,
    /// The rows with an idle connection.
    idle: BTreeSet<RowKey>,
    /// The nodes to which the monitor has a connection.
    connected: BTreeSet<(String, u16)>,
    /// The nodes that hung at their last check.
    under_way: BTreeSet<(String, u16)>,
    /// Per node: consecutive checks that timed out.
    timeouts: BTreeMap<(String, u16), u32>,
    /// Per node: consecutive pings without an answer.
    unanswered: BTreeMap<(String, u16), u32>,
    /// The number of check rounds since the start.
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

/// A ProxySQL in the lab.
#[derive(Clone)]
pub struct ProxySql(Arc<Shared>);

impl ProxySql {
    /// Starts it on a free port, with one pair 10/20 and no servers. [`ProxySql::query`] can add servers.
    ///
    /// # Errors
    /// No socket is available, or SQLite refuses the schema.
    pub async fn start(nodes: Nodes, settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind((settings.listen, 0)).await?;
        let address = listener.local_addr()?;
        let layers = Layers::new(&variables::all(&settings), &settings.version).map_err(io::Error::other)?;
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

    /// The address of the admin interface.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The beginnings of all known statements.
    pub fn knows() -> impl Iterator<Item = &'static str> {
        admin::OWN.into_iter().chain(admin::SQL)
    }

    /// Runs a statement without a socket. It is not counted, and no hook sees it.
    ///
    /// # Errors
    /// ProxySQL's error.
    pub fn query(&self, sql: &str) -> Result<Records, String> {
        match self.answer(sql) {
            Answer::Records(records) => Ok(records),
            Answer::Done(..) => Ok(Records::default()),
            Answer::Refused(text) => Err(text),
        }
    }

    /// Runs a statement in the same way, and returns the whole answer.
    pub fn answer(&self, sql: &str) -> Answer {
        self.engine().run(sql, "admin").text()
    }

    /// The runtime rows, as a client sees them.
    pub fn rows(&self) -> Vec<ServerRow> {
        let mut engine = self.engine();
        engine.purge().and_then(|()| engine.layers.rows()).unwrap_or_default()
    }

    /// The number of check rounds that the monitor has finished.
    pub fn checks(&self) -> u64 {
        self.engine().checks
    }

    /// All statements that came over a socket.
    pub fn statements(&self) -> Vec<String> {
        self.engine().statements.clone()
    }

    /// The number of statements over a socket that were not only reading.
    pub fn writes(&self) -> usize {
        self.engine().statements.iter().filter(|sql| !admin::only_reads(sql)).count()
    }

    /// The unknown statements that were received.
    pub fn unknown(&self) -> Vec<String> {
        self.engine().unknown.clone()
    }

    /// Lets a test act before each statement that comes over a socket.
    pub fn before_statement(&self, hook: impl FnMut(&str) -> Verdict + Send + 'static) {
        *self.0.hook.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Box::new(hook));
    }

    /// Changes the users of the admin interface.
    pub fn set_users(&self, users: Vec<(String, String)>) {
        self.engine().settings.users = users;
    }

    /// Opens a client session on hostgroup 10.
    pub fn connect(&self) -> Session {
        Session::new(self.clone())
    }

    /// Sends uncounted traffic to a hostgroup, so that ProxySQL checks shunned servers and shuns dead ones.
    pub fn touch(&self, hostgroup: u32) {
        self.engine().touch(hostgroup);
    }

    /// Kills it (SIGKILL). Its connections and sessions are gone.
    pub fn kill(&self) {
        self.0.life.send_modify(|life| *life += 1);
        let mut engine = self.engine();
        engine.clients.values_mut().for_each(Client::end);
        engine.down = true;
    }

    /// Starts it again from its disk layer, on the same port.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn restart(&self) -> io::Result<()> {
        self.kill();
        let listener = loop {
            match TcpListener::bind(self.0.address).await {
                // The task of the old listener may not have ended yet.
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
