//! What was understood goes into a decision, as in a tick: it must come to one, and not to a wrong one.

use std::collections::BTreeSet;

use proxysql_stonith::orchestrator::answers;
use stonith_core::decide::{Decision, decide, leader_query};
use stonith_core::memory::{Memory, SteadyLeader};
use stonith_core::node::Node;
use stonith_core::observed::{Observed, ProxyView};
use stonith_core::orchestrator::{Addresses, Answer, Backing, LeaderView, RecoveryHistory};
use stonith_core::orders::Orders;
use stonith_core::policy::Policy;
use stonith_core::shared::Shared;
use stonith_core::table::{CheckType, Hostgroup, Layer, Pair, Row, RowKey, Status};

use super::orchestrator::{DOWNTIMED, HISTORY, INSTANCES};

/// The leader's time in these decisions, s since 1970: that of the recordings.
pub const DATE_S: i64 = 1_795_414_836;

/// This host's, ms since boot.
pub const NOW_MS: u64 = 5_000_000;

const LAYERS: [Layer; 3] = Layer::ALL;

fn row(hostgroup: u32, hostname: &str, marked: bool) -> Row {
    let (status, comment) = if marked {
        (Status::OfflineSoft, "rack 7 [stonith:1 superseded by=node03:3306 was=ONLINE]")
    } else {
        (Status::Online, "")
    };
    Row {
        key: RowKey { hostgroup: Hostgroup(hostgroup), hostname: hostname.into(), port: 3306 },
        status,
        comment: comment.to_owned(),
        settings: Default::default(),
    }
}

/// node01 is fenced since node03 took over, node02 is the other replica.
fn proxy() -> ProxyView {
    let rows = [row(10, "node01", true), row(20, "node01", true), row(10, "node03", false), row(20, "node02", false)];
    let rows = Shared::from(rows.to_vec());
    let pair = Pair { writer: Hostgroup(10), reader: Hostgroup(20), check_type: CheckType::ReadOnly };
    ProxyView { runtime: rows.clone(), memory: rows.clone(), disk: rows, pairs: vec![pair], ..ProxyView::default() }
}

/// An answer that a majority stands behind.
pub fn answer() -> Answer {
    Answer {
        leader: "http://orc1:3000".to_owned(),
        asked_ms: NOW_MS,
        date_s: DATE_S,
        backing: Backing::Majority,
        downtimes: Vec::new(),
        history: None,
        instances: None,
        hooks: None,
        skipped: Vec::new(),
    }
}

/// The recorded failover, in which node01 is downtimed.
fn recorded_answer() -> Answer {
    Answer {
        downtimes: answers::downtimes(DOWNTIMED, DATE_S).unwrap().read,
        history: Some(RecoveryHistory::whole("orc1", answers::recoveries(HISTORY, DATE_S).unwrap().read)),
        instances: Some(answers::instances(INSTANCES, DATE_S).unwrap().read),
        ..answer()
    }
}

/// An armed agent that has seen the same leader for a minute, so that good news counts.
fn memory() -> Memory {
    let mut memory = Memory::first_start("boot", NOW_MS - 60_000);
    memory.watching_since_s = Some(DATE_S - 3_600);
    memory.nodes.known = ["node01", "node02", "node03"].iter().filter_map(|name| Node::new(name, 3306).ok()).collect();
    memory.lease.armed = true;
    memory.lease.asked_ms = Some(NOW_MS - 1_000);
    memory.lease.leader = Some(SteadyLeader { name: answer().leader, since_ms: NOW_MS - 60_000 });
    memory
}

/// Whatever a leader answers: one look does not let a fenced node back, nor does another within 2 s. Says whether the
/// third one does.
pub fn of_answer(answer: Answer) -> bool {
    let memory = memory();
    let observed = Observed {
        proxy: proxy(),
        leader: LeaderView::Led(answer),
        orders: Orders::default(),
        addresses: Addresses::default(),
    };
    let first = decided(&observed, &memory, NOW_MS, true).memory;
    let second = decided(&observed, &first, NOW_MS + 1_900, true).memory;
    decided(&observed, &second, NOW_MS + 3_000, false).plan.unfences()
}

/// Whatever was kept: without a leader no fenced node goes back, and with one there is a decision.
pub fn of_kept(kept: &Memory, orders: Orders) {
    let silent = Observed {
        proxy: proxy(),
        leader: LeaderView::Silent(Default::default()),
        orders,
        addresses: Addresses::default(),
    };
    decided(&silent, kept, NOW_MS, true);
    let led = Observed { leader: LeaderView::Led(recorded_answer()), ..silent };
    decided(&led, kept, NOW_MS, false);
}

/// Whatever is in ProxySQL's tables: there is a decision, and what isn't understood stays to the byte (I1).
pub fn of_proxy(proxy: ProxyView) {
    let mut memory = memory();
    memory.nodes.known.extend(proxy.runtime.iter().filter_map(Row::node));
    for leader in [LeaderView::Led(answer()), LeaderView::Silent(Default::default())] {
        let observed =
            Observed { proxy: proxy.clone(), leader, orders: Orders::default(), addresses: Addresses::default() };
        // Cut off for longer than the lease: each of its nodes is taken out.
        decided(&observed, &memory, NOW_MS + 60_000, false);
    }
}

/// Decides, and checks what holds for every decision.
fn decided(observed: &Observed, memory: &Memory, now_ms: u64, stays_fenced: bool) -> Decision {
    let policy = Policy::default();
    let proxy = &observed.proxy;
    let downtimes = match &observed.leader {
        LeaderView::Led(answer) => answer.downtimes.as_slice(),
        _ => &[],
    };
    let _ = leader_query(proxy, memory, &Addresses::default(), "http://orc1:3000", downtimes, &policy, now_ms);
    let decision = decide(observed, memory, &policy, now_ms);
    let fenced = Node::new("node01", 3306).ok();
    for layer in LAYERS {
        let after: BTreeSet<Row> = decision.plan.carry_out(proxy.layer(layer)).into_iter().collect();
        let is_unknown = |row: &&Row| matches!(row.status, Status::Unknown(_));
        for row in proxy.layer(layer).iter().filter(is_unknown) {
            assert!(after.contains(row), "I1: {row:?} was changed");
        }
        if stays_fenced {
            let back = after.iter().find(|row| row.node() == fenced && row.status.in_service());
            assert!(back.is_none(), "I2: {back:?} is in service: {:?}", decision.verdicts);
        }
    }
    decision
}
