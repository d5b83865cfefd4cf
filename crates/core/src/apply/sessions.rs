//! Ends the sessions that a fenced node still has, until ConnUsed is 0 (FACTS §4).
//!
//! The processlist shows only a session's current server; a pinned one may hold the node while another is current.
//! So: those listed under the node first, then those that say they hold it, then all.

use std::collections::{BTreeMap, BTreeSet};

use super::{Apply, Phase, Reply, Statement};
use crate::node::Node;

/// Between two looks at ConnUsed, in ms. A killed session's connection was gone within 0.3 s (FACTS §4).
const PAUSE_MS: u64 = 50;

/// Looks before sessions that hold the node by their extended info are ended too.
const TARGETED_LOOKS: u32 = 4;

/// Looks before every session is ended.
const HOLDING_LOOKS: u32 = 8;

/// Looks before we leave it to the next tick: about 1 s with the pauses.
const LOOKS_MAX: u32 = 20;

/// How far the ending of sessions has come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Ending {
    looks: u32,
    killed: BTreeSet<u64>,
}

impl Apply {
    /// Starts to look, if the plan lets some node keep no session.
    pub(super) fn begin_sessions(&mut self) -> Phase {
        if self.plan.ending_sessions().next().is_none() {
            return self.put_back();
        }
        self.ask([Statement::Used, Statement::Sessions]);
        Phase::Sessions(Ending { looks: 0, killed: BTreeSet::new() })
    }

    pub(super) fn end_sessions(&mut self, mut ending: Ending, got: Vec<(Statement, Reply)>) -> Phase {
        let mut used: BTreeMap<Node, u64> = BTreeMap::new();
        let mut sessions = None;
        for (_, reply) in got {
            match reply {
                Reply::Used(counts) => used = counts,
                Reply::Sessions(list) => sessions = Some(list),
                _ => {}
            }
        }
        let left: BTreeSet<Node> =
            self.plan.ending_sessions().filter(|node| used.get(*node).is_some_and(|n| *n > 0)).cloned().collect();
        if left.is_empty() || ending.looks >= LOOKS_MAX {
            self.done.sessions_left = left;
            self.done.sessions_ended = ending.killed.len() as u64;
            return self.put_back();
        }
        ending.looks += 1;
        let concerns = |session: &super::Session| {
            session.current.as_ref().is_some_and(|node| left.contains(node))
                || (ending.looks > TARGETED_LOOKS && session.holds.iter().any(|node| left.contains(node)))
                || ending.looks > HOLDING_LOOKS
        };
        let ids: Vec<u64> = sessions.unwrap_or_default().iter().filter(|s| concerns(s)).map(|s| s.id).collect();
        self.ask(ids.iter().map(|id| Statement::Kill(*id)));
        ending.killed.extend(ids);
        self.ask([Statement::Pause(PAUSE_MS), Statement::Used, Statement::Sessions]);
        Phase::Sessions(ending)
    }
}
