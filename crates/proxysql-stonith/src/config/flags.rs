//! The flags that set what the config file can set too. Raw: the values are put together in `effective`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use stonith_core::policy::IsolationScope;

use super::duration;
use super::words::{Enforcement, LogFormat, LogLevel, Word};

/// Flags that every command takes. There is none for a password: others would see it (I11).
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Config (a flag wins over the environment, the environment over the file)")]
pub struct Flags {
    /// Config file [default: /etc/proxysql-stonith.toml if it exists] [env: PROXYSQL_STONITH_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Orchestrator's API, every node of it: http://orc1:3000,http://orc2:3000 [env: ORCHESTRATOR_API]
    #[arg(long, global = true, value_name = "URL,...")]
    pub orchestrator: Vec<String>,
    /// ProxySQL's admin interface: 127.0.0.1:6032 [env: PROXYSQL_STONITH_PROXYSQL]
    #[arg(long, global = true, value_name = "HOST:PORT,...")]
    pub proxysql: Vec<String>,
    /// MySQL option file: ProxySQL's admin user and password in its group client, Orchestrator's in orchestrator
    #[arg(long, global = true, value_name = "FILE")]
    pub defaults_file: Option<PathBuf>,
    /// Work on a ProxySQL version that was never tried
    #[arg(long, global = true)]
    pub allow_untested_version: bool,
    /// Whether to act, or only to decide and report
    #[arg(long, global = true, value_parser = word::<Enforcement>())]
    pub mode: Option<Enforcement>,
    /// Out of service so long after the last word of a leader: 10s
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration::parse)]
    pub isolation_after: Option<Duration>,
    /// What goes out of service then
    #[arg(long, global = true, value_parser = word::<IsolationScope>())]
    pub isolation_scope: Option<IsolationScope>,
    /// Where the state is kept [default: $STATE_DIRECTORY or /var/lib/proxysql-stonith]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// How log lines look [default: text]
    #[arg(long, global = true, value_parser = word::<LogFormat>())]
    pub log_format: Option<LogFormat>,
    /// The least important thing that is logged [default: info]
    #[arg(long, global = true, value_parser = word::<LogLevel>())]
    pub log_level: Option<LogLevel>,
    /// `run --interval`: [`Flags::once`] says of what.
    #[arg(skip)]
    pub interval: Option<Duration>,
    /// `run --once`: then the interval is that of ProxySQL's scheduler.
    #[arg(skip)]
    pub once: bool,
}

/// Lets clap read a [`Word`], and list its words in the help.
pub fn word<T: Word>() -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(T::WORDS.iter().map(|(word, _)| *word)).try_map(|text| T::from_word(&text))
}
