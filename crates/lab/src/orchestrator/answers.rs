//! The routes of the API, as Orchestrator registers them (`registerAPIRequest` in its http/api.go).

use serde_json::{Value, json};

use super::Inner;
use super::http::Reply;
use super::instances::Order;
use super::time::{now_s, timestamp};
use crate::nodes::PORT;

/// A known request.
pub(super) struct Asked<'a> {
    /// Which member answers it.
    pub(super) member: usize,
    /// The values of the route's `:names`.
    args: Vec<&'a str>,
    pub(super) query: &'a str,
}

impl<'a> Asked<'a> {
    /// The value of a name; empty if the route does not have it.
    pub(super) fn arg(&self, at: usize) -> &'a str {
        self.args.get(at).copied().unwrap_or_default()
    }
}

/// Which member answers a request (facts §9).
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The member that was asked.
    Itself,
    /// The leader. A member without a leader answers itself, with what it knew last (9-raft).
    Leader,
    /// All members, through the leader. Without a leader the request is refused (18-commands).
    Raft,
}

type Handler = fn(&mut Inner, &Asked<'_>) -> Reply;

/// Every request that this Orchestrator knows.
const ROUTES: [(&str, By, Handler); 43] = [
    ("leader-check", By::Itself, |lab, asked| lab.leader_check(asked.member, 404)),
    ("leader-check/:status", By::Itself, |lab, asked| {
        lab.leader_check(asked.member, asked.arg(0).parse().unwrap_or(404))
    }),
    ("routed-leader-check", By::Leader, |lab, asked| lab.leader_check(asked.member, 404)),
    ("lb-check", By::Itself, |_, _| Reply::ok("OK")),
    ("health", By::Itself, |lab, asked| lab.health(asked.member)),
    ("status", By::Itself, |lab, asked| lab.health(asked.member)),
    ("raft-state", By::Itself, |lab, asked| Reply::ok(lab.raft_state(asked.member))),
    ("raft-leader", By::Itself, |lab, asked| Reply::ok(lab.leader_name_to(asked.member))),
    ("raft-health", By::Itself, |lab, asked| lab.raft_health(asked.member)),
    ("raft-peers", By::Itself, |lab, _| Reply::ok(lab.peers())),
    ("raft-status", By::Itself, |lab, asked| Reply::ok(lab.raft_status(asked.member))),
    ("all-instances", By::Leader, |lab, asked| Reply::ok(lab.instances(asked.member, Order::Depth, |_| true))),
    ("masters", By::Leader, |lab, asked| Reply::ok(lab.masters(asked.member))),
    ("clusters", By::Leader, |lab, _| Reply::ok(lab.clusters().into_keys().collect::<Vec<_>>())),
    ("clusters-info", By::Leader, |lab, _| Reply::ok(lab.clusters_info())),
    ("cluster/:hint", By::Leader, |lab, asked| lab.with_cluster(asked, Inner::cluster_instances)),
    ("cluster/alias/:alias", By::Leader, |lab, asked| match lab.cluster_by_alias(asked.arg(0)) {
        Some(cluster) => Reply::ok(lab.cluster_instances(asked.member, &cluster)),
        None => Reply::error(&format!("No cluster found for alias {}", asked.arg(0))),
    }),
    ("cluster-info/:hint", By::Leader, |lab, asked| lab.with_cluster(asked, Inner::cluster_info)),
    ("cluster-info/alias/:alias", By::Leader, |lab, asked| lab.with_cluster(asked, Inner::cluster_info)),
    ("master/:hint", By::Leader, |lab, asked| lab.with_cluster(asked, Inner::cluster_master)),
    ("instance/:host/:port", By::Leader, |lab, asked| match node(asked) {
        Err(refused) => refused,
        Ok(node) if lab.knows(&node) => Reply::ok(lab.instance(asked.member, &node)),
        Ok(_) => Reply::error(&format!("Cannot read instance: {}", shown(asked))),
    }),
    ("problems", By::Leader, |lab, asked| Reply::ok(lab.problems(asked.member, None))),
    ("problems/:cluster", By::Leader, |lab, asked| Reply::ok(lab.problems(asked.member, Some(asked.arg(0))))),
    ("downtimed", By::Leader, |lab, asked| Reply::ok(lab.downtimed_of(asked.member, None))),
    ("downtimed/:hint", By::Leader, |lab, asked| {
        lab.with_cluster(asked, |lab, member, cluster| lab.downtimed_of(member, Some(cluster)))
    }),
    ("audit-recovery", By::Leader, |lab, asked| lab.history_page("0", asked.query, |_| true)),
    ("audit-recovery/:page", By::Leader, |lab, asked| lab.history_page(asked.arg(0), asked.query, |_| true)),
    ("audit-recovery/id/:id", By::Leader, |lab, asked| {
        lab.history_page("0", "", |record| record["Id"].as_u64() == asked.arg(0).parse().ok())
    }),
    ("audit-recovery/uid/:uid", By::Leader, |lab, asked| {
        lab.history_page("0", "", |record| record["UID"] == asked.arg(0))
    }),
    ("audit-recovery/cluster/:name", By::Leader, |lab, asked| lab.history_of(asked, "ClusterName")),
    ("audit-recovery/cluster/:name/:page", By::Leader, |lab, asked| lab.history_of(asked, "ClusterName")),
    ("audit-recovery/alias/:alias", By::Leader, |lab, asked| lab.history_of(asked, "ClusterAlias")),
    ("audit-recovery/alias/:alias/:page", By::Leader, |lab, asked| lab.history_of(asked, "ClusterAlias")),
    ("discover/:host/:port", By::Raft, Inner::discover),
    ("begin-downtime/:host/:port/:owner/:reason", By::Raft, Inner::begin_downtime),
    ("begin-downtime/:host/:port/:owner/:reason/:duration", By::Raft, Inner::begin_downtime),
    ("end-downtime/:host/:port", By::Raft, Inner::end_downtime),
    ("forget/:host/:port", By::Raft, Inner::forget_instance),
    ("tags/:host/:port", By::Leader, |lab, asked| lab.tags_of(asked)),
    ("tagged", By::Leader, |lab, asked| lab.tagged(asked)),
    ("tag/:host/:port", By::Leader, Inner::tag),
    ("tag/:host/:port/:name/:value", By::Leader, Inner::tag),
    ("ack-all-recoveries", By::Raft, |lab, asked| lab.acknowledge_all(asked.query)),
];

/// The patterns of all requests.
pub(super) fn routes() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().map(|(pattern, ..)| *pattern)
}

/// The first route that matches a path, with the values of its names.
fn route(path: &str) -> Option<(By, Handler, Vec<&str>)> {
    let words: Vec<&str> = path.split('/').collect();
    ROUTES.iter().find_map(|(pattern, by, handler)| {
        let mut args = Vec::new();
        let mut fits = |(name, word): (&str, &&'_ str)| name == *word || name.starts_with(':') && !word.is_empty();
        let is_it = pattern.split('/').count() == words.len() && pattern.split('/').zip(&words).all(&mut fits);
        args.extend(pattern.split('/').zip(&words).filter(|(name, _)| name.starts_with(':')).map(|(_, word)| *word));
        is_it.then_some((*by, *handler, args))
    })
}

/// Whether each member answers this itself. Other requests are proxied to the leader.
pub(super) fn is_local(path: &str) -> bool {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    route(path).is_none_or(|(by, ..)| by == By::Itself)
}

impl Inner {
    /// Answers a request to a member. `path` has no prefix and no `/api/`.
    pub(super) fn answer(&mut self, member: usize, path: &str) -> Reply {
        self.expire_downtimes();
        let (route_path, query) = path.split_once('?').unwrap_or((path, ""));
        match route(route_path) {
            // No build with these hooks is recorded. The statuses are from the fork's source (facts §14), and a build
            // without them answers as to any unknown request (18-commands).
            None if route_path == "v2/proxysql/servers" => match self.settings.proxysql_hooks {
                Some(200) => Reply::json(200, &json!([])),
                Some(status) => Reply::json(status, &json!({"Code": "ERROR", "Message": "ProxySQL hooks are off"})),
                None => Reply::not_found(),
            },
            None => {
                self.unknown.push(path.to_owned());
                Reply::not_found()
            }
            Some((By::Raft, ..)) if !self.leads(member) || self.settings.is_read_only => Reply::error("Unauthorized"),
            Some(_) if !self.settings.raft && route_path.starts_with("raft-") => no_raft(route_path),
            Some((By::Leader, ..)) if self.is_without_database && route_path != "routed-leader-check" => {
                Reply::logged_error("dial tcp 127.0.0.1:3306: connect: connection refused")
            }
            Some((_, handler, args)) => handler(self, &Asked { member, args, query }),
        }
    }

    /// Answers for the cluster that a hint names by its name, its alias or one of its nodes.
    fn with_cluster(&self, asked: &Asked<'_>, say: impl Fn(&Self, usize, &str) -> Value) -> Reply {
        let hint = asked.arg(0);
        match self.cluster_by_hint(hint) {
            Some(cluster) => Reply::ok(say(self, asked.member, &cluster)),
            None => Reply::logged_error(&format!("Unable to determine cluster name. clusterHint={hint}")),
        }
    }

    /// Polls one node now. A node that is being forgotten is polled too, and stays forgotten (18-commands).
    fn discover(&mut self, asked: &Asked<'_>) -> Reply {
        let node = match node(asked) {
            Err(refused) => return refused,
            Ok(node) => node,
        };
        if !self.answers(&node) {
            return Reply::error(&format!("dial tcp {}: connect: connection refused", shown(asked)));
        }
        let is_forgotten = self.forgotten.contains_key(&node);
        self.look_at(&node);
        self.claim_aliases();
        let instance = self.seen.get(&node).map(|seen| self.topology_instance(seen, &node));
        if is_forgotten {
            self.seen.remove(&node);
        }
        Reply::done(&format!("Instance discovered: {}", shown(asked)), &json!(instance))
    }
}

/// 21-no-raft: `raft-status` calls itself raft-state, and `raft-peers` raft-nodes.
fn no_raft(request: &str) -> Reply {
    let name = match request {
        "raft-status" | "raft-health" => "raft-state",
        "raft-peers" => "raft-nodes",
        other => other,
    };
    Reply::error(&format!("{name}: not running with raft setup"))
}

/// The node of a request. All nodes of the lab have the same port, so another port is an unknown node.
pub(super) fn node(asked: &Asked<'_>) -> Result<String, Reply> {
    let (host, port) = (asked.arg(0), asked.arg(1));
    match port.parse::<u16>() {
        Ok(PORT) => Ok(host.to_owned()),
        Ok(port) => Ok(format!("{host}:{port}")),
        Err(_) => Err(Reply::error(&format!("Invalid port: {port}"))),
    }
}

/// The name of a request's node in the answer.
pub(super) fn shown(asked: &Asked<'_>) -> String {
    format!("{}:{}", asked.arg(0), asked.arg(1))
}

/// The key of a request's node.
pub(super) fn key(asked: &Asked<'_>) -> Value {
    json!({"Hostname": asked.arg(0), "Port": asked.arg(1).parse::<u16>().unwrap_or(PORT)})
}

impl Reply {
    /// A bare array, object or string.
    pub(super) fn ok(body: impl Into<Value>) -> Self {
        Self::json(200, &body.into())
    }

    /// An error that Orchestrator logs too (1-healthy/downtimed_nosuch.json).
    pub(super) fn logged_error(message: &str) -> Self {
        Self::error(&format!("{} ERROR {message}", timestamp(now_s()).replace('T', " ").replace('Z', "")))
    }
}
