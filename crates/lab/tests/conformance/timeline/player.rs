//! Plays on the lab what was done, on virtual time: at the recorded moments, with the monitor in the recorded step.

use std::time::Duration;

use lab::nodes::Nodes;
use lab::proxysql::{Answer, ProxySql, Session, Settings};
use tokio::time::Instant;

use super::line::{Line, What};
use super::rows::States;
use super::writes::Writes;

/// How often the recorder looked and wrote, in ms.
const LOOKS: u64 = 12;
const WRITES: u64 = 20;

/// So long before the first line the lab is started, in ms: it has the monitor's placements by then.
const BEFORE: u64 = 3_000;

/// Where a line says nothing of what was done.
const HEADINGS: [&str; 8] = [
    "--- ",
    "a LOAD with memory unchanged",
    "back to one",
    "long-lived: max 0 connections",
    "make a second writer",
    "two writers again, pinned session",
    "start node", // it is up by a later line
    "whole apply ",
];

pub struct Player {
    pub nodes: Nodes,
    pub proxy: ProxySql,
    start: Instant,
    zero: u64,
    begin: u64,
    pub runtime: States,
    pub memory: States,
    pub writes: Writes,
    pub transaction: Option<Session>,
    pub pinned: Option<Session>,
    affected: u64,
    /// The recorded sessions' ids and the lab's.
    pub ids: Vec<(String, String)>,
    /// Recorded statements that were on the way to a backend: the lab has none.
    pub on_the_way: usize,
    pub wrong: Vec<String>,
}

/// `10/node01:ONLINE[comment]`, taken apart.
pub fn row(text: &str) -> (&str, &str, &str, &str) {
    let (hostgroup, rest) = text.split_once('/').unwrap();
    let (host, rest) = rest.split_once(':').unwrap();
    let (status, comment) = rest.split_once('[').unwrap_or((rest, "]"));
    (hostgroup, host, status, comment.strip_suffix(']').unwrap())
}

/// The rows of a line; a comment may have blanks in it.
pub fn rows(state: &str) -> Vec<&str> {
    let starts: Vec<usize> = (0..state.len())
        .filter(|at| *at == 0 || state.as_bytes()[at - 1] == b' ')
        .filter(|at| state[*at..].split_once('/').is_some_and(|(group, _)| group.parse::<u32>().is_ok()))
        .collect();
    let end = |n: usize| starts.get(n + 1).map_or(state.len(), |next| next - 1);
    starts.iter().enumerate().map(|(n, start)| &state[*start..end(n)]).collect()
}

impl Player {
    /// A lab as the first lines have it: memory as recorded, the writers of runtime writable.
    pub async fn set_up(lines: &[Line], monitor_ms: u64, pings_s: u32, pairs: &[&str]) -> Self {
        let first = |of: fn(&What) -> Option<&String>| lines.iter().find_map(|line| of(&line.what)).unwrap();
        let runtime = first(|what| if let What::Runtime(state) = what { Some(state) } else { None });
        let memory = first(|what| if let What::Memory(state) = what { Some(state) } else { None });
        let mut writers = rows(runtime).into_iter().map(row).filter(|(group, ..)| *group == "10");
        let writer = writers.next().unwrap().1;
        let mut names = vec![writer];
        names.extend(["node01", "node02", "node03"].iter().filter(|name| **name != writer));
        let nodes = Nodes::new(&names);
        // In step with the recorded monitor: its first look comes a second after the start.
        let earliest = lines[0].at - BEFORE;
        let zero = earliest + (monitor_ms + 1_000 - earliest % 1_000) % 1_000;
        let second = Duration::from_secs(1);
        let settings = Settings {
            monitor_interval: second,
            ping_interval: second * pings_s,
            // mysql-connect_timeout_server_max of 3 s makes it 2 whole seconds and more.
            shun_recovery: second * 3,
            writer_is_also_reader: rows(runtime).iter().any(|text| row(text).0 == "20" && row(text).1 == writer),
            version: "2.7.1".to_owned(),
            ..Settings::default()
        };
        let start = Instant::now();
        let proxy = ProxySql::start(nodes.clone(), settings).await.unwrap();
        proxy.query("UPDATE mysql_replication_hostgroups SET comment='lab'").unwrap();
        let mut player = Self {
            nodes,
            proxy,
            start,
            zero,
            begin: lines[0].at,
            runtime: States::default(),
            memory: States::default(),
            writes: Writes::default(),
            transaction: None,
            pinned: None,
            affected: 0,
            ids: Vec::new(),
            on_the_way: 0,
            wrong: Vec::new(),
        };
        player.make_memory(memory);
        for sql in ["LOAD MYSQL SERVERS TO RUNTIME", "SAVE MYSQL SERVERS TO DISK"] {
            player.proxy.query(sql).unwrap();
        }
        player.proxy.restart().await.unwrap();
        for sql in pairs {
            player.proxy.query(sql).unwrap();
        }
        player
    }

    /// Somebody's edit that left no line: memory has these rows from now on.
    pub fn make_memory(&mut self, state: &str) {
        for text in rows(state) {
            let (hostgroup, host, status, comment) = row(text);
            let sql = format!(
                "INSERT OR IGNORE INTO mysql_servers (hostgroup_id,hostname,status,comment) \
                 VALUES ({hostgroup},'{host}','{status}','{comment}')"
            );
            self.proxy.query(&sql).unwrap();
        }
    }

    fn now(&self) -> u64 {
        self.zero + u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    /// Lets time go on, looking and writing as the recorder did.
    pub async fn go_on_until(&mut self, at: u64, writes: bool) {
        if at >= self.now() + LOOKS {
            // The recorder looks by a statement: that is the last one then.
            self.proxy.query("SELECT 1 FROM runtime_mysql_servers").unwrap();
        }
        loop {
            let now = self.now();
            self.look();
            if writes && now.is_multiple_of(WRITES) {
                self.writes.go_on(&self.proxy, now);
                self.look();
            }
            if now >= at {
                return;
            }
            let next = |every: u64| now + every - now % every;
            let until = at.min(next(LOOKS)).min(next(WRITES));
            tokio::time::sleep_until(self.start + Duration::from_millis(until - self.zero)).await;
        }
    }

    /// Looks at runtime, once the recording has begun.
    pub fn look(&mut self) {
        let now = self.now();
        if now < self.begin {
            return;
        }
        let shown = |text: String| text.strip_suffix("[]").map_or(text.clone(), str::to_owned);
        let state: Vec<String> = self.proxy.rows().iter().map(|row| shown(row.text())).collect();
        self.runtime.see(now, &state.join(" "));
    }

    /// Looks at memory: after something was done.
    pub fn look_at_memory(&mut self) {
        let sql = "SELECT hostgroup_id||'/'||hostname||':'||status||CASE comment WHEN '' THEN '' ELSE '['||comment||']' END \
                   FROM mysql_servers ORDER BY hostgroup_id,hostname";
        let rows = self.proxy.query(sql).unwrap().records.into_iter().flatten().flatten();
        let (now, state) = (self.now(), rows.collect::<Vec<_>>().join(" "));
        self.memory.see(now, &state);
    }

    pub fn expect(&mut self, what: &str, real: &str, lab: &str) {
        if real != lab {
            self.wrong.push(format!("{what}: real {real}, lab {lab}"));
        }
    }

    /// Does what a line says, or looks at what it looked at. Whether it says something of the kind.
    pub fn act(&mut self, text: &str) -> bool {
        let node = |rest: &str| rest.split(' ').next().unwrap_or_default().to_owned();
        if let Some(name) = text.strip_prefix("kill -KILL ").or(text.strip_prefix("SIGKILL ")) {
            self.nodes.kill(&node(name));
        } else if let Some(name) = text.strip_prefix("kill -STOP ") {
            self.nodes.stop(&node(name));
        } else if let Some(name) = text.strip_prefix("kill -CONT ") {
            self.nodes.cont(&node(name));
        } else if text.contains(" up pid ") || text.ends_with(" answers SELECT 1") {
            self.nodes.start(&node(text));
        } else if let Some(sql) = text.strip_prefix("ADMIN ") {
            sql.split("; ").for_each(|sql| self.admin(sql));
        } else if let Some(affected) = text.trim_start().strip_prefix("-> ") {
            self.expect("affected", affected, &self.affected.to_string());
        } else if let Some((name, statements)) = text.split_once(": ").filter(|(name, _)| name.starts_with("node")) {
            statements.split("; ").for_each(|statement| self.on_node(name, statement));
        } else if text.starts_with("20 inserts through proxysql") {
            let landed: Vec<String> = (0..20).filter_map(|_| self.proxy.connect().write().ok()).collect();
            let both = ["node01", "node03"].iter().all(|name| landed.iter().any(|one| one == name));
            self.expect(text, "on both", if both { "on both" } else { "on one" });
        } else {
            return self.act_in_a_session(text) || self.look_as_recorded(text) || is_heading(text);
        }
        true
    }

    fn on_node(&mut self, name: &str, statement: &str) {
        self.nodes.change(name, |server| match statement.split(['=', ',']).next().unwrap_or_default() {
            "set global read_only" => server.read_only = statement.ends_with('1'),
            "stop slave" => server.replicating = false,
            "start slave" => server.replicating = true,
            "change master to master_host" => server.replicates_from = statement.split('\'').nth(1).map(str::to_owned),
            _ => panic!("{statement}"),
        });
    }

    fn admin(&mut self, sql: &str) {
        let sql = match sql.strip_prefix("KILL CONNECTION ") {
            Some(id) => match self.ids.iter().find(|(real, _)| real == id) {
                Some((_, lab)) => format!("KILL CONNECTION {lab}"),
                // It was of a statement on its way.
                None => return,
            },
            None => sql.to_owned(),
        };
        match self.proxy.answer(&sql) {
            Answer::Done(affected, _) => self.affected = affected,
            other => self.wrong.push(format!("{sql}: {other:?}")),
        }
        self.look_at_memory();
        self.look();
    }
}

fn is_heading(text: &str) -> bool {
    HEADINGS.iter().any(|heading| text.starts_with(heading))
}
