//! What a decision costs by rows of the server table: none of its rules may be worse than linear.
//!
//! `cargo bench -p proxysql-stonith-core --bench decide [-- ROWS...]`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use stonith_core::decide::{decide, leader_query};
use stonith_core::memory::Memory;
use stonith_core::node::Node;
use stonith_core::observed::{Observed, ProxyView};
use stonith_core::orchestrator::{Addresses, Answer, Backing, Instance, LeaderView};
use stonith_core::orders::Orders;
use stonith_core::policy::Policy;
use stonith_core::shared::Shared;
use stonith_core::table::{CheckType, Hostgroup, Pair, Row, RowKey, Status};

const NOW_MS: u64 = 5_000_000;

/// How often each is measured: the least counts.
const RUNS: usize = 7;

fn main() {
    let asked: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if asked.is_empty() { vec![10, 100, 1_000, 5_000, 10_000, 100_000] } else { asked };
    for rows in sizes {
        for (what, known) in [("all of nodes that Orchestrator knows", true), ("all but three of strangers", false)] {
            let mut observed = observed(rows, known);
            let policy = Policy::default();
            let memory = decide(&observed, &Memory::first_start("boot", NOW_MS), &policy, NOW_MS).memory;
            println!("{rows} rows, {what}: {:.1?}", least(|| tick(&observed, &memory, &policy)));
            if let LeaderView::Led(answer) = &mut observed.leader {
                answer.instances = None;
            }
            println!("{rows} rows, {what}, a quiet tick: {:.1?}", least(|| tick(&observed, &memory, &policy)));
        }
    }
}

/// What a tick asks and decides.
fn tick(observed: &Observed, memory: &Memory, policy: &Policy) {
    black_box(leader_query(&observed.proxy, memory, &Addresses::default(), "orc1", &[], policy, NOW_MS + 1_000));
    let decision = decide(observed, memory, policy, NOW_MS + 1_000);
    assert!(decision.plan.changes.is_empty());
}

fn least(once: impl Fn()) -> Duration {
    let timed = |_| {
        let began = Instant::now();
        once();
        began.elapsed()
    };
    (0..RUNS).map(timed).min().unwrap_or(Duration::MAX)
}

/// node0 the primary, all others its replicas.
fn observed(rows: usize, known: bool) -> Observed {
    let node = |n: usize| Node::new(&format!("node{n:06}"), 3306).expect("a node");
    let row = |n: usize| Row {
        key: RowKey {
            hostgroup: Hostgroup(if n == 0 { 10 } else { 20 }),
            hostname: format!("node{n:06}").into(),
            port: 3306,
        },
        status: Status::Online,
        comment: "rack 7".to_owned(),
        settings: ["weight", "compression", "max_connections", "max_replication_lag", "use_ssl", "max_latency_ms"]
            .map(|name| (name.to_owned(), "1".to_owned()))
            .into_iter()
            .collect(),
    };
    let instance = |n: usize| Instance {
        node: node(n),
        cluster: "node000000:3306".to_owned(),
        alias: String::new(),
        valid: true,
        read_only: n > 0,
        primary: (n > 0).then(|| node(0)),
        replicating: n > 0,
        checked_s: 1_000,
        downtimed: false,
        uuid: format!("uuid{n}"),
        errant_gtid: String::new(),
        replication_error: String::new(),
    };
    let rows: Shared<Vec<Row>> = (0..rows).map(row).collect();
    let instances = (0..if known { rows.len() } else { 3 }).map(instance).collect();
    Observed {
        proxy: ProxyView {
            runtime: rows.clone(),
            memory: rows.clone(),
            disk: rows,
            pairs: vec![Pair {
                writer: Hostgroup(10),
                reader: Hostgroup(20),
                check_type: CheckType::parse("read_only"),
            }],
            conn_used: BTreeMap::new(),
            ..ProxyView::default()
        },
        leader: LeaderView::Led(Answer {
            leader: "orc1".to_owned(),
            asked_ms: NOW_MS,
            date_s: 1_000,
            backing: Backing::Majority,
            downtimes: Vec::new(),
            history: None,
            instances: Some(instances),
            hooks: None,
            skipped: Vec::new(),
        }),
        orders: Orders::default(),
        addresses: Addresses::default(),
    }
}
