//! What was done at the nodes themselves. The tasks that fence nodes write it; ticks and commands read it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stonith_core::node::Node;
use stonith_core::node_fence::NodeFenceRecord;

use super::{STATE_MAX_BYTES, StateDir, StateError, VERSION, durable_file, from_json, not_newer, to_json};

/// The history of one ProxySQL's nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFences {
    version: u32,
    /// What was done to each node.
    pub records: BTreeMap<Node, NodeFenceRecord>,
    /// Nodes that could not be made read-only if it were needed, and why.
    pub unready: BTreeMap<Node, String>,
}

impl StateDir {
    /// Reads the history. It is empty if there is no file.
    ///
    /// # Errors
    /// It can't be read, is corrupt, or is of a newer version.
    pub fn node_fences(&self) -> Result<NodeFences, StateError> {
        let path = self.node_fences_path();
        let Some(bytes) = durable_file::read(&path, STATE_MAX_BYTES)? else { return Ok(NodeFences::default()) };
        let read: NodeFences = from_json(&bytes, &path)?;
        not_newer(read.version, &path)?;
        Ok(read)
    }

    /// Writes the history durably.
    ///
    /// # Errors
    /// It can't be written. What was there before is still whole.
    pub fn save_node_fences(&self, history: &NodeFences) -> Result<(), StateError> {
        let path = self.node_fences_path();
        let bytes = to_json(&NodeFences { version: VERSION, ..history.clone() }, &path)?;
        durable_file::make_dir(&self.dir)?;
        durable_file::write(&path, self.beside, &bytes)
    }

    fn node_fences_path(&self) -> PathBuf {
        self.dir.join(format!("node-fence-{}.json", self.stem))
    }
}
