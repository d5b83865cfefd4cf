//! The monitor. It checks read_only and moves runtime rows between the hostgroups of a pair (facts §2). It also pings
//! nodes, and shuns the ones that it does not reach.

use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;

use super::rows::{RowKey, ServerRow};
use super::{Engine, Shared};
use crate::nodes::Process;

/// A node counts as not reached after this many failed pings: `mysql-monitor_ping_max_failures`.
pub(super) const PINGS_MAX: u32 = 3;

/// Checks read_only until the ProxySQL is gone.
pub(super) async fn watch_nodes(shared: Weak<Shared>, interval: Duration) {
    every(shared, interval, Engine::probe).await;
}

/// Pings until the ProxySQL is gone.
pub(super) async fn ping_nodes(shared: Weak<Shared>, interval: Duration) {
    every(shared, interval, Engine::ping).await;
}

async fn every(shared: Weak<Shared>, interval: Duration, look: fn(&mut Engine) -> rusqlite::Result<()>) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut engine = shared.engine.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !engine.down {
            // After a failure, rows are not moved, which fails the test.
            let _ = look(&mut engine);
        }
    }
}

impl Engine {
    fn probe(&mut self) -> rusqlite::Result<()> {
        self.checks += 1;
        self.count_timeouts()?;
        let rows = self.layers.rows()?;
        // A node is probed only if a row of it is not OFFLINE_*. A node with only OFFLINE_SOFT rows never is.
        let probed: BTreeSet<(String, u16)> = rows
            .iter()
            .filter(|row| !row.status.starts_with("OFFLINE"))
            .map(|row| (row.host.clone(), row.port))
            .collect();
        for node in probed {
            let server = RowKey::new(0, &node.0, node.1).server(&self.nodes);
            match server.as_ref().map_or(Process::Down, |server| server.process) {
                Process::Up => {
                    self.timeouts.remove(&node);
                    self.connected.insert(node.clone());
                    self.place_in_pairs(&node, server.is_some_and(|server| server.read_only))?;
                }
                // A node that pings do not reach is not checked (code: server_responds_to_ping; 3b,
                // 3m-sigstop-pinned-softraw-8s).
                process if self.unanswered_in_time(&node, process) >= PINGS_MAX => {}
                // "Lost connection" is not a timeout. "timeout on creating new connection" is one: it was refused
                // (23-default-pings).
                Process::Down if self.connected.remove(&node) => {}
                Process::Down => self.count_timeout(&node)?,
                Process::Hung => drop(self.under_way.insert(node)),
            }
        }
        Ok(())
    }

    /// Checks that were under way have timed out by now, also that of a node which is all OFFLINE_SOFT meanwhile
    /// ([3m-sigstop-pinned-softraw-2s]).
    fn count_timeouts(&mut self) -> rusqlite::Result<()> {
        for node in std::mem::take(&mut self.under_way) {
            self.count_timeout(&node)?;
        }
        Ok(())
    }

    fn count_timeout(&mut self, node: &(String, u16)) -> rusqlite::Result<()> {
        let timeouts = self.timeouts.entry(node.clone()).or_default();
        *timeouts += 1;
        if *timeouts >= self.settings.read_only_max_timeouts { self.place_in_pairs(node, true) } else { Ok(()) }
    }

    /// Counts the pings without an answer. A ping that has to time out counts two rounds later.
    fn unanswered_in_time(&self, node: &(String, u16), process: Process) -> u32 {
        let late = if process == Process::Hung { 2 } else { 0 };
        self.unanswered.get(node).map_or(0, |pings| pings.saturating_sub(late))
    }

    /// Shuns the rows of a node that is not reached, until it is reached (2-failover, without any traffic; 3m).
    fn ping(&mut self) -> rusqlite::Result<()> {
        let rows = self.layers.rows()?;
        let nodes: BTreeSet<(String, u16)> = rows.iter().map(|row| (row.host.clone(), row.port)).collect();
        for node in nodes {
            let server = RowKey::new(0, &node.0, node.1).server(&self.nodes);
            let process = server.map_or(Process::Down, |server| server.process);
            if process == Process::Up {
                self.unanswered.remove(&node);
                continue;
            }
            *self.unanswered.entry(node.clone()).or_default() += 1;
            // The result of a round takes effect in the next.
            if self.unanswered_in_time(&node, process) > PINGS_MAX {
                let of_node = |row: &&ServerRow| (&row.host, row.port) == (&node.0, node.1);
                rows.iter().filter(of_node).for_each(|row| self.shun(&row.key()));
            }
        }
        Ok(())
    }

    fn place_in_pairs(&mut self, node: &(String, u16), read_only: bool) -> rusqlite::Result<()> {
        for (writer, reader) in self.layers.pairs()? {
            if !self.place(node, read_only, writer, reader)? {
                continue;
            }
            self.layers.count_move();
            if self.settings.monitor_writes_memory || self.layers.plays.monitor_writes_memory() {
                self.layers.save_from_runtime()?;
            }
        }
        Ok(())
    }

    /// Moves a node's rows to the hostgroup of its read_only. Returns whether a row was moved.
    fn place(&mut self, node: &(String, u16), read_only: bool, writer: u32, reader: u32) -> rusqlite::Result<bool> {
        let rows = self.layers.rows()?;
        let key = |hostgroup: u32| RowKey::new(hostgroup, &node.0, node.1);
        let row = |hostgroup: u32| rows.iter().find(|row| row.key() == key(hostgroup));
        let live = |row: Option<&ServerRow>| row.is_some_and(|row| row.status != "OFFLINE_HARD");
        let (in_writer, in_reader) = (row(writer), row(reader));
        let (from, to, keep) = match read_only {
            false if !live(in_writer) && live(in_reader) => (reader, writer, self.settings.writer_is_also_reader),
            true if live(in_writer) => (writer, reader, false),
            _ => return Ok(false),
        };
        let (source, target) = if read_only { (in_writer, in_reader) } else { (in_reader, in_writer) };
        if !live(target) {
            // Status and comment are copied. A remaining ghost of the node becomes ONLINE whatever the source is. If the
            // source is SHUNNED, both rows become ONLINE (24-shunned-moved, 3l).
            let status = match (target, source) {
                (None, Some(source)) if source.status != "SHUNNED" => source.status.as_str(),
                _ => "ONLINE",
            };
            if self.shunned.remove(&key(from)).is_some() {
                self.layers.set_status(&key(from), "ONLINE")?;
            }
            self.layers.copy_row(&key(from), to, status)?;
        }
        if !keep {
            self.layers.set_status(&key(from), "OFFLINE_HARD")?;
            self.idle.remove(&key(from));
        }
        let used = self.used();
        self.layers.purge_ghosts(used)?;
        Ok(true)
    }
}
