//! Finds the node that an operator names.

use std::collections::BTreeSet;

use stonith_core::node::Node;

/// Why a name does not match one node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No node has this name.
    #[error("no node {name:?} has managed rows; known nodes: {}", list(.candidates))]
    Unknown {
        /// What was typed.
        name: String,
        /// The nodes with managed rows.
        candidates: BTreeSet<Node>,
    },
    /// Several nodes have this name.
    #[error("{name:?} matches several nodes; expected host:port, one of: {}", list(.candidates))]
    Ambiguous {
        /// What was typed.
        name: String,
        /// The nodes that match.
        candidates: BTreeSet<Node>,
    },
}

fn list(nodes: &BTreeSet<Node>) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Finds a node among those with managed rows, by `host:port`, or by `host` if that matches one node.
///
/// # Errors
/// No node matches, or several do. The error lists the candidates.
pub fn find(name: &str, nodes: &BTreeSet<Node>) -> Result<Node, NameError> {
    if let Ok(node) = name.parse::<Node>()
        && nodes.contains(&node)
    {
        return Ok(node);
    }
    let host = name.trim_end_matches('.').to_ascii_lowercase();
    let candidates: BTreeSet<Node> = nodes.iter().filter(|node| node.host.as_str() == host).cloned().collect();
    if let (1, Some(only)) = (candidates.len(), candidates.first()) {
        return Ok(only.clone());
    }
    if candidates.is_empty() {
        return Err(NameError::Unknown { name: name.to_owned(), candidates: nodes.clone() });
    }
    Err(NameError::Ambiguous { name: name.to_owned(), candidates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_port_is_the_only_node_of_that_host_or_an_error_with_the_candidates() {
        let nodes: BTreeSet<Node> =
            ["node01:3306", "node01:3307", "node02:3306"].iter().map(|n| n.parse().unwrap()).collect();
        assert_eq!(find("NODE01:3307", &nodes).unwrap().to_string(), "node01:3307");
        let error = find("node01", &nodes).unwrap_err().to_string();
        assert!(error.contains("node01:3306, node01:3307") && !error.contains("node02"), "{error}");
        assert_eq!(find("Node02.", &nodes).unwrap().to_string(), "node02:3306", "the only one of that host");
        assert!(find("node02:3307", &nodes).is_err(), "a port that is given counts");
        assert!(find("node09:3306", &nodes).unwrap_err().to_string().contains("node02:3306"));
    }
}
