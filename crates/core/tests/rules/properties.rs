//! Rules that hold in every story: whatever happens to MySQL, Orchestrator, ProxySQL and the agent, in any order.
//! Single functions have theirs in round_trips.rs. After each tick of a story `Lab::check_rules` holds I3, I4, I5, I7.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use stonith_core::decide::{Decision, ReturnBlocker, Verdict, decide};
use stonith_core::evidence::EvidenceKind;
use stonith_core::node::Node;
use stonith_core::node_fence::{ALLOWED, targets};
use stonith_core::observed::Observed;
use stonith_core::orchestrator::{Addresses, Answer, BARRIER, LeaderView, RecoveryHistory};
use stonith_core::orders::Order;
use stonith_core::policy::BARRIER_LAST_S;
use stonith_core::table::{Comment, Hostgroup, Row, Status};

use crate::world::{Decided, LAYERS, Lab, Raft, node, row};

const NAMES: [&str; 3] = ["node01", "node02", "node03"];

/// Something that happens, to the node of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Fails(usize),
    HandsOver(usize),
    RecoversNobody,
    BarrierRises,
    BarrierPromotes(usize),
    BarrierFalls,
    Dies(usize),
    ReturnsWritable(usize),
    IsRepaired(usize),
    LosesReplication(usize),
    IsDowntimed(usize),
    DowntimeEnds(usize),
    IsForgotten(usize),
    HistoryPurged,
    LeaderKilled,
    Silence,
    Leaderless,
    Blind,
    LeaderBack,
    RowsGoStale,
    RowsAreFresh,
    ProxyRestarts,
    AgentRestarts(u8),
    HostBoots,
    StateLost,
    OperatorTakesOut(usize),
    OperatorPutsIn(usize),
    StatusUnknown(usize),
    GhostInWriter(usize),
}

fn event() -> impl Strategy<Value = Event> {
    use Event::*;
    let node = || 0..NAMES.len();
    prop_oneof![
        4 => node().prop_map(Fails),
        2 => node().prop_map(HandsOver),
        1 => Just(RecoversNobody),
        2 => Just(BarrierRises),
        2 => node().prop_map(BarrierPromotes),
        1 => Just(BarrierFalls),
        1 => node().prop_map(Dies),
        4 => node().prop_map(ReturnsWritable),
        4 => node().prop_map(IsRepaired),
        1 => node().prop_map(LosesReplication),
        2 => node().prop_map(IsDowntimed),
        2 => node().prop_map(DowntimeEnds),
        1 => node().prop_map(IsForgotten),
        1 => Just(HistoryPurged),
        2 => Just(LeaderKilled),
        2 => Just(Silence),
        1 => Just(Leaderless),
        1 => Just(Blind),
        3 => Just(LeaderBack),
        1 => Just(RowsGoStale),
        2 => Just(RowsAreFresh),
        1 => Just(ProxyRestarts),
        1 => (0..30u8).prop_map(AgentRestarts),
        1 => Just(HostBoots),
        1 => Just(StateLost),
        1 => node().prop_map(OperatorTakesOut),
        1 => node().prop_map(OperatorPutsIn),
        1 => node().prop_map(StatusUnknown),
        1 => node().prop_map(GhostInWriter),
    ]
}

/// Events, and how many seconds pass after each.
fn story() -> impl Strategy<Value = Vec<(Event, u64)>> {
    prop::collection::vec((event(), prop::sample::select(vec![1, 2, 4, 14])), 1..14)
}

static HEALTHY: LazyLock<Lab> = LazyLock::new(Lab::healthy);

fn happens(lab: &mut Lab, event: Event) {
    let primary = lab.primary.host.to_string();
    match event {
        Event::Fails(to) if NAMES[to] != primary => _ = lab.failover(&primary, NAMES[to]),
        Event::HandsOver(to) if NAMES[to] != primary => _ = lab.takeover(&primary, NAMES[to]),
        Event::Fails(_) | Event::HandsOver(_) => {}
        Event::RecoversNobody => {
            lab.downtime(&primary, stonith_core::orchestrator::LOST_IN_RECOVERY).record(0, &primary, None).successful =
                false;
        }
        Event::BarrierRises => _ = lab.barrier(&primary),
        Event::BarrierPromotes(to) if is_waited_for(lab) && NAMES[to] != primary => {
            _ = lab
                .barrier_promotes(&primary, NAMES[to])
                .downtime(&primary, stonith_core::orchestrator::LOST_IN_RECOVERY);
        }
        Event::BarrierPromotes(_) => {}
        // The mark runs out, or the hook takes it back. Nothing tells how the recovery ended.
        Event::BarrierFalls => lab.downtimes.retain(|downtime| downtime.reason != BARRIER),
        Event::Dies(at) => _ = lab.dies(NAMES[at]),
        Event::ReturnsWritable(at) => _ = lab.returns_writable(NAMES[at]),
        Event::IsRepaired(at) if NAMES[at] != primary => _ = lab.repaired(NAMES[at]),
        Event::IsRepaired(at) => _ = lab.returns_writable(NAMES[at]),
        Event::LosesReplication(at) => lab.server(NAMES[at]).replicating = false,
        Event::IsDowntimed(at) => _ = lab.downtime(NAMES[at], "maintenance"),
        Event::DowntimeEnds(at) => _ = lab.downtime_ends(NAMES[at]),
        Event::IsForgotten(at) => _ = lab.forgets(NAMES[at]),
        Event::HistoryPurged => _ = lab.purges_history(),
        Event::LeaderKilled => _ = lab.leader_killed(&format!("orc{}", lab.now_ms % 3)),
        Event::Silence => _ = lab.leader_gone(),
        Event::Leaderless => _ = lab.asked(Raft::Leaderless),
        Event::Blind => _ = lab.asked(Raft::Blind),
        Event::LeaderBack => _ = lab.led_by("orc1"),
        Event::RowsGoStale => _ = lab.rows_go_stale(),
        Event::RowsAreFresh => lab.stale = None,
        Event::ProxyRestarts => _ = lab.proxy_restarts(),
        Event::AgentRestarts(after_s) => _ = lab.agent_restarts(u64::from(after_s)),
        Event::HostBoots => {
            // The boot clock begins anew, the wall clock goes on.
            let now_s = lab.now_s();
            lab.host_boots();
            lab.wall_s += now_s - lab.now_s();
        }
        Event::StateLost => _ = lab.state_lost(),
        Event::OperatorTakesOut(at) => {
            _ = lab.edit(20, NAMES[at], |row| (row.status, row.comment) = (Status::OfflineSoft, "theirs".to_owned()));
        }
        Event::OperatorPutsIn(at) => _ = lab.put(row(20, NAMES[at], Status::Online)),
        Event::StatusUnknown(at) => {
            _ = lab.edit(20, NAMES[at], |row| row.status = Status::Unknown("DRAINING".to_owned()));
        }
        Event::GhostInWriter(at) => {
            let ghost = row(10, NAMES[at], Status::OfflineHard);
            if !lab.proxy.runtime.iter().any(|row| row.key == ghost.key) {
                lab.proxy.runtime.push(ghost);
            }
        }
    }
}

/// The last record is that of a recovery of the present primary, which has not ended.
fn is_waited_for(lab: &Lab) -> bool {
    lab.records.last().is_some_and(|record| record.end_s.is_none() && record.failed == lab.primary)
}

/// Tells the story, and shows each tick: what it saw, what was decided, and the world after it.
fn tell(story: &[(Event, u64)], each: impl FnMut(&Observed, &Decision, &Lab)) -> Lab {
    tell_of(HEALTHY.clone(), story, each)
}

fn tell_of(mut lab: Lab, story: &[(Event, u64)], mut each: impl FnMut(&Observed, &Decision, &Lab)) -> Lab {
    for (event, seconds) in story {
        happens(&mut lab, *event);
        for _ in 0..*seconds {
            let seen = lab.proxy.clone();
            let decision = lab.next();
            let leader = LeaderView::Silent(Default::default());
            let seen = Observed { proxy: seen, leader, orders: lab.orders.clone(), addresses: Addresses::default() };
            each(&seen, &decision, &lab);
        }
    }
    lab
}

fn unfences(decision: &Decision) -> Vec<(&Node, BTreeSet<EvidenceKind>)> {
    let mut found = Vec::new();
    for (node, verdict) in &decision.verdicts {
        if let Verdict::Unfence { evidence, .. } = verdict {
            found.push((node, evidence.iter().map(|fact| fact.kind).collect()));
        }
    }
    found
}

/// An answer from which everything is gone, of a leader that could not be better confirmed.
fn emptied(lab: &Lab, instances: bool) -> LeaderView {
    LeaderView::Led(Answer {
        leader: "orc1".to_owned(),
        asked_ms: lab.now_ms,
        date_s: lab.now_s(),
        backing: stonith_core::orchestrator::Backing::Majority,
        downtimes: vec![],
        history: Some(RecoveryHistory::whole("orc1", vec![])),
        instances: instances.then(Vec::new),
        hooks: None,
        skipped: Vec::new(),
    })
}

/// A mark of a recovery that promoted nobody, or has not promoted yet, is Orchestrator's own word against the primary.
fn is_fair(event: &Event) -> bool {
    !matches!(event, Event::RecoversNobody | Event::BarrierRises)
}

/// So few that it takes a second or two, unless PROPTEST_CASES asks for more.
fn few(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(few(20))]

    #[test]
    fn i2_absence_never_unfences_what_a_story_has_fenced(story in story(), instances: bool) {
        let mut lab = tell(&story, |_, _, _| {});
        let fenced = lab.fenced();
        for _ in 0..20 {
            lab.now_ms += 1_000;
            let observed = Observed { leader: emptied(&lab, instances), ..lab.observed() };
            let decision = decide(&observed, &lab.memory, &lab.policy, lab.now_ms);
            lab.memory = decision.memory.clone();
            for (node, kinds) in unfences(&decision) {
                prop_assert_eq!(kinds, [EvidenceKind::Isolation].into(), "{} came back, and nothing says it may", node);
            }
            // The rows aren't carried out, so that what is fenced stays to be judged.
            for name in &fenced {
                let fenced = matches!(decision.of(name), Verdict::Fence { .. } | Verdict::Unfence { .. } | Verdict::Hold(_));
                prop_assert!(fenced, "{}: {:?}", name, decision.of(name));
            }
        }
    }

    #[test]
    fn i1_what_is_not_in_service_comes_back_by_our_marker_only_and_an_unknown_status_never(story in story()) {
        tell(&story, |seen, _, lab| {
            for layer in LAYERS {
                for before in seen.proxy.layer(layer) {
                    let after = lab.proxy.layer(layer).iter().find(|after| after.key == before.key);
                    let ours = matches!(Comment::parse(&before.comment), Comment::Marked(..));
                    let back = !before.status.in_service() && after.is_some_and(|after| after.status.in_service());
                    let may = ours && before.status == Status::OfflineSoft;
                    // A ghost in runtime is set ONLINE by ProxySQL's own monitor.
                    let monitors = before.status == Status::OfflineHard && layer == stonith_core::table::Layer::Runtime;
                    assert!(!back || may || monitors, "{layer}: {before:?} -> {after:?}");
                    let unknown = matches!(before.status, Status::Unknown(_));
                    assert!(!unknown || after == Some(before), "{layer}: {before:?} -> {after:?}");
                }
            }
        });
    }

    #[test]
    fn i4_a_fenced_node_has_no_row_in_service_in_any_layer(story in story()) {
        tell(&story, |_, decision, lab| {
            for (node, verdict) in &decision.verdicts {
                let rows = || LAYERS.into_iter().flat_map(|layer| lab.proxy.layer(layer));
                let in_service = rows().any(|row| row.node().as_ref() == Some(node) && row.status.in_service());
                assert!(!in_service || !matches!(verdict, Verdict::Fence { .. }), "{node}: {verdict:?}");
            }
        });
    }

    /// Who is the primary in truth, and not only by the leader. An agent may not have heard of it yet.
    #[test]
    fn i5_no_node_that_takes_writes_for_its_cluster_is_ever_made_read_only_at_the_node_itself(story in story()) {
        let story: Vec<_> = story.into_iter().filter(|(event, _)| is_fair(event)).collect();
        let mut lab = HEALTHY.clone();
        lab.policy.fences_at_node = true;
        tell_of(lab, &story, |_, decision, lab| {
            let found = targets(&LeaderView::Leaderless, decision, &ALLOWED.into()).unwrap_or_default();
            let primary = lab.instances().into_iter().find(|i| i.node == lab.primary);
            let is_healthy = primary.is_some_and(|i| i.valid && !i.read_only && i.primary.is_none());
            if is_healthy && matches!(lab.raft, Raft::Led { .. }) && lab.stale.is_none() {
                assert!(!found.contains_key(&lab.primary), "{:?} {found:?}", lab.primary);
            }
        });
    }

    #[test]
    fn i5_the_healthy_present_primary_that_was_never_fenced_is_fenced_by_isolation_only(story in story()) {
        let story: Vec<_> = story.into_iter().filter(|(event, _)| is_fair(event)).collect();
        let mut ever_fenced = BTreeSet::new();
        tell(&story, |_, decision, lab| {
            let primary = &lab.primary;
            if let Some(Verdict::Fence { evidence, .. }) = decision.verdicts.get(primary) {
                let isolation_only = evidence.iter().all(|fact| fact.kind == EvidenceKind::Isolation);
                // To the leader: its rows may be of a while ago.
                let shown = lab.stale.as_ref().and_then(|rows| rows.iter().find(|i| i.node == *primary));
                let is_healthy = lab.servers[primary].up && shown.is_none_or(|instance| instance.valid);
                assert!(!is_healthy || isolation_only || ever_fenced.contains(primary), "{primary}: {evidence:?}");
                assert!(evidence.iter().all(|fact| fact.by.as_ref() != Some(primary)), "by itself: {evidence:?}");
            }
            let out = decision.verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Fence { .. }));
            ever_fenced.extend(out.map(|(node, _)| node.clone()));
        });
    }

    #[test]
    fn i5_no_barrier_ever_fences_the_node_that_was_promoted_since(story in story()) {
        let mut out_before: BTreeSet<Node> = BTreeSet::new();
        tell(&story, |_, decision, lab| {
            for (node, verdict) in &decision.verdicts {
                let Verdict::Fence { evidence, .. } = verdict else { continue };
                let by_barrier = evidence.iter().all(|fact| fact.kind == EvidenceKind::Barrier);
                let mark = lab.downtimes.iter().find(|mark| mark.node == *node && mark.reason == BARRIER);
                let newest = decision.memory.history.records.values().max_by_key(|record| record.at_ns);
                let is_promoted = newest.is_some_and(|record| record.successor.as_ref() == Some(node)
                    && record.successful
                    && mark.is_none_or(|mark| record.uid > mark.owner));
                assert!(!by_barrier || !is_promoted || out_before.contains(node), "{node}: {evidence:?}");
            }
            let out = decision.verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Fence { .. }));
            out_before = out.map(|(node, _)| node.clone()).collect();
        });
    }

    #[test]
    fn i2_what_a_barrier_has_fenced_stays_out_until_its_recovery_is_over(story in story()) {
        tell(&story, |_, decision, lab| {
            for (node, verdict) in &decision.verdicts {
                let Verdict::Unfence { evidence, .. } = verdict else { continue };
                let by_barrier = evidence.iter().any(|fact| fact.kind == EvidenceKind::Barrier);
                let stands = lab.downtimes.iter().any(|mark| {
                    mark.node == *node
                        && mark.reason == BARRIER
                        && lab.records.iter().any(|record| record.uid == mark.owner)
                        && is_waited_for(lab)
                });
                assert!(!by_barrier || !stands || *node != lab.primary, "{node} returns while its barrier stands");
            }
        });
    }

    #[test]
    fn i7_a_tick_that_sees_what_the_last_one_saw_writes_nothing(story in story()) {
        let mut lab = tell(&story, |_, _, _| {});
        // The history is read each half a minute: a record that nothing else points to comes as late as that. A barrier
        // whose recovery never tells its end lets the node back a minute after its mark.
        let settled = lab.run_s(31 + BARRIER_LAST_S.unsigned_abs());
        let writes = lab.writes;
        lab.run_s(10);
        prop_assert_eq!(lab.writes, writes, "{:?}", settled.verdicts);
    }

    #[test]
    fn i9_without_evidence_and_with_a_leader_nothing_is_ever_fenced(story in story()) {
        use Event::*;
        let harmless = |event: &Event| matches!(event, Dies(_) | LosesReplication(_) | IsForgotten(_) | HistoryPurged
            | Leaderless | Blind | LeaderBack | LeaderKilled | RowsGoStale | RowsAreFresh | ProxyRestarts
            | AgentRestarts(_) | StateLost | OperatorTakesOut(_) | OperatorPutsIn(_) | StatusUnknown(_));
        let story: Vec<_> = story.into_iter().filter(|(event, _)| harmless(event)).collect();
        let lab = tell(&story, |_, _, _| {});
        prop_assert_eq!(lab.writes, 0);
    }

    #[test]
    fn suspended_no_story_changes_a_row(story in story()) {
        let mut lab = HEALTHY.clone();
        lab.orders.suspended = Some("maintenance".to_owned());
        for (event, seconds) in story {
            happens(&mut lab, event);
            lab.run_s(seconds);
        }
        prop_assert_eq!(lab.writes, 0);
    }

    #[test]
    fn every_story_ends_well_once_all_is_repaired(story in story()) {
        let mut lab = tell(&story, |_, _, _| {});
        let primary = lab.primary.host.to_string();
        lab.stale = None;
        lab.led_by("orc1").downtimes.clear();
        lab.returns_writable(&primary);
        for name in NAMES {
            lab.server(name).listed = true;
            if name != primary {
                lab.repaired(name);
            }
            let settles = |row: &mut Row| {
                if matches!(row.status, Status::Unknown(_)) {
                    row.status = Status::OfflineSoft;
                }
            };
            lab.edit(20, name, settles);
        }
        // A recovery that never tells its end counts as over after a minute.
        let waits = story.iter().any(|(event, _)| *event == Event::BarrierRises);
        let decision = lab.run_s(if waits { 80 } else { 15 });
        // Of a mark whose record nobody has any more only the operator can say what became of it.
        let nobody_knows = story.iter().any(|(event, _)| *event == Event::HistoryPurged);
        let mut fenced = lab.fenced();
        fenced.retain(|name| !nobody_knows || decision.blocker(name) != Some(&ReturnBlocker::Operator));
        prop_assert_eq!(fenced, Vec::<String>::new(), "{:#?}", decision.verdicts);
    }
}

proptest! {
    #![proptest_config(few(100))]

    #[test]
    fn i3_an_order_changes_rows_of_its_node_in_managed_hostgroups_only(
        target in 0..NAMES.len(),
        unfence: bool,
        statuses in prop::collection::vec(0..5usize, 12),
    ) {
        let mut lab = HEALTHY.clone();
        lab.policy.excluded_hostgroups = [Hostgroup(40)].into();
        lab.orders.suspended = Some("maintenance".to_owned());
        let all = [Status::Online, Status::Shunned, Status::OfflineSoft, Status::OfflineHard,
            Status::Unknown("ODD".to_owned())];
        for (at, status) in statuses.iter().enumerate() {
            lab.put(row([10, 20, 30, 40][at % 4], NAMES[at / 4], all[*status].clone()));
        }
        let order = if unfence {
            Order::Unfence { node: node(NAMES[target]), without_lease: true, role: None }
        } else {
            Order::Fence { node: node(NAMES[target]), level: stonith_core::evidence::Level::Sessions }
        };
        let before = lab.layers();
        lab.monitor = false;
        let decision = lab.order(order);
        for change in &decision.plan.changes {
            let key = change.key();
            prop_assert_eq!(key.node(), Some(node(NAMES[target])));
            prop_assert!(key.hostgroup != Hostgroup(40));
        }
        let others = |layers: [Vec<Row>; 3]| layers.map(|rows| -> Vec<Row> {
            rows.into_iter().filter(|row| row.node() != Some(node(NAMES[target]))).collect()
        });
        prop_assert_eq!(others(lab.layers()), others(before));
    }
}
