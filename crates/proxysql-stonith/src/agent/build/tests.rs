//! Every key, flag and variable reaches the agent.
//!
//! The lists of keys, flags and variables come from the code, so a new one fails here until it is tried too.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use stonith_core::policy::Policy;

use super::*;
use crate::cli::Cli;
use crate::config::{
    BarrierConfig, Environment, FenceAgentConfig, FenceAgentsConfig, Flags, HttpConfig, IsolationConfig, LogConfig,
    NodeFenceConfig, RawFile, RunConfig, Value, keys,
};

/// The required keys only.
const LEAST: &str = r#"
orchestrator.endpoints = ["http://orc1:3000"]
[[proxysql]]
address = "127.0.0.1:6032"
user = "least"
password = "least"
"#;

/// Every key, none at its default and no two alike. Each source of a ProxySQL's password occurs once.
const FULL: &str = r#"
[[orchestrator]]
name = "main"
endpoints = ["https://orc2:3002/orc"]
user = "orc-user"
password = "orc-password"
tls_verify = false
ca_file = "ca.pem"
client_cert = "agent.pem"
client_key = "agent.key"
connect_timeout = "1100ms"
read_timeout = "1200ms"
tick_timeout = "1300ms"

[[proxysql]]
address = "10.0.0.1:6001"
socket = "admin.sock"
orchestrator = "main"
user = "user-1"
password = "password-1"
tls = "verify-ca"
ca_file = "ca.pem"
accept_lost_edits = true
[[proxysql]]
address = "10.0.0.2:6002"
user = "user-2"
password_file = "proxy.password"
tls = "verify-identity"
ca_file = "ca.pem"
[[proxysql]]
address = "10.0.0.3:6003"
defaults_file = "proxy.cnf"
[proxysql.policy]
exclude_hostgroups = [33]
[proxysql.aliases]
"10.0.0.6" = "db2:3308"
[proxysql.isolation]
after = "99s"

[policy]
fence_on = "lost-in-recovery"
max_downtime_fences = 7
exclude_hostgroups = [30, 31]
writer_hostgroups = [32]
errant_gtid = "warn"
on_blind = "isolate"
end_possible_holders = false
mode = "observe"

[aliases]
"10.0.0.5" = "db1:3307"

[isolation]
after = "77s"
scope = "writers"

[node_fence]
read_only = ["superseded", "manual"]
user = "fence-user"
password_file = "proxy.password"
tls = "verify-ca"
ca_file = "ca.pem"
spare = ["backup"]
timeout = "7s"
fence_agent = ["lost-in-recovery"]
read_only_wait = "31s"
fence_agent_always = true
fence_agent_dry_run = true

[[fence_agent]]
name = "ipmi"
program = "/bin/true"
nodes = { "db1" = { plug = "3" } }
parameters = { lanplus = true }
secret_files = { password = "proxy.password" }
delay = "2s"
retries = 3
timeout = "61s"

[run]
interval = "2s"
scheduler_interval = "3s"
state_dir = "state"

[http]
listen = "127.0.0.2:9633"
register_as = "http://10.0.0.9:9633"
token_file = "token"

[barrier]
agents = ["http://10.0.0.7:9632"]
forget_after = "2h"
token_file = "their-token"
deadline = "16s"
on_unconfirmed = "abort"
drain_timeout = "3s"
lease = "17s"
guarded = true

[log]
format = "json"
level = "debug"
"#;

/// The values that `FULL` leads to.
const FULL_SEEN: &str = r#"
endpoints: https://orc2:3002/orc
auth: orc-user orc-password
insecure: true
orchestrator_ca: DIR/ca.pem
client: DIR/agent.pem DIR/agent.key
timeouts: 1.1s 1.2s 1.3s
proxies: 10.0.0.1:6001@DIR/admin.sock 10.0.0.2:6002 10.0.0.3:6003
logins: user-1 password-1, user-2 password-2, user-3 password-3
logins_read_again: user-1 password-1, user-2 password-2, user-3 password-3
tls: Tls { check: Ca, .. }, Tls { check: Identity, .. }, none
accepts_lost_edits: true false false
fence_on: LostInRecovery
max_downtime_fences: 7
excluded: 30 31
writers: 32
aliases: 10.0.0.5:3306=db1:3307
errant_gtid: Warn
blind_isolates: true
end_possible_holders: false
observe_only: true
isolation: 77000 Writers
tick: 2400 3000
node_fence: superseded manual, fence-user password-2, VerifyCa DIR/ca.pem, spares backup, 7s
read_only_for: superseded manual (true)
fence_agents: lost-in-recovery after 31s, true true; ipmi /bin/true db1:3306 lanplus=true plug=3 DIR/proxy.password 2s 3 61s
fence_agent_for: lost-in-recovery
interval: 2s
state_dir: DIR/state
http: "127.0.0.2:9633" DIR/token http://10.0.0.9:9633
log: Json Debug
barrier: http://10.0.0.7:9632 DIR/their-token Some(7200s) 16s Abort 3s 17s true
of_the_last_proxy: excluded 33, writers 32, aliases 10.0.0.5:3306=db1:3307 10.0.0.6:3306=db2:3308, isolation 99000
"#;

/// A directory with the files that a config names.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["agent".into()]).unwrap();
        desk.file("ca.pem", &cert.pem());
        desk.file("agent.pem", &cert.pem());
        desk.file("agent.key", &signing_key.serialize_pem());
        desk.file("proxy.password", "password-2\n");
        desk.file("proxy.cnf", "[client]\nuser=user-3\npassword=password-3\n");
        desk.file("other.cnf", "[client]\nuser=o-user\npassword=o-password\n[orchestrator]\nuser=oo\npassword=op\n");
        desk.file("other.toml", &LEAST.replace("least", "another"));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A config file, and flags and variables above it, in which DIR is this directory.
    fn config(&self, text: &str, line: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        self.file("stonith.toml", text);
        let here = |text: &str| text.replace("DIR", &self.0.path().to_string_lossy());
        let typed = here(line);
        let words = std::iter::once("proxysql-stonith").chain(typed.split_whitespace()).map(OsString::from);
        let mut flags: Flags = Cli::read(words).unwrap().flags;
        let env = Environment::of(|name| env.iter().find(|(set, _)| *set == name).map(|(_, value)| here(value).into()));
        if !typed.contains("--config") && !format!("{env:?}").contains("PROXYSQL_STONITH_CONFIG") {
            flags = flags.with(&keys::CONFIG_FILE, self.path("stonith.toml").to_string_lossy());
        }
        Config::load(&flags, &env).map_err(|error| error.to_string())
    }

    /// The values that the config leads to, by name.
    fn seen(&self, text: &str, line: &str, env: &[(&str, &str)]) -> BTreeMap<String, String> {
        let config = self.config(text, line, env).unwrap();
        let shown = shown(&config).replace(&*self.0.path().to_string_lossy(), "DIR");
        parsed(&shown)
    }
}

fn parsed(shown: &str) -> BTreeMap<String, String> {
    let line = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    shown.trim().lines().map(|text| line(text).unwrap_or_else(|| panic!("{text}"))).collect()
}

fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" ")
}

fn path(path: Option<&Path>) -> String {
    path.map_or("none".to_owned(), |path| path.display().to_string())
}

/// Every value that the agents use, one a line.
fn shown(config: &Config) -> String {
    shown_of_the_first(config) + &of_the_last_proxy(config)
}

#[expect(clippy::too_many_lines, reason = "one value a line")]
/// Every value that the first agent uses. The structs are taken apart by field, so a new field must be shown.
fn shown_of_the_first(config: &Config) -> String {
    let orchestrator = orchestrator_settings(&config.orchestrators[0]).unwrap();
    let OrchestratorSettings { endpoints, auth, tls, connect_timeout, read_timeout, tick_timeout } = orchestrator;
    let TlsSettings { insecure, ca_file, client } = tls;
    let login = |user: &str, password: &str| format!("{user} {password}");
    let auth = auth.map_or("none".to_owned(), |auth| login(&auth.user, auth.password.expose()));
    let client = client.map_or("none".to_owned(), |(cert, key)| list([cert.display(), key.display()]));
    let agent_of = |proxy, mode| agent(config, proxy, mode, Memory::default(), String::new()).unwrap().settings;
    let settings: Vec<AgentSettings> = config.proxies.iter().map(|proxy| agent_of(proxy, Mode::Daemon)).collect();
    let (mut addresses, mut logins, mut checks, mut accepts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for AgentSettings { proxy, accept_lost_edits, .. } in &settings {
        let ProxySettings { address, socket, credential, tls, timeout } = proxy;
        assert_eq!(*timeout, ADMIN_TIMEOUT);
        addresses.push(socket.as_ref().map_or(address.to_string(), |path| format!("{address}@{}", path.display())));
        logins.push(login(&credential.user, credential.password.expose()));
        checks.push(tls.as_ref().map_or("none".to_owned(), |tls| format!("{tls:?}")));
        accepts.push(accept_lost_edits);
    }
    let again = config.proxies.iter().map(|proxy| sources(proxy).proxysql().unwrap());
    let again = again.map(|found| login(&found.user, found.password.expose())).collect::<Vec<_>>().join(", ");
    assert_eq!(
        sources(&config.proxies[0]).orchestrator().unwrap().map(|auth| auth.user),
        orchestrator_settings(&config.orchestrators[0]).unwrap().auth.map(|auth| auth.user)
    );
    let AgentSettings { policy, observe_only, read_only_for, fence_agent_for, .. } = settings[0].clone();
    let Policy {
        fence_on,
        max_downtime_fences,
        isolation_scope,
        isolation_after_ms,
        tick_ms,
        blind_isolates,
        end_possible_holders,
        excluded_hostgroups,
        writer_hostgroups,
        aliases,
        errant_gtid,
        fences_at_node,
    } = policy;
    let once_ms = agent_of(&config.proxies[0], Mode::Once).policy.tick_ms;
    let IsolationConfig { after: _, scope: _ } = &config.proxies[0].isolation; // the policy's
    let LogConfig { format, level } = config.log;
    let BarrierConfig {
        agents,
        token_file: agents_token,
        forget_after,
        deadline,
        on_unconfirmed,
        drain_timeout,
        lease,
        guarded,
    } = &config.barrier;
    let HttpConfig { listen, token_file, register_as } = &config.http;
    let RunConfig { interval, scheduler_interval: _, state_dir } = &config.run; // the policy's ticks
    format!(
        "endpoints: {}\nauth: {auth}\ninsecure: {insecure}\norchestrator_ca: {}\nclient: {client}\n\
         timeouts: {connect_timeout:?} {read_timeout:?} {tick_timeout:?}\nproxies: {}\nlogins: {}\n\
         logins_read_again: {again}\ntls: {}\naccepts_lost_edits: {}\nfence_on: {fence_on:?}\n\
         max_downtime_fences: {max_downtime_fences}\nexcluded: {}\nwriters: {}\naliases: {}\nerrant_gtid: {errant_gtid:?}\n\
         blind_isolates: {blind_isolates}\nend_possible_holders: {end_possible_holders}\nobserve_only: {observe_only}\n\
         isolation: {isolation_after_ms} {isolation_scope:?}\ntick: {tick_ms} {once_ms}\nnode_fence: {}\n\
         read_only_for: {} ({fences_at_node})\nfence_agents: {}\nfence_agent_for: {}\ninterval: {interval:?}\n\
         state_dir: {}\nhttp: {} {} {}\nlog: {format:?} {level:?}\n\
         barrier: {} {} {forget_after:?} {deadline:?} {on_unconfirmed:?} {drain_timeout:?} {lease:?} {guarded}\n",
        list(&endpoints),
        path(ca_file.as_deref()),
        list(addresses),
        logins.join(", "),
        checks.join(", "),
        list(accepts),
        list(&excluded_hostgroups),
        list(&writer_hostgroups),
        list(aliases.iter().map(|(row, of)| format!("{row}={of}"))),
        config.node_fence.as_ref().map_or("none".to_owned(), node_fence),
        list(&read_only_for),
        fence_agents(&config.fence_agents),
        list(&fence_agent_for),
        state_dir.display(),
        listen.to_toml(),
        path(token_file.as_deref()),
        list(register_as),
        list(agents),
        path(agents_token.as_deref()),
    )
}

fn node_fence(chosen: &NodeFenceConfig) -> String {
    let NodeFenceConfig { read_only, credential, tls, ca_file, spare, timeout } = chosen;
    let login = credential.read().unwrap();
    let (user, password, ca) = (login.user, login.password.expose(), path(ca_file.as_deref()));
    let (kinds, spare) = (list(read_only), list(spare));
    format!("{kinds}, {user} {password}, {tls:?} {ca}, spares {spare}, {timeout:?}")
}

fn fence_agents(chosen: &FenceAgentsConfig) -> String {
    let FenceAgentsConfig { kinds, always, read_only_wait, dry_run, agents } = chosen;
    let agent = |agent: &FenceAgentConfig| {
        let FenceAgentConfig { name, program, nodes, parameters: _, secret_files, delay, retries, timeout } = agent;
        let of = |node| list(agent.parameters_of(node).iter().map(|(name, value)| format!("{name}={value}")));
        let nodes = list(nodes.keys().map(|node| format!("{node} {}", of(node))));
        let files = list(secret_files.values().map(|path| path.display()));
        format!("{name} {} {nodes} {files} {delay:?} {retries} {timeout:?}", program.display())
    };
    format!("{} after {read_only_wait:?}, {always} {dry_run}; {}", list(kinds), list(agents.iter().map(agent)))
}

fn of_the_last_proxy(config: &Config) -> String {
    let policy = config.policy(config.proxies.last().unwrap(), Mode::Daemon).unwrap();
    format!(
        "of_the_last_proxy: excluded {}, writers {}, aliases {}, isolation {}\n",
        list(&policy.excluded_hostgroups),
        list(&policy.writer_hostgroups),
        list(policy.aliases.iter().map(|(row, of)| format!("{row}={of}"))),
        policy.isolation_after_ms
    )
}

/// The keys that the code reads in a section, by the error that lists them.
fn known(section: &str) -> Vec<String> {
    const NO_SUCH: &str = "nothing_that_is_like_any_key = 1";
    let text = match section {
        "" => NO_SUCH.to_owned(),
        "proxysql" | "fence_agent" => format!("[[{section}]]\n{NO_SUCH}"),
        section => format!("[{section}]\n{NO_SUCH}"),
    };
    let error = RawFile::parse(Path::new("x"), &text).unwrap_err().to_string();
    let (_, known) = error.split_once("known here: ").unwrap_or_else(|| panic!("{error}"));
    known.split(", ").map(str::to_owned).collect()
}

/// The values that differ from those before.
fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    assert!(before.keys().eq(after.keys()));
    let differs = after.iter().filter(|(name, value)| before[*name] != **value);
    differs.map(|(name, value)| format!("{name}: {value}")).collect()
}

#[test]
fn every_key_of_the_config_file_is_seen_in_what_runs() {
    let desk = Desk::new();
    let seen = desk.seen(FULL, "plan", &[]);
    assert_eq!(seen, parsed(FULL_SEEN));
    let least = desk.seen(LEAST, "plan", &[]);
    assert_eq!(changed(&least, &seen).len(), seen.len(), "nothing is as it is by default");
    let file: toml::Table = FULL.parse().unwrap();
    let mut sections = known("");
    sections.sort();
    assert!(file.keys().eq(&sections), "{sections:?}");
    for section in sections.iter().filter(|section| *section != "aliases") {
        let set: Vec<&toml::Table> = match &file[section] {
            toml::Value::Array(tables) => tables.iter().filter_map(toml::Value::as_table).collect(),
            table => table.as_table().into_iter().collect(),
        };
        for key in known(section) {
            // This key cannot be set together with `password`.
            let is_tried_below = (section.as_str(), key.as_str()) == ("orchestrator", "password_file");
            assert!(is_tried_below || set.iter().any(|table| table.contains_key(&key)), "{section}.{key} is not tried");
        }
    }
    let text = FULL.replace("password = \"orc-password\"", "password_file = \"proxy.password\"");
    assert_eq!(changed(&seen, &desk.seen(&text, "plan", &[])), ["auth: orc-user password-2"]);
}

#[test]
fn no_line_of_the_config_file_can_go_without_a_change() {
    let desk = Desk::new();
    let seen = desk.seen(FULL, "plan", &[]);
    // The only Orchestrator needs no name in `[[proxysql]]`.
    let is_needed = |line: &&str| line.contains(" = ") && *line != "orchestrator = \"main\"";
    for line in FULL.lines().filter(is_needed) {
        let text = FULL.replacen(&format!("{line}\n"), "", 1);
        let Ok(config) = desk.config(&text, "plan", &[]) else { continue };
        let now = parsed(&shown(&config).replace(&*desk.0.path().to_string_lossy(), "DIR"));
        assert_ne!(now, seen, "{line}");
    }
}

#[test]
fn every_key_that_one_proxysql_can_have_of_its_own_is_as_if_it_were_set_for_all() {
    let desk = Desk::new();
    let least = desk.seen(LEAST, "plan", &[]);
    for section in keys::SECTIONS.iter().filter(|section| section.per_proxy) {
        let name = section.name;
        let (_, lines) = FULL.split_once(&format!("\n[{name}]\n")).unwrap();
        for line in lines.lines().take_while(|line| line.contains(" = ")) {
            let own = desk.seen(&format!("{LEAST}[proxysql.{name}]\n{line}\n"), "plan", &[]);
            assert_eq!(own, desk.seen(&format!("{LEAST}[{name}]\n{line}\n"), "plan", &[]), "{name}: {line}");
            assert_ne!(own, least, "{name}: {line}");
        }
    }
}

/// Each flag, and what it changes on top of `FULL`.
const FLAGS: &[(&str, &str, &[&str])] = &[
    ("config", "--config=DIR/other.toml", &["logins: another another", "proxies: 127.0.0.1:6032"]),
    ("orchestrator", "--orchestrator=http://a,http://b", &["endpoints: http://a:80 http://b:80"]),
    ("proxysql", "--proxysql=10.0.0.2:6002", &["proxies: 10.0.0.2:6002", "logins: user-2 password-2"]),
    (
        "defaults-file",
        "--defaults-file=DIR/other.cnf",
        &["auth: oo op", "logins: o-user o-password, o-user o-password, o-user o-password"],
    ),
    ("mode", "--mode=enforce", &["observe_only: false"]),
    ("isolation-after", "--isolation-after=88s", &["isolation: 88000 Writers"]),
    ("isolation-scope", "--isolation-scope=off", &["isolation: 77000 Off"]),
    ("state-dir", "--state-dir=DIR/elsewhere", &["state_dir: DIR/elsewhere"]),
    ("http", "--http=127.0.0.3:1", &["http: \"127.0.0.3:1\" DIR/token http://10.0.0.9:9633"]),
    ("log-format", "--log-format=text", &["log: Text Debug"]),
    ("log-level", "--log-level=error", &["log: Json Error"]),
    ("interval", "--interval=5s", &["interval: 5s", "tick: 6000 3000"]),
    ("once", "--once --interval=5s", &["tick: 2400 5000"]),
];

#[test]
fn every_flag_is_seen_in_what_runs_and_wins_over_file_and_environment() {
    let desk = Desk::new();
    let whole = Cli::command();
    let run = whole.find_subcommand("run").unwrap();
    let named = whole.get_arguments().chain(run.get_arguments()).filter_map(|argument| argument.get_long());
    let mut named: Vec<&str> = named.filter(|name| !["help", "version"].contains(name)).collect();
    named.sort_unstable();
    let mut tried: Vec<&str> = FLAGS.iter().map(|(name, ..)| *name).collect();
    tried.sort_unstable();
    assert_eq!(named, tried);
    let before = desk.seen(FULL, "run", &[]);
    for (name, typed, changes) in FLAGS {
        let variable = format!("PROXYSQL_STONITH_{}", name.to_uppercase().replace('-', "_"));
        let below = VARIABLES.iter().find(|(name, ..)| *name == variable).map(|(name, value, ..)| (*name, *value));
        for env in [&[][..], below.as_slice()] {
            let now = changed(&before, &desk.seen(FULL, &format!("run {typed}"), env));
            for change in *changes {
                assert!(now.iter().any(|line| line == change), "--{name} over {env:?}: {change}: {now:#?}");
            }
        }
    }
}

/// Each variable with a value, the config file below it, and what it changes.
const VARIABLES: &[(&str, &str, &str, &[&str])] = &[
    ("PROXYSQL_STONITH_CONFIG", "DIR/other.toml", FULL, &["logins: another another"]),
    ("PROXYSQL_STONITH_ORCHESTRATOR", "http://c", FULL, &["endpoints: http://c:80"]),
    ("ORCHESTRATOR_API", "http://d", FULL, &["endpoints: http://d:80"]),
    ("PROXYSQL_STONITH_ORCHESTRATOR_USER", "e-user", FULL, &["auth: e-user orc-password"]),
    ("ORCHESTRATOR_AUTH_USER", "f-user", FULL, &["auth: f-user orc-password"]),
    ("PROXYSQL_STONITH_ORCHESTRATOR_PASSWORD", "e-password", FULL, &["auth: orc-user e-password"]),
    ("ORCHESTRATOR_AUTH_PASSWORD", "f-password", FULL, &["auth: orc-user f-password"]),
    ("PROXYSQL_STONITH_PROXYSQL", "10.0.0.1:6001", FULL, &["proxies: 10.0.0.1:6001@DIR/admin.sock"]),
    ("PROXYSQL_STONITH_PROXYSQL_USER", "g-user", LEAST, &["logins: g-user least"]),
    ("PROXYSQL_STONITH_PROXYSQL_PASSWORD", "g-password", LEAST, &["logins: least g-password"]),
    ("PROXYSQL_STONITH_DEFAULTS_FILE", "DIR/other.cnf", LEAST, &["auth: oo op", "logins: o-user o-password"]),
    ("PROXYSQL_STONITH_STATE_DIR", "/h", FULL, &["state_dir: /h"]),
    ("STATE_DIRECTORY", "/i:/j", LEAST, &["state_dir: /i"]),
    ("PROXYSQL_STONITH_MODE", "enforce", FULL, &["observe_only: false"]),
    ("PROXYSQL_STONITH_ISOLATION_AFTER", "99s", FULL, &["isolation: 99000 Writers"]),
    ("PROXYSQL_STONITH_ISOLATION_SCOPE", "off", FULL, &["isolation: 77000 Off"]),
    ("PROXYSQL_STONITH_HTTP", "[::1]:1", FULL, &["http: \"[::1]:1\" DIR/token http://10.0.0.9:9633"]),
    ("PROXYSQL_STONITH_LOG_FORMAT", "text", FULL, &["log: Text Debug"]),
    ("PROXYSQL_STONITH_LOG_LEVEL", "trace", FULL, &["log: Json Trace"]),
];

#[test]
fn every_variable_is_seen_in_what_runs_and_wins_over_the_file() {
    let desk = Desk::new();
    let tried: BTreeSet<&str> = VARIABLES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(tried, Environment::variables().collect());
    for (name, value, below, changes) in VARIABLES {
        let now = changed(&desk.seen(below, "run", &[]), &desk.seen(below, "run", &[(name, value)]));
        for change in *changes {
            assert!(now.iter().any(|line| line == change), "{name}: {change}: {now:#?}");
        }
    }
}
