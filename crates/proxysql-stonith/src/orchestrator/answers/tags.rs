//! Tags of nodes.

use std::collections::BTreeSet;

use stonith_core::node::Node;

use super::{AnswerError, Key};
use crate::orchestrator::json::{Bounded, Object};

/// Parses `/api/tags/HOST/PORT`: a node's tags, `NAME=VALUE` each.
pub fn tags(body: &[u8]) -> Result<Vec<String>, AnswerError> {
    Ok(serde_json::from_slice::<Bounded<String>>(body)?.0)
}

/// Parses `/api/tagged`: the nodes with a tag.
pub fn tagged(body: &[u8]) -> Result<BTreeSet<Node>, AnswerError> {
    let keys: Bounded<Object<Key>> = serde_json::from_slice(body)?;
    keys.0.iter().map(|key| key.0.node()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_tagged_nodes_are_read_as_recorded() {
        assert_eq!(tags(br#"["role=reporting","a=b=c"]"#).unwrap(), ["role=reporting", "a=b=c"]);
        let nodes = tagged(br#"[{"Hostname":"node01","Port":3306},{"Hostname":"node02","Port":3306}]"#).unwrap();
        assert_eq!(nodes, BTreeSet::from(["node01:3306", "node02:3306"].map(|name| name.parse().unwrap())));
        assert!(tags(b"[]").unwrap().is_empty() && tagged(b"[]").unwrap().is_empty());
        for wrong in [&br#"{"Code":"OK"}"#[..], b"[1]", b"[[\"node01\",3306]]", b""] {
            assert!(tags(wrong).is_err() && tagged(wrong).is_err());
        }
    }
}
