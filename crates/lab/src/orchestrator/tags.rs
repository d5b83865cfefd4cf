//! Tags of nodes. All members have them, as raft has them from the leader (28-tags).

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::Inner;
use super::answers::{Asked, key, node, shown};
use super::http::Reply;
use super::instances;

/// The tags of a node, by name.
pub(super) type Tags = BTreeMap<String, String>;

impl Inner {
    pub(super) fn set_tag(&mut self, node: &str, name: &str, value: &str) {
        self.tags.entry(node.to_owned()).or_default().insert(name.to_owned(), value.to_owned());
    }

    pub(super) fn tags_at(&self, node: &str) -> Vec<String> {
        let tags = self.tags.get(node).into_iter().flatten();
        tags.map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Answers `tag`. Without a quorum it is refused.
    pub(super) fn tag(&mut self, asked: &Asked<'_>) -> Reply {
        let node = match node(asked) {
            Err(refused) => return refused,
            Ok(node) => node,
        };
        let of_query = wanted(asked.query);
        let (name, value) = match of_query.split_once('=') {
            Some(tag) => tag,
            None if of_query.is_empty() => (asked.arg(2), asked.arg(3)),
            None => (of_query.as_str(), ""),
        };
        if name.is_empty() {
            return Reply::error("NewTag: empty tag name");
        }
        if !self.leads(asked.member) {
            return Reply::error("not leader");
        }
        self.set_tag(&node, name, value);
        Reply::done(&format!("{} tagged with {name}={value}", shown(asked)), &key(asked))
    }

    /// Answers `tags`. Nobody has to know the node.
    pub(super) fn tags_of(&self, asked: &Asked<'_>) -> Reply {
        match node(asked) {
            Err(refused) => refused,
            Ok(node) => Reply::ok(self.tags_at(&node)),
        }
    }

    /// Answers `tagged`: the nodes with a tag of this name, and of this value if there is one.
    pub(super) fn tagged(&self, asked: &Asked<'_>) -> Reply {
        let wanted = wanted(asked.query);
        let (name, value) = wanted.split_once('=').map_or((&*wanted, None), |(name, value)| (name, Some(value)));
        let has = |tags: &Tags| tags.get(name).is_some_and(|of| value.is_none_or(|value| of == value));
        let tagged = self.tags.iter().filter(|(_, tags)| has(tags)).map(|(node, _)| node);
        Reply::ok(tagged.map(|node| instances::key(node)).collect::<Vec<Value>>())
    }
}

/// The tag of a query, decoded.
fn wanted(query: &str) -> String {
    let tag = query.split('&').find_map(|part| part.strip_prefix("tag="));
    percent_decode_str(tag.unwrap_or_default()).decode_utf8_lossy().into_owned()
}
