//! What Orchestrator does on its own: it polls the nodes, and fails over a dead primary (facts §8).

use std::sync::Weak;
use std::time::{Duration, SystemTime};

use super::answers::{Asked, key, node, shown};
use super::http::Reply;
use super::time::now_s;
use super::{Inner, Seen, Shared, lock};
use crate::nodes::Process;

/// How many polls must find a primary dead before it is failed over.
const DEAD_POLLS: u32 = 2;

/// How many polls leave out a forgotten node: 3 to 4 s at one poll per second (18-commands).
const FORGOTTEN_POLLS: u32 = 4;

/// Polls until the Orchestrator is gone.
pub(super) async fn poll_nodes(shared: Weak<Shared>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut inner = lock(&shared);
        inner.poll();
        inner.rounds += 1;
        if inner.settings.auto_failover && inner.leader.is_some() {
            inner.fail_over_the_dead();
        }
        inner.end_downtimes();
    }
}

impl Inner {
    pub(super) fn answers(&self, node: &str) -> bool {
        self.nodes.lock().get(node).is_some_and(|server| server.process == Process::Up)
    }

    /// Polls every node except the forgotten ones. Without a quorum no member polls, so the known state gets stale
    /// (9-raft).
    pub(super) fn poll(&mut self) {
        if self.leader.is_none() {
            return;
        }
        self.forgotten.retain(|_, polls| {
            *polls -= 1;
            *polls > 0
        });
        let mut names: Vec<String> = self.nodes.lock().keys().cloned().collect();
        names.retain(|name| !self.forgotten.contains_key(name));
        for name in names {
            self.look_at(&name);
        }
        self.claim_aliases();
    }

    /// Notes a poll of a node. A node that does not answer keeps its last-known values (facts §8).
    pub(super) fn look_at(&mut self, name: &str) {
        let servers = self.nodes.lock().clone();
        let now_s = now_s();
        let is = |name: &str, process| servers.get(name).is_some_and(|server| server.process == process);
        let Some(server) = servers.get(name) else { return };
        if server.process == Process::Up {
            let replicas = servers
                .iter()
                .filter(|(_, other)| other.replicates_from.as_deref() == Some(name))
                .filter(|(_, other)| other.process == Process::Up)
                .map(|(other, _)| other.clone())
                .collect();
            let primary_is_gone = server.replicates_from.as_ref().is_some_and(|of| is(of, Process::Down));
            let server = server.clone();
            let seen = Seen {
                server,
                replicas,
                primary_is_gone,
                valid: true,
                seen_at: now_s,
                checked_at: now_s,
                dead_polls: 0,
            };
            self.seen.insert(name.to_owned(), seen);
        } else if let Some(seen) = self.seen.get_mut(name) {
            seen.valid = false;
            seen.checked_at = now_s;
            seen.dead_polls += 1;
        }
    }

    /// Forgets a node: it is in no list, and three polls leave it out. Its downtime stays and shows again with the node
    /// (18-commands).
    pub(super) fn forget(&mut self, node: &str) {
        self.seen.remove(node);
        self.forgotten.insert(node.to_owned(), FORGOTTEN_POLLS);
        self.aliases.retain(|_, primary| primary != node);
    }

    /// Answers `forget`.
    pub(super) fn forget_instance(&mut self, asked: &Asked<'_>) -> Reply {
        match node(asked) {
            Err(refused) => refused,
            Ok(node) if !self.knows(&node) => {
                Reply::logged_error(&format!("ForgetInstance(): instance {} not found", shown(asked)))
            }
            Ok(node) => {
                self.forget(&node);
                Reply::done(&format!("Instance forgotten: {}", shown(asked)), &key(asked))
            }
        }
    }

    fn fail_over_the_dead(&mut self) {
        let dead = |name: &String| self.seen.get(name).is_some_and(|seen| seen.dead_polls >= DEAD_POLLS);
        // A downtimed primary is not recovered (facts §8).
        let is_downtimed =
            |name: &String| self.leader_downtimes().is_some_and(|downtimes| downtimes.contains_key(name));
        let failed: Vec<String> = self.seen.keys().filter(|name| dead(name) && !is_downtimed(name)).cloned().collect();
        for failed in failed {
            let replica = |(_, seen): &(&String, &Seen)| {
                seen.valid && seen.server.replicates_from.as_deref() == Some(failed.as_str())
            };
            let is_primary = self.seen[&failed].server.replicates_from.is_none();
            let successor = self.seen.iter().find(replica).map(|(name, _)| name.clone());
            if let (true, Some(successor)) = (is_primary, successor) {
                self.fail_over(&failed, Some(&successor));
            }
        }
    }

    /// Runs a recovery: promotes, writes the record, and downtimes the failed node on the leader only (facts §8).
    pub(super) fn fail_over(&mut self, failed: &str, successor: Option<&str>) {
        let replicas = self.live_replicas(failed);
        match successor {
            Some(successor) => self.promote(successor, &replicas),
            // Orchestrator stopped their replication while it looked for a successor (19-takeover).
            None => replicas.iter().for_each(|replica| self.nodes.change(replica, |server| server.replicating = false)),
        }
        self.record(failed, successor, &replicas, SystemTime::now());
        self.downtime_on_leader(failed);
        self.poll();
    }

    /// Runs a planned takeover, which leaves the same record and the same mark.
    ///
    /// The record has only one replica, because the others were moved below it before (19-takeover).
    pub(super) fn take_over(&mut self, old: &str, new: &str) {
        let replicas = self.live_replicas(old);
        self.promote(new, &replicas);
        self.nodes.make_replica(old, new);
        self.record(old, Some(new), &[new.to_owned()], SystemTime::now());
        self.downtime_on_leader(old);
        self.poll();
    }

    fn live_replicas(&self, of: &str) -> Vec<String> {
        let nodes = self.nodes.lock();
        let replicas = nodes
            .iter()
            .filter(|(_, server)| server.process == Process::Up && server.replicates_from.as_deref() == Some(of));
        replicas.map(|(name, _)| name.clone()).collect()
    }

    /// Makes a node the primary of the others. Its cluster gets the alias.
    fn promote(&mut self, successor: &str, replicas: &[String]) {
        self.nodes.make_primary(successor);
        for replica in replicas.iter().filter(|replica| *replica != successor) {
            self.nodes.make_replica(replica, successor);
        }
        self.aliases.insert(self.alias_of(successor), successor.to_owned());
        // The new primary's downtime ends, on the leader only (18-commands).
        if let Some(leader) = self.leader {
            self.members[leader].downtimes.remove(successor);
        }
    }
}
