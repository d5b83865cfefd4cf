//! The config in force: a value for every key, checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use stonith_core::node::Node;

use super::credential;
use super::definition::About;
use super::environment::Environment;
use super::file::{RawFile, Table};
use super::flags::Flags;
use super::keys;
use super::layers::Layers;
use super::origin::{ConfigError, Origin, Sourced};
use super::value::Value;
use super::{
    ADDRESSES_MAX, ClientCertificate, Config, IsolationConfig, LogConfig, Mode, OrchestratorConfig, PolicyConfig,
    ProxyConfig, RunConfig, TlsConfig, address,
};

/// Resolves and checks every key.
pub(super) fn resolve(
    flags: &Flags,
    env: &Environment,
    raw: &RawFile,
    file: Option<PathBuf>,
) -> Result<Config, ConfigError> {
    let mut at = Layers::new(flags, env, raw.single().collect());
    let orchestrator = orchestrator(&mut at, file.as_deref())?;
    let proxies = proxies(&mut at, raw, file.as_deref())?;
    let policy = PolicyConfig {
        fence_on: at.get(&keys::FENCE_ON)?,
        max_downtime_fences: usize::try_from(at.get(&keys::MAX_DOWNTIME_FENCES)?).unwrap_or_default(),
        exclude_hostgroups: at.get(&keys::EXCLUDE_HOSTGROUPS)?,
        writer_hostgroups: at.get(&keys::WRITER_HOSTGROUPS)?,
        errant_gtid: at.get(&keys::ERRANT_GTID)?,
        on_blind: at.get(&keys::ON_BLIND)?,
        end_possible_holders: at.get(&keys::END_POSSIBLE_HOLDERS)?,
        mode: at.get(&keys::MODE)?,
    };
    let isolation = IsolationConfig { after: at.find(&keys::ISOLATION_AFTER)?, scope: at.get(&keys::ISOLATION_SCOPE)? };
    let run = RunConfig {
        interval: at.get(&keys::INTERVAL)?,
        scheduler_interval: at.get(&keys::SCHEDULER_INTERVAL)?,
        state_dir: at.get(&keys::STATE_DIR)?,
    };
    let log = LogConfig { format: at.get(&keys::LOG_FORMAT)?, level: at.get(&keys::LOG_LEVEL)? };
    let mut config = Config {
        file,
        orchestrator,
        proxies,
        policy,
        aliases: raw.aliases.clone(),
        isolation,
        run,
        log,
        shown: BTreeMap::new(),
    };
    if config.isolation.after.is_none() {
        // A comment, not a value: the default depends on the mode, and a value in a config file would fix it.
        let [daemon, once] = [Mode::Daemon, Mode::Once].map(|mode| config.isolation_after(mode).to_toml());
        at.remark(&keys::ISOLATION_AFTER.about, format!("{daemon}, with run --once {once}"), Origin::Default);
    }
    config.shown = at.shown;
    Ok(config)
}

/// The state directory alone, for the break-glass: the rest of the config may be wrong.
pub(super) fn state_dir_alone(flags: &Flags, env: &Environment, raw: &RawFile) -> Result<PathBuf, ConfigError> {
    Layers::new(flags, env, raw.single().collect()).get(&keys::STATE_DIR)
}

fn orchestrator(at: &mut Layers<'_>, file: Option<&Path>) -> Result<OrchestratorConfig, ConfigError> {
    let Some(endpoints) = at.find(&keys::ENDPOINTS)? else {
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
    let Some(given) = at.texts(&keys::ADDRESS)? else { return Ok(listed) };
    let mut chosen = Vec::new();
    for text in given.value {
        let text = Sourced::new(text, given.origin.clone());
        let address = text.read("proxysql.address", |text| Node::from_text(&text))?;
        // The file's section for this proxy still applies. The file's other proxies are left out.
        let identity = address::proxy_identity(&address.value);
        let same = listed.iter_mut().find(|(node, _)| address::proxy_identity(&node.value) == identity);
        let table = same.and_then(|(_, table)| table.take());
        chosen.push((address, table));
    }
    Ok(chosen)
}

fn proxies(at: &mut Layers<'_>, raw: &RawFile, file: Option<&Path>) -> Result<Vec<ProxyConfig>, ConfigError> {
    let listed = listed(at, raw)?;
    if listed.is_empty() {
        let problem = "no ProxySQL is given; expected [[proxysql]] with address = \"127.0.0.1:6032\", \
                       --proxysql=127.0.0.1:6032 or PROXYSQL_STONITH_PROXYSQL";
        return Err(missing(file, "proxysql.address", problem));
    }
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
        let mut of_proxy = at.of_proxy(index, table);
        proxies.push(proxy(&mut of_proxy, address, file)?);
        let mut shown = of_proxy.shown;
        at.shown.append(&mut shown);
    }
    Ok(proxies)
}

fn proxy(at: &mut Layers<'_>, address: Sourced<Node>, file: Option<&Path>) -> Result<ProxyConfig, ConfigError> {
    at.note(&keys::ADDRESS.about, address.value.to_toml(), address.origin.clone());
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
    })
}

/// The error for one of two keys that are only valid together.
fn lonely(at: &Layers<'_>, have: &About, lack: &About) -> ConfigError {
    ConfigError::new(at.origin(have), &have.full_name(), format!("expected {} with it", lack.name))
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
