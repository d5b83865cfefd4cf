//! The stage: the lab with three nodes, client sessions that write, and the program that watches it.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::nodes::Nodes;
use lab::orchestrator::{self, Orchestrator};
use lab::proxysql::{self, ProxySql, ServerRow, Session};
use stonith_core::node::Node;
use stonith_core::policy::Policy;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Expectation, Scenario, SessionKind, Step};
use crate::agent::{Agent, AgentSettings, Credentials, Kept, Start, Watch};
use crate::orchestrator::{Client, Settings, TlsSettings};
use crate::proxysql::Settings as AdminSettings;
use crate::secret::{Credential, Secret};
use crate::state::StateDir;

const NODES: [&str; 3] = ["node01", "node02", "node03"];

/// The interval of the lab's monitor, its polls and the program's ticks: a fifth of the defaults.
const TICK: Duration = Duration::from_millis(200);

/// `isolation.after` on this stage: the shortest time that the tick allows (design §7).
const ISOLATION_AFTER: Duration = Duration::from_millis(6_500);

/// The longest wait of an `until`.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a raft election takes on this stage.
const ELECTION: Duration = Duration::from_millis(500);

/// One line of what happened. The text is the same in every run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The scenario's title.
    Title(String),
    /// A text for the reader.
    Said(String),
    /// A step that was done.
    Did(String),
    /// The program's rows now.
    Rows(String),
    /// An expectation held.
    Held(String),
    /// An expectation that did not hold, and the actual state.
    Failed(String, String),
}

/// Plays a scenario. `tell` gets each line as it happens. Returns whether every expectation held.
///
/// # Errors
/// The stage can't be set up: there is no socket or no temporary directory.
pub async fn play(scenario: &Scenario, mut tell: impl FnMut(Line)) -> anyhow::Result<bool> {
    let mut stage = Stage::set().await?;
    tell(Line::Title(scenario.title.clone()));
    let mut all_held = true;
    for step in &scenario.steps {
        match step {
            Step::Until(expected) | Step::Expect(expected) => {
                let waits = matches!(step, Step::Until(_));
                let found = stage.check(expected, if waits { PATIENCE } else { Duration::ZERO }).await;
                match found {
                    Ok(()) => tell(Line::Held(expected.to_string())),
                    Err(instead) => {
                        all_held = false;
                        tell(Line::Failed(expected.to_string(), instead));
                    }
                }
                if waits {
                    tell(Line::Rows(stage.rows_text()));
                }
            }
            Step::Say(text) => tell(Line::Said(text.clone())),
            other => tell(Line::Did(stage.act(other).await?)),
        }
        if !all_held {
            break;
        }
    }
    stage.strike().await;
    let unknown = [stage.proxysql.unknown(), stage.orchestrator.unknown()].concat();
    if !unknown.is_empty() {
        tell(Line::Failed("the lab knows every statement and request".to_owned(), unknown.join("; ")));
        return Ok(false);
    }
    Ok(all_held)
}

struct Stage {
    nodes: Nodes,
    orchestrator: Orchestrator,
    proxysql: ProxySql,
    sessions: Vec<Session>,
    went: BTreeMap<String, usize>,
    failed: usize,
    writes_at_return: BTreeMap<String, u64>,
    rows_before_cut: Vec<ServerRow>,
    program: Option<(JoinHandle<()>, tokio::sync::watch::Sender<bool>)>,
    _state: tempfile::TempDir,
}

impl Stage {
    async fn set() -> anyhow::Result<Self> {
        let nodes = Nodes::new(&NODES);
        let settings =
            orchestrator::Settings { poll_interval: TICK, auto_failover: true, ..orchestrator::Settings::default() };
        let orchestrator = Orchestrator::start(nodes.clone(), settings).await?;
        let settings = proxysql::Settings {
            monitor_interval: TICK,
            shun_recovery: Duration::from_secs(1),
            ..proxysql::Settings::default()
        };
        let proxysql = ProxySql::start(nodes.clone(), settings).await?;
        for sql in [
            "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node01'),(20,'node02'),(20,'node03')",
            "LOAD MYSQL SERVERS TO RUNTIME",
            "SAVE MYSQL SERVERS TO DISK",
        ] {
            proxysql.query(sql).map_err(anyhow::Error::msg)?;
        }
        let sessions = vec![proxysql.connect()];
        Ok(Self {
            nodes,
            orchestrator,
            proxysql,
            sessions,
            went: BTreeMap::new(),
            failed: 0,
            writes_at_return: BTreeMap::new(),
            rows_before_cut: Vec::new(),
            program: None,
            _state: tempfile::tempdir()?,
        })
    }

    async fn strike(&mut self) {
        if let Some((program, end)) = self.program.take() {
            let _ = end.send(true);
            let _ = program.await;
        }
    }

    /// Does a step and returns what was done; empty if the step only reads.
    async fn act(&mut self, step: &Step) -> anyhow::Result<String> {
        Ok(match step {
            Step::Program => {
                self.start_program().await?;
                "proxysql-stonith runs".to_owned()
            }
            Step::Open(kind) => self.open(*kind),
            Step::Write(count) => self.write(*count).await,
            Step::Rest(time) => {
                tokio::time::sleep(*time).await;
                format!("{} pass", humantime::format_duration(*time))
            }
            step => match self.at_a_node(step) {
                Some(done) => done,
                None => self.at_orchestrator(step).await.unwrap_or_default(),
            },
        })
    }

    fn open(&mut self, kind: SessionKind) -> String {
        let session = self.proxysql.connect();
        let what = match kind {
            SessionKind::Plain => "autocommit",
            SessionKind::Transaction => {
                session.begin();
                "an open transaction"
            }
            SessionKind::Pinned => {
                session.pin();
                "a temporary table"
            }
        };
        self.sessions.push(session);
        format!("a client with {what} connects")
    }

    /// Does a step to a node; `None` if it is another kind of step.
    fn at_a_node(&mut self, step: &Step) -> Option<String> {
        Some(match step {
            Step::Kill(node) => {
                self.nodes.kill(node);
                format!("kill -KILL {node}")
            }
            Step::Stop(node) => {
                self.nodes.stop(node);
                format!("kill -STOP {node}")
            }
            Step::Cont(node) => {
                self.writes_at_return.insert(node.clone(), self.nodes.get(node).writes);
                self.nodes.cont(node);
                format!("kill -CONT {node}")
            }
            Step::Start(node) => {
                self.writes_at_return.insert(node.clone(), self.nodes.get(node).writes);
                self.nodes.start(node);
                format!("{node} starts, read_only=0")
            }
            Step::Repair(node, primary) => {
                self.nodes.make_replica(node, primary);
                self.orchestrator.end_downtime(node);
                format!("{node} replicates from {primary}, read_only=1; downtime ended")
            }
            _ => return None,
        })
    }

    /// Does a step through Orchestrator or to it; `None` if it is another kind of step.
    async fn at_orchestrator(&mut self, step: &Step) -> Option<String> {
        Some(match step {
            Step::TakeOver(old, new) => {
                self.orchestrator.take_over(old, new);
                format!("orchestrator-client -c graceful-master-takeover: {old} -> {new}")
            }
            Step::Downtime(node) => {
                self.orchestrator.begin_downtime(node, "maintenance");
                format!("orchestrator-client -c begin-downtime -i {node}:3306 --reason maintenance")
            }
            Step::EndDowntime(node) => {
                self.orchestrator.end_downtime(node);
                format!("orchestrator-client -c end-downtime -i {node}:3306")
            }
            Step::LeaderDies => {
                let old = self.orchestrator.leader();
                self.orchestrator.kill_leader(ELECTION).await;
                if let Some(old) = old {
                    self.orchestrator.resume(old);
                }
                "Orchestrator's leader is killed; another is elected".to_owned()
            }
            Step::Leaderless(time) => {
                let old = self.orchestrator.leader();
                self.orchestrator.set_leader(None);
                tokio::time::sleep(*time).await;
                self.orchestrator.set_leader(old);
                format!("no member of Orchestrator leads for {}", humantime::format_duration(*time))
            }
            Step::CutOff => {
                self.rows_before_cut = self.proxysql.rows();
                self.orchestrator.cut_off();
                "Orchestrator can't be reached any more".to_owned()
            }
            Step::Heal => {
                self.orchestrator.heal();
                "Orchestrator can be reached again".to_owned()
            }
            _ => return None,
        })
    }

    /// Writes through all sessions in turn. A client opens its session again if it was ended.
    async fn write(&mut self, count: usize) -> String {
        self.went.clear();
        self.failed = 0;
        for n in 0..count {
            let at = n % self.sessions.len();
            let mut took = self.sessions[at].write();
            if took == Err(proxysql::SessionError::Lost) {
                self.sessions[at] = self.proxysql.connect();
                took = self.sessions[at].write();
            }
            match took {
                Ok(node) => *self.went.entry(node).or_default() += 1,
                Err(_) => self.failed += 1,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        format!("{count} inserts: {}", self.went_text())
    }

    fn went_text(&self) -> String {
        let mut parts: Vec<String> = self.went.iter().map(|(node, count)| format!("{count} to {node}")).collect();
        if self.failed > 0 {
            parts.push(format!("{} failed", self.failed));
        }
        parts.join(", ")
    }

    fn rows_text(&self) -> String {
        let row = |row: &ServerRow| {
            let note = if row.comment.contains("[stonith:") { "*" } else { "" };
            format!("{}/{}:{}{note}", row.hostgroup, row.host, row.status)
        };
        self.proxysql.rows().iter().filter(|row| row.status != "OFFLINE_HARD").map(row).collect::<Vec<_>>().join(" ")
    }

    /// Waits until an expectation holds.
    async fn check(&self, expected: &Expectation, patience: Duration) -> Result<(), String> {
        let until = Instant::now() + patience;
        loop {
            let found = self.holds(expected);
            if found.is_ok() || Instant::now() >= until {
                return found;
            }
            // A client must write now and then: ProxySQL notices a dead server only on traffic.
            let probing = matches!(expected, Expectation::Writer(_) | Expectation::Writers(..));
            if probing {
                let _ = self.proxysql.connect().read();
                self.proxysql.touch(10);
            }
            tokio::time::sleep(TICK / 4).await;
        }
    }

    fn holds(&self, expected: &Expectation) -> Result<(), String> {
        let rows = self.proxysql.rows();
        let writers: Vec<&str> = rows
            .iter()
            .filter(|row| row.hostgroup == 10 && row.status == "ONLINE")
            .map(|row| row.host.as_str())
            .collect();
        let of = |node: &str| rows.iter().filter(|row| row.host == node).cloned().collect::<Vec<_>>();
        let went = |node: &str| self.went.get(node).copied().unwrap_or(0);
        let held = match expected {
            Expectation::WritesWent(count, node) => went(node) == *count && self.went.len() == 1 && self.failed == 0,
            Expectation::WritesWentToBoth(one, other) => went(one) > 0 && went(other) > 0,
            Expectation::WritesFailed(count) => self.failed == *count && self.went.is_empty(),
            Expectation::TookSinceReturn(node, count) => {
                let before = self.writes_at_return.get(node).copied().unwrap_or(0);
                self.nodes.get(node).writes - before == *count
            }
            Expectation::Writer(node) => writers == [node.as_str()],
            Expectation::Writers(one, other) => writers == [one.as_str(), other.as_str()],
            Expectation::Fenced(node) => self.is_fenced(node),
            Expectation::ServesReads(node) => {
                of(node).iter().any(|row| row.hostgroup == 20 && row.status == "ONLINE" && row.comment.is_empty())
            }
            Expectation::NoWriter(node) => {
                of(node).iter().all(|row| row.hostgroup != 10 || row.status == "OFFLINE_HARD")
            }
            Expectation::NoSession(node) => self.connections(node) == 0,
            Expectation::NothingInService => {
                rows.iter().all(|row| matches!(row.status.as_str(), "OFFLINE_SOFT" | "OFFLINE_HARD"))
            }
            Expectation::RowsAsBefore => rows == self.rows_before_cut,
            Expectation::NobodyDowntimed => {
                self.orchestrator.leader().is_some() && self.orchestrator.downtimed().is_empty()
            }
        };
        if held { Ok(()) } else { Err(format!("{}; {}", self.rows_text(), self.went_text())) }
    }

    fn is_fenced(&self, node: &str) -> bool {
        ["runtime_mysql_servers", "main.mysql_servers", "disk.mysql_servers"].iter().all(|table| {
            let sql = format!("SELECT status,comment FROM {table} WHERE hostname='{node}' AND status<>'OFFLINE_HARD'");
            self.proxysql.query(&sql).is_ok_and(|found| {
                let out = |row: &Vec<Option<String>>| {
                    row[0].as_deref() == Some("OFFLINE_SOFT")
                        && row[1].as_deref().is_some_and(|comment| comment.contains("[stonith:"))
                };
                !found.records.is_empty() && found.records.iter().all(out)
            })
        })
    }

    fn connections(&self, node: &str) -> u64 {
        let sql = format!("SELECT ConnUsed FROM stats_mysql_connection_pool WHERE srv_host='{node}'");
        let found = self.proxysql.query(&sql).unwrap_or_default();
        found.records.into_iter().flatten().flatten().filter_map(|count| count.parse::<u64>().ok()).sum()
    }

    /// Starts the program as `run` does, with this stage's tick, and waits until it is armed.
    async fn start_program(&mut self) -> anyhow::Result<()> {
        let address = self.proxysql.address();
        let proxy = Node::new(&address.ip().to_string(), address.port())?;
        let tick_ms = u64::try_from(TICK.as_millis())?;
        let dir = StateDir::new(self._state.path(), &proxy);
        let Start::Ready(kept) = Kept::start(dir, crate::config::Mode::Daemon, tick_ms) else {
            anyhow::bail!("the state directory is in use")
        };
        let client = Client::new(Settings {
            endpoints: self.orchestrator.endpoints().iter().map(|url| url.parse()).collect::<Result<_, _>>()?,
            auth: None,
            tls: TlsSettings::default(),
            connect_timeout: TICK,
            read_timeout: TICK,
            tick_timeout: TICK * 3,
        })?;
        let settings = AgentSettings {
            proxy: AdminSettings {
                address: proxy.clone(),
                socket: None,
                credential: admin(),
                tls: None,
                timeout: PATIENCE,
            },
            accept_lost_edits: false,
            read_only_for: Default::default(),
            fence_agent_for: Default::default(),
            policy: Policy {
                isolation_after_ms: u64::try_from(ISOLATION_AFTER.as_millis())?,
                tick_ms,
                ..Policy::default()
            },
            observe_only: false,
        };
        let agent = Agent::new(settings, client, Box::new(LabCredentials), kept.memory(), kept.owner());
        let mut watch = Watch::new(proxy, agent, *kept);
        anyhow::ensure!(watch.tick().await.well, "the first tick failed");
        let (end, ending) = tokio::sync::watch::channel(false);
        let program = tokio::task::spawn_local(async move {
            while !*ending.borrow() {
                watch.tick().await;
                tokio::time::sleep(TICK).await;
            }
            watch.close().await;
        });
        self.program = Some((program, end));
        Ok(())
    }
}

#[derive(Debug)]
struct LabCredentials;

impl Credentials for LabCredentials {
    fn proxysql(&self) -> Result<Credential, String> {
        Ok(admin())
    }

    fn orchestrator(&self) -> Result<Option<Credential>, String> {
        Ok(None)
    }
}

fn admin() -> Credential {
    Credential { user: "radmin".to_owned(), password: Secret::new("radmin") }
}
