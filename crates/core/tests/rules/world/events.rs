//! What happens to MySQL, Orchestrator, the agent and ProxySQL.

use stonith_core::decide::Decision;
use stonith_core::evidence::Level;
use stonith_core::memory::Memory;
use stonith_core::orchestrator::{Analysis, BARRIER, Backing, Downtime, LOST_IN_RECOVERY, Recovery};
use stonith_core::orders::Order;
use stonith_core::table::{Hostgroup, Row, Status};

use super::{Lab, Raft, Server, node, row};

impl Lab {
    pub fn server(&mut self, name: &str) -> &mut Server {
        self.servers.get_mut(&node(name)).unwrap()
    }

    pub fn dies(&mut self, name: &str) -> &mut Self {
        let dead = node(name);
        self.server(name).up = false;
        for server in self.servers.values_mut().filter(|server| server.primary.as_ref() == Some(&dead)) {
            server.replicating = false;
        }
        self
    }

    fn takes_over(&mut self, from: &str, to: &str) {
        let (old, new) = (node(from), node(to));
        for (name, server) in &mut self.servers {
            if server.up && *name != old && *name != new && server.primary.as_ref() == Some(&old) {
                (server.primary, server.replicating) = (Some(new.clone()), true);
            }
        }
        let promoted = self.server(to);
        (promoted.primary, promoted.replicating, promoted.read_only) = (None, false, false);
        self.primary = new;
    }

    /// A record of the recovery history, `age_s` before now.
    pub fn record(&mut self, age_s: i64, failed: &str, successor: Option<&str>) -> &mut Recovery {
        let at_s = self.now_s() - age_s;
        let at_ns = u64::try_from(at_s).unwrap() * 1_000_000_000 + self.records.len() as u64;
        self.records.push(Recovery {
            at_ns,
            uid: format!("{at_ns}:abc"),
            end_s: Some(at_s + 1),
            analysis: Analysis::DeadPrimary,
            successful: true,
            failed: node(failed),
            successor: successor.map(node),
            alias: "main".to_owned(),
        });
        self.records.last_mut().unwrap()
    }

    /// `from` dies and Orchestrator promotes `to`: record, and a downtime on this leader only (facts §8).
    pub fn failover(&mut self, from: &str, to: &str) -> &mut Self {
        self.dies(from).takes_over(from, to);
        self.record(0, from, Some(to));
        self.downtime(from, LOST_IN_RECOVERY)
    }

    /// The hook of a recovery of `failed` has marked it, and Orchestrator waits. The record is open.
    pub fn barrier(&mut self, failed: &str) -> &mut Self {
        let record = self.record(0, failed, None);
        (record.end_s, record.successful) = (None, false);
        let uid = record.uid.clone();
        self.downtime(failed, BARRIER).downtimes.last_mut().unwrap().owner = uid;
        self
    }

    /// The recovery that a barrier was for promotes `to`, this second. `from` is as it is.
    pub fn barrier_promotes(&mut self, from: &str, to: &str) -> &mut Self {
        self.takes_over(from, to);
        let now_s = self.now_s();
        let record = self.records.last_mut().unwrap();
        (record.end_s, record.successful, record.successor) = (Some(now_s), true, Some(node(to)));
        self
    }

    /// The recovery that a barrier was for ends, and nobody was promoted.
    pub fn barrier_in_vain(&mut self) -> &mut Self {
        let now_s = self.now_s();
        self.records.last_mut().unwrap().end_s = Some(now_s);
        self
    }

    /// A graceful takeover: it leaves what a failover leaves, but `from` follows `to` (facts §8).
    pub fn takeover(&mut self, from: &str, to: &str) -> &mut Self {
        self.takes_over(from, to);
        self.follows(from, to);
        self.record(0, from, Some(to));
        self.downtime(from, LOST_IN_RECOVERY)
    }

    /// The agent saw this downtime listed when it asked for the history last, as begun so long before now.
    pub fn listed_before(&mut self, name: &str, reason: &str, seconds: i64) {
        let (node, begin_s) = (node(name), self.now_s() - seconds);
        let downtime = Downtime { node: node.clone(), reason: reason.to_owned(), owner: "x".to_owned(), begin_s };
        self.memory.history.downtimes.insert(node, downtime);
    }

    pub fn downtime(&mut self, name: &str, reason: &str) -> &mut Self {
        let begin_s = self.now_s();
        self.downtimes.retain(|downtime| downtime.node != node(name));
        self.downtimes.push(Downtime { node: node(name), reason: reason.to_owned(), owner: "x".to_owned(), begin_s });
        self
    }

    pub fn downtime_ends(&mut self, name: &str) -> &mut Self {
        self.downtimes.retain(|downtime| downtime.node != node(name));
        self
    }

    /// Up, read-only, replicating from `of`.
    pub fn follows(&mut self, name: &str, of: &str) -> &mut Self {
        let of = node(of);
        let server = self.server(name);
        (server.up, server.read_only, server.primary, server.replicating) = (true, true, Some(of), true);
        self
    }

    /// Takes writes, and has replica settings of `of` left; its replication does not run.
    pub fn has_settings_left(&mut self, name: &str, of: &str) -> &mut Self {
        let of = node(of);
        let server = self.server(name);
        (server.read_only, server.primary, server.replicating) = (false, Some(of), false);
        self
    }

    /// An operator makes `to` the primary by hand, without Orchestrator: everybody else that is up follows it.
    pub fn switched_by_hand(&mut self, to: &str) -> &mut Self {
        let up = self.servers.iter().filter(|(_, server)| server.up).map(|(node, _)| node.host.to_string());
        for name in up.filter(|name| name != to).collect::<Vec<_>>() {
            self.follows(&name, to);
        }
        self.primary = node(to);
        self.returns_writable(to)
    }

    pub fn returns_writable(&mut self, name: &str) -> &mut Self {
        let server = self.server(name);
        (server.up, server.read_only, server.primary, server.replicating) = (true, false, None, false);
        self
    }

    /// Back as a read-only replica of the present primary, its downtime over.
    pub fn repaired(&mut self, name: &str) -> &mut Self {
        let of = self.primary.host.to_string();
        self.follows(name, &of).downtime_ends(name)
    }

    /// Orchestrator forgets an instance.
    pub fn forgets(&mut self, name: &str) -> &mut Self {
        self.server(name).listed = false;
        self.downtime_ends(name)
    }

    pub fn purges_history(&mut self) -> &mut Self {
        self.records.clear();
        self
    }

    /// The leader dies; another one leads, who knows nothing of lost-in-recovery downtimes.
    pub fn leader_killed(&mut self, next: &str) -> &mut Self {
        self.downtimes.retain(|downtime| downtime.reason != LOST_IN_RECOVERY);
        self.led_by(next)
    }

    pub fn led_by(&mut self, leader: &str) -> &mut Self {
        self.raft = Raft::Led { leader: leader.to_owned(), backing: Backing::Majority };
        self
    }

    pub fn backed(&mut self, by: Backing) -> &mut Self {
        self.raft = Raft::Led { leader: "orc1".to_owned(), backing: by };
        self
    }

    pub fn asked(&mut self, comes_to: Raft) -> &mut Self {
        self.raft = comes_to;
        self
    }

    /// Nothing is heard any more.
    pub fn leader_gone(&mut self) -> &mut Self {
        self.asked(Raft::Silent)
    }

    /// The leader goes on showing the instances as they are now.
    pub fn rows_go_stale(&mut self) -> &mut Self {
        self.stale = Some(self.instances());
        self
    }

    /// Another agent of the same ProxySQL goes on; it starts long after the first one, the first time.
    pub fn agent(&mut self, name: &'static str) -> &mut Self {
        if name != self.agent {
            let next = self.others.remove(name).unwrap_or_else(|| self.memory.clone());
            let before = std::mem::replace(&mut self.memory, next);
            self.others.insert(std::mem::replace(&mut self.agent, name), before);
        }
        self
    }

    // --- what happens to the agent and ProxySQL ----------------------------------------------------------------

    /// The agent's process ends and begins again, `after_s` later.
    pub fn agent_restarts(&mut self, after_s: u64) -> &mut Self {
        self.now_ms += after_s * 1_000;
        self.memory = self.memory.clone().resume("boot", self.now_ms, 2 * self.policy.tick_ms);
        self
    }

    /// The host boots: its boot clock begins anew.
    pub fn host_boots(&mut self) -> &mut Self {
        self.now_ms = 20_000;
        self.memory = self.memory.clone().resume("another boot", self.now_ms, 2_000);
        self
    }

    pub fn state_lost(&mut self) -> &mut Self {
        self.memory = Memory::first_start("boot", self.now_ms);
        self
    }

    pub fn order(&mut self, order: Order) -> Decision {
        self.orders.now = Some(order);
        self.next()
    }

    pub fn order_fence(&mut self, name: &str) -> Decision {
        self.order(Order::Fence { node: node(name), level: Level::Soft })
    }

    pub fn order_unfence(&mut self, name: &str, without_lease: bool) -> Decision {
        self.order(Order::Unfence { node: node(name), without_lease, role: None })
    }

    /// A row is added or replaced, in every layer.
    pub fn put(&mut self, row: Row) -> &mut Self {
        for rows in [&mut self.proxy.runtime, &mut self.proxy.memory, &mut self.proxy.disk] {
            rows.retain(|other| other.key != row.key);
            rows.push(row.clone());
            rows.sort();
        }
        self
    }

    /// The agent's host resolves these hosts to 10.0.0.x.
    pub fn resolves(&mut self, hosts: &[(&str, u8)]) -> &mut Self {
        let host = |(name, last): &(&str, u8)| (node(name).host, [[10, 0, 0, *last].into()].into());
        self.addresses = hosts.iter().map(host).collect();
        self
    }

    /// An operator deletes a row, in every layer.
    pub fn delete(&mut self, hostgroup: u32, name: &str) -> &mut Self {
        for rows in [&mut self.proxy.runtime, &mut self.proxy.memory, &mut self.proxy.disk] {
            rows.retain(|row| row.key.hostgroup != Hostgroup(hostgroup) || row.node() != Some(node(name)));
        }
        self
    }

    /// An operator edits a row, in every layer.
    pub fn edit(&mut self, hostgroup: u32, name: &str, edit: impl Fn(&mut Row)) -> &mut Self {
        for rows in [&mut self.proxy.runtime, &mut self.proxy.memory, &mut self.proxy.disk] {
            for row in rows.iter_mut() {
                if row.key.hostgroup == Hostgroup(hostgroup) && row.node() == Some(node(name)) {
                    edit(row);
                }
            }
        }
        self
    }

    /// The fork's hook before a failover: the old primary's writer row goes out, and LOAD (facts §14).
    pub fn hook_before(&mut self, old: &str) -> &mut Self {
        let of_old = |row: &&mut Row| row.key.hostgroup == Hostgroup(10) && row.node() == Some(node(old));
        self.proxy.memory.iter_mut().filter(of_old).for_each(|row| row.status = Status::OfflineSoft);
        self.loads()
    }

    /// The one after it: its REPLACEs leave every other column at the default. LOAD and SAVE.
    pub fn hook_after(&mut self, old: &str, new: &str) -> &mut Self {
        let theirs = |hostgroup, name: &str, status| Row {
            settings: [("weight".to_owned(), "1".to_owned())].into_iter().collect(),
            ..row(hostgroup, name, status)
        };
        let replaced = [theirs(10, new, Status::Online), theirs(20, old, Status::OfflineSoft)];
        let is_deleted = |row: &Row| {
            [(10, old), (20, new), (10, new), (20, old)]
                .iter()
                .any(|(hostgroup, name)| row.key.hostgroup == Hostgroup(*hostgroup) && row.node() == Some(node(name)))
        };
        self.proxy.memory.retain(|row| !is_deleted(row));
        self.proxy.memory.extend(replaced);
        self.proxy.memory.sort();
        self.loads();
        self.proxy.disk = self.proxy.memory.clone();
        self
    }

    /// LOAD MYSQL SERVERS TO RUNTIME.
    pub fn loads(&mut self) -> &mut Self {
        self.proxy.runtime = self.proxy.memory.clone();
        self
    }

    /// ProxySQL restarts: runtime and memory are what the disk holds.
    pub fn proxy_restarts(&mut self) -> &mut Self {
        self.proxy.runtime = self.proxy.disk.clone();
        self.proxy.memory = self.proxy.disk.clone();
        self
    }
}
