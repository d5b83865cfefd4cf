//! Pauses a ProxySQL Cluster member that is isolated, and resumes it (design §10).
//!
//! ```text
//! pause:   note -> PAUSE -> end the sessions that are left -> rows
//! resume:  rows -> RESUME -> drop the note
//! ```
//!
//! The note tells a pause by agents from an operator's. It is there before the pause, and each agent has its own record
//! in it: an agent that finds ProxySQL paused by somebody else takes back its own record only. The note dies with memory
//! when ProxySQL restarts, as the pause does. No lock is needed: nothing here touches a table that a LOAD covers.

use super::sessions::{GONE_LOOKS, PAUSE_MS};
use super::{Apply, Done, Outcome, Phase, Reply, Statement};
use crate::plan::PauseAction;

/// The table in `main` that notes which agents paused ProxySQL.
pub const PAUSED_NAME: &str = "stonith_paused";

impl Apply {
    /// Pauses, if the plan says so; then begins with the rows.
    pub(super) fn begin(&mut self) -> Phase {
        let Some(PauseAction::Pause(seen)) = self.plan.pause else { return self.begin_rows() };
        if !seen.paused {
            let owner = self.owner.clone();
            self.ask([Statement::MakePauseNote, Statement::NotePause { owner }, Statement::PauseProxy]);
        }
        self.ask([Statement::Sessions]);
        Phase::Pausing { looks: 0 }
    }

    /// Ends the sessions that are left.
    pub(super) fn pausing(&mut self, looks: u32, got: Vec<(Statement, Reply)>) -> Phase {
        let mut left = Vec::new();
        for (statement, reply) in got {
            match (statement, reply) {
                (Statement::PauseProxy, Reply::Changed(_)) => self.done.paused = true,
                (Statement::PauseProxy, Reply::Exists) => self.paused_by_others(),
                (_, Reply::Sessions(sessions)) => left = sessions,
                _ => {}
            }
        }
        if left.is_empty() || looks > GONE_LOOKS {
            self.done.clients_left = left.len() as u64;
            return self.begin_rows();
        }
        if looks == 0 {
            self.done.clients_ended += left.len() as u64;
        }
        self.ask(left.iter().map(|session| Statement::Kill(session.id)));
        self.ask([Statement::Wait(PAUSE_MS), Statement::Sessions]);
        Phase::Pausing { looks: looks + 1 }
    }

    /// ProxySQL was paused already. If no agent had noted that, an operator did it, and this agent must not end it.
    fn paused_by_others(&mut self) {
        let was_noted = matches!(self.plan.pause, Some(PauseAction::Pause(seen)) if seen.noted);
        if !was_noted {
            self.ask([Statement::TakeBackPauseNote { owner: self.owner.clone() }]);
        }
    }

    /// Begins with the rows, if the plan changes any.
    fn begin_rows(&mut self) -> Phase {
        if !self.plan.changes_rows() {
            return self.over_or_resume();
        }
        self.ask([Statement::Names]);
        Phase::Start
    }

    /// Resumes if the plan says so and its rows are as planned: a superseded node must be out before clients are back.
    pub(super) fn over_or_resume(&mut self) -> Phase {
        let is_whole = self.broken_off.is_none() && self.done.not_as_planned.is_empty();
        if self.plan.pause != Some(PauseAction::Resume) || !is_whole {
            return self.over();
        }
        self.ask([Statement::ResumeProxy, Statement::DropPauseNote]);
        Phase::Resuming
    }

    pub(super) fn resuming(&mut self, got: &[(Statement, Reply)]) -> Phase {
        self.done.resumed = got.iter().any(|got| matches!(got, (Statement::ResumeProxy, Reply::Changed(_))));
        Phase::Over(Outcome::Applied(std::mem::take(&mut self.done)))
    }
}

impl Done {
    /// Keeps the refusal of a statement that pauses or resumes. Rows are changed all the same.
    pub(super) fn pause_refused(&mut self, statement: &Statement, error: &str) {
        self.pause_error = Some(format!("ProxySQL refused a step of the apply ({statement}): {error}"));
    }
}
