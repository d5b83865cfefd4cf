//! The API's answers, made from recorded ones: every field that the real program sends is there.

use serde_json::{Value, json};

use super::recovery::{now_s, timestamp};
use super::{Downtime, Inner};
use crate::nodes::PORT;

/// An instance, as recorded; what varies is filled in.
const INSTANCE: &str = include_str!("instance.json");

/// Records on a page.
const PAGE: usize = 20;

/// A status and a body.
pub(super) type Response = (u16, Value);

impl Inner {
    /// Answers a request to one member; the path without its prefix and `/api/`.
    pub(super) fn answer(&mut self, member: usize, path: &str) -> Response {
        let words: Vec<&str> = path.split('/').collect();
        let leads = self.leads(member);
        match words[..] {
            ["leader-check"] if leads => return (200, json!("OK")),
            ["leader-check"] => return (404, json!("Not leader")),
            ["raft-state"] => return (200, json!(self.raft_state(member))),
            ["raft-leader"] => return (200, json!(self.leader_name())),
            ["raft-health"] if self.leader.is_some() => return (200, json!("healthy")),
            ["raft-health"] => return (500, json!("unhealthy")),
            ["raft-peers"] => return (200, json!(self.peers())),
            ["raft-status"] => return (200, self.raft_status(member)),
            ["health" | "status"] => {
                let details = json!({"Healthy": true, "Hostname": format!("orc{}", member + 1), "IsActiveNode": leads});
                return (200, json!({"Code": "OK", "Message": "Application node is healthy", "Details": details}));
            }
            _ => {}
        }
        // Everything else is proxied to the leader, and without one answered from stale local data (FACTS §9).
        let from = if leads { member } else { self.leader.unwrap_or(member) };
        match words[..] {
            ["all-instances"] => (200, self.instances(from, |_| true)),
            ["downtimed"] => {
                let names: Vec<String> = self.members[from].downtimes.keys().cloned().collect();
                (200, self.instances(from, |name| names.iter().any(|other| other == name)))
            }
            // A failed node is a cluster of its own, so it is in no alias's list.
            ["downtimed", _] => (200, json!([])),
            ["masters"] => {
                let primaries: Vec<String> = self
                    .seen
                    .iter()
                    .filter(|(_, seen)| seen.server.replicates_from.is_none())
                    .map(|(n, _)| n.clone())
                    .collect();
                (200, self.instances(from, |name| primaries.iter().any(|other| other == name)))
            }
            ["audit-recovery"] => (200, self.history_page(0)),
            ["audit-recovery", page] if page.parse::<usize>().is_ok() => {
                (200, self.history_page(page.parse().unwrap_or_default()))
            }
            ["discover", host, _] => {
                self.poll();
                (200, json!({"Code": "OK", "Message": format!("Instance discovered: {host}:{PORT}"), "Details": null}))
            }
            ["begin-downtime", host, _, owner, reason] | ["begin-downtime", host, _, owner, reason, _] => {
                // Through the API it is replicated to all (FACTS §8).
                let downtime =
                    Downtime { reason: reason.to_owned(), owner: owner.to_owned(), begun: std::time::Instant::now() };
                for member in &mut self.members {
                    member.downtimes.insert(host.to_owned(), downtime.clone());
                }
                (200, json!({"Code": "OK", "Message": format!("Instance downtimed: {host}:{PORT}"), "Details": null}))
            }
            ["end-downtime", host, _] => {
                for member in &mut self.members {
                    member.downtimes.remove(host);
                }
                (
                    200,
                    json!({"Code": "OK", "Message": format!("Instance downtime ended: {host}:{PORT}"), "Details": null}),
                )
            }
            ["forget", host, _] => {
                self.seen.remove(host);
                for member in &mut self.members {
                    member.downtimes.remove(host);
                }
                (200, json!({"Code": "OK", "Message": format!("Instance forgotten: {host}:{PORT}"), "Details": null}))
            }
            _ => {
                self.unknown.push(path.to_owned());
                (404, json!("the lab does not know this request"))
            }
        }
    }

    fn instances(&self, member: usize, wanted: impl Fn(&str) -> bool) -> Value {
        let names = self.seen.keys().filter(|name| wanted(name));
        Value::Array(names.map(|name| self.instance(member, name)).collect())
    }

    fn instance(&self, member: usize, name: &str) -> Value {
        let mut instance: Value = serde_json::from_str(INSTANCE).unwrap_or_default();
        let Some(seen) = self.seen.get(name) else { return instance };
        let key = |name: &str| json!({"Hostname": name, "Port": if name.is_empty() { 0 } else { PORT }});
        let server = &seen.server;
        let primary = server.replicates_from.as_deref();
        let replicas = self.seen.iter().filter(|(_, other)| other.server.replicates_from.as_deref() == Some(name));
        let replicas: Vec<Value> = replicas.map(|(other, _)| key(other)).collect();
        instance["Key"] = key(name);
        instance["MasterKey"] = key(primary.unwrap_or_default());
        instance["ReadOnly"] = json!(server.read_only);
        for (field, state) in [
            ("ReplicationIOThreadRuning", "ReplicationIOThreadState"),
            ("ReplicationSQLThreadRuning", "ReplicationSQLThreadState"),
        ] {
            instance[field] = json!(server.replicating);
            instance[state] = json!(if primary.is_none() { -1 } else { i32::from(server.replicating) });
        }
        instance["Replicas"] = json!(replicas);
        instance["ReplicationDepth"] = json!(u8::from(primary.is_some()));
        instance["ClusterName"] = json!(format!("{}:{PORT}", self.root(name)));
        instance["SuggestedClusterAlias"] = json!(alias_of(name));
        instance["IsLastCheckValid"] = json!(seen.valid);
        instance["LastSeenTimestamp"] = json!(timestamp(seen.seen_at));
        instance["SecondsSinceLastSeen"] = json!({"Int64": now_s() - seen.seen_at, "Valid": true});
        if let Some(downtime) = self.members[member].downtimes.get(name) {
            const A_YEAR_S: i64 = 365 * 24 * 3600;
            instance["IsDowntimed"] = json!(true);
            instance["DowntimeReason"] = json!(downtime.reason);
            instance["DowntimeOwner"] = json!(downtime.owner);
            instance["DowntimeEndTimestamp"] = json!(timestamp(now_s() + A_YEAR_S).replace('T', " ").replace('Z', ""));
            instance["ElapsedDowntime"] = json!(downtime.begun.elapsed().as_secs() * 1_000_000_000);
        }
        instance
    }

    /// Where following the primaries leads; a ring ends anywhere.
    fn root(&self, name: &str) -> String {
        let mut at = name;
        for _ in 0..self.seen.len() {
            match self.seen.get(at).and_then(|seen| seen.server.replicates_from.as_deref()) {
                Some(next) => at = next,
                None => break,
            }
        }
        at.to_owned()
    }

    fn history_page(&self, page: usize) -> Value {
        // Newest first.
        Value::Array(self.history.iter().rev().skip(page * PAGE).take(PAGE).cloned().collect())
    }

    fn peers(&self) -> Vec<String> {
        (0..self.members.len()).map(|member| self.name(member)).collect()
    }

    fn name(&self, member: usize) -> String {
        format!("127.0.0.{}:10008", 11 + member)
    }

    fn leader_name(&self) -> String {
        self.leader.map(|leader| self.name(leader)).unwrap_or_default()
    }

    fn raft_state(&self, member: usize) -> &'static str {
        match self.leader {
            Some(leader) if leader == member => "Leader",
            Some(_) => "Follower",
            None => "Candidate",
        }
    }

    fn raft_status(&self, member: usize) -> Value {
        let has = self.leader.is_some();
        json!({
            "RaftBind": self.name(member), "RaftAdvertise": self.name(member), "State": self.raft_state(member),
            "Healthy": has, "IsPartOfQuorum": has, "Leader": self.leader_name(),
            "LeaderURI": self.leader.map(|leader| self.endpoints[leader].clone()).unwrap_or_default(),
            "Peers": self.peers(),
        })
    }
}

/// `node01` is in `nodecluster`: as in the recordings, where `my01` is in `mycluster`.
pub(super) fn alias_of(name: &str) -> String {
    format!("{}cluster", name.trim_end_matches(|letter: char| letter.is_ascii_digit()))
}
