//! The API's routes (`registerAPIRequest` in Orchestrator's http/api.go).

use serde_json::{Value, json};

use super::downtime::{Downtime, length};
use super::http::Reply;
use super::recovery::{now_s, timestamp};
use super::{Inner, instances};
use crate::nodes::PORT;

/// Whether each member answers this itself; all else is proxied to the leader (FACTS §9).
pub(super) fn is_local(path: &str) -> bool {
    let word = path.split(['/', '?']).next().unwrap_or_default();
    matches!(word, "leader-check" | "health" | "status" | "lb-check") || word.starts_with("raft-")
}

impl Inner {
    /// Answers a request to a member; the path without its prefix and `/api/`. A member that does not lead is asked only
    /// what is local, or when no leader is known: then it says what it knew last (9-raft).
    pub(super) fn answer(&mut self, member: usize, path: &str) -> Reply {
        self.expire_downtimes();
        let (route, query) = path.split_once('?').unwrap_or((path, ""));
        let words: Vec<&str> = route.split('/').collect();
        let known = match words[..] {
            ["audit-recovery", ..] => self.history(&words[1..], query),
            ["begin-downtime" | "end-downtime" | "forget" | "ack-all-recoveries", ..] => {
                self.command(member, &words, query)
            }
            _ => self.look(member, &words),
        };
        known.unwrap_or_else(|| {
            self.unknown.push(path.to_owned());
            Reply::not_found()
        })
    }

    /// Requests that change nothing.
    fn look(&mut self, member: usize, words: &[&str]) -> Option<Reply> {
        let reply = match *words {
            ["leader-check" | "routed-leader-check"] => self.leader_check(member, 404),
            ["leader-check", status] => self.leader_check(member, status.parse().unwrap_or(404)),
            ["lb-check"] => Reply::json(200, &json!("OK")),
            ["health" | "status"] => self.health(member),
            [word] if word.starts_with("raft-") => return self.raft(member, &word["raft-".len()..]),
            ["all-instances"] => Reply::json(200, &self.all_instances(member)),
            ["masters"] => Reply::json(200, &self.masters(member)),
            ["clusters-info"] => Reply::json(200, &self.clusters_info()),
            ["downtimed"] => Reply::json(200, &self.downtimed_of(member, None)),
            ["downtimed", hint] => match self.cluster_by_hint(hint) {
                Some(cluster) => Reply::json(200, &self.downtimed_of(member, Some(&cluster))),
                // 1-healthy/downtimed_nosuch.json
                None => Reply::error(&format!(
                    "{} ERROR Unable to determine cluster name. clusterHint={hint}",
                    timestamp(now_s()).replace('T', " ").replace('Z', "")
                )),
            },
            ["discover", host, port] => self.discover(member, host, port),
            _ => return None,
        };
        Some(reply)
    }

    /// Looks at one node at once; one that does not answer is an error.
    fn discover(&mut self, member: usize, host: &str, port: &str) -> Reply {
        if !self.answers(&node(host, port)) {
            return Reply::error(&format!("dial tcp {host}:{port}: connect: connection refused"));
        }
        self.poll();
        Reply::done(&format!("Instance discovered: {host}:{port}"), &self.instance(member, host))
    }

    /// Commands go through raft to all members: without a leader they fail (FACTS §8).
    fn command(&mut self, member: usize, words: &[&str], query: &str) -> Option<Reply> {
        let is_known = matches!(
            *words,
            ["begin-downtime", _, _, _, _]
                | ["begin-downtime", _, _, _, _, _]
                | ["end-downtime" | "forget", _, _]
                | ["ack-all-recoveries"]
        );
        if !is_known {
            return None;
        }
        if !self.leads(member) {
            return Some(Reply::error("node is not the leader"));
        }
        let [host, port] = [1, 2].map(|at| words.get(at).copied().unwrap_or_default());
        let key = json!({"Hostname": host, "Port": port.parse::<u16>().unwrap_or(PORT)});
        let (node, shown) = (node(host, port), format!("{host}:{port}"));
        Some(match *words {
            ["begin-downtime", _, _, owner, reason, ref rest @ ..] => {
                let wanted = rest.first().map(|text| length(text));
                if wanted == Some(None) {
                    return Some(Reply::error(&format!("Cannot parse duration: {}", rest[0])));
                }
                let downtime = Downtime::by_hand(owner, reason, wanted.flatten());
                for member in &mut self.members {
                    member.downtimes.insert(node.clone(), downtime.clone());
                }
                Reply::done(&format!("Downtime begun: {shown}"), &key)
            }
            ["end-downtime", ..] => {
                self.end_downtime_of(&node);
                Reply::done(&format!("Downtime ended: {shown}"), &key)
            }
            ["forget", ..] => {
                self.forget(&node);
                Reply::done(&format!("Instance forgotten: {shown}"), &key)
            }
            _ => self.acknowledge_all(query),
        })
    }

    /// Ends a downtime on all members.
    pub(super) fn end_downtime_of(&mut self, node: &str) {
        for member in &mut self.members {
            member.downtimes.remove(node);
        }
    }

    /// Forgets a node and its downtime. One that answers is found again at the next poll.
    pub(super) fn forget(&mut self, node: &str) {
        self.seen.remove(node);
        self.aliases.retain(|_, primary| primary != node);
        self.end_downtime_of(node);
    }

    fn downtimed_of(&self, member: usize, cluster: Option<&str>) -> Value {
        let downtimes = &self.members[member].downtimes;
        let wanted =
            |name: &str| downtimes.contains_key(name) && cluster.is_none_or(|cluster| self.cluster_of(name) == cluster);
        self.instances(member, instances::Order::Cluster, wanted)
    }
}

/// All of the lab's nodes are on one port; another one is a node that it does not know.
fn node(host: &str, port: &str) -> String {
    if port == PORT.to_string() { host.to_owned() } else { format!("{host}:{port}") }
}
