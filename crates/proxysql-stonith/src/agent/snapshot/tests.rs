//! One rich snapshot as JSON is pinned, and docs/status-json.md describes exactly its fields.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use stonith_core::decide::{HoldReason, ProofGap};
use stonith_core::evidence::EvidenceKind;
use stonith_core::lease::LeaseState;
use stonith_core::memory::{LeaseMemory, Memory};
use stonith_core::node_fence::power::Settled;
use stonith_core::observed::{ProxyView, SharedLease};
use stonith_core::orchestrator::{Addresses, Answer, Backing, BlindCause, CameBackKind, EndpointAnswer, SilentCause};
use stonith_core::orders::Orders;
use stonith_core::role::Role;
use stonith_core::table::{Change, CheckType, Hostgroup, Layer, Pair, RowKey};

use super::*;
use crate::agent::tests::unconnected;
use crate::proxysql::Probed;
use crate::report;

const NOW_MS: u64 = 1_000_000;

fn now() -> Now {
    Now { boot_id: "boot".to_owned(), boot_ms: NOW_MS, wall_s: 1_795_414_836 }
}

fn row(hostgroup: u32, host: &str, status: Status, comment: &str) -> Row {
    let key = RowKey { hostgroup: Hostgroup(hostgroup), hostname: host.into(), port: 3306 };
    Row { key, status, comment: comment.to_owned(), settings: Shared::default() }
}

fn node(name: &str) -> Node {
    Node::new(name, 3306).unwrap()
}

fn superseded() -> Evidence {
    Evidence::superseded(Some(node("node02")), "1795414811497811603:a", 1_795_414_811)
}

/// A memory that is armed, with a lease of this age.
fn leased(age_ms: u64) -> Memory {
    let lease = LeaseMemory { armed: true, started_ms: 1, asked_ms: Some(NOW_MS - age_ms), ..LeaseMemory::default() };
    Memory { lease, ..Memory::default() }
}

const NOTE: &str = "rack 1 [stonith:1 superseded by=node02:3306 was=ONLINE]";

/// node01 is fenced, node03 returns, node04 is held; one row is changed, and one session is left.
fn seen() -> (Observed, Decision) {
    let runtime = vec![
        row(20, "node01", Status::OfflineSoft, NOTE),
        row(10, "node02", Status::Online, ""),
        row(20, "node03", Status::OfflineSoft, NOTE),
        row(20, "node04", Status::Online, ""),
    ];
    let pair = Pair { writer: Hostgroup(10), reader: Hostgroup(20), check_type: CheckType::parse("read_only") };
    let conn_used = [(node("node01"), 2)].into();
    let proxy = ProxyView { runtime: runtime.clone().into(), pairs: vec![pair], conn_used, ..ProxyView::default() };
    let answer = Answer {
        leader: "orc1".to_owned(),
        asked_ms: NOW_MS - 1_000,
        date_s: 1_795_414_836,
        backing: Backing::Majority,
        downtimes: Vec::new(),
        history: None,
        instances: None,
        hooks: None,
        skipped: Vec::new(),
    };
    let orders = Orders { suspended: Some("moving racks".to_owned()), ..Orders::default() };
    let blocker = ReturnBlocker::Proof(vec![ProofGap::Writable]);
    let fence = Verdict::Fence { level: Level::Sessions, evidence: vec![superseded()], blocker };
    let unfence = Verdict::Unfence { role: Role::Replica, evidence: vec![superseded()] };
    let back = row(20, "node03", Status::Online, "rack 1");
    let change = RowChange { layer: Layer::Runtime, change: Change::Replace { from: runtime[2].clone(), to: back } };
    let plan = Plan { changes: vec![change], sessions: [node("node01")].into(), finish: true, ..Plan::default() };
    let decision = Decision {
        verdicts: BTreeMap::from([
            (node("node01"), fence),
            (node("node02"), Verdict::Keep),
            (node("node03"), unfence),
            (node("node04"), Verdict::Hold(HoldReason::UnknownStatus("DRAINING".to_owned()))),
        ])
        .into(),
        plan,
        memory: leased(1_000),
        lease_state: LeaseState::Led { good: true },
        unarmed: [].into(),
        unmatched: [].into(),
        hooks_are_on: false,
        without_writer: [].into(),
        primaries: None,
    };
    (Observed { proxy, leader: LeaderView::Led(answer), orders, addresses: Addresses::default() }, decision)
}

fn suspended() -> Suspended {
    Suspended { reason: Some("moving racks".to_owned()), for_s: Some(1_800) }
}

fn rich() -> Snapshot {
    let (observed, decision) = seen();
    let mut agent = unconnected(Memory::default());
    agent.probed = Some(Probed::without_lacks("2.7.1").into());
    let held = [node("node04")];
    let conditions = [
        Condition::LeaderUnusable(BlindCause::Answers(vec![EndpointAnswer {
            kind: CameBackKind::Refused,
            text: "Orchestrator at http://orc1:3000 refused us".to_owned(),
        }])),
        Condition::Held {
            why: HoldReason::UnknownStatus("DRAINING".to_owned()),
            nodes: stonith_core::condition::NodeList::of(&held),
        },
    ];
    let mut snapshot = Snapshot::at(
        &now(),
        &agent,
        &mut NodeReports::default(),
        Some((&observed, &decision)),
        suspended(),
        &conditions,
    );
    let (read_only, power) = ([(node("node01"), at_the_node())], [(node("node01"), power())]);
    snapshot.take_node_fences(&read_only.into(), &power.into());
    snapshot
}

/// What was done at node01 itself.
fn at_the_node() -> NodeFenceRecord {
    let text = "2 client sessions may not be ended by the account: Access denied".to_owned();
    NodeFenceRecord {
        kind: EvidenceKind::Superseded,
        id: "17:a".to_owned(),
        since_s: 1_000,
        answered_s: Some(1_010),
        read_only_s: Some(1_010),
        verified_s: Some(1_011),
        found_read_only: false,
        sessions_ended: 7,
        sessions_refused: 2,
        server_started_s: Some(900),
        undone_s: None,
        failure: Some(NodeFenceFailure { label: "sessions-refused".to_owned(), text, at_s: 1_011 }),
        ended_s: None,
    }
}

/// The power of node01.
fn power() -> FenceAgentRecord {
    let agent = "ipmi".to_owned();
    FenceAgentRecord {
        kind: EvidenceKind::Superseded,
        id: "17:a".to_owned(),
        at_s: 990,
        since_s: 1_000,
        is_read_only: false,
        tries: 2,
        settled: Some(Settled { id: "17:a".to_owned(), at_s: 990, done_s: 1_040, agent, is_dry: false }),
        failure: None,
        ended_s: None,
    }
}

/// The snapshot's JSON is the pinned text.
#[test]
fn the_json_of_one_rich_snapshot_is_pinned() {
    let pinned = include_str!("rich.json");
    let json = report::json::status(&[&rich()]);
    let differs = pinned.lines().zip(json.lines()).find(|(pinned, now)| pinned != now);
    assert_eq!(differs, None, "src/agent/snapshot/rich.json pins what programs read; now it is:\n{json}");
    assert_eq!(pinned.trim_end(), json);
}

/// Every field by its path, `[]` for the entries of a list.
fn paths(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                into.insert(path.clone());
                paths(value, &path, into);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| paths(value, &format!("{path}[]"), into)),
        _ => {}
    }
}

#[test]
fn every_field_of_the_json_is_documented_and_no_other() {
    let json: Value = serde_json::from_str(&report::json::status(&[&rich()])).unwrap();
    let mut fields = BTreeSet::new();
    paths(&json, "", &mut fields);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/status-json.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<String> = rows.map(str::to_owned).collect();
    let differ: Vec<&String> = fields.symmetric_difference(&documented).collect();
    assert!(differ.is_empty() && fields.len() > 40, "in one of both only: {differ:#?}");
}

#[test]
fn a_proxysql_that_was_not_read_has_the_agents_lease_and_no_nodes() {
    let unread = [Condition::ProxyUnread("not there".to_owned())];
    let snapshot = Snapshot::at(
        &now(),
        &unconnected(leased(4_000)),
        &mut NodeReports::default(),
        None,
        Suspended::default(),
        &unread,
    );
    assert_eq!((snapshot.reached, snapshot.lease_state, snapshot.worst), (false, None, Severity::Failure));
    assert_eq!((snapshot.armed, snapshot.lease_age_ms, snapshot.lease_left_ms), (true, Some(4_000), Some(6_000)));
    assert!(snapshot.nodes.is_empty() && snapshot.plan.empty);
}

#[test]
fn a_condition_that_is_noted_later_counts_for_the_worst() {
    let mut snapshot = rich();
    snapshot.worst = Severity::Info;
    snapshot.note(&Condition::LeaderUnreached(SilentCause::default()));
    assert_eq!(snapshot.worst, Severity::Failure);
    assert_eq!(snapshot.conditions.last().unwrap().label, "leader-unreached");
}

#[test]
fn the_text_has_each_node_with_its_verdict_and_what_would_let_it_back() {
    let text = report::text::status(&rich());
    for line in [
        "ProxySQL 127.0.0.1:6032: led; lease 1.0s old, 9.0s left; armed\n",
        "  node01:3306  20:OFFLINE_SOFT                     fence(sessions)     superseded by=node02:3306",
        "               stays out: ",
        "  node03:3306  20:OFFLINE_SOFT                     unfence(replica)    superseded",
        "  at node01:3306 itself: read-only for superseded; 7 sessions ended; 2 client sessions may not be ended",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    let plan = report::text::plan(&rich());
    for line in [
        "  finish an interrupted apply\n",
        "  runtime 20/node03:3306 OFFLINE_SOFT -> ONLINE\n",
        "  end the sessions that still use node01:3306\n",
        "  node04:3306: hold: a row has the status",
    ] {
        assert!(plan.contains(line), "{line:?} in\n{plan}");
    }
    assert!(!plan.contains("node02:3306: keep"), "{plan}");
}

#[test]
fn the_reports_of_nodes_are_made_again_if_what_they_show_changed_and_only_then() {
    let (mut observed, mut decision) = seen();
    let (policy, mut reports) = (Policy::default(), NodeReports::default());
    let mut last = reports.of(&observed, &decision, &policy);
    observed.proxy.lease =
        Some(SharedLease { owner: "agent".to_owned(), ours: true, left_ms: 9_000, unwanted_ms: 1_000 });
    assert!(Arc::ptr_eq(last.arc(), reports.of(&observed, &decision, &policy).arc()));
    let changes: [fn(&mut Observed, &mut Decision); 5] = [
        |observed, _| {
            observed.proxy.conn_used.insert(node("node01"), 3);
        },
        |observed, _| observed.proxy.runtime[1].comment = "rack 9".to_owned(),
        |observed, _| observed.proxy.disk.push(row(30, "node02", Status::Online, "")),
        |_, decision| drop(decision.verdicts.insert(node("node03"), Verdict::Keep)),
        |_, decision| {
            decision.memory.nodes.known.insert(node("node02"));
        },
    ];
    for (nth, change) in changes.into_iter().enumerate() {
        change(&mut observed, &mut decision);
        let now = reports.of(&observed, &decision, &policy);
        assert_ne!(now, last, "change {nth}");
        assert_eq!(now, NodeReports::default().of(&observed, &decision, &policy), "change {nth}");
        last = now;
    }
}
