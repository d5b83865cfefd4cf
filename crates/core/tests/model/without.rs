//! The rules, each with a way to take it out: around what `decide` is given and gives, or around an apply's
//! statements. A rule whose absence leads to no counterexample would not be shown to matter.
//!
//! ```text
//! observed, memory --[before]--> decide --[after]--> plan --> Apply --[ask]--> World
//! ```

use std::collections::BTreeSet;

use stonith_core::apply::{Apply, Place, Reply, Statement, Step};
use stonith_core::decide::{Decision, decide};
use stonith_core::evidence::EvidenceKind;
use stonith_core::memory::{Memory, SteadyLeader};
use stonith_core::node::Node;
use stonith_core::observed::Observed;
use stonith_core::orchestrator::{BARRIER, Backing, Identity, Instance, LeaderView, Recovery, RecoveryHistory};
use stonith_core::orders::Order;
use stonith_core::plan::{Directive, Plan};
use stonith_core::policy::{APPLY_MS, BARRIER_LAST_S, Policy};
use stonith_core::role::Role;
use stonith_core::table::{COVERED, Marker, SERVERS, Status, Table};

use crate::apply_world::scene::node;
use crate::apply_world::{LOCK_TTL_MS, PAIRS, World};
use crate::state::NODES;

/// A rule of design §5 to §8 that a model can be run without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// I8: every answer counts as that of a steady, confirmed leader.
    GoodNewsNeedsAConfirmedLeader,
    /// §6: the first proof counts.
    TwoProofs,
    /// §6: every row of the leader's counts as checked just now.
    ChecksSinceTheRecovery,
    /// I2: a leader that lists neither mark nor record lets the node back.
    AbsenceIsNotProof,
    /// §6: a node goes back in the rows that it had.
    RoleItHasNow,
    /// §8.2: disk is left until the LOAD is done.
    DiskFirst,
    /// §8: records are overwritten whatever somebody made of them.
    CompareAndSwap,
    /// §8.5: the apply sees what it expects to see.
    LookBeforeLoad,
    /// §7: armed from the first start.
    Arming,
    /// §7: a majority without a leader counts as silence.
    LeaderlessHolds,
    /// I12: whoever wants the lock has it.
    Lock,
    /// §5: any record that has a node as the failed one supersedes it, whatever came after.
    NewestRecord,
    /// §7: what is older than the first start fences like anything else.
    OldRecordsNeedLiveProof,
    /// §7: a gap ends no watch: what was kept from before it fences like anything else.
    AGapEndsTheWatch,
    /// §7: isolation begins when the lease is over, not so much earlier that it is done by then.
    BeginsEarly,
    /// §7: no agent hears of another's lease.
    SharedLease,
    /// §8: a return that was cut off leaves no note.
    NoteOfReturns,
    /// §8: a return lets a node back for whatever reason it is out by then.
    ReturnNamesItsMarkers,
    /// §6: a writable node with a MasterKey does not come back, since its role is not known.
    IsolationEndsAsBefore,
    /// §6: a former successor that is writable counts as read-only.
    ReadOnlySuccessor,
    /// §6: a read-only node that replicates from nobody counts as writable.
    ReadOnlyIsNoPrimary,
    /// §6: nobody looks at the replicas that follow the node of an old record.
    OldRecordAgainstReplicas,
    /// §7: without raft, all nodes without their database count as silence.
    DatabaseGoneHolds,
    /// §7: a leader that a follower relays to counts as silence.
    RelayedLeaderLeads,
    /// §7: an answer without its history counts as silence.
    HistoryCostsNoLease,
    /// §7: a history that does not come counts as one without records.
    ReturnWaitsForHistory,
    /// §10: a row is taken for whatever instance has its address now.
    AMatchNeverMoves,
    /// §5.7: the hook goes on at once, whoever has the fence.
    HookWaits,
    /// §6: a barrier ends with its mark, once the node is seen alive as the primary.
    BarrierOutlastsItsMark,
    /// §6: a barrier ends though another node may take writes.
    NoOtherWriter,
    /// §5.7: every mark of a barrier counts, whatever was promoted since.
    LeftOverMark,
    /// §5: a node that was promoted last may be fenced at the node itself.
    ThePrimaryIsNoTarget,
    /// §5: while Orchestrator is silent, nodes are fenced at the nodes themselves.
    SilenceFencesNoNode,
    /// §8.6: every session is ended.
    OnlyHoldersSessionsEnd,
}

/// `decide`, with a rule taken out.
pub fn decide_without(
    without: Option<Rule>,
    mut observed: Observed,
    mut memory: Memory,
    policy: &Policy,
    now_ms: u64,
) -> Decision {
    match without {
        Some(Rule::GoodNewsNeedsAConfirmedLeader) => {
            if let LeaderView::Led(answer) = &mut observed.leader {
                answer.backing = Backing::Majority;
                memory.lease.leader = Some(SteadyLeader { name: answer.leader.clone(), since_ms: now_ms - 10_000 });
            }
        }
        Some(Rule::ChecksSinceTheRecovery) => {
            if let LeaderView::Led(answer) = &mut observed.leader {
                let date_s = answer.date_s + 1;
                answer.instances.iter_mut().flatten().for_each(|instance| instance.checked_s = date_s);
            }
        }
        Some(Rule::AbsenceIsNotProof) => {
            if let LeaderView::Led(answer) = &observed.leader
                && answer.downtimes.is_empty()
                && answer.history.as_ref().is_some_and(|history| history.records.is_empty())
                && !memory.nodes.evidence.is_empty()
            {
                observed.orders.now = Some(Order::Unfence { node: node(NODES[0]), without_lease: true, role: None });
            }
        }
        Some(Rule::ReadOnlySuccessor) => {
            as_shown(&mut observed, |instance| instance.read_only |= instance.primary.is_some());
        }
        Some(Rule::ReadOnlyIsNoPrimary) => {
            as_shown(&mut observed, |instance| instance.read_only &= instance.primary.is_some());
        }
        Some(Rule::OldRecordAgainstReplicas) => {
            if let LeaderView::Led(answer) = &mut observed.leader {
                let is_ours = |instance: &Instance| NODES.iter().any(|name| instance.node == node(name));
                answer.instances.iter_mut().for_each(|shown| shown.retain(is_ours));
            }
        }
        Some(Rule::ReturnWaitsForHistory) => {
            if let LeaderView::Led(answer) = &mut observed.leader {
                let leader = answer.leader.clone();
                answer.history.get_or_insert_with(|| RecoveryHistory::whole(&leader, Vec::new()));
            }
        }
        Some(Rule::BarrierOutlastsItsMark) => {
            let mut barriers = memory.nodes.evidence.values_mut().filter_map(|of| of.get_mut(&EvidenceKind::Barrier));
            barriers.by_ref().for_each(|barrier| barrier.at_s -= BARRIER_LAST_S + 60);
        }
        Some(Rule::NoOtherWriter) => as_shown(&mut observed, |instance| {
            instance.read_only |= instance.node == node(NODES[1]);
        }),
        Some(Rule::LeftOverMark) => {
            if let LeaderView::Led(answer) = &mut observed.leader {
                let newest = u64::MAX.to_string();
                let barriers = answer.downtimes.iter_mut().filter(|mark| mark.reason == BARRIER);
                barriers.for_each(|mark| mark.owner.clone_from(&newest));
            }
        }
        Some(Rule::Arming) => memory.lease.armed = true,
        Some(Rule::NewestRecord) => {
            let of_node01 = |record: &Recovery| record.failed == node(NODES[0]);
            if let LeaderView::Led(answer) = &mut observed.leader {
                answer.history.iter_mut().for_each(|history| history.records.retain(of_node01));
            }
            memory.history.records.retain(|_, record| of_node01(record));
        }
        Some(Rule::OldRecordsNeedLiveProof) => memory.watching_since_s = Some(0),
        Some(Rule::AGapEndsTheWatch) => drop(memory.watching_since_s.get_or_insert(0)),
        Some(Rule::AMatchNeverMoves) => *memory.nodes.identity = Identity::default(),
        Some(Rule::SharedLease) => observed.proxy.lease = None,
        Some(Rule::NoteOfReturns) => observed.proxy.returned.clear(),
        Some(Rule::LeaderlessHolds) if observed.leader == LeaderView::Leaderless => {
            observed.leader = LeaderView::Silent(Default::default());
        }
        _ => {}
    }
    let mut policy = policy.clone();
    if without == Some(Rule::BeginsEarly) {
        policy.isolation_after_ms += policy.tick_ms + APPLY_MS;
    }
    let policy = &policy;
    let mut decision = decide(&observed, &memory, policy, now_ms);
    match without {
        Some(Rule::SharedLease) => decision.plan.lease_action = None,
        Some(Rule::ThePrimaryIsNoTarget) => decision.primaries.iter_mut().for_each(|of_each| of_each.clear()),
        Some(Rule::SilenceFencesNoNode) => drop(decision.primaries.get_or_insert_default()),
        Some(Rule::IsolationEndsAsBefore) => {
            let has_settings_left = |name: &Node| match &observed.leader {
                LeaderView::Led(answer) => {
                    let mut shown = answer.instances.iter().flatten();
                    shown.any(|i| i.node == *name && !i.read_only && i.primary.is_some())
                }
                _ => false,
            };
            let stays = |node: &Node, d: &Directive| matches!(d, Directive::Unfence(_)) && has_settings_left(node);
            let mut directives = decision.plan.directives;
            directives.retain(|node, directive| !stays(node, directive));
            decision.plan = Plan::new(decision.plan.managed, directives, &observed.proxy);
        }
        Some(Rule::ReturnNamesItsMarkers) => {
            let by = Some(node(NODES[1]));
            let any = [EvidenceKind::Isolation, EvidenceKind::LostInRecovery, EvidenceKind::Superseded]
                .into_iter()
                .flat_map(|kind| [None, by.clone()].map(|by| Marker { kind, by, was: Status::Online }));
            let any: BTreeSet<Marker> = any.collect();
            decision.plan.marked.values_mut().for_each(|marked| marked.extend(any.iter().cloned()));
        }
        Some(Rule::TwoProofs) if !decision.memory.nodes.proofs.is_empty() => {
            let mut memory = decision.memory;
            memory.nodes.proofs.values_mut().for_each(|proof| proof.at_ms -= 2_000);
            decision = decide(&observed, &memory, policy, now_ms);
        }
        Some(Rule::RoleItHasNow) => {
            let as_before = |directive: Directive| match directive {
                Directive::Unfence(_) => Directive::Unfence(Role::AsBefore),
                fence @ Directive::Fence { .. } => fence,
            };
            let directives = decision.plan.directives.into_iter().map(|(node, d)| (node, as_before(d))).collect();
            decision.plan = Plan::new(decision.plan.managed, directives, &observed.proxy);
        }
        _ => {}
    }
    decision
}

/// Shows the instances otherwise than they are.
fn as_shown(observed: &mut Observed, change: impl Fn(&mut Instance)) {
    if let LeaderView::Led(answer) = &mut observed.leader {
        answer.instances.iter_mut().flatten().for_each(change);
    }
}

/// An apply under way, with a rule taken out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Running {
    pub owner: String,
    apply: Apply,
    /// What it asks next, or how it ended.
    pub step: Step,
    without: Option<Rule>,
    copied: bool,
    loaded: bool,
    /// Memory was looked at for the last time before the LOAD: an edit from now on is seen after it only.
    pub looked: bool,
}

impl Running {
    pub fn new(plan: Plan, owner: String, without: Option<Rule>) -> Self {
        let mut apply = Apply::new(plan, owner.clone(), COVERED.to_vec());
        let step = apply.next(None);
        Self { owner, apply, step, without, copied: false, loaded: false, looked: false }
    }

    pub fn go(&mut self, world: &mut World) {
        if let Step::Ask(statement) = &self.step {
            let statement = statement.clone();
            let reply = self.ask(world, &statement);
            self.copied |= matches!(statement, Statement::Read { place: Place::Target, .. });
            self.loaded |= statement == Statement::Load;
            self.looked = match &statement {
                Statement::Read { place: Place::Memory, table } if *table == SERVERS => self.copied,
                Statement::Read { place: Place::Runtime, .. } => self.looked,
                _ => false,
            };
            self.step = self.apply.next(Some(reply));
        }
    }

    fn ask(&self, world: &mut World, statement: &Statement) -> Reply {
        let looks = [Place::Memory, Place::Runtime];
        match (self.without, statement) {
            (
                Some(Rule::DiskFirst),
                Statement::Swap { place: Place::Disk, .. } | Statement::Restate { place: Place::Disk, .. },
            ) if !self.loaded => Reply::Changed(1),
            (Some(Rule::CompareAndSwap), Statement::Swap { place: Place::Memory, table, change }) => {
                let key = |record: &[Option<String>]| record[..table.key_columns].to_vec();
                let records = &mut world.content_mut(Place::Memory, *table).records;
                change.from().iter().for_each(|record| drop(records.remove(&key(record))));
                change.to().iter().for_each(|record| drop(records.insert(key(record), (*record).clone())));
                Reply::Changed(1)
            }
            (Some(Rule::LookBeforeLoad), Statement::Read { place, table })
                if self.copied && !self.loaded && looks.contains(place) && is_covered(*table) =>
            {
                match world.tables.get(&(Place::Target, *table)) {
                    Some(target) => Reply::Content(target.clone()),
                    None => world.ask(&self.owner, statement),
                }
            }
            (Some(Rule::Lock), Statement::TakeLock { owner }) => {
                world.lock = Some((owner.clone(), world.now_ms + LOCK_TTL_MS));
                Reply::Changed(0)
            }
            (Some(Rule::OnlyHoldersSessionsEnd), Statement::Kill(_)) => {
                world.clients.clear();
                Reply::Changed(0)
            }
            (Some(Rule::Lock), Statement::RenewLock { .. }) => Reply::Changed(1),
            _ => world.ask(&self.owner, statement),
        }
    }
}

fn is_covered(table: Table) -> bool {
    BTreeSet::from([SERVERS, PAIRS]).contains(&table)
}
