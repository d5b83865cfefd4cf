//! The config file, as written: every value with its line, nothing filled in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stonith_core::policy::{ErrantGtid, FenceOn, IsolationScope};
use toml::de::DeTable;

use super::origin::{ConfigError, Origin, Sourced};
use super::section::{Section, SourceText};
use super::words::{Enforcement, LogFormat, LogLevel, OnBlind, ProxyTls};
use crate::files::{Links, NOT_SECRET, OTHERS_WRITE, Regular};
use crate::secret::Secret;

/// The largest config file that is read, in bytes.
pub const FILE_MAX_BYTES: u64 = 1024 * 1024;

type Maybe<T> = Option<Sourced<T>>;

/// The file's values.
#[derive(Debug, Default)]
pub struct RawFile {
    /// `[orchestrator]`.
    pub orchestrator: RawOrchestrator,
    /// `[[proxysql]]`.
    pub proxies: Vec<RawProxy>,
    /// `[policy] fence_on`.
    pub fence_on: Maybe<FenceOn>,
    /// `[policy] max_downtime_fences`.
    pub max_downtime_fences: Maybe<i64>,
    /// `[policy] exclude_hostgroups`.
    pub exclude_hostgroups: Maybe<Vec<i64>>,
    /// `[policy] writer_hostgroups`.
    pub writer_hostgroups: Maybe<Vec<i64>>,
    /// `[policy] errant_gtid`.
    pub errant_gtid: Maybe<ErrantGtid>,
    /// `[policy] on_blind`.
    pub on_blind: Maybe<OnBlind>,
    /// `[policy] end_possible_holders`.
    pub end_possible_holders: Maybe<bool>,
    /// `[policy] mode`.
    pub mode: Maybe<Enforcement>,
    /// `[isolation] after`.
    pub isolation_after: Maybe<Duration>,
    /// `[isolation] scope`.
    pub isolation_scope: Maybe<IsolationScope>,
    /// `[run] interval`.
    pub interval: Maybe<Duration>,
    /// `[run] scheduler_interval`.
    pub scheduler_interval: Maybe<Duration>,
    /// `[run] state_dir`.
    pub state_dir: Maybe<PathBuf>,
    /// `[log] format`.
    pub log_format: Maybe<LogFormat>,
    /// `[log] level`.
    pub log_level: Maybe<LogLevel>,
}

/// `[orchestrator]`.
#[derive(Debug, Default)]
pub struct RawOrchestrator {
    /// The API's addresses.
    pub endpoints: Maybe<Vec<String>>,
    /// For basic auth.
    pub user: Maybe<String>,
    /// For basic auth.
    pub password: Maybe<Secret>,
    /// A file with the password in it.
    pub password_file: Maybe<PathBuf>,
    /// Certificates to trust instead of the system's.
    pub ca_file: Maybe<PathBuf>,
    /// Our own certificate.
    pub client_cert: Maybe<PathBuf>,
    /// Its key.
    pub client_key: Maybe<PathBuf>,
    /// Whether the server's certificate is verified.
    pub tls_verify: Maybe<bool>,
    /// The longest connect.
    pub connect_timeout: Maybe<Duration>,
    /// The longest wait for an answer.
    pub read_timeout: Maybe<Duration>,
    /// The longest time a tick asks Orchestrator.
    pub tick_timeout: Maybe<Duration>,
}

/// One `[[proxysql]]`.
#[derive(Debug)]
pub struct RawProxy {
    /// Where the table begins.
    pub origin: Origin,
    /// The admin interface.
    pub address: Maybe<String>,
    /// The admin user.
    pub user: Maybe<String>,
    /// Its password.
    pub password: Maybe<Secret>,
    /// A file with the password in it.
    pub password_file: Maybe<PathBuf>,
    /// A MySQL option file with user and password.
    pub defaults_file: Maybe<PathBuf>,
    /// TLS, and what the certificate has to prove.
    pub tls: Maybe<ProxyTls>,
    /// Certificates to trust instead of the system's.
    pub ca_file: Maybe<PathBuf>,
    /// Whether to work on a version that was never tried.
    pub allow_untested_version: Maybe<bool>,
}

impl RawFile {
    /// Reads a config file.
    ///
    /// # Errors
    /// It can't be read, others can read the password in it, or something in it is wrong: with the line.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |problem: String| ConfigError::of_file(path, problem);
        let unreadable = |error: std::io::Error| failed(format!("can't read the config file: {error}"));
        let file = Regular::open(path, Links::Follow).map_err(unreadable)?;
        let mode = file.mode;
        if mode & OTHERS_WRITE != 0 {
            let way_out = format!("other users can write it (mode {mode:04o}); do: chmod o-w {}", path.display());
            return Err(failed(way_out));
        }
        let text = file.read(FILE_MAX_BYTES).map_err(unreadable)?;
        let text = String::from_utf8(text).map_err(|_| failed("is not UTF-8: not a config file".to_owned()))?;
        let raw = Self::parse(path, &text)?;
        if let Some(origin) = raw.first_password()
            && mode & NOT_SECRET != 0
        {
            let problem = format!(
                "other users can read the password in this file, or its group can change it (mode {mode:04o}); do: chmod \
                 g-w,o-rwx {}",
                path.display()
            );
            return Err(ConfigError::new(origin, "password", problem));
        }
        Ok(raw)
    }

    /// Reads a config file's text.
    ///
    /// # Errors
    /// What is wrong, with the line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = SourceText { path: Arc::from(path), text };
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(text.len(), |span| span.start);
            ConfigError::new(source.at(at), "", format!("is not TOML: {}", error.message()))
        })?;
        let mut root = Section::new(&source, "", 0, table.into_inner());
        let mut raw = Self { orchestrator: read_orchestrator(root.section("orchestrator")?)?, ..Self::default() };
        for section in root.sections("proxysql")? {
            raw.proxies.push(read_proxy(section)?);
        }
        let mut policy = root.section("policy")?;
        raw.fence_on = policy.word("fence_on")?;
        raw.max_downtime_fences = policy.integer("max_downtime_fences")?;
        raw.exclude_hostgroups = policy.integers("exclude_hostgroups")?;
        raw.writer_hostgroups = policy.integers("writer_hostgroups")?;
        raw.errant_gtid = policy.word("errant_gtid")?;
        raw.on_blind = policy.word("on_blind")?;
        raw.end_possible_holders = policy.boolean("end_possible_holders")?;
        raw.mode = policy.word("mode")?;
        policy.finish()?;
        let mut isolation = root.section("isolation")?;
        raw.isolation_after = isolation.duration("after")?;
        raw.isolation_scope = isolation.word("scope")?;
        isolation.finish()?;
        let mut run = root.section("run")?;
        raw.interval = run.duration("interval")?;
        raw.scheduler_interval = run.duration("scheduler_interval")?;
        raw.state_dir = run.path("state_dir")?;
        run.finish()?;
        let mut log = root.section("log")?;
        raw.log_format = log.word("format")?;
        raw.log_level = log.word("level")?;
        log.finish()?;
        root.finish()?;
        Ok(raw)
    }

    fn first_password(&self) -> Option<Origin> {
        let of_proxies = self.proxies.iter().filter_map(|proxy| proxy.password.as_ref());
        self.orchestrator.password.iter().chain(of_proxies).map(|password| password.origin.clone()).next()
    }
}

fn read_orchestrator(mut section: Section<'_>) -> Result<RawOrchestrator, ConfigError> {
    let raw = RawOrchestrator {
        endpoints: section.strings("endpoints")?,
        user: section.string("user")?,
        password: section.secret("password")?,
        password_file: section.path("password_file")?,
        ca_file: section.path("ca_file")?,
        client_cert: section.path("client_cert")?,
        client_key: section.path("client_key")?,
        tls_verify: section.boolean("tls_verify")?,
        connect_timeout: section.duration("connect_timeout")?,
        read_timeout: section.duration("read_timeout")?,
        tick_timeout: section.duration("tick_timeout")?,
    };
    section.finish()?;
    if let (Some(_), Some(file)) = (&raw.password, &raw.password_file) {
        let problem = "there is a password too; expected one of password, password_file";
        return Err(ConfigError::new(file.origin.clone(), "orchestrator.password_file", problem));
    }
    Ok(raw)
}

fn read_proxy(mut section: Section<'_>) -> Result<RawProxy, ConfigError> {
    let raw = RawProxy {
        origin: section.origin(),
        address: section.string("address")?,
        user: section.string("user")?,
        password: section.secret("password")?,
        password_file: section.path("password_file")?,
        defaults_file: section.path("defaults_file")?,
        tls: section.word("tls")?,
        ca_file: section.path("ca_file")?,
        allow_untested_version: section.boolean("allow_untested_version")?,
    };
    section.finish()?;
    let mut given = raw.password.iter().map(|password| &password.origin).collect::<Vec<_>>();
    given.extend(raw.password_file.iter().chain(&raw.defaults_file).map(|path| &path.origin));
    if let [_, second, ..] = given[..] {
        let problem = "more than one source of the password; expected one of password, password_file, defaults_file";
        return Err(ConfigError::new(second.clone(), "proxysql.password", problem));
    }
    let wrong = match (&raw.tls, &raw.ca_file) {
        (Some(tls), None) if tls.value == ProxyTls::VerifyCa => {
            let problem = "a certificate of any public CA would do; expected ca_file with it";
            Some((&tls.origin, "proxysql.tls", problem))
        }
        (tls, Some(file)) if tls.as_ref().is_none_or(|tls| tls.value == ProxyTls::Off) => {
            let problem = "there is no TLS; expected tls = \"verify-ca\" or tls = \"verify-identity\" with it";
            Some((&file.origin, "proxysql.ca_file", problem))
        }
        _ => None,
    };
    if let Some((origin, key, problem)) = wrong {
        return Err(ConfigError::new(origin.clone(), key, problem));
    }
    Ok(raw)
}
