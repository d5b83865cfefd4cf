//! Ends the sessions that hold a fenced node, and no others, until `ConnUsed` is 0 (facts §4).
//!
//! ```text
//! sessions listed under the node -> holders that the extended processlist shows -> idle ones that may hold it
//! ```
//!
//! The processlist shows only a session's current server, and a session can hold others too. ProxySQL tells all of them
//! while `mysql-show_processlist_extended` is on. The apply switches it on for one look, and only if no other variable
//! is staged, since LOAD MYSQL VARIABLES would take that live. The second and third step are taken once per fence. The
//! table `stonith_ended` in `main` notes for which nodes, and dies with memory when ProxySQL restarts, as the sessions
//! do.

use std::collections::{BTreeMap, BTreeSet};

use super::{Apply, Phase, Reply, Session, Statement, Variables};
use crate::node::Node;
use crate::table::Hostgroup;

/// The table in `main` that notes that `mysql-show_processlist_extended` is on for a moment.
pub const EXTENDED_NAME: &str = "stonith_extended";

/// The table in `main` that lists the fenced nodes whose hidden sessions were looked for.
pub const ENDED_NAME: &str = "stonith_ended";

/// The pause between two looks at `ConnUsed`, in ms.
pub(super) const PAUSE_MS: u64 = 50;

/// The number of looks within which a killed session's connection is gone: 0.3 s (facts §4).
pub(super) const GONE_LOOKS: u32 = 7;

/// The progress of ending sessions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Ending {
    stage: Stage,
    looks: u32,
    killed: BTreeSet<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    /// Ends the sessions that the processlist shows.
    Listed,
    /// Asks whether the extended processlist may be switched on.
    AskedForExtended,
    /// Ends the sessions that the extended processlist shows, once.
    Extended,
    /// Waits for the connections of the sessions that were ended.
    Waiting,
}

/// Connections in use, per hostgroup and node.
type Used = BTreeMap<(Hostgroup, Node), u64>;

impl Apply {
    /// Begins if the plan ends the sessions of some node.
    pub(super) fn begin_sessions(&mut self) -> Phase {
        if self.broken_off.is_some() || self.plan.ending_sessions().next().is_none() {
            return self.sessions_over();
        }
        if self.noted_ended {
            self.ask([Statement::ReadEnded]);
        }
        self.ask([Statement::Used, Statement::Sessions]);
        Phase::Sessions(Ending { stage: Stage::Listed, looks: 0, killed: BTreeSet::new() })
    }

    pub(super) fn end_sessions(&mut self, mut ending: Ending, got: Vec<(Statement, Reply)>) -> Phase {
        let (mut used, mut sessions, mut variables) = (Used::new(), Vec::new(), None);
        for (_, reply) in got {
            match reply {
                Reply::Used(counts) => used = counts,
                Reply::Sessions(list) => sessions = list,
                Reply::Variables(seen) => variables = Some(seen),
                Reply::Nodes(nodes) => self.ended = nodes,
                _ => {}
            }
        }
        if ending.stage == Stage::AskedForExtended {
            return self.show_holders(ending, variables);
        }
        if ending.stage == Stage::Extended {
            self.hide_holders(variables);
            ending.stage = Stage::Waiting;
        }
        let fenced: BTreeSet<&Node> = self.plan.ending_sessions().collect();
        used.retain(|(_, node), count| *count > 0 && fenced.contains(node));
        let left: BTreeSet<Node> = used.keys().map(|(_, node)| node.clone()).collect();
        ending.looks += 1;
        if left.is_empty() || (ending.stage == Stage::Waiting && ending.looks > GONE_LOOKS) {
            return self.sessions_ended(ending, left);
        }
        let ids = holders(&sessions, &used);
        let waits = !ending.killed.is_empty() && ending.looks <= GONE_LOOKS;
        if ids.is_empty() && !waits && ending.stage == Stage::Listed {
            if left.is_subset(&self.ended) {
                return self.sessions_ended(ending, left); // hidden sessions are looked for once per fence
            }
            self.note_ended(&left);
            ending.looks = 0;
            if sessions.iter().all(|session| session.backends.is_some()) {
                ending.stage = Stage::Waiting; // the extended processlist is on already
            } else {
                ending.stage = Stage::AskedForExtended;
                self.ask([Statement::Variables]);
                return Phase::Sessions(ending);
            }
        }
        self.kill(ending, ids)
    }

    /// Ends these sessions, and looks again after [`PAUSE_MS`].
    fn kill(&mut self, mut ending: Ending, ids: BTreeSet<u64>) -> Phase {
        self.ask(ids.iter().map(|id| Statement::Kill(*id)));
        ending.killed.extend(ids);
        self.ask([Statement::Wait(PAUSE_MS), Statement::Used, Statement::Sessions]);
        Phase::Sessions(ending)
    }

    /// Switches the extended processlist on for one look. The variable is off again in memory before the look, so that
    /// an operator's next LOAD switches it off even if the apply is cut off.
    fn show_holders(&mut self, mut ending: Ending, variables: Option<Variables>) -> Phase {
        if variables.is_some_and(|seen| !seen.extended && seen.staged == 0) {
            ending.stage = Stage::Extended;
            self.ask([
                Statement::NoteExtended,
                Statement::SetExtended(true),
                Statement::LoadVariables,
                Statement::SetExtended(false),
                Statement::Used,
                Statement::Sessions,
                Statement::Variables,
            ]);
            return Phase::Sessions(ending);
        }
        self.ask([Statement::Used, Statement::Sessions]);
        ending.stage = Stage::Waiting;
        Phase::PossibleHolders(ending)
    }

    /// Switches the extended processlist off in runtime. If somebody staged a variable meanwhile, their LOAD does that.
    pub(super) fn hide_holders(&mut self, variables: Option<Variables>) {
        if variables.is_some_and(|seen| seen.staged == 0) {
            self.ask([Statement::LoadVariables]);
        } else {
            self.done.extended_left = true;
        }
        self.ask([Statement::DropExtended]);
    }

    /// Ends the idle sessions of the node's pair that may hold it, as the last resort.
    pub(super) fn end_possible_holders(&mut self, ending: Ending, got: Vec<(Statement, Reply)>) -> Phase {
        let (mut used, mut sessions) = (Used::new(), Vec::new());
        for (_, reply) in got {
            match reply {
                Reply::Used(counts) => used = counts,
                Reply::Sessions(list) => sessions = list,
                _ => {}
            }
        }
        let fenced: BTreeSet<&Node> = self.plan.ending_sessions().collect();
        used.retain(|(_, node), count| *count > 0 && fenced.contains(node));
        let mut ids = holders(&sessions, &used);
        if self.plan.end_possible_holders {
            let possible: BTreeSet<u64> = sessions.iter().filter(|s| self.may_hold(s, &used)).map(|s| s.id).collect();
            self.done.possible_ended = possible.difference(&ids).count() as u64;
            ids.extend(possible);
        }
        self.kill(ending, ids)
    }

    /// Whether a session may hold a hidden connection to a fenced node. The processlist shows the connection of the
    /// session's current hostgroup, so a hidden one is of another hostgroup.
    fn may_hold(&self, session: &Session, used: &Used) -> bool {
        let hidden_in = |hostgroup: &Hostgroup| {
            let pair = self.plan.managed.pair_of(*hostgroup);
            let of_pair = |at: Hostgroup| at == *hostgroup || pair.is_some_and(|p| [p.writer, p.reader].contains(&at));
            session.hostgroup != Some(*hostgroup)
                && [session.hostgroup, session.home].into_iter().flatten().any(of_pair)
        };
        session.idle && session.backends.is_none() && used.keys().any(|(hostgroup, _)| hidden_in(hostgroup))
    }

    fn note_ended(&mut self, left: &BTreeSet<Node>) {
        if self.noted_ended {
            self.ask([Statement::DropEnded]);
        }
        self.ended.extend(left.iter().cloned());
        self.noted_ended = true;
        self.ask([Statement::NoteEnded(self.ended.clone())]);
    }

    fn sessions_ended(&mut self, ending: Ending, left: BTreeSet<Node>) -> Phase {
        self.done.sessions_ended = ending.killed.len() as u64;
        self.done.sessions_left = left;
        self.sessions_over()
    }

    /// Removes from the note the nodes that have no connection in use any more.
    fn sessions_over(&mut self) -> Phase {
        if self.noted_ended && self.broken_off.is_none() {
            let over = !self.ended.is_subset(&self.done.sessions_left) || self.ended.is_empty();
            self.ended.retain(|node| self.done.sessions_left.contains(node));
            if over {
                self.ask([Statement::DropEnded]);
                if !self.ended.is_empty() {
                    self.ask([Statement::NoteEnded(self.ended.clone())]);
                }
            }
        }
        self.disk_last()
    }
}

/// Sessions that hold a fenced node, as far as ProxySQL tells: the current one, and by the extended processlist all of
/// them. That one names a server by its address, so it is known by whom else it is listed under, else by hostgroup and
/// port.
fn holders(sessions: &[Session], used: &Used) -> BTreeSet<u64> {
    let mut names: BTreeMap<(&str, u16), BTreeSet<&Node>> = BTreeMap::new();
    for session in sessions {
        let (Some(current), Some(hostgroup)) = (&session.current, session.hostgroup) else { continue };
        for backend in session.backends.iter().flatten().filter(|backend| backend.hostgroup == hostgroup) {
            names.entry((&backend.host, backend.port)).or_default().insert(current);
        }
    }
    let is = |node: &Node, host: &str, port: u16| {
        let known = names.get(&(host, port));
        node.port == port && (node.host.as_str() == host || known.is_none_or(|names| names.contains(node)))
    };
    let holds = |session: &&Session| {
        used.keys().any(|(hostgroup, node)| {
            let listed = session.hostgroup == Some(*hostgroup) && session.current.as_ref() == Some(node);
            let mut backends = session.backends.iter().flatten();
            listed || backends.any(|backend| backend.hostgroup == *hostgroup && is(node, &backend.host, backend.port))
        })
    };
    sessions.iter().filter(holds).map(|session| session.id).collect()
}
