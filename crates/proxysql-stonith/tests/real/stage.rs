//! The scenario files on the real programs: the same texts, the same claims.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use proxysql_stonith::scenario::{Expectation, Scenario, SessionKind, Step};

use super::world::{SESSIONS, World, eventually, node};

/// How long an `until` waits: Orchestrator and ProxySQL poll once a second, and a node takes its time to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// `node02` of a scenario is node 2.
fn number(name: &str) -> usize {
    name.trim_start_matches("node").parse().expect("a node's name")
}

struct Stage {
    world: World,
    runtime: tokio::runtime::Runtime,
    sessions: Vec<(&'static str, Option<Conn>)>,
    went: BTreeMap<usize, usize>,
    failed: usize,
    written_at_return: BTreeMap<usize, usize>,
    rows_before_cut: String,
}

/// Plays a scenario; panics with the first claim that does not hold.
pub fn play(world: World, scenario: &Scenario) {
    println!("=== {}", scenario.title);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut stage = Stage {
        world,
        runtime,
        sessions: vec![("select 1", None)],
        went: BTreeMap::new(),
        failed: 0,
        written_at_return: BTreeMap::new(),
        rows_before_cut: String::new(),
    };
    // The scenarios say which node is promoted.
    let path = format!("/api/register-candidate/{}/{}/prefer", node(2), stage.world.mysql_port);
    assert_eq!(stage.world.get(stage.leader(), &path).0, 200);
    for step in &scenario.steps {
        let began = Instant::now();
        match step {
            Step::Say(_) => continue,
            Step::Until(expected) => {
                while !stage.holds(expected) {
                    assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {expected}; {}", stage.seen());
                    // ProxySQL looks at a dead or shunned server only on traffic.
                    if matches!(expected, Expectation::Writer(_) | Expectation::Writers(..)) {
                        stage.world.write();
                    }
                    std::thread::sleep(Duration::from_millis(200));
                }
                println!(" + {expected} ({:.1?})", began.elapsed());
            }
            Step::Expect(expected) => {
                assert!(stage.holds(expected), "{expected}, but: {}", stage.seen());
                println!(" + {expected}");
            }
            other => {
                stage.act(other);
                println!(" > {other:?} ({:.1?})", began.elapsed());
            }
        }
    }
}

impl Stage {
    fn act(&mut self, step: &Step) {
        match step {
            Step::Program => {
                self.world.start_daemon();
                let armed = || self.world.command(&["status"]).0.contains("; armed");
                eventually("the daemon armed", Duration::from_secs(15), armed);
            }
            Step::Open(kind) => {
                let at = match kind {
                    SessionKind::Plain => 0,
                    SessionKind::Transaction => 1,
                    SessionKind::Pinned => 2,
                };
                self.sessions.push((SESSIONS[at].1, None));
            }
            Step::Write(count) => self.write(*count),
            Step::Kill(name) => self.world.signal_node(number(name), "KILL"),
            Step::Stop(name) => self.world.signal_node(number(name), "STOP"),
            Step::Cont(name) => {
                let n = number(name);
                self.world.signal_node(n, "CONT");
                self.written_at_return.insert(n, self.world.written_on(n));
            }
            Step::Start(name) => {
                let n = number(name);
                self.world.start_node(n);
                self.written_at_return.insert(n, self.world.written_on(n));
            }
            Step::Repair(name, primary) => {
                self.world.rebuild(number(name), number(primary));
                self.downtime("end-downtime", name, "");
            }
            Step::TakeOver(old, new) => self.world.take_over(number(old), number(new)),
            Step::Downtime(name) => self.downtime("begin-downtime", name, "/dba/maintenance/1h"),
            Step::EndDowntime(name) => self.downtime("end-downtime", name, ""),
            Step::LeaderDies => {
                let old = self.leader();
                self.world.signal_raft(old, "KILL");
                self.leader();
                self.world.run_raft(old);
            }
            Step::Leaderless(time) => {
                let leader = self.leader();
                let others = (1..=3).filter(|n| *n != leader);
                others.clone().for_each(|n| self.world.signal_raft(n, "STOP"));
                std::thread::sleep(*time);
                others.for_each(|n| self.world.signal_raft(n, "CONT"));
                self.leader();
            }
            Step::CutOff => {
                self.rows_before_cut = self.rows();
                (1..=3).for_each(|n| self.world.signal_raft(n, "STOP"));
            }
            Step::Heal => (1..=3).for_each(|n| self.world.signal_raft(n, "CONT")),
            Step::Rest(time) => std::thread::sleep(*time),
            Step::Say(_) | Step::Until(_) | Step::Expect(_) => {}
        }
    }

    fn leader(&self) -> usize {
        eventually("a leader", Duration::from_secs(30), || self.world.leader().is_some());
        self.world.leader().expect("a leader")
    }

    fn downtime(&self, what: &str, name: &str, more: &str) {
        let path = format!("/api/{what}/{}/{}{more}", node(number(name)), self.world.mysql_port);
        let (code, answer) = self.world.get(self.leader(), &path);
        assert_eq!(code, 200, "{answer}");
    }

    /// Writes, round the sessions; one that was ended is opened again by its client.
    fn write(&mut self, count: usize) {
        self.went.clear();
        self.failed = 0;
        let port = self.world.client_port;
        for at in 0..count {
            let session = at % self.sessions.len();
            let (opening, conn) = &mut self.sessions[session];
            let took = self.runtime.block_on(async {
                match insert(port, opening, conn).await {
                    Ok(host) => Ok(host),
                    Err(_) => {
                        *conn = None;
                        insert(port, opening, conn).await
                    }
                }
            });
            if *opening == SESSIONS[0].1 {
                // As an application without a pool: ProxySQL chooses a server for each connection anew.
                *conn = None;
            }
            match took {
                Ok(host) => *self.went.entry(host).or_default() += 1,
                Err(_) => {
                    *conn = None;
                    self.failed += 1;
                }
            }
        }
    }

    fn rows(&self) -> String {
        format!("10: {} 20: {}", self.world.rows("10").replace('\n', " "), self.world.rows("20").replace('\n', " "))
    }

    fn seen(&self) -> String {
        format!("{}; went {:?}, failed {}", self.rows(), self.went, self.failed)
    }

    fn holds(&self, expected: &Expectation) -> bool {
        let world = &self.world;
        let in_hostgroup = |hostgroup: &str, name: &str| {
            let host = format!("{} ", node(number(name)));
            world.rows(hostgroup).lines().find(|row| row.starts_with(&host)).map(str::to_owned)
        };
        let is_online =
            |hostgroup: &str, name: &str| in_hostgroup(hostgroup, name).is_some_and(|row| row.ends_with(" ONLINE"));
        match expected {
            Expectation::WritesWent(count, name) => {
                self.failed == 0 && self.went == BTreeMap::from([(number(name), *count)])
            }
            Expectation::WritesWentToBoth(one, other) => {
                [one, other].iter().all(|name| self.went.contains_key(&number(name)))
            }
            Expectation::WritesFailed(count) => self.failed == *count && self.went.is_empty(),
            Expectation::TookSinceReturn(name, count) => {
                let n = number(name);
                let before = self.written_at_return.get(&n).copied().unwrap_or(0);
                u64::try_from(world.written_on(n) - before).is_ok_and(|took| took == *count)
            }
            Expectation::Writer(name) => world.writer() == Some(number(name)),
            Expectation::Writers(one, other) => is_online("10", one) && is_online("10", other),
            Expectation::Fenced(name) => super::is_fenced_in_all_layers(world, number(name)),
            Expectation::ServesReads(name) => is_online("20", name),
            Expectation::NoWriter(name) => in_hostgroup("10", name).is_none_or(|row| row.contains("OFFLINE_HARD")),
            Expectation::NoSession(name) => world.used(number(name)) == "0",
            Expectation::NothingInService => {
                ["10", "20"].iter().all(|hostgroup| !world.rows(hostgroup).contains(" ONLINE"))
            }
            Expectation::RowsAsBefore => self.rows() == self.rows_before_cut,
            Expectation::NobodyDowntimed => {
                world.leader().is_some_and(|leader| world.get(leader, "/api/downtimed").1.trim() == "[]")
            }
        }
    }
}

/// An insert in a session, opened if need be; says which node took it.
async fn insert(port: u16, opening: &str, conn: &mut Option<Conn>) -> Result<usize, mysql_async::Error> {
    const STATEMENT: &str = "insert into t.a (host) select @@report_host returning host";
    let session = match conn {
        Some(session) => session,
        None => {
            let opts = OptsBuilder::default()
                .ip_or_hostname("127.0.0.1")
                .tcp_port(port)
                .user(Some("app"))
                .pass(Some("app"))
                .db_name(Some("t"))
                .prefer_socket(false)
                .stmt_cache_size(0);
            let session = conn.insert(Conn::new(opts).await?);
            session.query_drop(opening).await?;
            session
        }
    };
    let host: Option<String> = session.query_first(STATEMENT).await?;
    let host = host.unwrap_or_default();
    Ok(host.rsplit('.').next().and_then(|last| last.parse().ok()).unwrap_or_default())
}
