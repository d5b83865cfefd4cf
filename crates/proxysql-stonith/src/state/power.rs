//! The lock on a node's power, and what was settled under it. All ProxySQLs of this host share both.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stonith_core::node::Node;
use stonith_core::node_fence::power::Settled;

use super::{STATE_MAX_BYTES, StateDir, StateError, VERSION, durable_file, from_json, lock, not_newer, stem, to_json};

/// What was settled of a node, whichever ProxySQL it is behind.
#[derive(Debug, Serialize, Deserialize)]
struct Power {
    version: u32,
    settled: Settled,
}

impl StateDir {
    /// Takes the lock on a node's power; `None` if another task or process of this host has it.
    ///
    /// # Errors
    /// It can't be made.
    pub fn lock_power(&self, node: &Node) -> Result<Option<lock::Lock>, StateError> {
        durable_file::make_dir(&self.dir)?;
        lock::try_lock(&self.power_path(node, "lock"))
    }

    /// What was settled of a node last. The caller has its lock.
    ///
    /// # Errors
    /// It can't be read, is corrupt, or is of a newer version.
    pub fn settled(&self, node: &Node) -> Result<Option<Settled>, StateError> {
        let path = self.power_path(node, "json");
        let Some(bytes) = durable_file::read(&path, STATE_MAX_BYTES)? else { return Ok(None) };
        let read: Power = from_json(&bytes, &path)?;
        not_newer(read.version, &path)?;
        Ok(Some(read.settled))
    }

    /// Writes durably what was settled of a node. The caller has its lock.
    ///
    /// # Errors
    /// It can't be written. What was there before is still whole.
    pub fn save_settled(&self, node: &Node, settled: &Settled) -> Result<(), StateError> {
        let path = self.power_path(node, "json");
        let bytes = to_json(&Power { version: VERSION, settled: settled.clone() }, &path)?;
        durable_file::write(&path, self.beside, &bytes)
    }

    fn power_path(&self, node: &Node, ending: &str) -> PathBuf {
        self.dir.join(format!("power-{}.{ending}", stem(node)))
    }
}
