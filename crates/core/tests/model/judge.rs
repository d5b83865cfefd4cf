//! The rules, judged by what is true and not by what an agent believes, after every step.
//!
//! ```text
//! before --(agent | fault | monitor | second)--> after      what was in service, what is; who did it; was it right?
//! ```

use stonith_core::apply::Place;
use stonith_core::orchestrator::BARRIER;
use stonith_core::table::{Comment, Row};

use crate::apply_world::LAYERS;
use crate::apply_world::scene::node;
use crate::state::{NODES, Names, Reach, STRANGER, State, WRITER};
use crate::step::{CALM_S, Fault, STAGED};

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    Fault(Fault),
    /// One statement of this agent's apply.
    Agent(usize),
    /// Its tick is over.
    Ended {
        agent: usize,
        applied: bool,
    },
    /// A second is over.
    Second,
}

/// Every rule that is judged, by the invariant that it belongs to.
pub const RULES: [&str; 15] = [
    "I2: a fenced node takes traffic without proof",
    "I4: a superseded node takes traffic after a led agent's apply",
    "I4: in service though the lease ran out",
    "B: traffic of the old primary after a promotion that waited for its fence",
    "I5: the true primary lost its writer row by us",
    "I6: a staged edit was lost or went live",
    "I7",
    "I9: out of service without evidence",
    "I10: fenced in runtime and not on disk",
    "I12: written without the lock, or a LOAD that does harm",
    "6: a node came back in a role that it does not have",
    "C1: a session was ended that cannot hold a fenced node",
    "N: the primary is fenced at the node itself",
    "live: repaired and led, and not as it should be",
    "live: the primary that was promoted last, by the leader's word, takes no writes",
];

pub fn judge(before: &State, state: &mut State, actor: Actor) {
    let broken: Vec<&'static str> = RULES.into_iter().filter(|rule| breaks(rule, before, state, actor)).collect();
    state.seen.broken.extend(broken);
    for n in 0..2 {
        if !before.seen.fenced[n]
            && let Actor::Ended { agent, applied: true } = actor
            && (state.agents[agent].owes[n] || (state.agents[agent].knew.0[n] && marked_out(state, n)))
        {
            state.seen.fenced[n] = true;
        }
        if state.seen.superseded[n] && marked_out(state, n) {
            state.seen.done.insert("fenced");
        }
        if state.seen.fenced[n] && !out(state, Place::Runtime, n) && proven(state, n) {
            state.seen.fenced[n] = false;
            state.seen.superseded[n] = false;
            state.seen.waited_for[n] = false;
            state.seen.done.insert("let back");
        }
        if state.seen.waited_for[n] {
            state.seen.done.insert("waited for");
        }
        if before.seen.marked_s[n].is_some()
            && !before.seen.superseded[n]
            && !out(state, Place::Runtime, n)
            && marked_out(before, n)
        {
            state.seen.done.insert("let back");
        }
        if (0..2).all(|n| state.takes_writes(n)) {
            state.seen.done.insert("two writers");
        }
        if state.agents.iter().any(|agent| agent.memory.lease.isolated) && out(state, Place::Runtime, n) {
            state.seen.done.insert("isolated");
        }
    }
}

fn breaks(rule: &str, before: &State, state: &State, actor: Actor) -> bool {
    let agents_step = matches!(actor, Actor::Agent(_));
    let seen = &state.seen;
    let went_out = |n| !out(before, Place::Runtime, n) && out(state, Place::Runtime, n);
    match rule.split(':').next().unwrap_or_default() {
        "I2" => (0..2).any(|n| {
            let returns =
                matches!(actor, Actor::Agent(i) if state.agents[i].knew.0[n]) && out(before, Place::Runtime, n);
            (seen.fenced[n] || returns) && seen.superseded[n] && !out(state, Place::Runtime, n) && !proven(state, n)
        }),
        "I4" if rule.contains("lease") => {
            let reached_s = state.agents.iter().filter_map(|agent| agent.reached_s).max();
            let since_s = reached_s.map_or(0, |reached| state.wall_s() - reached);
            let ran_out = seen.led && state.orc.reach == Reach::Nobody && since_s >= AFTER_S;
            matches!(actor, Actor::Ended { applied: true, .. })
                && ran_out
                && (0..2).any(|n| !out(state, Place::Runtime, n))
        }
        "B" => (0..2)
            .any(|n| seen.waited_for[n] && seen.superseded[n] && !out(state, Place::Runtime, n) && !proven(state, n)),
        "I4" => match actor {
            Actor::Ended { agent, applied: true } => {
                (0..2).any(|n| state.agents[agent].owes[n] && !out(state, Place::Runtime, n))
            }
            _ => false,
        },
        "I5" => {
            let primary = state.orc.primary;
            let isolating = state.agents.iter().any(|agent| agent.memory.lease.isolated);
            agents_step
                && !isolating
                && !barred(state, primary)
                && before.takes_writes(primary)
                && !state.takes_writes(primary)
        }
        "I6" => {
            let weights = |place| {
                state.proxy.rows_of(place, NODES[1]).into_iter().filter(|row: &Row| row.settings["weight"] == STAGED)
            };
            let (memory, live) = (weights(Place::Memory).count(), weights(Place::Runtime).count());
            let at_rest = !state.proxy.unfinished();
            seen.staged && at_rest && (memory == 0 || (live > 0 && !seen.loaded))
        }
        "I9" => {
            // A return that reached the disk by half when agent and ProxySQL died: its marker is in force again.
            let in_force = |n| seen.done.contains("let back") && marked(before, Place::Runtime, n);
            let of_agent = |i: usize| {
                (0..2).any(|n| {
                    went_out(n) && !seen.superseded[n] && !in_force(n) && !lease_over(state, i) && !barred(state, n)
                })
            };
            matches!(actor, Actor::Agent(i) if of_agent(i))
        }
        "I10" => (0..2).any(|n| marked_out(state, n) && !out(state, Place::Disk, n)),
        "I12" => agents_step && state.proxy.broken.len() > before.proxy.broken.len(),
        "6" => (0..2).any(|n| {
            matches!(actor, Actor::Agent(i) if n != state.agents[i].knew.1)
                && n != state.orc.primary
                && !before.has_writer_row(n)
                && state.has_writer_row(n)
                && !state.orc.parted
        }),
        "C1" => {
            let has_stranger = |state: &State| state.proxy.clients.iter().any(|client| client.id == STRANGER);
            agents_step && has_stranger(before) && !has_stranger(state)
        }
        "live" if rule.contains("promoted") => {
            actor == Actor::Second
                && seen.calm_s > CALM_S
                && is_promoted(state)
                && !state.is_barred(state.orc.primary)
                && !state.takes_writes(state.orc.primary)
        }
        "live" => actor == Actor::Second && seen.calm_s > CALM_S && in_order(state) && !as_it_should_be(state),
        _ => false,
    }
}

/// The mark of a barrier that is listed somewhere speaks against the node, and no later recovery promoted it. So it may
/// be for an agent that saw the mark before.
pub fn barred(state: &State, n: usize) -> bool {
    let members = || state.orc.members.iter();
    let promoted = members().flat_map(|member| &member.records).filter(|r| r.successor == Some(node(NODES[n])));
    let newest = promoted.map(|record| record.uid.clone()).max().unwrap_or_default();
    let listed = members().flat_map(|member| &member.downtimes);
    let mut of_n = listed.filter(|mark| mark.reason == BARRIER && mark.node == node(NODES[n]));
    of_n.any(|mark| mark.owner > newest) || (newest.is_empty() && state.is_barred(n))
}

/// `isolation.after` of the models' policy, s.
const AFTER_S: i64 = 8;

/// The earliest that isolation begins: by the lease's end it must be done.
const BEGINS_S: i64 = AFTER_S - 2;

fn lease_over(state: &State, i: usize) -> bool {
    let agent = &state.agents[i];
    let unreached = agent.cut_off || state.orc.slow || matches!(state.orc.reach, Reach::Nobody | Reach::Deposed);
    state.seen.led && unreached && agent.reached_s.is_some_and(|reached| state.wall_s() - reached >= BEGINS_S)
}

/// No row of the node takes traffic.
fn out(state: &State, place: Place, n: usize) -> bool {
    state.in_service(place, n).is_empty()
}

fn marked(state: &State, place: Place, n: usize) -> bool {
    let rows = state.proxy.rows_of(place, NODES[n]);
    rows.iter().any(|row: &Row| matches!(Comment::parse(&row.comment), Comment::Marked(..)))
}

fn marked_out(state: &State, n: usize) -> bool {
    out(state, Place::Runtime, n) && marked(state, Place::Runtime, n)
}

/// Orchestrator's polls have found it well for 2 s.
pub fn proven(state: &State, n: usize) -> bool {
    state.seen.well_since_s[n].is_some_and(|since| state.wall_s() - since >= 2)
}

/// Nothing is wrong in the world, and the leader is reached.
fn in_order(state: &State) -> bool {
    let orc = &state.orc;
    let marks = &orc.members[orc.leader].downtimes;
    orc.reach.leads()
        && (0..2).all(|n| !state.is_barred(n))
        && state.names != Names::Swapped
        && orc.tells_history
        && !orc.parted
        && orc.polls
        && marks.is_empty()
        && (0..2).all(|n| state.well(n))
}

/// It is up, and the leader, who is reached, knows that it was promoted, if anybody was.
fn is_promoted(state: &State) -> bool {
    let (orc, primary) = (&state.orc, state.orc.primary);
    let newest = orc.members[orc.leader].records.iter().max_by_key(|record| record.at_ns);
    let knows = newest.map_or(primary == 0, |record| record.successor == Some(node(NODES[primary])));
    knows
        && state.names != Names::Swapped
        && orc.reach.leads()
        && orc.tells_history
        && !orc.parted
        && orc.polls
        && state.servers[primary].up
}

fn as_it_should_be(state: &State) -> bool {
    let primary = state.orc.primary;
    let marked = |place| state.proxy.rows(place).iter().any(|row| row.comment.contains("[stonith"));
    let writers: Vec<bool> = (0..2).map(|n| state.has_writer_row(n)).collect();
    state.has_writer_row(primary)
        && writers.iter().filter(|writer| **writer).count() == 1
        && (0..2).all(|n| !out(state, Place::Runtime, n))
        && !state.proxy.unfinished()
        && !LAYERS.into_iter().any(marked)
        && state.proxy.rows(Place::Runtime).iter().all(|row| row.key.hostgroup.0 == WRITER || row.status.in_service())
}
