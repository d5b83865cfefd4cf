//! The scenario files on the real programs: the same texts, the same claims.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};
use proxysql_stonith::scenario::{Expectation, Scenario, SessionKind, Step};

use crate::one_at_a_time;
use crate::world::{Binaries, Part, SESSIONS, World, login};

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
fn play(world: World, scenario: &Scenario) {
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
    stage.world.prefer_node_2();
    for step in &scenario.steps {
        let began = Instant::now();
        match step {
            Step::Say(_) => continue,
            Step::Until(expected) => {
                while !stage.holds(expected) {
                    assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {expected}; {}", stage.seen());
                    // ProxySQL looks at a dead or shunned server only on traffic.
                    if matches!(expected, Expectation::Writer(_) | Expectation::Writers(..)) {
                        stage.world.proxy.write();
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
            Step::Program => self.world.proxy.start_daemon(),
            Step::Open(kind) => {
                let at = match kind {
                    SessionKind::Plain => 0,
                    SessionKind::Transaction => 1,
                    SessionKind::Pinned => 2,
                };
                self.sessions.push((SESSIONS[at].1, None));
            }
            Step::Write(count) => self.write(*count),
            Step::Kill(name) => self.world.nodes.signal(number(name), "KILL"),
            Step::Stop(name) => self.world.nodes.signal(number(name), "STOP"),
            Step::Cont(name) => {
                let n = number(name);
                self.world.nodes.signal(n, "CONT");
                self.written_at_return.insert(n, self.world.nodes.written_on(n));
            }
            Step::Start(name) => {
                let n = number(name);
                self.world.nodes.start(n);
                self.written_at_return.insert(n, self.world.nodes.written_on(n));
            }
            Step::Repair(name, primary) => {
                self.world.nodes.rebuild(number(name), number(primary));
                self.world.downtime("end-downtime", number(name), "");
            }
            Step::TakeOver(old, new) => self.world.take_over(number(old), number(new)),
            Step::Downtime(name) => self.world.downtime("begin-downtime", number(name), "/dba/maintenance/1h"),
            Step::EndDowntime(name) => self.world.downtime("end-downtime", number(name), ""),
            Step::LeaderDies => {
                let old = self.world.leader();
                self.world.raft.signal(old, "KILL");
                self.world.leader();
                self.world.raft.run(old);
            }
            Step::Leaderless(time) => {
                let leader = self.world.leader();
                let others = (1..=3).filter(|n| *n != leader);
                others.clone().for_each(|n| self.world.raft.signal(n, "STOP"));
                std::thread::sleep(*time);
                others.for_each(|n| self.world.raft.signal(n, "CONT"));
                self.world.leader();
            }
            Step::CutOff => {
                self.rows_before_cut = self.world.proxy.all_rows();
                match self.world.far_proxy {
                    Some(_) => self.world.network.cut(&[Part::Proxy(1)], &[1, 2, 3].map(Part::Raft)),
                    None => (1..=3).for_each(|n| self.world.raft.signal(n, "STOP")),
                }
            }
            Step::Heal => match self.world.far_proxy {
                Some(_) => self.world.network.heal(),
                None => (1..=3).for_each(|n| self.world.raft.signal(n, "CONT")),
            },
            Step::Rest(time) => std::thread::sleep(*time),
            Step::Say(_) | Step::Until(_) | Step::Expect(_) => {}
        }
    }

    /// Writes, round the sessions; one that was ended is opened again by its client.
    fn write(&mut self, count: usize) {
        self.went.clear();
        self.failed = 0;
        let login = login(&self.world.proxy);
        for at in 0..count {
            let session = at % self.sessions.len();
            let (opening, conn) = &mut self.sessions[session];
            let took = self.runtime.block_on(async {
                match insert(&login, opening, conn).await {
                    Ok(host) => Ok(host),
                    Err(_) => {
                        *conn = None;
                        insert(&login, opening, conn).await
                    }
                }
            });
            if *opening == SESSIONS[0].1 {
                // As an application without a pool: ProxySQL chooses a server for each connection anew.
                *conn = None;
            }
            match took {
                Ok(host) => *self.went.entry(self.world.nodes.number(&host).unwrap_or_default()).or_default() += 1,
                Err(_) => {
                    *conn = None;
                    self.failed += 1;
                }
            }
        }
    }

    fn seen(&self) -> String {
        format!("{}; went {:?}, failed {}", self.world.proxy.all_rows(), self.went, self.failed)
    }

    fn holds(&self, expected: &Expectation) -> bool {
        let world = &self.world;
        let is_online = |hostgroup: &str, name: &str| world.proxy.is_online(hostgroup, number(name));
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
                u64::try_from(world.nodes.written_on(n) - before).is_ok_and(|took| took == *count)
            }
            Expectation::Writer(name) => world.proxy.writer() == Some(number(name)),
            Expectation::Writers(one, other) => is_online("10", one) && is_online("10", other),
            Expectation::Fenced(name) => world.proxy.has_fenced(number(name)),
            Expectation::ServesReads(name) => is_online("20", name),
            Expectation::NoWriter(name) => {
                world.proxy.row("10", number(name)).is_none_or(|row| row.starts_with("OFFLINE_HARD"))
            }
            Expectation::NoSession(name) => world.proxy.used(number(name)) == 0,
            Expectation::NothingInService => {
                ["10", "20"].iter().all(|hostgroup| !world.proxy.rows(hostgroup).contains(" ONLINE"))
            }
            Expectation::RowsAsBefore => world.proxy.all_rows() == self.rows_before_cut,
            Expectation::NobodyDowntimed => {
                world.raft.leader().is_some_and(|leader| world.raft.get(leader, "/api/downtimed").1.trim() == "[]")
            }
        }
    }
}

/// An insert in a session, opened if need be; says which node took it.
async fn insert(login: &Opts, opening: &str, conn: &mut Option<Conn>) -> Result<String, mysql_async::Error> {
    const STATEMENT: &str = "insert into t.a (host) select @@report_host returning host";
    let session = match conn {
        Some(session) => session,
        None => {
            let session = conn.insert(Conn::new(login.clone()).await?);
            session.query_drop(opening).await?;
            session
        }
    };
    Ok(session.query_first(STATEMENT).await?.unwrap_or_default())
}

fn read(file: &Path) -> Scenario {
    Scenario::read(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// `STONITH_SCENARIOS=with,repair` plays those only.
#[test]
fn the_scenario_files_hold_on_the_real_programs() {
    let wanted = std::env::var("STONITH_SCENARIOS").unwrap_or_default();
    let mut files: Vec<_> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        if !wanted.is_empty() && !wanted.split(',').any(|one| one == name) {
            continue;
        }
        let Some(binaries) = Binaries::find() else { return };
        let _one = one_at_a_time();
        play(World::start(binaries), &read(&file));
    }
}

#[test]
fn the_cut_off_scenario_holds_where_the_network_is_cut() {
    let Some(binaries) = Binaries::find() else { return };
    let _one = one_at_a_time();
    let Some(world) = World::at_three_sites(binaries) else { return };
    play(world, &read(&folder().join("cut-off.txt")));
}
