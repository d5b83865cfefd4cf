//! The config in force: a value for every key, checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use stonith_core::node::Node;

use super::aliases::Aliases;
use super::credential;
use super::definition::About;
use super::environment::Environment;
use super::fence_agents;
use super::file::{RawFile, Table};
use super::flags::Flags;
use super::keys;
use super::layers::Layers;
use super::origin::{ConfigError, Origin, Sourced};
use super::secrets::{CredentialSource, SecretSource};
use super::value::Value;
use super::{
    ADDRESSES_MAX, AgentUrl, BarrierConfig, ClientCertificate, Config, DEFAULT_ISOLATION_AFTER, HttpConfig,
    IsolationConfig, LogConfig, Mode, NodeFenceConfig, OrchestratorConfig, PolicyConfig, ProxyConfig, RunConfig,
    TlsConfig, address,
};

/// Resolves and checks every key.
pub(super) fn resolve(
    flags: &Flags,
    env: &Environment,
    raw: &RawFile,
    file: Option<PathBuf>,
) -> Result<Config, ConfigError> {
    let mut at = Layers::new(flags, env, raw.single().collect());
    let orchestrators = orchestrators(&mut at, raw, file.as_deref())?;
    let run = RunConfig {
        interval: at.get(&keys::INTERVAL)?,
        scheduler_interval: at.get(&keys::SCHEDULER_INTERVAL)?,
        state_dir: at.get(&keys::STATE_DIR)?,
    };
    let aliases = Arc::new(raw.aliases.clone());
    let common =
        Common { policy: policy(&mut at)?, isolation: isolation(&mut at, &run)?, aliases, run: &run, orchestrators };
    let proxies = proxies(&mut at, raw, file.as_deref(), &common)?;
    let node_fence = node_fence(&mut at)?;
    let fence_agents = fence_agents::resolve(&mut at, raw)?;
    let barrier = barrier(&mut at, &common, &proxies)?;
    if proxies.is_empty() && barrier.agents.is_empty() && barrier.forget_after.is_none() {
        return Err(no_proxy(file.as_deref()));
    }
    let log = LogConfig { format: at.get(&keys::LOG_FORMAT)?, level: at.get(&keys::LOG_LEVEL)? };
    let http = http(&mut at)?;
    let Common { orchestrators, aliases, .. } = common;
    let shown = at.shown;
    Ok(Config { file, orchestrators, proxies, aliases, node_fence, fence_agents, run, http, barrier, log, shown })
}

/// What every ProxySQL has unless its section says otherwise.
struct Common<'r> {
    orchestrators: Vec<Arc<OrchestratorConfig>>,
    policy: PolicyConfig,
    isolation: IsolationConfig,
    aliases: Arc<Aliases>,
    run: &'r RunConfig,
}

/// The error of a key's value, with the place that gave it.
fn wrong(at: &Layers<'_>, key: &About, problem: impl Into<String>) -> ConfigError {
    ConfigError::new(at.origin(key), &key.full_name(), problem)
}

/// The longest address that fits a tag at Orchestrator, whose name has at most 128 bytes, in bytes.
const REGISTERED_MAX_BYTES: usize = 110;

fn http(at: &mut Layers<'_>) -> Result<HttpConfig, ConfigError> {
    let (listen, token_file) = (at.get(&keys::HTTP_LISTEN)?, at.find(&keys::HTTP_TOKEN_FILE)?);
    let register_as = at.find(&keys::HTTP_REGISTER_AS)?;
    let missing = match (&register_as, &token_file, listen.0) {
        (Some(url), ..) if url.to_string().len() > REGISTERED_MAX_BYTES => "expected a shorter host name",
        (Some(_), None, _) => "expected http.token_file with it: the token signs the registration",
        (Some(_), _, None) => "expected an address as http.listen with it, and not \"off\"",
        _ => return Ok(HttpConfig { listen, token_file, register_as }),
    };
    Err(wrong(at, &keys::HTTP_REGISTER_AS.about, missing))
}

fn barrier(at: &mut Layers<'_>, common: &Common<'_>, proxies: &[ProxyConfig]) -> Result<BarrierConfig, ConfigError> {
    let agents = at.find(&keys::BARRIER_AGENTS)?.unwrap_or_default();
    let agents = agents
        .iter()
        .map(|url| AgentUrl::from_str(url))
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(at, &keys::BARRIER_AGENTS.about, error.to_string()))?;
    let (token_file, forget_after) = (at.find(&keys::BARRIER_TOKEN_FILE)?, at.find(&keys::BARRIER_FORGET_AFTER)?);
    if forget_after.is_some() && token_file.is_none() {
        let problem = "expected barrier.token_file with it: the token signs the agents' registrations";
        return Err(wrong(at, &keys::BARRIER_FORGET_AFTER.about, problem));
    }
    let lease = at.find(&keys::BARRIER_LEASE)?;
    let isolations = proxies.iter().map(|proxy| &proxy.isolation).chain([&common.isolation]);
    let largest = isolations.map(|isolation| isolation.in_force(common.run.tick_ms(Mode::Daemon))).max();
    Ok(BarrierConfig {
        agents,
        token_file,
        forget_after,
        deadline: at.get(&keys::BARRIER_DEADLINE)?,
        on_unconfirmed: at.get(&keys::BARRIER_ON_UNCONFIRMED)?,
        drain_timeout: at.get(&keys::BARRIER_DRAIN_TIMEOUT)?,
        lease: lease.or(largest).unwrap_or(DEFAULT_ISOLATION_AFTER),
        guarded: at.get(&keys::BARRIER_GUARDED)?,
    })
}

/// The error of a config without a ProxySQL.
pub(super) fn no_proxy(file: Option<&Path>) -> ConfigError {
    let problem = "no ProxySQL is given; expected [[proxysql]] with address = \"127.0.0.1:6032\", \
                   --proxysql=127.0.0.1:6032 or PROXYSQL_STONITH_PROXYSQL";
    missing(file, "proxysql.address", problem)
}

fn policy(at: &mut Layers<'_>) -> Result<PolicyConfig, ConfigError> {
    Ok(PolicyConfig {
        fence_on: at.get(&keys::FENCE_ON)?,
        max_downtime_fences: usize::try_from(at.get(&keys::MAX_DOWNTIME_FENCES)?).unwrap_or_default(),
        exclude_hostgroups: at.get(&keys::EXCLUDE_HOSTGROUPS)?,
        writer_hostgroups: at.get(&keys::WRITER_HOSTGROUPS)?,
        errant_gtid: at.get(&keys::ERRANT_GTID)?,
        on_blind: at.get(&keys::ON_BLIND)?,
        end_possible_holders: at.get(&keys::END_POSSIBLE_HOLDERS)?,
        mode: at.get(&keys::MODE)?,
    })
}

fn isolation(at: &mut Layers<'_>, run: &RunConfig) -> Result<IsolationConfig, ConfigError> {
    let after = at.find(&keys::ISOLATION_AFTER)?;
    let after = after.map(|after| Sourced::new(after, at.origin(&keys::ISOLATION_AFTER.about)));
    let isolation = IsolationConfig { after, scope: at.get(&keys::ISOLATION_SCOPE)? };
    if isolation.after.is_none() {
        // A comment, not a value: the default depends on the mode, and a value in a config file would fix it.
        let [daemon, once] = [Mode::Daemon, Mode::Once].map(|mode| isolation.in_force(run.tick_ms(mode)).to_toml());
        at.remark(&keys::ISOLATION_AFTER.about, format!("{daemon}, with run --once {once}"), Origin::Default);
    }
    Ok(isolation)
}

/// The fence of nodes themselves, if a kind of evidence is named. Its other keys are checked all the same.
fn node_fence(at: &mut Layers<'_>) -> Result<Option<NodeFenceConfig>, ConfigError> {
    let (user, file) = (at.find(&keys::NODE_FENCE_USER)?, at.find(&keys::NODE_FENCE_PASSWORD_FILE)?);
    let read_only = at.find(&keys::NODE_FENCE_READ_ONLY)?.unwrap_or_default();
    let (tls, ca_file) = (at.get(&keys::NODE_FENCE_TLS)?, at.find(&keys::NODE_FENCE_CA_FILE)?);
    let (spare, timeout) = (at.get(&keys::NODE_FENCE_SPARE)?, at.get(&keys::NODE_FENCE_TIMEOUT)?);
    if read_only.is_empty() {
        return Ok(None);
    }
    let (Some(user), Some(file)) = (user, file) else {
        return Err(wrong(at, &keys::NODE_FENCE_READ_ONLY.about, "expected user and password_file with it"));
    };
    let password = SecretSource::File(file);
    let credential = CredentialSource { user: Some(user), fallback_user: None, password };
    if let Err(error) = credential.read() {
        return Err(wrong(at, &keys::NODE_FENCE_PASSWORD_FILE.about, error.to_string()));
    }
    Ok(Some(NodeFenceConfig { read_only, credential, tls, ca_file, spare, timeout }))
}

/// The state directory alone, for the break-glass: the rest of the config may be wrong.
pub(super) fn state_dir_alone(flags: &Flags, env: &Environment, raw: &RawFile) -> Result<PathBuf, ConfigError> {
    Layers::new(flags, env, raw.single().collect()).get(&keys::STATE_DIR)
}

/// The Orchestrators: each `[[orchestrator]]`, or the only one, which the file may lack.
fn orchestrators(
    at: &mut Layers<'_>,
    raw: &RawFile,
    file: Option<&Path>,
) -> Result<Vec<Arc<OrchestratorConfig>>, ConfigError> {
    let section = keys::ENDPOINTS.about.section;
    let named: Vec<&Table> = raw.repeated(section).collect();
    if named.is_empty() {
        return Ok(vec![Arc::new(orchestrator(at, file)?)]);
    }
    if named.len() > 1 {
        refuse_above_the_file(at, named.len())?;
    }
    let mut all: Vec<Arc<OrchestratorConfig>> = Vec::new();
    for (index, table) in named.into_iter().enumerate() {
        let mut of_section = at.of_item(section, index, Some(table));
        let one = orchestrator(&mut of_section, file)?;
        for other in &all {
            check_beside(&of_section, &one, other)?;
        }
        all.push(Arc::new(one));
        at.shown.append(&mut of_section.shown);
    }
    Ok(all)
}

/// Refuses what a flag or variable sets for Orchestrator: it does not say for which one.
fn refuse_above_the_file(at: &Layers<'_>, sections: usize) -> Result<(), ConfigError> {
    let refused = |origin: Origin, key: &About| {
        let problem = format!(
            "it does not say for which of the {sections} [[orchestrator]] sections it is. Leave it out, and set {} in the \
             sections instead",
            key.name
        );
        ConfigError::new(origin, &key.full_name(), problem)
    };
    for key in keys::SECTIONS.iter().flat_map(|section| section.keys) {
        if key.section == keys::ENDPOINTS.about.section
            && let Some(given) = at.text(key)?
        {
            return Err(refused(given.origin, key));
        }
    }
    match credential::option_file_of_orchestrator(at)? {
        Some(origin) => Err(refused(origin, &keys::ORCHESTRATOR_PASSWORD.about)),
        None => Ok(()),
    }
}

/// Refuses two sections with one name or with one endpoint.
fn check_beside(at: &Layers<'_>, one: &OrchestratorConfig, other: &OrchestratorConfig) -> Result<(), ConfigError> {
    let wrong = |key: &About, problem: String| Err(wrong(at, key, problem));
    let name = other.name.as_deref().unwrap_or_default();
    if one.name == other.name {
        return wrong(&keys::ORCHESTRATOR_NAME.about, format!("two [[orchestrator]] have the name {name:?}"));
    }
    let same = |url: &&String| {
        let identity = address::endpoint_identity(url);
        other.endpoints.iter().any(|theirs| address::endpoint_identity(theirs) == identity)
    };
    match one.endpoints.iter().find(same) {
        Some(url) => wrong(
            &keys::ENDPOINTS.about,
            format!("{url:?} belongs to the [[orchestrator]] {name:?} too; expected each endpoint in one section"),
        ),
        None => Ok(()),
    }
}

fn orchestrator(at: &mut Layers<'_>, file: Option<&Path>) -> Result<OrchestratorConfig, ConfigError> {
    let name = at.find(&keys::ORCHESTRATOR_NAME)?;
    let Some(endpoints) = at.find(&keys::ENDPOINTS)? else {
        if name.is_some() {
            let problem = "missing; expected every node of this Orchestrator, such as [\"http://orc1:3000\"]";
            let origin = at.origin(&keys::ORCHESTRATOR_NAME.about);
            return Err(ConfigError::new(origin, "orchestrator.endpoints", problem));
        }
        let problem = "no endpoint is given; expected [orchestrator] endpoints = [\"http://orc1:3000\"], \
                       --orchestrator=http://orc1:3000 or ORCHESTRATOR_API";
        return Err(missing(file, "orchestrator.endpoints", problem));
    };
    let origin = at.origin(&keys::ENDPOINTS.about);
    check_endpoints(&endpoints).map_err(|problem| ConfigError::new(origin, "orchestrator.endpoints", problem))?;
    let credential = credential::find(at, &credential::ORCHESTRATOR, file)?;
    let client = match (at.find(&keys::CLIENT_CERT)?, at.find(&keys::CLIENT_KEY)?) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(ClientCertificate { cert, key }),
        (Some(_), None) => return Err(lonely(at, &keys::CLIENT_CERT.about, &keys::CLIENT_KEY.about)),
        (None, Some(_)) => return Err(lonely(at, &keys::CLIENT_KEY.about, &keys::CLIENT_CERT.about)),
    };
    Ok(OrchestratorConfig {
        name,
        endpoints,
        credential,
        connect_timeout: at.get(&keys::CONNECT_TIMEOUT)?,
        read_timeout: at.get(&keys::READ_TIMEOUT)?,
        tick_timeout: at.get(&keys::TICK_TIMEOUT)?,
        tls: TlsConfig { verify: at.get(&keys::TLS_VERIFY)?, ca_file: at.find(&keys::ORCHESTRATOR_CA_FILE)?, client },
    })
}

/// A proxy's address and its section of the file.
type Listed<'r> = (Sourced<Node>, Option<&'r Table>);

/// The proxies in force, from flag or environment, else from the file. Each has its section of the file, if any.
fn listed<'r>(at: &Layers<'_>, raw: &'r RawFile) -> Result<Vec<Listed<'r>>, ConfigError> {
    let mut listed = Vec::new();
    for table in raw.all(keys::ADDRESS.about.section) {
        let Some(address) = table.find(&keys::ADDRESS)? else {
            let problem = "missing; expected the admin interface, such as \"127.0.0.1:6032\"";
            return Err(ConfigError::new(table.origin.clone(), "proxysql.address", problem));
        };
        listed.push((address, Some(table)));
    }
    let Some(given) = at.text(&keys::ADDRESS.about)? else { return Ok(listed) };
    let mut chosen = Vec::new();
    for text in address::split(given.value) {
        let text = Sourced::new(text, given.origin.clone());
        let address = text.read("proxysql.address", Node::from_text)?;
        // The file's section for this proxy still applies. The file's other proxies are left out.
        let identity = address::proxy_identity(&address.value);
        let same = listed.iter_mut().find(|(node, _)| address::proxy_identity(&node.value) == identity);
        let table = same.and_then(|(_, table)| table.take());
        chosen.push((address, table));
    }
    Ok(chosen)
}

fn proxies(
    at: &mut Layers<'_>,
    raw: &RawFile,
    file: Option<&Path>,
    common: &Common<'_>,
) -> Result<Vec<ProxyConfig>, ConfigError> {
    let listed = listed(at, raw)?;
    let mut seen = BTreeMap::new();
    for (address, _) in &listed {
        let wrong = |problem: String| Err(ConfigError::new(address.origin.clone(), "proxysql.address", problem));
        if let Some(first) = seen.insert(address::proxy_identity(&address.value), &address.origin) {
            return wrong(format!("{} is listed twice; the first is at {first}", address.value));
        }
        if seen.len() > ADDRESSES_MAX {
            return wrong(format!("more than {ADDRESSES_MAX} proxies; run a second agent for the others"));
        }
    }
    let mut proxies = Vec::new();
    for (index, (address, table)) in listed.into_iter().enumerate() {
        let mut of_proxy = at.of_item(keys::ADDRESS.about.section, index, table);
        proxies.push(proxy(&mut of_proxy, address, table, file, common)?);
        at.shown.append(&mut of_proxy.shown);
    }
    Ok(proxies)
}

fn proxy(
    at: &mut Layers<'_>,
    address: Sourced<Node>,
    table: Option<&Table>,
    file: Option<&Path>,
    common: &Common<'_>,
) -> Result<ProxyConfig, ConfigError> {
    at.note(&keys::ADDRESS.about, address.value.to_toml(), address.origin.clone());
    let orchestrator = followed(at, &address, table, &common.orchestrators)?;
    let Some(credential) = credential::find(at, &credential::ADMIN, file)? else {
        let problem = format!(
            "no password for the admin interface {}; expected user and password_file, or defaults_file, in \
             [[proxysql]], --defaults-file=FILE, or PROXYSQL_STONITH_PROXYSQL_USER and _PASSWORD",
            address.value
        );
        return Err(ConfigError::new(address.origin, "proxysql.password", problem));
    };
    Ok(ProxyConfig {
        address: address.value,
        socket: at.find(&keys::PROXYSQL_SOCKET)?,
        credential,
        tls: at.get(&keys::PROXYSQL_TLS)?,
        ca_file: at.find(&keys::PROXYSQL_CA_FILE)?,
        accept_lost_edits: at.get(&keys::ACCEPT_LOST_EDITS)?,
        orchestrator,
        policy: match has_own(table, &keys::MODE.about) {
            true => policy(at)?,
            false => common.policy.clone(),
        },
        isolation: match has_own(table, &keys::ISOLATION_AFTER.about) {
            true => isolation(at, common.run)?,
            false => common.isolation.clone(),
        },
        aliases: match table.map(|table| &table.own_aliases) {
            Some(own) if !own.is_empty() => {
                // An alias of the proxy wins over an alias of all for the same row.
                let all = common.aliases.iter().chain(own);
                Arc::new(all.map(|(row, instance)| (row.clone(), instance.clone())).collect())
            }
            _ => common.aliases.clone(),
        },
    })
}

/// Whether a `[[proxysql]]` has its own section with this key.
fn has_own(table: Option<&Table>, key: &About) -> bool {
    table.is_some_and(|table| table.own.iter().any(|own| own.section == key.section))
}

/// The Orchestrator that a ProxySQL names, or the only one.
fn followed(
    at: &mut Layers<'_>,
    address: &Sourced<Node>,
    table: Option<&Table>,
    all: &[Arc<OrchestratorConfig>],
) -> Result<Arc<OrchestratorConfig>, ConfigError> {
    let key = &keys::FOLLOWS.about;
    let wrong = |origin: &Origin, problem: String| Err(ConfigError::new(origin.clone(), &key.full_name(), problem));
    let names: Vec<String> = all.iter().filter_map(|one| Some(format!("{:?}", one.name.as_ref()?))).collect();
    let names = names.join(" or ");
    let origin = table.map_or(&address.origin, |table| &table.origin);
    match (at.find(&keys::FOLLOWS)?, all) {
        (Some(name), all) => match all.iter().find(|one| one.name.as_ref() == Some(&name)) {
            Some(one) => Ok(one.clone()),
            None if names.is_empty() => {
                let problem =
                    "the only Orchestrator has no name. Delete this line, or write [[orchestrator]] with a name";
                wrong(&at.origin(key), problem.to_owned())
            }
            None => wrong(&at.origin(key), format!("no [[orchestrator]] has this name; expected {names}")),
        },
        (None, [only]) => {
            if let Some(name) = &only.name {
                at.note(key, name.to_toml(), Origin::Default);
            }
            Ok(only.clone())
        }
        (None, _) if table.is_some() => {
            wrong(origin, format!("missing; expected the name of the [[orchestrator]] that decides for it: {names}"))
        }
        (None, _) => wrong(
            origin,
            format!("{} has no [[proxysql]] section; add one, which says orchestrator = {names}", address.value),
        ),
    }
}

/// The error for one of two keys that are only valid together.
fn lonely(at: &Layers<'_>, have: &About, lack: &About) -> ConfigError {
    wrong(at, have, format!("expected {} with it", lack.name))
}

fn check_endpoints(urls: &[String]) -> Result<(), String> {
    if urls.is_empty() {
        return Err("the list is empty; expected at least one URL such as \"http://orc1:3000\"".to_owned());
    }
    if urls.len() > ADDRESSES_MAX {
        return Err(format!("{} endpoints; expected at most {ADDRESSES_MAX}", urls.len()));
    }
    let mut seen = BTreeSet::new();
    for url in urls {
        address::check_endpoint(url)?;
        if !seen.insert(address::endpoint_identity(url)) {
            return Err(format!("{url:?} is listed twice"));
        }
    }
    Ok(())
}

/// The error for a missing value. It names the file, if one was read.
fn missing(file: Option<&Path>, key: &str, problem: &str) -> ConfigError {
    let file = file.map(Path::to_owned);
    ConfigError { origin: Origin::Default, key: key.to_owned(), problem: problem.to_owned(), file }
}
