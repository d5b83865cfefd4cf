//! 4-sessions: what becomes of sessions of every kind when their node is taken out, statement by statement.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::nodes::Nodes;
use lab::proxysql::{ProxySql, Session, SessionError, Settings};
use tokio::time::Instant;

use crate::python::{Value, printed};
use crate::recordings::{Kind, NotCompared, of, read};
use crate::timeline::clients::{code, in_words};
use crate::timeline::line::{self, Line};

/// `mysql-connect_timeout_server_max` of the recording.
const WAITS: Duration = Duration::from_secs(3);

/// When in a second the monitor looked, in ms: in the second section between 06:37:12.394 and .449.
const MONITOR_MS: u64 = 440;

/// The kinds of sessions, by the names that the recording gives them.
const KINDS: [&str; 6] =
    ["tx(BEGIN open)", "plain autocommit", "user var @x", "temp table", "GET_LOCK", "autocommit=0, committed"];

/// One section: a fresh set-up, with a second writer or without.
struct Section {
    nodes: Nodes,
    proxy: ProxySql,
    start: Instant,
    zero: u64,
    sessions: BTreeMap<&'static str, Session>,
    /// The recorded statement that takes three seconds has not ended yet; the lab has none such.
    long_one_runs: bool,
    after_pool: bool,
    wrong: Vec<String>,
}

impl Section {
    async fn new(at: u64) -> Self {
        let nodes = Nodes::new(&["node01", "node02", "node03"]);
        let proxy = ProxySql::start(nodes.clone(), Settings::default()).await.unwrap();
        for sql in [
            "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node01'),(20,'node01'),(20,'node02'),(20,'node03')",
            "LOAD MYSQL SERVERS TO RUNTIME",
        ] {
            proxy.query(sql).unwrap();
        }
        Self {
            nodes,
            proxy,
            start: Instant::now(),
            zero: at - (at - MONITOR_MS) % 1_000,
            sessions: BTreeMap::new(),
            long_one_runs: true,
            after_pool: false,
            wrong: Vec::new(),
        }
    }

    fn expect(&mut self, what: &str, real: &str, lab: &str) {
        if real != lab {
            self.wrong.push(format!("{what}\n    real {real}\n    lab  {lab}"));
        }
    }

    async fn play(&mut self, line: &Line) -> bool {
        let text = line.text.trim_start_matches("***** ");
        tokio::time::sleep_until(self.start + Duration::from_millis(line.at.saturating_sub(self.zero))).await;
        let after_pool = std::mem::replace(&mut self.after_pool, text.starts_with("pool: "));
        if let Some(rows) = text.strip_prefix("pool: ") {
            if after_pool {
                self.sessions.clear(); // they were closed in between
            } else if self.sessions.is_empty() {
                self.open_all();
            }
            self.pool(rows);
        } else if let Some((name, statements)) = text.strip_prefix("node03: ").map(|rest| ("node03", rest)) {
            let read_only = statements.contains("read_only=1");
            self.nodes.change(name, |server| server.read_only = read_only);
        } else if let Some(rest) = text.strip_prefix("ADMIN ") {
            self.take_out(rest);
        } else if let Some(("", rest)) = text.split_once('[') {
            return self.statement(text, rest).await;
        } else {
            return false;
        }
        true
    }

    /// All on node01; a second writer gets connections by those that went there first.
    fn open_all(&mut self) {
        for kind in KINDS {
            let on_node01 = || {
                let session = self.proxy.connect();
                match kind {
                    "tx(BEGIN open)" | "autocommit=0, committed" => session.begin(),
                    "plain autocommit" => {}
                    _ => session.pin(),
                }
                session.write().is_ok_and(|node| node == "node01").then_some(session)
            };
            let session = std::iter::repeat_with(on_node01).take(9).flatten().next().expect("a session on node01");
            if kind == "autocommit=0, committed" {
                session.commit().unwrap();
                session.begin();
            }
            self.sessions.insert(kind, session);
        }
    }

    fn pool(&mut self, rows: &str) {
        let sql =
            "SELECT hostgroup,srv_host,status,ConnUsed FROM stats_mysql_connection_pool WHERE hostgroup=10 ORDER BY 2";
        let mut lab = self.proxy.query(sql).unwrap().records;
        let mut real: Vec<_> =
            Value::parse(rows).unwrap().list().iter().map(|record| record.record()[..4].to_vec()).collect();
        // An INSERT into a table with AUTO_INCREMENT keeps its connection for some statements more, where it is
        // (mysql-auto_increment_delay_multiplex); the lab has no such tables. What counts is the node that was taken out.
        for record in real.iter_mut().chain(&mut lab).filter(|record| record[1].as_deref() == Some("node03")) {
            record[3] = None;
        }
        let used = |records: &[Vec<Option<String>>]| records[0][3].as_ref().unwrap().parse::<u32>().unwrap();
        if self.long_one_runs && used(&real) == used(&lab) + 1 {
            real[0][3].clone_from(&lab[0][3]);
        }
        self.expect("pool", &printed(&real), &printed(&lab));
    }

    /// `node01 all rows -> STATUS; LOAD ...; runtime now ROWS`, or `DELETE node01 rows; LOAD; runtime ROWS`.
    fn take_out(&mut self, text: &str) {
        let sql = match text.split_once(" -> ") {
            Some((_, rest)) => {
                let status = rest.split(';').next().unwrap();
                format!("UPDATE mysql_servers SET status='{status}' WHERE hostname='node01'")
            }
            None => "DELETE FROM mysql_servers WHERE hostname='node01'".to_owned(),
        };
        for sql in [sql.as_str(), "LOAD MYSQL SERVERS TO RUNTIME"] {
            self.proxy.query(sql).unwrap();
        }
        let sql = "SELECT hostgroup_id,hostname,status FROM runtime_mysql_servers ORDER BY 1,2";
        let lab = printed(&self.proxy.query(sql).unwrap().records);
        self.expect(text, &text[text.find('(').unwrap()..], &lab);
    }

    /// `LABEL] STATEMENT -> ANSWER (N ms)`.
    async fn statement(&mut self, text: &str, rest: &str) -> bool {
        let (label, rest) = rest.split_once("] ").unwrap();
        if label == "long statement" {
            self.long_one_runs = false;
            return false;
        }
        let kind = KINDS.iter().find(|kind| label.starts_with(*kind)).unwrap_or_else(|| panic!("{label}"));
        let (statement, said) = rest.rsplit_once(" -> ").unwrap();
        let said = said.rsplit_once(" (").unwrap().0;
        let landed = Value::parse(said).and_then(|rows| rows.list().first()?.record().into_iter().flatten().next());
        let real = landed.unwrap_or_else(|| code(said.strip_prefix("EXC ").unwrap_or(said)));
        let session = &self.sessions[kind];
        let lab = if statement == "COMMIT" {
            session.commit().map(|()| "OK".to_owned())
        } else {
            let until = Instant::now() + WAITS;
            loop {
                match session.write() {
                    Err(SessionError::NoServer) if Instant::now() < until => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    answer => break answer,
                }
            }
        };
        self.expect(text, &real, &in_words(&lab));
        true
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_of_every_kind_fare_as_recorded() {
    let mut not_compared = NotCompared::of(Kind::Sessions);
    let (mut compared, mut sections, mut wrong) = (0, 0, String::new());
    for path in of(Kind::Sessions) {
        let mut section: Option<Section> = None;
        for line in line::read(&read(&path), |line| panic!("{line}")) {
            if line.text.contains("================") {
                sections += 1;
                section = Some(Section::new(line.at).await);
                continue;
            }
            let section = section.as_mut().unwrap();
            if section.play(&line).await {
                compared += 1;
            } else {
                assert!(not_compared.lists(&path, line.text.trim_start_matches("***** ")), "{}", line.text);
            }
            for one in section.wrong.drain(..) {
                wrong += &format!("section {sections}: {one}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{compared} lines on sessions compared, in {sections} sections");
}
