//! The read_only monitor: moves runtime rows between the hostgroups of a pair (FACTS §2).

use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;

use super::rows::{RowKey, ServerRow};
use super::{Engine, Shared};
use crate::nodes::Process;

/// After so many timeouts a node counts as read-only: `mysql-monitor_read_only_max_timeout_count`.
pub(super) const TIMEOUTS_MAX: u32 = 3;

/// Probes until the ProxySQL is gone.
pub(super) async fn watch_nodes(shared: Weak<Shared>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut engine = shared.engine.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !engine.down {
            // A failure shows as rows that are not moved, and that fails the test.
            let _ = engine.probe();
        }
    }
}

impl Engine {
    fn probe(&mut self) -> rusqlite::Result<()> {
        let rows = self.layers.rows()?;
        // Only nodes with some row that is not OFFLINE_*: one that is all OFFLINE_SOFT is never probed.
        let probed: BTreeSet<(String, u16)> = rows
            .iter()
            .filter(|row| !row.status.starts_with("OFFLINE"))
            .map(|row| (row.host.clone(), row.port))
            .collect();
        for node in probed {
            let Some(server) = RowKey::new(0, &node.0, node.1).server(&self.nodes) else { continue };
            let read_only = match server.process {
                Process::Up => {
                    self.timeouts.remove(&node);
                    server.read_only
                }
                // Refused doesn't count.
                Process::Down => continue,
                Process::Hung => {
                    let timeouts = self.timeouts.entry(node.clone()).or_default();
                    *timeouts += 1;
                    if *timeouts < TIMEOUTS_MAX {
                        continue;
                    }
                    true
                }
            };
            for (writer, reader) in self.layers.pairs()? {
                if self.place(&node, read_only, writer, reader)? && self.settings.monitor_writes_memory {
                    self.layers.save_from_runtime()?;
                }
            }
        }
        Ok(())
    }

    /// Puts a node where its read_only says; whether something was moved.
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
            // Status and comment are copied; where a ghost of the node remains it becomes ONLINE whatever the source.
            let status = match (target, source) {
                (None, Some(source)) => source.status.as_str(),
                _ => "ONLINE",
            };
            self.layers.copy_row(&key(from), to, status)?;
            // A copied SHUNNED is as automatic as its source was, and comes back as it does.
            if let Some(since) = self.shunned.get(&key(from)).copied() {
                self.shunned.insert(key(to), since);
            }
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
