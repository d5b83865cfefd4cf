//! The journal of returns: which nodes a LOAD lets back, and in which role.
//!
//! ```text
//! note -> LOAD -> memory put back -> disk -> drop the note
//! ```
//!
//! A fence is on disk before it is live, and a return after. So a marker that only memory or disk has comes from a
//! fence or from a return that was cut off. The note tells them apart (I10). A noted node without a marker in runtime
//! is back, and its other markers are removed. A noted node with a marker in runtime did not come back.

use std::collections::{BTreeMap, BTreeSet};

use super::{Apply, Phase, Place, Reply, Statement};
use crate::node::Node;
use crate::plan::{Directive, Plan};
use crate::role::Role;
use crate::table::{Comment, Row, SERVERS};

/// The table in `main` that holds the journal.
pub const RETURNS_NAME: &str = "stonith_returns";

impl Apply {
    /// Notes the plan's returns once, before the last look and the LOAD.
    pub(super) fn note_returns(&mut self) {
        let returns: BTreeMap<Node, Role> = self.plan.returns().map(|(node, role)| (node.clone(), role)).collect();
        if returns.keys().all(|node| self.returns.contains_key(node)) {
            return;
        }
        if !self.returns.is_empty() {
            self.ask([Statement::DropReturns]); // earlier returns that disk refused are noted again with these
        }
        self.returns.extend(returns);
        self.ask([Statement::NoteReturns(self.returns.clone())]);
        if !self.plan.releases.is_empty() {
            // Another agent may have kept the evidence, and does not know that it is discharged.
            self.ask([Statement::MakeReleases, Statement::NoteReleases(self.plan.releases.clone())]);
        }
    }

    /// Reads the returns that an earlier apply noted, once its copies are dropped.
    pub(super) fn read_returns(&mut self) -> Phase {
        if !self.noted_earlier {
            return self.begin_plan();
        }
        self.ask([Statement::RenewLock { owner: self.owner.clone() }, Statement::ReadReturns]);
        self.ask([Place::Runtime, Place::Memory, Place::Disk].map(|place| Statement::Read { place, table: SERVERS }));
        Phase::ReturnsRead
    }

    /// Finishes in memory and on disk the noted returns that are live.
    pub(super) fn finish_returns(&mut self, got: Vec<(Statement, Reply)>) -> Phase {
        let mut noted = BTreeMap::new();
        let mut read = Vec::new();
        for (statement, reply) in got {
            match (statement, reply) {
                (_, Reply::Returns(returns)) => noted = returns,
                (Statement::Read { place, .. }, Reply::Content(content)) => read.push((place, content)),
                _ => {}
            }
        }
        let rows = |wanted: Place| {
            let content = read.iter().find(|(place, _)| *place == wanted).map(|(_, content)| content);
            content.and_then(|content| content.rows().ok()).unwrap_or_default()
        };
        let fenced = self.marked_nodes(&rows(Place::Runtime));
        self.returns = noted.into_iter().filter(|(node, _)| !fenced.contains(node)).collect();
        let mut plan = Plan { managed: self.plan.managed.clone(), ..Plan::default() };
        plan.directives = self.returns.iter().map(|(node, role)| (node.clone(), Directive::Unfence(*role))).collect();
        plan.note_markers(&[rows(Place::Memory), rows(Place::Disk)].concat());
        for (place, content) in read.iter().filter(|(place, _)| *place != Place::Runtime) {
            if let Ok(rows) = content.rows() {
                self.swap_content(*place, SERVERS, content, &content.with_rows(&plan.carry_out(&rows)));
            }
        }
        Phase::ReturnsFinished
    }

    /// Drops the note. If disk refused, the returns are noted again, without the nodes that this plan fences.
    pub(super) fn returns_finished(&mut self) -> Phase {
        let fenced = self.fences();
        self.returns.retain(|node, _| self.done.disk_error.is_some() && !fenced.directives.contains_key(node));
        self.ask([Statement::DropReturns]);
        if self.returns.is_empty() {
            self.done.finished_earlier = true;
        } else {
            self.ask([Statement::NoteReturns(self.returns.clone())]);
        }
        self.begin_plan()
    }

    /// Drops the note, unless a return is live and disk may not have it.
    pub(super) fn drop_returns(&mut self) {
        let left = self.done.disk_error.is_some() || (self.live && self.broken_off.is_some());
        if !self.returns.is_empty() && !left {
            self.ask([Statement::DropReturns]);
        }
    }

    fn marked_nodes(&self, rows: &[Row]) -> BTreeSet<Node> {
        let ours = rows.iter().filter(|row| self.plan.managed.contains(row.key.hostgroup));
        ours.filter(|row| Comment::parse(&row.comment) != Comment::Plain).filter_map(Row::node).collect()
    }
}
