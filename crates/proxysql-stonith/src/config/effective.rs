//! Puts flags, environment and file together, and checks what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use stonith_core::policy::{ErrantGtid, FenceOn, IsolationScope};
use stonith_core::table::Hostgroup;

use super::credential::{self, Layer};
use super::environment::Environment;
use super::file::{RawFile, RawOrchestrator, RawProxy};
use super::flags::Flags;
use super::origin::{ConfigError, Origin, Sourced};
use super::secrets::SecretSource;
use super::words::{Enforcement, LogFormat, LogLevel, OnBlind, Word};
use super::{
    ADDRESSES_MAX, ClientCertificate, Config, DEFAULT_STATE_DIR, IsolationConfig, LogConfig, OrchestratorConfig,
    PolicyConfig, ProxyConfig, ProxyTls, RunConfig, TlsConfig, address, duration,
};
use crate::secret::Secret;

type Maybe<T> = Option<Sourced<T>>;

const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// Resolves everything.
pub(super) fn resolve(
    flags: &Flags,
    env: &Environment,
    raw: RawFile,
    file: Option<PathBuf>,
) -> Result<Config, ConfigError> {
    let mut at = Resolver { flags, env, file: file.clone(), origins: BTreeMap::new() };
    let orchestrator = at.orchestrator(raw.orchestrator)?;
    let proxies = at.proxies(raw.proxies)?;

    let from_env = at.word("PROXYSQL_STONITH_MODE", "policy.mode")?;
    let mode = at.pick("policy.mode", flag(flags.mode, "--mode").or(from_env), raw.mode, Enforcement::Enforce);
    let fences = at.number("policy.max_downtime_fences", raw.max_downtime_fences, 2, 1000)?;
    let policy = PolicyConfig {
        fence_on: at.pick("policy.fence_on", None, raw.fence_on, FenceOn::AnyDowntime),
        max_downtime_fences: fences,
        exclude_hostgroups: at.hostgroups("policy.exclude_hostgroups", raw.exclude_hostgroups)?,
        writer_hostgroups: at.hostgroups("policy.writer_hostgroups", raw.writer_hostgroups)?,
        errant_gtid: at.pick("policy.errant_gtid", None, raw.errant_gtid, ErrantGtid::Hold),
        on_blind: at.pick("policy.on_blind", None, raw.on_blind, OnBlind::Hold),
        end_possible_holders: at.pick("policy.end_possible_holders", None, raw.end_possible_holders, true),
        mode,
    };

    let from_env = at.duration("PROXYSQL_STONITH_ISOLATION_AFTER", "isolation.after")?;
    let after = flag(flags.isolation_after, "--isolation-after").or(from_env).or(raw.isolation_after);
    let after = at.note("isolation.after", after);
    let from_env = at.word("PROXYSQL_STONITH_ISOLATION_SCOPE", "isolation.scope")?;
    let scope = flag(flags.isolation_scope, "--isolation-scope").or(from_env);
    let scope = at.pick("isolation.scope", scope, raw.isolation_scope, IsolationScope::All);

    let given = flag(flags.interval, "--interval");
    let (scheduler, daemon) = if flags.once { (given, None) } else { (None, given) };
    let run = RunConfig {
        interval: at.interval("run.interval", daemon.or(raw.interval), Duration::from_secs(1))?,
        scheduler_interval: at.interval(
            "run.scheduler_interval",
            scheduler.or(raw.scheduler_interval),
            Duration::from_secs(5),
        )?,
        state_dir: at.state_dir(raw.state_dir)?,
    };

    let format = flag(flags.log_format, "--log-format").or(at.word("PROXYSQL_STONITH_LOG_FORMAT", "log.format")?);
    let level = flag(flags.log_level, "--log-level").or(at.word("PROXYSQL_STONITH_LOG_LEVEL", "log.level")?);
    let log = LogConfig {
        format: at.pick("log.format", format, raw.log_format, LogFormat::Text),
        level: at.pick("log.level", level, raw.log_level, LogLevel::Info),
    };
    let isolation = IsolationConfig { after, scope };
    Ok(Config { file, orchestrator, proxies, policy, isolation, run, log, origins: at.origins })
}

/// Where the state is kept, if something says so.
fn state_dir(flags: &Flags, env: &Environment, in_file: Maybe<PathBuf>) -> Result<Maybe<PathBuf>, ConfigError> {
    let from_env = env.first(&["PROXYSQL_STONITH_STATE_DIR"])?;
    let path = |text: Sourced<String>| Sourced::new(PathBuf::from(text.value), text.origin);
    let from_systemd = env.first(&["STATE_DIRECTORY"])?.map(|mut list| {
        list.value.truncate(list.value.find(':').unwrap_or(list.value.len()));
        list
    });
    Ok(flag(flags.state_dir.clone(), "--state-dir").or(from_env.map(path)).or(in_file).or(from_systemd.map(path)))
}

/// The state directory alone, for the break-glass: whatever else is wrong with the config.
pub(super) fn state_dir_alone(flags: &Flags, env: &Environment, raw: RawFile) -> Result<PathBuf, ConfigError> {
    let chosen = state_dir(flags, env, raw.state_dir)?;
    Ok(absolute(chosen.map_or_else(|| PathBuf::from(DEFAULT_STATE_DIR), |dir| dir.value)))
}

fn flag<T>(value: Option<T>, name: &'static str) -> Maybe<T> {
    value.map(|value| Sourced::new(value, Origin::Flag(name)))
}

struct Resolver<'a> {
    flags: &'a Flags,
    env: &'a Environment,
    file: Option<PathBuf>,
    origins: BTreeMap<String, Origin>,
}

impl Resolver<'_> {
    /// Remembers where a value came from.
    fn note<T>(&mut self, key: &str, value: Maybe<T>) -> Option<T> {
        value.map(|value| {
            self.origins.insert(key.to_owned(), value.origin);
            value.value
        })
    }

    fn pick<T>(&mut self, key: &str, above: Maybe<T>, in_file: Maybe<T>, default: T) -> T {
        self.note(key, above.or(in_file)).unwrap_or(default)
    }

    fn word<T: Word>(&self, name: &'static str, key: &str) -> Result<Maybe<T>, ConfigError> {
        self.env.first(&[name])?.map(|text| text.read(key, |text| T::from_word(&text))).transpose()
    }

    fn duration(&self, name: &'static str, key: &str) -> Result<Maybe<Duration>, ConfigError> {
        self.env.first(&[name])?.map(|text| text.read(key, |text| duration::parse(&text))).transpose()
    }

    /// The error for what nobody gave: it names the file, if one was read.
    fn missing(&self, key: &str, problem: &str) -> ConfigError {
        let file = self.file.clone();
        ConfigError { origin: Origin::Default, key: key.to_owned(), problem: problem.to_owned(), file }
    }

    fn number(&mut self, key: &str, value: Maybe<i64>, default: usize, most: usize) -> Result<usize, ConfigError> {
        let read = |number: i64| {
            usize::try_from(number)
                .ok()
                .filter(|number| *number <= most)
                .ok_or_else(|| format!("{number} is out of range; expected 0 to {most}"))
        };
        let value = value.map(|value| value.read(key, read)).transpose()?;
        Ok(self.note(key, value).unwrap_or(default))
    }

    fn interval(&mut self, key: &str, value: Maybe<Duration>, default: Duration) -> Result<Duration, ConfigError> {
        let read = |interval: Duration| {
            if (SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&interval) {
                return Ok(interval);
            }
            Err(format!("{} is out of range; expected 100ms to 1h", duration::show(interval)))
        };
        let value = value.map(|value| value.read(key, read)).transpose()?;
        Ok(self.note(key, value).unwrap_or(default))
    }

    fn hostgroups(&mut self, key: &'static str, value: Maybe<Vec<i64>>) -> Result<Vec<Hostgroup>, ConfigError> {
        let read = |numbers: Vec<i64>| {
            let mut seen = BTreeSet::new();
            for number in numbers {
                // ProxySQL's column is a signed 32-bit number, at least 0.
                let known = i32::try_from(number).ok().and_then(|number| u32::try_from(number).ok());
                let known = known.ok_or_else(|| format!("{number} is no hostgroup; expected 0 to {}", i32::MAX))?;
                if !seen.insert(Hostgroup(known)) {
                    return Err(format!("{number} is listed twice"));
                }
            }
            Ok(seen.into_iter().collect())
        };
        let value = value.map(|value| value.read(key, read)).transpose()?;
        Ok(self.note(key, value).unwrap_or_default())
    }

    fn state_dir(&mut self, in_file: Maybe<PathBuf>) -> Result<PathBuf, ConfigError> {
        let chosen = state_dir(self.flags, self.env, in_file)?;
        Ok(absolute(self.note("run.state_dir", chosen).unwrap_or_else(|| PathBuf::from(DEFAULT_STATE_DIR))))
    }

    /// Flags or the environment's list, whichever is higher.
    fn list(
        &self,
        given: &[String],
        name: &'static str,
        variables: &[&'static str],
    ) -> Result<Maybe<Vec<String>>, ConfigError> {
        let split = |text: &str| address::split(text).map(str::to_owned).collect::<Vec<_>>();
        if !given.is_empty() {
            return Ok(Some(Sourced::new(split(&given.join(",")), Origin::Flag(name))));
        }
        Ok(self.env.first(variables)?.map(|text| Sourced::new(split(&text.value), text.origin)))
    }

    fn orchestrator(&mut self, raw: RawOrchestrator) -> Result<OrchestratorConfig, ConfigError> {
        let variables = ["PROXYSQL_STONITH_ORCHESTRATOR", "ORCHESTRATOR_API"];
        let given = self.list(&self.flags.orchestrator, "--orchestrator", &variables)?.or(raw.endpoints);
        let Some(given) = given else {
            let problem = "no endpoint is given; expected [orchestrator] endpoints = [\"http://orc1:3000\"], \
                           --orchestrator=http://orc1:3000 or ORCHESTRATOR_API";
            return Err(self.missing("orchestrator.endpoints", problem));
        };
        let given = given.read("orchestrator.endpoints", |urls| check_endpoints(&urls).map(|()| urls))?;
        let endpoints = self.note("orchestrator.endpoints", Some(given)).unwrap_or_default();
        let credential = self.orchestrator_credential(raw.user, raw.password, raw.password_file)?;
        let client = match (raw.client_cert, raw.client_key) {
            (None, None) => None,
            (Some(cert), Some(key)) => {
                let cert = self.note("orchestrator.client_cert", Some(cert));
                let key = self.note("orchestrator.client_key", Some(key));
                cert.zip(key).map(|(cert, key)| ClientCertificate { cert, key })
            }
            (Some(alone), None) => return Err(lonely(alone.origin, "client_cert", "client_key")),
            (None, Some(alone)) => return Err(lonely(alone.origin, "client_key", "client_cert")),
        };
        let mut timeout = |key: &str, value, default_s| {
            self.pick(&format!("orchestrator.{key}"), None, value, Duration::from_secs(default_s))
        };
        Ok(OrchestratorConfig {
            endpoints,
            credential,
            connect_timeout: timeout("connect_timeout", raw.connect_timeout, 1),
            read_timeout: timeout("read_timeout", raw.read_timeout, 2),
            tick_timeout: timeout("tick_timeout", raw.tick_timeout, 4),
            tls: TlsConfig {
                verify: self.pick("orchestrator.tls_verify", None, raw.tls_verify, true),
                ca_file: self.note("orchestrator.ca_file", raw.ca_file),
                client,
            },
        })
    }

    fn orchestrator_credential(
        &mut self,
        user: Maybe<String>,
        password: Maybe<Secret>,
        password_file: Maybe<PathBuf>,
    ) -> Result<Option<super::CredentialSource>, ConfigError> {
        let (from_flag, from_env) = self.defaults_files()?;
        // The option file is ProxySQL's first of all: it counts here only if it has our group.
        let group = |path: Maybe<PathBuf>| {
            path.filter(|path| credential::has_password(&path.value, "orchestrator"))
                .map(|path| option_file(path, "orchestrator"))
        };
        let given = self.env.first(&["PROXYSQL_STONITH_ORCHESTRATOR_PASSWORD", "ORCHESTRATOR_AUTH_PASSWORD"])?;
        let env_user = self.env.first(&["PROXYSQL_STONITH_ORCHESTRATOR_USER", "ORCHESTRATOR_AUTH_USER"])?;
        let layers = [
            Layer { user: None, password: group(from_flag) },
            Layer { user: env_user, password: given.map(given_secret).or(group(from_env)) },
            Layer { user, password: password_in_file(self.file.as_deref(), None, password, password_file, None) },
        ];
        self.credential(layers, "orchestrator")
    }

    fn proxies(&mut self, in_file: Vec<RawProxy>) -> Result<Vec<ProxyConfig>, ConfigError> {
        let mut listed = Vec::new();
        for raw in in_file {
            let Some(text) = raw.address.clone() else {
                let problem = "missing; expected the admin interface, such as \"127.0.0.1:6032\"";
                return Err(ConfigError::new(raw.origin, "proxysql.address", problem));
            };
            listed.push((text.read("proxysql.address", |text| address::parse_proxy(&text))?, Some(raw)));
        }
        let given = self.list(&self.flags.proxysql, "--proxysql", &["PROXYSQL_STONITH_PROXYSQL"])?;
        if let Some(given) = given {
            let mut chosen = Vec::new();
            for text in given.value {
                let text = Sourced::new(text, given.origin.clone());
                let address = text.read("proxysql.address", |text| address::parse_proxy(&text))?;
                // What the file says of this proxy still holds; its other proxies are left out.
                let same = listed.iter().position(|(node, _)| {
                    address::proxy_identity(&node.value) == address::proxy_identity(&address.value)
                });
                let raw = same.and_then(|at| listed[at].1.take());
                chosen.push((address, raw));
            }
            listed = chosen;
        }
        if listed.is_empty() {
            let problem = "no ProxySQL is given; expected [[proxysql]] with address = \"127.0.0.1:6032\", \
                           --proxysql=127.0.0.1:6032 or PROXYSQL_STONITH_PROXYSQL";
            return Err(self.missing("proxysql.address", problem));
        }
        let mut seen = BTreeMap::new();
        for (address, _) in &listed {
            let again = |first: &Origin| {
                let problem = format!("{} is listed twice; the first is at {first}", address.value);
                ConfigError::new(address.origin.clone(), "proxysql.address", problem)
            };
            if let Some(first) = seen.insert(address::proxy_identity(&address.value), address.origin.clone()) {
                return Err(again(&first));
            }
            if seen.len() > ADDRESSES_MAX {
                let problem = format!("more than {ADDRESSES_MAX} proxies; run a second agent");
                return Err(ConfigError::new(address.origin.clone(), "proxysql.address", problem));
            }
        }
        listed.into_iter().enumerate().map(|(index, (address, raw))| self.proxy(index, address, raw)).collect()
    }

    fn proxy(
        &mut self,
        index: usize,
        address: Sourced<stonith_core::node::Node>,
        raw: Option<RawProxy>,
    ) -> Result<ProxyConfig, ConfigError> {
        let key = format!("proxysql[{index}]");
        let place = address.origin.clone();
        let node = address.value.clone();
        self.origins.insert(format!("{key}.address"), address.origin);
        let (from_flag, from_env) = self.defaults_files()?;
        let given = self.env.first(&["PROXYSQL_STONITH_PROXYSQL_PASSWORD"])?;
        if let (Some(_), Some(file)) = (&given, &from_env) {
            let problem = "PROXYSQL_STONITH_PROXYSQL_PASSWORD is set too; expected one of them";
            return Err(ConfigError::new(file.origin.clone(), "proxysql.defaults_file", problem));
        }
        let mut in_file = Layer::default();
        let (mut allow, mut tls, mut ca_file) = (None, None, None);
        if let Some(raw) = raw {
            let written = raw.address.and_then(|text| address::parse_proxy(&text.value).ok());
            in_file.user = raw.user;
            in_file.password =
                password_in_file(self.file.as_deref(), written, raw.password, raw.password_file, raw.defaults_file);
            (allow, tls, ca_file) = (raw.allow_untested_version, raw.tls, raw.ca_file);
        }
        let client = |path: Maybe<PathBuf>| path.map(|path| option_file(path, "client"));
        let env_user = self.env.first(&["PROXYSQL_STONITH_PROXYSQL_USER"])?;
        let layers = [
            Layer { user: None, password: client(from_flag) },
            Layer { user: env_user, password: given.map(given_secret).or(client(from_env)) },
            in_file,
        ];
        let Some(credential) = self.credential(layers, &key)? else {
            let problem = format!(
                "no password for the admin interface {node}; expected user and password_file, or defaults_file, in \
                 [[proxysql]], --defaults-file=FILE, or PROXYSQL_STONITH_PROXYSQL_USER and _PASSWORD"
            );
            return Err(ConfigError::new(place, "proxysql.password", problem));
        };
        let above = flag(self.flags.allow_untested_version.then_some(true), "--allow-untested-version");
        let allow_untested_version = self.pick(&format!("{key}.allow_untested_version"), above, allow, false);
        let tls = self.pick(&format!("{key}.tls"), None, tls, ProxyTls::Off);
        let ca_file = self.note(&format!("{key}.ca_file"), ca_file);
        Ok(ProxyConfig { address: node, credential, tls, ca_file, allow_untested_version })
    }

    fn defaults_files(&self) -> Result<(Maybe<PathBuf>, Maybe<PathBuf>), ConfigError> {
        let from_flag = self.flags.defaults_file.clone().map(absolute);
        let from_env = self.env.first(&["PROXYSQL_STONITH_DEFAULTS_FILE"])?;
        let from_env = from_env.map(|path| Sourced::new(absolute(path.value.into()), path.origin));
        Ok((flag(from_flag, "--defaults-file"), from_env))
    }

    fn credential(&mut self, layers: [Layer; 3], key: &str) -> Result<Option<super::CredentialSource>, ConfigError> {
        let Some(chosen) = credential::choose(layers, key)? else { return Ok(None) };
        if let Some(origin) = chosen.user {
            self.origins.insert(format!("{key}.user"), origin);
        }
        self.origins.insert(format!("{key}.password"), chosen.password);
        Ok(Some(chosen.credential))
    }
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

fn given_secret(text: Sourced<String>) -> Sourced<SecretSource> {
    Sourced::new(SecretSource::Given(Secret::new(text.value)), text.origin)
}

fn option_file(path: Sourced<PathBuf>, group: &'static str) -> Sourced<SecretSource> {
    Sourced::new(SecretSource::OptionFile { path: path.value, group }, path.origin)
}

fn password_in_file(
    file: Option<&Path>,
    proxy: Option<stonith_core::node::Node>,
    password: Maybe<Secret>,
    password_file: Maybe<PathBuf>,
    defaults_file: Maybe<PathBuf>,
) -> Maybe<SecretSource> {
    if let (Some(password), Some(file)) = (password, file) {
        return Some(Sourced::new(SecretSource::ConfigFile { path: file.to_owned(), proxy }, password.origin));
    }
    let from_file = password_file.map(|path| Sourced::new(SecretSource::File(path.value), path.origin));
    from_file.or(defaults_file.map(|path| option_file(path, "client")))
}

fn lonely(origin: Origin, have: &str, lack: &str) -> ConfigError {
    ConfigError::new(origin, &format!("orchestrator.{have}"), format!("expected {lack} with it"))
}

/// Later the working directory may be another: the scheduler's is ProxySQL's data directory.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
