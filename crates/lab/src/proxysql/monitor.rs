//! The read_only monitor: moves runtime rows between the hostgroups of a pair (FACTS §2).

use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;

use super::layers::ServerRow;
use super::{Engine, Shared};
use crate::nodes::Process;

/// After so many timeouts a node counts as read-only.
const TIMEOUTS_MAX: u32 = 3;

/// Probes until the ProxySQL is gone.
pub(super) async fn watch_nodes(shared: Weak<Shared>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut engine = shared.engine.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A failure shows as rows that are not moved, and that fails the test.
        let _ = engine.probe();
    }
}

impl Engine {
    fn probe(&mut self) -> rusqlite::Result<()> {
        let rows = self.layers.rows()?;
        // Only nodes with some row that is not OFFLINE_*: one that is all OFFLINE_SOFT is never probed.
        let probed: BTreeSet<String> =
            rows.iter().filter(|row| !row.status.starts_with("OFFLINE")).map(|row| row.host.clone()).collect();
        for host in probed {
            let Some(server) = self.nodes.lock().get(&host).cloned() else { continue };
            let read_only = match server.process {
                Process::Up => {
                    self.timeouts.remove(&host);
                    server.read_only
                }
                // Refused doesn't count.
                Process::Down => continue,
                Process::Hung => {
                    let timeouts = self.timeouts.entry(host.clone()).or_default();
                    *timeouts += 1;
                    if *timeouts < TIMEOUTS_MAX {
                        continue;
                    }
                    true
                }
            };
            for (writer, reader) in self.layers.pairs()? {
                if self.place(&host, read_only, writer, reader)? && self.settings.monitor_writes_memory {
                    self.layers.save_from_runtime()?;
                }
            }
        }
        Ok(())
    }

    /// Puts a node where its read_only says; whether something was moved.
    fn place(&mut self, host: &str, read_only: bool, writer: u32, reader: u32) -> rusqlite::Result<bool> {
        let rows = self.layers.rows()?;
        let row = |hostgroup: u32| rows.iter().find(|row| row.hostgroup == hostgroup && row.host == host);
        let live = |row: Option<&ServerRow>| row.is_some_and(|row| row.status != "OFFLINE_HARD");
        let (in_writer, in_reader) = (row(writer), row(reader));
        let (from, to, keep) = match read_only {
            false if !live(in_writer) && live(in_reader) => (reader, writer, self.settings.writer_is_also_reader),
            true if live(in_writer) => (writer, reader, false),
            _ => return Ok(false),
        };
        let target = if read_only { in_reader } else { in_writer };
        if !live(target) {
            // Status and comment are copied; where a ghost of the node remains it becomes ONLINE whatever the source.
            let source = if read_only { in_writer } else { in_reader };
            let status = match (target, source) {
                (None, Some(source)) => source.status.as_str(),
                _ => "ONLINE",
            };
            self.layers.copy_row(from, to, host, status)?;
        }
        if !keep {
            self.layers.set_status(from, host, "OFFLINE_HARD")?;
        }
        self.layers.purge_ghosts(self.holds())?;
        Ok(true)
    }
}
