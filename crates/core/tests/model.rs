//! Every path of a small world around the real `decide` and `apply`, walked by `stateright`.
//!
//! ```text
//! model/state.rs    what there is, in truth         model/step.rs    what can happen
//! model/judge.rs    the rules, judged by the truth  model/without.rs the same with a rule taken out
//! model/run.rs      the walk
//!
//!            .--- fault, monitor, tick, statement, second ---.
//! state --> can --> next --> judge: broken? --> seen already? --> ...    until the horizon, for every order
//! ```
//!
//! The first tests hold each model to every rule. The `without_` tests take one rule of the design out and expect a
//! path on which that does harm. They take minutes without `--release`, so only the smallest runs then; `--nocapture`
//! prints states and bounds, and the path of a counterexample.
//!
//! Left out, as ProxySQL has no way to see it: a monitor's move between the last look and the LOAD; and, of an edit
//! made there, that it stays live if the look after the LOAD is cut off or the monitor has moved it meanwhile.

mod apply_world;
#[path = "model/judge.rs"]
mod judge;
#[path = "model/run.rs"]
mod run;
#[path = "model/state.rs"]
mod state;
#[path = "model/step.rs"]
mod step;
#[path = "model/without.rs"]
mod without;

use std::sync::Arc;

use apply_world::scene::node;
use run::{holds, matters};
use state::{NODES, Names, State};
use step::{Fault, Model, after, after_s};
use stonith_core::orchestrator::{Analysis, BARRIER, Downtime, Recovery};
use stonith_core::policy::Policy;
use without::Rule;

use Fault::*;

/// In service for a while: armed, with a steady leader.
fn healthy(agents: usize) -> State {
    after_s(State::new(agents), 5)
}

/// node01 died and node02 was promoted, this very moment; node01 is back, writable.
fn superseded(agents: usize) -> State {
    let seen_dead = after_s(after(healthy(agents), &[Dies]), 1);
    after(seen_dead, &[Failover, Returns])
}

/// node01 is fenced.
fn fenced(agents: usize) -> State {
    after_s(superseded(agents), 3)
}

/// node01 is fenced and repaired, and seen so for as long as it takes until the tick that lets it back.
fn about_to_be_let_back(agents: usize) -> State {
    after_s(after(fenced(agents), &[Repaired]), 2)
}

fn failover() -> Model {
    let faults = [(Dies, 1), (Returns, 1), (Failover, 1), (Repaired, 1)];
    Model { happens: &["fenced", "let back"], ..Model::new("failover", healthy(1), 13, &faults) }
}

/// Rows are matched by address, and the name service swaps the names before a failover or after it.
fn names_are_swapped() -> Model {
    let start = after_s(State { names: Names::Others, ..State::new(1) }, 5);
    let faults = [(NamesSwap, 1), (Dies, 1), (Failover, 1), (Returns, 1), (Repaired, 1)];
    Model { happens: &["fenced", "let back"], ..Model::new("names are swapped", start, 12, &faults) }
}

fn return_of_a_node() -> Model {
    let faults = [(Repaired, 2), (Breaks, 1), (Stalls, 1), (LeaderForgets, 1)];
    Model { happens: &["let back"], ..Model::new("return of a node", fenced(1), 9, &faults) }
}

fn blip() -> Model {
    let faults = [(Dies, 1), (Returns, 1), (Failover, 1), (Stalls, 1), (LeaderChange, 1)];
    Model { happens: &["fenced"], ..Model::new("blip", healthy(1), 8, &faults) }
}

fn partition() -> Model {
    let faults = [(Parts, 1), (Failover, 1), (Deposed, 1), (Heals, 1)];
    Model { happens: &["isolated"], ..Model::new("partition", healthy(1), 13, &faults) }
}

fn nobody_leads() -> Model {
    let faults = [(Leaderless, 1), (Silence, 2), (Heals, 1)];
    Model { happens: &["isolated"], ..Model::new("nobody leads", healthy(1), 14, &faults) }
}

fn first_start() -> Model {
    let faults = [(Heals, 1), (Silence, 1), (Crashes, 1), (CrashesForgetting, 1)];
    Model::new("first start", after(State::new(1), &[Silence]), 11, &faults)
}

fn stepwise(name: &'static str, start: State, horizon_s: u32, faults: &[(Fault, u8)]) -> Model {
    Model { stepwise: true, ..Model::new(name, start, horizon_s, faults) }
}

fn fence_is_cut_off() -> Model {
    let faults = [(Crashes, 1), (CrashesForgetting, 1), (Restarts, 1)];
    Model { happens: &["fenced"], ..stepwise("fence is cut off", superseded(1), 10, &faults) }
}

fn fence_among_edits() -> Model {
    let faults = [(Edits, 1), (Crashes, 1), (Loads, 1)];
    Model { happens: &["fenced"], ..stepwise("fence among edits", superseded(1), 2, &faults) }
}

fn return_is_cut_off() -> Model {
    let faults = [(Crashes, 1), (Restarts, 1), (Edits, 1)];
    Model { happens: &["let back"], ..stepwise("return is cut off", about_to_be_let_back(1), 10, &faults) }
}

fn return_is_forgotten() -> Model {
    let faults = [(CrashesForgetting, 1), (Crashes, 1)];
    Model { happens: &["let back"], ..stepwise("return is forgotten", about_to_be_let_back(1), 10, &faults) }
}

/// The same, and no leader shows how well the node is when the next agent begins.
fn return_is_forgotten_in_silence() -> Model {
    let faults = [(CrashesForgetting, 1), (Silence, 1)];
    stepwise("return is forgotten in silence", about_to_be_let_back(1), 5, &faults)
}

fn two_agents() -> Model {
    Model { happens: &["fenced", "busy"], ..stepwise("two agents", superseded(2), 2, &[(Crashes, 1)]) }
}

/// A -> B -> A -> B: each time the failed one is out, comes back as what it is, and may be promoted again.
fn to_and_fro() -> Model {
    let faults = [(Dies, 2), (Failover, 2), (Returns, 2), (Repaired, 2)];
    Model { happens: &["fenced", "let back"], ..Model::new("to and fro", superseded(1), 10, &faults) }
}

/// The same, with fenced nodes also fenced at the nodes themselves.
fn at_the_node(model: Model) -> Model {
    Model { policy: Policy { fences_at_node: true, ..model.policy }, ..model }
}

/// Repaired, and promoted again before it was let back.
fn promoted_while_fenced() -> Model {
    let faults = [(Repaired, 2), (Dies, 1), (Failover, 1)];
    let happens = &["fenced", "fenced at the node", "powered off"];
    at_the_node(Model { happens, ..Model::new("promoted while fenced", superseded(1), 13, &faults) })
}

/// The same, and nobody answers at any moment.
fn promoted_in_silence() -> Model {
    let faults = [(Repaired, 1), (Dies, 1), (Failover, 1), (Silence, 1), (Heals, 1)];
    let happens = &["fenced", "fenced at the node"];
    at_the_node(Model { happens, ..Model::new("promoted in silence", superseded(1), 9, &faults) })
}

fn takeover() -> Model {
    let faults = [(Takeover, 2), (LeaderChange, 1), (Breaks, 1), (Repaired, 1)];
    Model { happens: &["fenced", "let back"], ..Model::new("takeover", healthy(1), 8, &faults) }
}

/// A recovery ends on a leader that lost the lead meanwhile: nobody else hears of it. Without a third node that follows
/// one of them nothing tells which of two writers is the primary: a limit. But nothing good is taken away.
fn deposed_recovery() -> Model {
    let faults = [(Dies, 1), (LeaderChange, 1), (FailoverOfADeposed, 1), (Returns, 1), (Repaired, 1)];
    Model { happens: &["two writers"], ..Model::new("recovery of a deposed leader", healthy(1), 11, &faults) }
}

fn slow_answers() -> Model {
    let faults = [(Slows, 1), (Dies, 1), (Failover, 1), (Returns, 1), (Repaired, 1)];
    Model { happens: &["fenced", "let back"], ..Model::new("slow answers", healthy(1), 11, &faults) }
}

/// The clocks of Orchestrator's members differ by a second, either way.
fn drifting_members(ahead_s: i64) -> Model {
    let mut start = healthy(1);
    start.orc.members[1].ahead_s = ahead_s;
    let faults = [(Dies, 1), (Failover, 1), (LeaderChange, 1), (Returns, 1), (Repaired, 1)];
    Model { happens: &["fenced", "let back"], ..Model::new("drifting members", start, 10, &faults) }
}

/// The agents' clock is a tenth too slow, or too fast.
fn drifting_agent(clock_percent: u64) -> Model {
    let mut start = State::new(1);
    start.clock_percent = clock_percent;
    let faults = [(Silence, 2), (Leaderless, 1), (Heals, 1)];
    Model { happens: &["isolated"], ..Model::new("drifting agent", after_s(start, 6), 16, &faults) }
}

/// Two agents of one ProxySQL, of which one is cut off: it isolates once, and they do not take turns.
fn one_cut_off() -> Model {
    let faults = [(CutsOneOff, 1), (Heals, 1), (Dies, 1), (Failover, 1)];
    Model { happens: &["isolated"], ..Model::new("one of two is cut off", healthy(2), 17, &faults) }
}

/// A history of long ago: node01 was failed over away from, and has been the primary again ever since.
fn old_history() -> Model {
    let mut start = State::new(1);
    start.orc.members.iter_mut().for_each(|member| member.records.push(of_long_ago()));
    let faults = [(LeaderChange, 1), (Stalls, 1), (Silence, 1), (Breaks, 1), (CrashesForgetting, 1)];
    Model { happens: &["isolated"], ..Model::new("old history", start, 10, &faults) }
}

/// node01 was failed over to node02.
fn of_long_ago() -> Recovery {
    Recovery {
        at_ns: 1_000_000_000_000_000_000,
        uid: "1000000000000000000:x".to_owned(),
        end_s: Some(1_000_000_001),
        analysis: Analysis::DeadPrimary,
        successful: true,
        failed: node(NODES[0]),
        successor: Some(node(NODES[1])),
        alias: "main".to_owned(),
    }
}

/// Both have just heard of a confirmed leader again; node01 died meanwhile. One decides to end the isolation, and a
/// recovery comes before it has the lock: the other fences.
fn older_decision() -> Model {
    let isolated = after_s(after(healthy(2), &[Dies, Silence]), 9);
    let start = after_s(after(isolated, &[Heals]), 2);
    let faults = [(Failover, 1), (Returns, 1)];
    Model { happens: &["isolated", "fenced"], ..stepwise("an older decision", start, 1, &faults) }
}

/// node01 takes the writes of a ring whose other half, node02, is down: each has the other's MasterKey.
fn half_a_ring() -> Model {
    let mut start = State::new(1);
    (start.servers[0].primary, start.servers[1].up) = (Some(1), false);
    let faults = [(Silence, 1), (Heals, 1)];
    Model { happens: &["isolated"], ..Model::new("half a ring", after_s(start, 5), 17, &faults) }
}

/// node02 was promoted without RESET: its replication finds the returned old primary again.
fn promoted_without_reset() -> Model {
    let mut start = fenced(1);
    (start.servers[1].primary, start.servers[1].replicating) = (Some(0), true);
    start.orc.members.iter_mut().for_each(|member| member.downtimes.clear());
    let faults = [(Repaired, 1), (LeaderForgets, 1), (Stalls, 1)];
    Model { happens: &["let back"], ..Model::new("promoted without reset", start, 9, &faults) }
}

/// The primary is down at the end of an isolation, and node02, read-only, replicates from nobody.
fn read_only_beside_a_dead_primary() -> Model {
    let mut start = after(healthy(1), &[Dies]);
    start.servers[1].primary = None;
    let faults = [(Silence, 1), (Heals, 1)];
    Model { happens: &["isolated"], ..Model::new("read-only beside a dead primary", start, 14, &faults) }
}

/// A record of long ago: node01 was failed over to node02, which stands beside it. node03 follows node01.
fn old_record_against_replicas() -> Model {
    let mut start = State::new(1);
    let successor = &mut start.servers[1];
    (successor.read_only, successor.primary, successor.replicating) = (false, None, false);
    start.orc.followed = Some(0);
    start.orc.members.iter_mut().for_each(|member| member.records.push(of_long_ago()));
    start.poll();
    let faults = [(LeaderChange, 1), (Stalls, 1), (Silence, 1), (CrashesForgetting, 1)];
    Model { happens: &["isolated"], ..Model::new("old record against replicas", start, 10, &faults) }
}

/// node01 is fenced. While the agent is stopped for a minute, somebody makes node01 the primary again, ends its mark and
/// puts its rows back in as they were.
fn switched_back_unwatched() -> Model {
    let mut start = fenced(1);
    start.now_s += 60;
    start.orc.primary = 0;
    start.servers = healthy(1).servers;
    start.orc.members.iter_mut().for_each(|member| member.downtimes.clear());
    Arc::make_mut(&mut start.proxy).tables = healthy(1).proxy.tables.clone();
    (start.seen.superseded[0], start.seen.fenced[0]) = (false, false);
    start.poll();
    let mut start = after(start, &[Crashes]); // a new process, with the state of before, and a lease that counts from now
    start.agents[0].reached_s = Some(start.wall_s());
    let faults = [(LeaderForgets, 1), (Stalls, 1), (Silence, 1), (Heals, 1)];
    Model::new("switched back unwatched", start, 6, &faults)
}

fn database_is_gone() -> Model {
    let faults = [(DatabaseGoes, 1), (Silence, 1), (Heals, 1)];
    Model { happens: &["isolated"], ..Model::new("database is gone", healthy(1), 14, &faults) }
}

fn only_a_follower_is_reached() -> Model {
    let faults = [(Relays, 1), (Dies, 1), (Failover, 1), (Returns, 1)];
    Model { happens: &["fenced"], ..Model::new("only a follower is reached", healthy(1), 9, &faults) }
}

fn history_stalls() -> Model {
    let faults = [(HistoryStalls, 2), (Dies, 1), (Failover, 1), (Returns, 1), (Repaired, 1)];
    Model { happens: &["fenced", "let back"], ..Model::new("history stalls", healthy(1), 8, &faults) }
}

/// A failover while isolated; the leader that answers then has its record and no mark.
fn failover_while_isolated() -> Model {
    let isolated = after_s(after(healthy(1), &[Dies, Silence]), 9);
    let mut start = after(isolated, &[Failover, Returns]);
    start.orc.leader = 1;
    let faults = [(Heals, 1), (HistoryStalls, 2), (Repaired, 1)];
    Model { happens: &["isolated", "let back"], ..Model::new("failover while isolated", start, 9, &faults) }
}

/// The leader's hook marks the primary and waits; node01 hangs, or is back at any moment.
fn barrier() -> Model {
    let faults = [(Dies, 1), (Barrier, 1), (BarrierPromotes, 1), (Returns, 1), (MarkEnds, 1)];
    Model { happens: &["fenced", "waited for"], ..Model::new("barrier", healthy(1), 8, &faults) }
}

/// node01 died, and the hook of its recovery has marked it: the proxy has the fence.
fn barred(agents: usize) -> State {
    let seen_dead = after_s(after(healthy(agents), &[Dies]), 1);
    after_s(after(seen_dead, &[Barrier]), 2)
}

/// The mark runs out before anybody hears of the recovery's end, and the leader changes.
fn barrier_and_a_late_record() -> Model {
    let start = after(barred(1), &[BarrierPromotes]);
    let faults = [(Returns, 1), (MarkEnds, 1), (LeaderForgets, 1), (Crashes, 1)];
    Model { happens: &["waited for"], ..Model::new("barrier and a late record", start, 7, &faults) }
}

/// The primary is back before it is replaced, and its replicas run from it again.
fn barrier_around_a_living_primary() -> Model {
    let start = after(barred(1), &[Returns, MarkEnds]);
    let faults = [(BarrierPromotes, 1), (Crashes, 1)];
    Model { happens: &["waited for"], ..Model::new("barrier around a living primary", start, 8, &faults) }
}

/// node01 is back and may stand beside node02, which was promoted. Nobody knows that but MySQL, and node03 follows node01
/// still. Then a minute passes.
fn barrier_that_nobody_tells_of() -> Model {
    let start = after(barred(1), &[BarrierPromotes, LeaderForgets, Returns]);
    let mut start = after(start, &[MarkEnds]);
    start.orc.followed = Some(0);
    start.orc.members.iter_mut().for_each(|member| member.downtimes.clear());
    let faults = [(Minute, 2), (CrashesForgetting, 1), (Stalls, 1)];
    Model::new("barrier that nobody tells of", after_s(start, 1), 8, &faults)
}

/// Another hook aborts the recovery after ours.
fn barrier_is_aborted() -> Model {
    let start = after(barred(1), &[Aborts]);
    let faults = [(MarkEnds, 1), (Returns, 1), (Minute, 1), (LeaderChange, 1)];
    Model { happens: &["let back"], ..Model::new("barrier is aborted", start, 10, &faults) }
}

/// Agent and ProxySQL are cut off beside a primary that lives: the hook waits for the lease.
fn barrier_and_a_cut_off_site() -> Model {
    let faults = [(Parts, 1), (Barrier, 1), (BarrierPromotes, 1), (Heals, 1)];
    Model { happens: &["isolated", "waited for"], ..Model::new("barrier and a cut-off site", healthy(1), 14, &faults) }
}

/// The same, and the hook goes on at once.
fn hook_that_does_not_wait() -> Model {
    let mut start = healthy(1);
    start.orc.hook_waits = false;
    Model { start: State { left: vec![1; 4], ..start }, ..barrier_and_a_cut_off_site() }
}

/// node01 was replaced and promoted again while the mark of the first recovery is still listed.
fn barrier_of_an_earlier_recovery() -> Model {
    let mut start = healthy(1);
    for (n, at_ns) in [(0, 1), (1, 2)] {
        let at_ns = u64::try_from(start.wall_s()).unwrap() * 1_000_000_000 - 1_000_000_000 + at_ns;
        let (failed, successor) = (node(NODES[n]), Some(node(NODES[1 - n])));
        let of_now = Recovery {
            at_ns,
            uid: format!("{at_ns}:x"),
            end_s: Some(start.wall_s()),
            failed,
            successor,
            ..of_long_ago()
        };
        let mark = Downtime {
            node: node(NODES[0]),
            reason: BARRIER.to_owned(),
            owner: of_now.uid.clone(),
            begin_s: start.wall_s(),
        };
        for member in &mut start.orc.members {
            member.records.push(of_now.clone());
            if n == 0 {
                member.downtimes.push(mark.clone());
            }
        }
    }
    start.seen.calm_s = 0;
    start.seen.superseded[1] = true; // it was replaced, and is a replica that is yet to be proven
    let faults = [(LeaderChange, 1), (Crashes, 1), (CrashesForgetting, 1), (Stalls, 1), (MarkEnds, 1)];
    Model::new("barrier of an earlier recovery", start, 8, &faults)
}

#[test]
fn the_smallest_barrier() {
    let faults = [(Dies, 1), (Barrier, 1), (BarrierPromotes, 1), (Returns, 1)];
    holds(Model { happens: &["fenced", "waited for"], ..Model::new("smallest barrier", healthy(1), 4, &faults) });
}

#[test]
fn the_smallest_model() {
    holds(Model {
        happens: &["fenced"],
        ..Model::new("smallest", healthy(1), 4, &[(Dies, 1), (Failover, 1), (Returns, 1)])
    });
}

macro_rules! models {
    ($($test:ident: $model:expr;)*) => { $(#[test] #[cfg_attr(debug_assertions, ignore = "minutes without --release")] fn $test() { holds($model) })* };
}

models! {
    i2_i4_failover_and_repair: failover();
    i2_a_node_returns_half_repaired: return_of_a_node();
    i2_a_blip_and_old_rows: blip();
    i4_i8_partition_and_deposed_leader: at_the_node(partition());
    i9_nobody_leads: nobody_leads();
    i9_first_start: first_start();
    i10_fence_is_cut_off: fence_is_cut_off();
    i6_fence_among_edits: fence_among_edits();
    i10_return_is_cut_off: return_is_cut_off();
    i10_return_is_forgotten: return_is_forgotten();
    i10_return_is_forgotten_in_silence: return_is_forgotten_in_silence();
    i12_two_agents: two_agents();
    i2_i4_to_and_fro: to_and_fro();
    i2_promoted_while_fenced: promoted_while_fenced();
    n_promoted_in_silence: promoted_in_silence();
    i2_takeover_and_back: at_the_node(takeover());
    i4_a_recovery_that_ends_on_a_deposed_leader: deposed_recovery();
    i4_slow_answers: at_the_node(slow_answers());
    i2_members_whose_clocks_are_ahead: drifting_members(1);
    i2_members_whose_clocks_are_behind: drifting_members(-1);
    i4_an_agent_whose_clock_is_slow: drifting_agent(90);
    i9_an_agent_whose_clock_is_fast: drifting_agent(110);
    i7_one_of_two_agents_is_cut_off: one_cut_off();
    i4_an_older_decision: older_decision();
    i9_old_history: old_history();
    i9_half_a_ring: half_a_ring();
    i2_promoted_without_reset: promoted_without_reset();
    read_only_nodes_get_no_writer_row: read_only_beside_a_dead_primary();
    i9_an_old_record_against_replicas: old_record_against_replicas();
    i9_switched_back_unwatched: switched_back_unwatched();
    i9_a_database_that_is_gone: database_is_gone();
    i9_only_a_follower_is_reached: only_a_follower_is_reached();
    i9_a_history_that_stalls: history_stalls();
    i2_a_failover_while_isolated: failover_while_isolated();
    i5_names_that_are_swapped: names_are_swapped();
    b_barrier: barrier();
    b_barrier_and_a_late_record: barrier_and_a_late_record();
    b_barrier_around_a_living_primary: barrier_around_a_living_primary();
    b_barrier_that_nobody_tells_of: barrier_that_nobody_tells_of();
    b_barrier_is_aborted: at_the_node(barrier_is_aborted());
    b_barrier_and_a_cut_off_site: barrier_and_a_cut_off_site();
    i5_barrier_of_an_earlier_recovery: barrier_of_an_earlier_recovery();
}

macro_rules! rules {
    ($($test:ident: $rule:ident, $model:expr, $broken:literal;)*) => {
        $(#[test] #[cfg_attr(debug_assertions, ignore = "minutes without --release")] fn $test() { matters(Rule::$rule, $model, $broken) })*
    };
}

rules! {
    without_a_confirmed_leader: GoodNewsNeedsAConfirmedLeader, partition(), "I2";
    without_two_proofs: TwoProofs, return_of_a_node(), "I2";
    without_checks_since_the_recovery: ChecksSinceTheRecovery, blip(), "I2";
    without_absence_is_not_proof: AbsenceIsNotProof, return_of_a_node(), "I2";
    without_the_role_it_has_now: RoleItHasNow, failover(), "6";
    without_disk_first: DiskFirst, fence_is_cut_off(), "I10";
    without_compare_and_swap: CompareAndSwap, fence_among_edits(), "I6";
    without_a_look_before_the_load: LookBeforeLoad, fence_among_edits(), "I5";
    without_arming: Arming, first_start(), "I9";
    without_leaderless_holds: LeaderlessHolds, nobody_leads(), "I9";
    without_the_lock: Lock, two_agents(), "I12";
    without_the_newest_record: NewestRecord, promoted_while_fenced(), "live: the primary";
    without_a_live_proof_of_what_is_old: OldRecordsNeedLiveProof, old_history(), "I9";
    without_a_watch_that_a_gap_ends: AGapEndsTheWatch, switched_back_unwatched(), "I9";
    without_beginning_early: BeginsEarly, drifting_agent(90), "I4: in service";
    without_a_shared_lease: SharedLease, one_cut_off(), "I7";
    without_a_note_of_returns: NoteOfReturns, return_is_forgotten_in_silence(), "I9";
    without_the_markers_that_a_return_is_for: ReturnNamesItsMarkers, older_decision(), "I2";
    without_an_isolation_that_ends_as_before: IsolationEndsAsBefore, half_a_ring(), "live: the primary";
    without_a_read_only_successor: ReadOnlySuccessor, promoted_without_reset(), "I2";
    without_a_read_only_node_being_no_primary: ReadOnlyIsNoPrimary, read_only_beside_a_dead_primary(), "6";
    without_replicas_against_an_old_record: OldRecordAgainstReplicas, old_record_against_replicas(), "I9";
    without_a_hold_while_the_database_is_gone: DatabaseGoneHolds, database_is_gone(), "I9";
    without_a_relayed_leader: RelayedLeaderLeads, only_a_follower_is_reached(), "I9";
    without_a_lease_while_the_history_stalls: HistoryCostsNoLease, history_stalls(), "I9";
    without_a_return_that_waits_for_the_history: ReturnWaitsForHistory, failover_while_isolated(), "I2";
    without_a_match_that_never_moves: AMatchNeverMoves, names_are_swapped(), "I9";
    without_a_hook_that_waits: HookWaits, hook_that_does_not_wait(), "B";
    without_a_barrier_that_outlasts_its_mark: BarrierOutlastsItsMark, barrier_around_a_living_primary(), "B";
    without_a_look_for_another_writer: NoOtherWriter, barrier_that_nobody_tells_of(), "B";
    without_knowing_a_left_over_mark: LeftOverMark, barrier_of_an_earlier_recovery(), "I5";
    without_the_primary_being_no_target: ThePrimaryIsNoTarget, promoted_while_fenced(), "N";
    without_leaving_nodes_while_orchestrator_is_silent: SilenceFencesNoNode, promoted_in_silence(), "N";
    without_ending_only_the_sessions_of_holders: OnlyHoldersSessionsEnd, takeover(), "C1";
}
