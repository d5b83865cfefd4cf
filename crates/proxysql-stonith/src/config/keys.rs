//! Every config key, defined once.
//!
//! The config file, the environment, the flags, `--help`, `config check` and docs/config.md come from here. A new key
//! needs its definition here, its place in [`SECTIONS`], a field of [`super::Config`], and a line in `effective`. Its
//! section says whether it can be set for each ProxySQL or each Orchestrator.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use stonith_core::barrier::OnUnconfirmed;
use stonith_core::evidence::EvidenceKind;
use stonith_core::node::Node;
use stonith_core::policy::{ErrantGtid, FenceOn, IsolationScope};
use stonith_core::table::Hostgroup;

use super::definition::{About, Key};
use super::words::{Enforcement, LogFormat, LogLevel, OnBlind, ProxyTls};
use super::{AgentUrl, Listen};
use crate::secret::Secret;

/// A section of the config file.
pub struct Section {
    /// Its name, without brackets.
    pub name: &'static str,
    /// How often it may be there.
    pub form: Form,
    /// Whether each `[[proxysql]]` may have its own, written `[proxysql.name]`.
    pub per_proxy: bool,
    /// What it is about.
    pub doc: &'static str,
    /// Its keys, in the order in which they are shown.
    pub keys: &'static [&'static About],
}

/// How often a section may be in the config file, and how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Once, `[name]`.
    Single,
    /// Any number of times, `[[name]]`.
    Repeated,
    /// Once, `[name]`, or any number of times, `[[name]]`, each with its own value of the key `name`.
    SingleOrNamed,
}

/// Every section, in the order in which they are shown.
pub static SECTIONS: &[Section] = &[
    Section {
        name: "orchestrator",
        form: Form::SingleOrNamed,
        per_proxy: false,
        doc: "How to reach Orchestrator. Where several clusters have an Orchestrator each, one `[[orchestrator]]` section for \
              each, with a `name`; each `[[proxysql]]` then says which one it follows. No flag or variable can set these keys \
              if there are several sections.",
        keys: &[
            &ORCHESTRATOR_NAME.about,
            &ENDPOINTS.about,
            &ORCHESTRATOR_USER.about,
            &ORCHESTRATOR_PASSWORD.about,
            &ORCHESTRATOR_PASSWORD_FILE.about,
            &TLS_VERIFY.about,
            &ORCHESTRATOR_CA_FILE.about,
            &CLIENT_CERT.about,
            &CLIENT_KEY.about,
            &CONNECT_TIMEOUT.about,
            &READ_TIMEOUT.about,
            &TICK_TIMEOUT.about,
        ],
    },
    Section {
        name: "proxysql",
        form: Form::Repeated,
        per_proxy: false,
        doc: "The ProxySQLs to watch, one section each. Each needs a user and one source of its password.",
        keys: &[
            &ADDRESS.about,
            &PROXYSQL_SOCKET.about,
            &FOLLOWS.about,
            &PROXYSQL_USER.about,
            &PROXYSQL_PASSWORD.about,
            &PROXYSQL_PASSWORD_FILE.about,
            &DEFAULTS_FILE.about,
            &PROXYSQL_TLS.about,
            &PROXYSQL_CA_FILE.about,
            &ACCEPT_LOST_EDITS.about,
        ],
    },
    Section {
        name: "policy",
        form: Form::Single,
        per_proxy: true,
        doc: "What fences a node, and what lets it back.",
        keys: &[
            &MODE.about,
            &FENCE_ON.about,
            &MAX_DOWNTIME_FENCES.about,
            &EXCLUDE_HOSTGROUPS.about,
            &WRITER_HOSTGROUPS.about,
            &ERRANT_GTID.about,
            &ON_BLIND.about,
            &END_POSSIBLE_HOLDERS.about,
        ],
    },
    Section {
        name: "aliases",
        form: Form::Single,
        per_proxy: true,
        doc: "The instance in Orchestrator of each row in ProxySQL that has another name, such as \
              `\"10.0.0.5:3306\" = \"db1:3306\"`. A name without a port has port 3306. No alias is needed where the \
              names are equal, or where exactly one row and one instance have the same address and port. A row that is \
              named after itself has no other name.",
        keys: &[],
    },
    Section {
        name: "isolation",
        form: Form::Single,
        per_proxy: true,
        doc: "What happens to a ProxySQL that is cut off from Orchestrator.",
        keys: &[&ISOLATION_AFTER.about, &ISOLATION_SCOPE.about],
    },
    Section {
        name: "node_fence",
        form: Form::Single,
        per_proxy: false,
        doc: "How far a fence goes beyond ProxySQL: the fenced node itself is made read-only, by the daemon, through a MySQL \
              account of its own, or powered off. Nothing is done unless `read_only` or `fence_agent` names a kind of evidence. \
              Only an operator makes a node writable again, or powers it on.",
        keys: &[
            &NODE_FENCE_READ_ONLY.about,
            &NODE_FENCE_USER.about,
            &NODE_FENCE_PASSWORD_FILE.about,
            &NODE_FENCE_TLS.about,
            &NODE_FENCE_CA_FILE.about,
            &NODE_FENCE_SPARE.about,
            &NODE_FENCE_TIMEOUT.about,
            &NODE_FENCE_FENCE_AGENT.about,
            &NODE_FENCE_READ_ONLY_WAIT.about,
            &NODE_FENCE_FENCE_AGENT_ALWAYS.about,
            &NODE_FENCE_FENCE_AGENT_DRY_RUN.about,
        ],
    },
    Section {
        name: "fence_agent",
        form: Form::Repeated,
        per_proxy: false,
        doc: "The programs that power nodes off, one section each: fence agents of ClusterLabs, and whatever keeps their \
              contract. They run only if `node_fence.fence_agent` names a kind of evidence. Several that name one node are \
              tried in this order. docs/node-fence.md has examples.",
        keys: &[
            &FENCE_AGENT_NAME.about,
            &FENCE_AGENT_PROGRAM.about,
            &FENCE_AGENT_NODES.about,
            &FENCE_AGENT_PARAMETERS.about,
            &FENCE_AGENT_SECRET_FILES.about,
            &FENCE_AGENT_DELAY.about,
            &FENCE_AGENT_RETRIES.about,
            &FENCE_AGENT_TIMEOUT.about,
        ],
    },
    Section {
        name: "run",
        form: Form::Single,
        per_proxy: false,
        doc: "How the program runs.",
        keys: &[&INTERVAL.about, &SCHEDULER_INTERVAL.about, &STATE_DIR.about],
    },
    Section {
        name: "http",
        form: Form::Single,
        per_proxy: false,
        doc: "What the daemon answers over HTTP: metrics, health, status, and a wake-up. `run --once` has no HTTP. A \
              change takes effect at the next start.",
        keys: &[&HTTP_LISTEN.about, &HTTP_TOKEN_FILE.about, &HTTP_REGISTER_AS.about],
    },
    Section {
        name: "barrier",
        form: Form::Single,
        per_proxy: false,
        doc: "How `hook pre-failover` waits for the fence before Orchestrator promotes. The hook fences the ProxySQLs of \
              `[[proxysql]]` itself, and asks the agents below for theirs. Its config may have agents and no \
              `[[proxysql]]`. docs/barrier.md has which promise holds with which setting.",
        keys: &[
            &BARRIER_AGENTS.about,
            &BARRIER_TOKEN_FILE.about,
            &BARRIER_FORGET_AFTER.about,
            &BARRIER_DEADLINE.about,
            &BARRIER_ON_UNCONFIRMED.about,
            &BARRIER_DRAIN_TIMEOUT.about,
            &BARRIER_LEASE.about,
            &BARRIER_GUARDED.about,
        ],
    },
    Section {
        name: "log",
        form: Form::Single,
        per_proxy: false,
        doc: "What is logged.",
        keys: &[&LOG_FORMAT.about, &LOG_LEVEL.about],
    },
];

/// Every key, and the config file's own flag first.
pub fn all() -> impl Iterator<Item = &'static About> {
    std::iter::once(&CONFIG_FILE.about).chain(SECTIONS.iter().flat_map(|section| section.keys.iter().copied()))
}

/// The config file itself. No key of it.
pub static CONFIG_FILE: Key<PathBuf> = Key::new("", "config", "Config file.")
    .flag("--config=FILE")
    .env(&["PROXYSQL_STONITH_CONFIG"])
    .unset("/etc/proxysql-stonith.toml if it exists");

/// The name of one of several.
pub static ORCHESTRATOR_NAME: Key<String> = Key::new(
    "orchestrator",
    "name",
    "Name of this Orchestrator in the config file: letters, digits, `-`, `_` and `.`. Required in `[[orchestrator]]`; \
     `[orchestrator]` has none.",
)
.unset("no name");

/// Orchestrator's nodes.
pub static ENDPOINTS: Key<Vec<String>> = Key::new(
    "orchestrator",
    "endpoints",
    "Every node of Orchestrator by its URL, such as `http://orc1:3000`. A URL may have a prefix, and may end in `/api`. \
     List every member of the raft, so that no single one \
     speaks for all.",
)
.flag("--orchestrator=URL,...")
.env(&["PROXYSQL_STONITH_ORCHESTRATOR", "ORCHESTRATOR_API"])
.list()
.required();

/// User for basic auth.
pub static ORCHESTRATOR_USER: Key<String> =
    Key::new("orchestrator", "user", "User for basic auth, if Orchestrator asks for it.")
        .env(&["PROXYSQL_STONITH_ORCHESTRATOR_USER", "ORCHESTRATOR_AUTH_USER"])
        .unset("no basic auth");

/// Password for basic auth.
pub static ORCHESTRATOR_PASSWORD: Key<Secret> = Key::new(
    "orchestrator",
    "password",
    "Password for basic auth. A config file with a password in it must be closed to other users (mode 0600).",
)
.env(&["PROXYSQL_STONITH_ORCHESTRATOR_PASSWORD", "ORCHESTRATOR_AUTH_PASSWORD"]);

/// A file with that password in it.
pub static ORCHESTRATOR_PASSWORD_FILE: Key<PathBuf> = Key::new(
    "orchestrator",
    "password_file",
    "File with the password and nothing else, instead of `password`. It must be closed to other users (mode 0600).",
);

/// Whether the server's certificate is verified.
pub static TLS_VERIFY: Key<bool> = Key::new(
    "orchestrator",
    "tls_verify",
    "Verify Orchestrator's certificate. With `false`, any server on the way can pose as Orchestrator.",
)
.default("true");

/// Certificates to trust instead of the system's.
pub static ORCHESTRATOR_CA_FILE: Key<PathBuf> =
    Key::new("orchestrator", "ca_file", "Trust the CA certificates in this PEM file instead of the system's.")
        .unset("the system's CAs");

/// Our own certificate.
pub static CLIENT_CERT: Key<PathBuf> = Key::new(
    "orchestrator",
    "client_cert",
    "Certificate (PEM) that the program shows to Orchestrator. It needs `client_key`.",
)
.unset("no client certificate");

/// Its key.
pub static CLIENT_KEY: Key<PathBuf> = Key::new(
    "orchestrator",
    "client_key",
    "Private key (PEM) of `client_cert`. The file must be closed to other users (mode 0600).",
);

/// The longest connect.
pub static CONNECT_TIMEOUT: Key<Duration> =
    Key::new("orchestrator", "connect_timeout", "Longest wait for a connection to one node of Orchestrator.")
        .default("1s");

/// The longest wait for an answer.
pub static READ_TIMEOUT: Key<Duration> =
    Key::new("orchestrator", "read_timeout", "Longest wait for one answer of Orchestrator.").default("2s");

/// The longest time that a tick asks Orchestrator.
pub static TICK_TIMEOUT: Key<Duration> =
    Key::new("orchestrator", "tick_timeout", "Longest time that one tick asks Orchestrator.").default("4s");

/// The admin interface.
pub static ADDRESS: Key<Node> = Key::new(
    "proxysql",
    "address",
    "ProxySQL's admin interface, such as `127.0.0.1:6032`. Flag and variable choose which ProxySQLs are watched; what \
     the file sets for a chosen one still holds.",
)
.flag("--proxysql=HOST:PORT,...")
.env(&["PROXYSQL_STONITH_PROXYSQL"])
.list()
.required();

/// The admin interface's socket.
pub static PROXYSQL_SOCKET: Key<PathBuf> = Key::new(
    "proxysql",
    "socket",
    "Connect to the admin interface through this unix socket, one that ProxySQL's `admin-mysql_ifaces` lists. `address` \
     still names the ProxySQL.",
)
.unset("the address");

/// Which Orchestrator decides for the nodes of this ProxySQL.
pub static FOLLOWS: Key<String> = Key::new(
    "proxysql",
    "orchestrator",
    "Name of the `[[orchestrator]]` that decides for the nodes behind this ProxySQL. Required if there are several.",
)
.unset("the only Orchestrator");

/// The admin user.
pub static PROXYSQL_USER: Key<String> = Key::new(
    "proxysql",
    "user",
    "Admin user. ProxySQL takes `admin` from its own host only; elsewhere it must be another one of \
     `admin-admin_credentials`.",
)
.env(&["PROXYSQL_STONITH_PROXYSQL_USER"])
.unset("the user in `defaults_file`");

/// The admin user's password.
pub static PROXYSQL_PASSWORD: Key<Secret> = Key::new(
    "proxysql",
    "password",
    "Password of the admin user. A config file with a password in it must be closed to other users (mode 0600).",
)
.env(&["PROXYSQL_STONITH_PROXYSQL_PASSWORD"]);

/// A file with that password in it.
pub static PROXYSQL_PASSWORD_FILE: Key<PathBuf> = Key::new(
    "proxysql",
    "password_file",
    "File with the password and nothing else, instead of `password`. It must be closed to other users (mode 0600).",
);

/// A MySQL option file with user and password.
pub static DEFAULTS_FILE: Key<PathBuf> = Key::new(
    "proxysql",
    "defaults_file",
    "MySQL option file with ProxySQL's admin user and password in its group `[client]`. If flag or variable names it, \
     Orchestrator's are read from its group `[orchestrator]`. It must be closed to other users (mode 0600).",
)
.flag("--defaults-file=FILE")
.env(&["PROXYSQL_STONITH_DEFAULTS_FILE"]);

/// TLS, and what the certificate has to prove.
pub static PROXYSQL_TLS: Key<ProxyTls> = Key::new(
    "proxysql",
    "tls",
    "TLS to the admin interface. `verify-ca` requires a certificate that a CA in `ca_file` signed. `verify-identity` \
     requires that it is also for this address. With `off`, any server on the way can pose as ProxySQL.",
)
.default("off");

/// Certificates to trust instead of the system's.
pub static PROXYSQL_CA_FILE: Key<PathBuf> = Key::new(
    "proxysql",
    "ca_file",
    "Trust the CA certificates in this PEM file. For the certificate that ProxySQL made itself, it is a copy of \
     `proxysql-ca.pem` in ProxySQL's data directory.",
)
.unset("the system's CAs");

/// Whether to work on a version that loses staged edits by itself.
pub static ACCEPT_LOST_EDITS: Key<bool> = Key::new(
    "proxysql",
    "accept_lost_edits",
    "Work on a ProxySQL below 2.5.2. Its monitor writes memory and LOADs, so what somebody has staged is lost, also in \
     the middle of an apply. With `false`, `run` changes nothing there. Later versions do not need it.",
)
.default("false");

/// Keys that earlier versions had, with what to do instead.
pub static REMOVED: &[(&str, &str, &str)] = &[(
    "proxysql",
    "allow_untested_version",
    "removed: the program finds out by itself what a ProxySQL can do. Delete this line. For a ProxySQL below 2.5.2, \
     accept_lost_edits = true is needed instead",
)];

/// Whether anything is written.
pub static MODE: Key<Enforcement> = Key::new(
    "policy",
    "mode",
    "Whether to act, or only to decide and report. `observe` never writes to ProxySQL, and protects nothing.",
)
.flag("--mode=MODE")
.env(&["PROXYSQL_STONITH_MODE"])
.default("enforce");

/// Which downtimes fence.
pub static FENCE_ON: Key<FenceOn> = Key::new(
    "policy",
    "fence_on",
    "Which downtimes in Orchestrator fence a node. With `lost-in-recovery`, only those that a recovery began; a plain \
     downtime fences nothing.",
)
.default("any-downtime");

/// The most nodes of a cluster that plain downtime fences.
pub static MAX_DOWNTIME_FENCES: Key<i64> = Key::new(
    "policy",
    "max_downtime_fences",
    "At most this many nodes of a cluster are fenced for plain downtime, and never more than half of them.",
)
.default("2")
.limits("0", "1000");

/// Hostgroups that are never touched.
pub static EXCLUDE_HOSTGROUPS: Key<Vec<Hostgroup>> = Key::new(
    "policy",
    "exclude_hostgroups",
    "Hostgroups that are never touched. Those of group replication, Galera, Aurora and blue/green never are.",
)
.default("");

/// Hostgroups that take writes without being in a pair.
pub static WRITER_HOSTGROUPS: Key<Vec<Hostgroup>> = Key::new(
    "policy",
    "writer_hostgroups",
    "Hostgroups that take writes without being in `mysql_replication_hostgroups`.",
)
.default("");

/// Whether transactions that only the old primary has keep it out.
pub static ERRANT_GTID: Key<ErrantGtid> = Key::new(
    "policy",
    "errant_gtid",
    "What to do after a recovery with a repaired node that has transactions which the primary lacks. `hold` keeps it \
     out; `warn` lets it back and warns.",
)
.default("hold");

/// What unusable answers do.
pub static ON_BLIND: Key<OnBlind> = Key::new(
    "policy",
    "on_blind",
    "What to do when Orchestrator's answers are unusable for longer than `isolation.after`. A refused password is such an \
     answer. `hold` changes nothing and warns. `isolate` takes the proxy out of service.",
)
.default("hold");

/// Whether idle sessions that may hold a fenced node are ended.
pub static END_POSSIBLE_HOLDERS: Key<bool> = Key::new(
    "policy",
    "end_possible_holders",
    "End idle sessions that may hold a fenced node, where ProxySQL does not show which ones do. `false` spares them; \
     one that holds the node can go on writing to it.",
)
.default("true");

/// When a cut-off proxy goes out of service.
pub static ISOLATION_AFTER: Key<Duration> = Key::new(
    "isolation",
    "after",
    "Take the proxy out of service this long after the leader's last answer. The least is 5s for an election, two ticks, \
     and 1s for an apply: 16s if the scheduler starts `run --once` every 5s. Longer outlasts longer elections; shorter \
     ends writes to an old primary sooner.",
)
.flag("--isolation-after=DURATION")
.env(&["PROXYSQL_STONITH_ISOLATION_AFTER"])
.unset("10s, or the least that the interval allows");

/// What goes out of service.
pub static ISOLATION_SCOPE: Key<IsolationScope> = Key::new(
    "isolation",
    "scope",
    "What goes out of service when the proxy is cut off. `writers` keeps the readers in service. With `off`, a cut-off proxy can go on \
     writing to an old primary. A member of a ProxySQL Cluster is paused as a whole unless this is `off`.",
)
.flag("--isolation-scope=SCOPE")
.env(&["PROXYSQL_STONITH_ISOLATION_SCOPE"])
.default("all");

/// For which evidence a node is made read-only.
pub static NODE_FENCE_READ_ONLY: Key<Vec<EvidenceKind>> = Key::new(
    "node_fence",
    "read_only",
    "Make a node read-only at the node itself while it is fenced for one of these kinds of evidence. They are \
     `superseded`, `lost-in-recovery`, `second-writer`, `barrier` and `manual`. The node's client sessions are ended. It \
     needs `user` and `password_file`.",
)
.unset("no node is touched");

/// The account on the nodes.
pub static NODE_FENCE_USER: Key<String> =
    Key::new("node_fence", "user", "Account on every node. docs/node-fence.md has the GRANT statements.")
        .unset("needed with `read_only`");

/// The account's password.
pub static NODE_FENCE_PASSWORD_FILE: Key<PathBuf> = Key::new(
    "node_fence",
    "password_file",
    "File with the account's password. It must be closed to other users (mode 0600).",
)
.unset("needed with `read_only`");

/// TLS to the nodes.
pub static NODE_FENCE_TLS: Key<ProxyTls> = Key::new(
    "node_fence",
    "tls",
    "TLS to the nodes. An account with `caching_sha2_password`, MySQL's default, needs it. `verify-identity` also checks \
     the name.",
)
.default("off");

/// The CA of the nodes.
pub static NODE_FENCE_CA_FILE: Key<PathBuf> = Key::new(
    "node_fence",
    "ca_file",
    "PEM file with the CAs that sign the nodes' certificates. MySQL's own is ca.pem in its data directory.",
)
.unset("the system's CAs");

/// Accounts that are spared.
pub static NODE_FENCE_SPARE: Key<Vec<String>> = Key::new(
    "node_fence",
    "spare",
    "Accounts whose sessions are left on a node that is made read-only, such as ProxySQL's monitor or a backup's. \
     Replication and the server's own threads are always left.",
)
.default("monitor");

/// The longest wait for a node.
pub static NODE_FENCE_TIMEOUT: Key<Duration> =
    Key::new("node_fence", "timeout", "Longest wait for an answer of a node.").default("5s").limits("2s", "1m");

/// For which evidence a node is powered off.
pub static NODE_FENCE_FENCE_AGENT: Key<Vec<EvidenceKind>> = Key::new(
    "node_fence",
    "fence_agent",
    "Power a node off through its `[[fence_agent]]` while it is fenced for one of these kinds of evidence. They are \
     `superseded`, `lost-in-recovery` and `second-writer`. If `read_only` names the kind too, the agents run only if the \
     node is not read-only within `read_only_wait`.",
)
.unset("no node is powered off");

/// How long the read-only level may take.
pub static NODE_FENCE_READ_ONLY_WAIT: Key<Duration> =
    Key::new("node_fence", "read_only_wait", "How long `read_only` may take before a node is powered off.")
        .default("30s")
        .limits("1s", "1h");

/// Whether agents run in any case.
pub static NODE_FENCE_FENCE_AGENT_ALWAYS: Key<bool> =
    Key::new("node_fence", "fence_agent_always", "Power a node off at once, also where `read_only` may be enough.")
        .default("false");

/// Whether all but `off` is done.
pub static NODE_FENCE_FENCE_AGENT_DRY_RUN: Key<bool> = Key::new(
    "node_fence",
    "fence_agent_dry_run",
    "Do everything but `off`. The agents are asked whether they answer and whether the node is on, and the log says what \
     would be done.",
)
.default("false");

/// An agent's name.
pub static FENCE_AGENT_NAME: Key<String> =
    Key::new("fence_agent", "name", "Name of this agent in logs and reports.").required();

/// An agent's program.
pub static FENCE_AGENT_PROGRAM: Key<PathBuf> = Key::new(
    "fence_agent",
    "program",
    "The program, such as `/usr/sbin/fence_ipmilan`. It runs as the daemon's user, without a shell, with nothing but `PATH` \
     and `LC_ALL=C` in its environment.",
)
.required();

/// An agent's nodes.
pub static FENCE_AGENT_NODES: Key<BTreeMap<Node, BTreeMap<String, String>>> = Key::new(
    "fence_agent",
    "nodes",
    "Its nodes as ProxySQL names them, each with its own parameters. An example is \
     `{ \"db1:3306\" = { plug = \"3\" } }`. No two nodes may have the same parameters. A name without a port has port 3306.",
)
.required();

/// Parameters for all nodes.
pub static FENCE_AGENT_PARAMETERS: Key<BTreeMap<String, String>> = Key::new(
    "fence_agent",
    "parameters",
    "Parameters for every node, on the program's standard input as `name=value`. A secret is refused here.",
)
.unset("none");

/// Secret parameters.
pub static FENCE_AGENT_SECRET_FILES: Key<BTreeMap<String, PathBuf>> = Key::new(
    "fence_agent",
    "secret_files",
    "Files with secret parameters, such as `{ password = \"/etc/ipmi.password\" }`. They are read at each run, and must be \
     closed to other users (mode 0600).",
)
.unset("none");

/// The pause before an agent's first try.
pub static FENCE_AGENT_DELAY: Key<Duration> =
    Key::new("fence_agent", "delay", "Pause before its first try.").limits("100ms", "10m").unset("no pause");

/// How often an agent is tried again.
pub static FENCE_AGENT_RETRIES: Key<i64> = Key::new(
    "fence_agent",
    "retries",
    "How often it is tried again, a second later, before the next agent is. After the last one all are tried again, each \
     30 seconds.",
)
.default("1")
.limits("0", "100");

/// The longest run of an agent.
pub static FENCE_AGENT_TIMEOUT: Key<Duration> = Key::new(
    "fence_agent",
    "timeout",
    "Longest run for one action. Then the program and its process group are killed, and the try has failed.",
)
.default("1m")
.limits("1s", "10m");

/// The daemon's tick.
pub static INTERVAL: Key<Duration> =
    Key::new("run", "interval", "Time between two ticks of the daemon, spread by up to 20 %.")
        .flag("run --interval=DURATION")
        .default("1s")
        .limits("100ms", "1h");

/// How often ProxySQL's scheduler starts `run --once`.
pub static SCHEDULER_INTERVAL: Key<Duration> = Key::new(
    "run",
    "scheduler_interval",
    "Time between two starts of `run --once` by ProxySQL's scheduler. It must be the scheduler's `interval_ms`.",
)
.flag("run --once --interval=DURATION")
.default("5s")
.limits("100ms", "1h");

/// Where the state is kept.
pub static STATE_DIR: Key<PathBuf> = Key::new(
    "run",
    "state_dir",
    "Directory for the state of every ProxySQL. It must belong to the user that runs the program. Without it, evidence \
     still fences, but a cut-off proxy stays in service.",
)
.flag("--state-dir=DIR")
.env(&["PROXYSQL_STONITH_STATE_DIR"])
.env_below("STATE_DIRECTORY")
.default("/var/lib/proxysql-stonith");

/// Where HTTP is served.
pub static HTTP_LISTEN: Key<Listen> = Key::new(
    "http",
    "listen",
    "Address on which the daemon answers HTTP, or `off`. Whoever reaches it can read the names and states of all nodes; \
     nothing is encrypted, and no secret is shown.",
)
.flag("--http=ADDRESS")
.env(&["PROXYSQL_STONITH_HTTP"])
.default("127.0.0.1:9632");

/// The token of requests that do something.
pub static HTTP_TOKEN_FILE: Key<PathBuf> = Key::new(
    "http",
    "token_file",
    "File with the token that each POST needs (`Authorization: Bearer TOKEN`). It must be closed to other users \
     (mode 0600). The file is read at each request.",
)
.unset("every such request is refused");

/// The address under which the daemon registers.
pub static HTTP_REGISTER_AS: Key<AgentUrl> = Key::new(
    "http",
    "register_as",
    "Address of this daemon as Orchestrator's hosts reach it, such as `http://10.0.0.7:9632`. The daemon registers itself at \
     Orchestrator, as a tag of each node. A hook with `barrier.forget_after` finds it there. It needs `http.token_file`.",
)
.unset("the hook knows this daemon by its own config only");

/// The agents that the hook asks.
pub static BARRIER_AGENTS: Key<Vec<String>> =
    Key::new("barrier", "agents", "HTTP address of every agent (its `http.listen`), such as `http://10.0.0.7:9632`.")
        .unset("no agent is asked");

/// Their token.
pub static BARRIER_TOKEN_FILE: Key<PathBuf> = Key::new(
    "barrier",
    "token_file",
    "File with the token of these agents (their `http.token_file`). It must be closed to other users (mode 0600).",
)
.unset("no token is sent, so every agent refuses");

/// How long an agent that registered is asked.
pub static BARRIER_FORGET_AFTER: Key<Duration> = Key::new(
    "barrier",
    "forget_after",
    "The hook also asks agents that registered themselves (their `http.register_as`). An agent that was not seen for this \
     long is not waited for. An agent that runs is seen each 15 minutes. It needs `barrier.token_file`.",
)
.limits("1h", "30d")
.unset("only the agents above are asked");

/// The longest wait.
pub static BARRIER_DEADLINE: Key<Duration> = Key::new(
    "barrier",
    "deadline",
    "The hook ends after this time, whatever hangs. A failover takes this much longer at most.",
)
.default("20s")
.limits("3s", "5m");

/// What happens at the deadline.
pub static BARRIER_ON_UNCONFIRMED: Key<OnUnconfirmed> = Key::new(
    "barrier",
    "on_unconfirmed",
    "What happens if some ProxySQL is not known to have the fence by then. `proceed` lets Orchestrator promote. `abort` \
     stops this recovery, and Orchestrator starts no other one for the cluster until an operator acknowledges it.",
)
.default("proceed");

/// The longest drain.
pub static BARRIER_DRAIN_TIMEOUT: Key<Duration> = Key::new(
    "barrier",
    "drain_timeout",
    "How long running transactions may take before a planned takeover. Sessions that are left then are ended. New \
     transactions wait inside ProxySQL meanwhile, so the drain takes at most half of its \
     `mysql-connect_timeout_server_max`.",
)
.default("2s")
.limits("100ms", "30s");

/// The lease of an agent that does not answer.
pub static BARRIER_LEASE: Key<Duration> = Key::new(
    "barrier",
    "lease",
    "The largest `isolation.after` of all agents. It bounds the wait for an agent that does not answer.",
)
.limits("1s", "5m")
.unset("the largest `isolation.after` of this config");

/// Whether the hook's own ProxySQLs isolate themselves.
pub static BARRIER_GUARDED: Key<bool> = Key::new(
    "barrier",
    "guarded",
    "Whether the `[[proxysql]]` of the hook isolate themselves. Each then has an agent too, such as `run --once` in its \
     scheduler, with isolation on. One that is not reached is waited for until its lease must have run out.",
)
.default("false");

/// How log lines look.
pub static LOG_FORMAT: Key<LogFormat> =
    Key::new("log", "format", "Format of log lines. `json` writes one object a line.")
        .flag("--log-format=FORMAT")
        .env(&["PROXYSQL_STONITH_LOG_FORMAT"])
        .default("text");

/// The least important thing that is logged.
pub static LOG_LEVEL: Key<LogLevel> = Key::new(
    "log",
    "level",
    "Log this level and everything more important. `info` has every change; `debug` also every tick; `trace` also every \
     statement and request.",
)
.flag("--log-level=LEVEL")
.env(&["PROXYSQL_STONITH_LOG_LEVEL"])
.default("info");
