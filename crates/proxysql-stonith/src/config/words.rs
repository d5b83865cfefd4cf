//! Settings that are one of a few words, spelled the same in file, flag and environment.

use stonith_core::barrier::OnUnconfirmed;
use stonith_core::policy::{ErrantGtid, FenceOn, IsolationScope};

/// A setting that is one of a few words.
pub trait Word: Copy + PartialEq + Send + Sync + 'static {
    /// Every value with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// Parses a word.
    ///
    /// # Errors
    /// The words that were expected.
    fn from_word(text: &str) -> Result<Self, String> {
        Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = Self::WORDS.iter().map(|(word, _)| format!("{word:?}")).collect();
            let shown: String = text.chars().take(40).collect();
            format!("{shown:?} is not known; expected {}", words.join(" or "))
        })
    }

    /// The word of a value.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

/// Whether decisions are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// Decide, report and write.
    Enforce,
    /// Decide and report, never write.
    Observe,
}

/// What to do if Orchestrator's answers are unreadable for longer than the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBlind {
    /// Change nothing, and report it as a failure.
    Hold,
    /// Isolate, as without an answer.
    Isolate,
}

/// TLS to ProxySQL's admin interface, in the words of the MySQL client's `--ssl-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyTls {
    /// Plain TCP.
    Off,
    /// The CA of `ca_file` must have signed the certificate, for any name.
    VerifyCa,
    /// The certificate must also be for the name or address that is connected to.
    VerifyIdentity,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The lowest level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Only failures.
    Error,
    /// Also what needs attention.
    Warn,
    /// Also each change.
    Info,
    /// Also each tick.
    Debug,
    /// Also each statement and request.
    Trace,
}

/// The mode that an install passes to the program. Nothing is passed where the config file says a mode or the default is meant, so that
/// the file stays the place to change it. Without any word the program begins by observing.
pub fn mode_to_pass(
    typed: Option<Enforcement>,
    written: Option<Enforcement>,
    kept: Option<Option<Enforcement>>,
) -> Option<Enforcement> {
    match (typed, kept) {
        (Some(mode), _) => (mode != written.unwrap_or(Enforcement::Enforce)).then_some(mode),
        (None, Some(kept)) => kept,
        (None, None) if written.is_none() => Some(Enforcement::Observe),
        (None, None) => None,
    }
}

impl Word for Enforcement {
    const WORDS: &'static [(&'static str, Self)] = &[("enforce", Self::Enforce), ("observe", Self::Observe)];
}

impl Word for OnUnconfirmed {
    const WORDS: &'static [(&'static str, Self)] = &[("proceed", Self::Proceed), ("abort", Self::Abort)];
}

impl Word for ErrantGtid {
    const WORDS: &'static [(&'static str, Self)] = &[("hold", Self::Hold), ("warn", Self::Warn)];
}

impl Word for OnBlind {
    const WORDS: &'static [(&'static str, Self)] = &[("hold", Self::Hold), ("isolate", Self::Isolate)];
}

impl Word for FenceOn {
    const WORDS: &'static [(&'static str, Self)] =
        &[("any-downtime", Self::AnyDowntime), ("lost-in-recovery", Self::LostInRecovery)];
}

impl Word for IsolationScope {
    const WORDS: &'static [(&'static str, Self)] =
        &[("all", Self::All), ("writers", Self::Writers), ("off", Self::Off)];
}

impl Word for ProxyTls {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("verify-ca", Self::VerifyCa), ("verify-identity", Self::VerifyIdentity)];
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Word for LogLevel {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}
