//! The environment variables that the program reads, taken once, so that tests need no global state.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::origin::{ConfigError, Origin, Sourced};

/// A snapshot of the variables in [`Environment::READ`]. An empty variable counts as unset.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<&'static str, OsString>);

impl Environment {
    /// Every variable that is read, with what it sets.
    pub const READ: &'static [(&'static str, &'static str)] = &[
        ("PROXYSQL_STONITH_CONFIG", "--config"),
        ("PROXYSQL_STONITH_ORCHESTRATOR", "orchestrator.endpoints"),
        ("ORCHESTRATOR_API", "orchestrator.endpoints, as for orchestrator-client"),
        ("PROXYSQL_STONITH_ORCHESTRATOR_USER", "orchestrator.user"),
        ("ORCHESTRATOR_AUTH_USER", "orchestrator.user, as for orchestrator-client"),
        ("PROXYSQL_STONITH_ORCHESTRATOR_PASSWORD", "orchestrator.password"),
        ("ORCHESTRATOR_AUTH_PASSWORD", "orchestrator.password, as for orchestrator-client"),
        ("PROXYSQL_STONITH_PROXYSQL", "proxysql.address"),
        ("PROXYSQL_STONITH_PROXYSQL_USER", "proxysql.user"),
        ("PROXYSQL_STONITH_PROXYSQL_PASSWORD", "proxysql.password"),
        ("PROXYSQL_STONITH_DEFAULTS_FILE", "proxysql.defaults_file"),
        ("PROXYSQL_STONITH_STATE_DIR", "run.state_dir"),
        ("STATE_DIRECTORY", "run.state_dir if nothing else does; set by systemd"),
        ("PROXYSQL_STONITH_MODE", "policy.mode"),
        ("PROXYSQL_STONITH_ISOLATION_AFTER", "isolation.after"),
        ("PROXYSQL_STONITH_ISOLATION_SCOPE", "isolation.scope"),
        ("PROXYSQL_STONITH_LOG_FORMAT", "log.format"),
        ("PROXYSQL_STONITH_LOG_LEVEL", "log.level"),
    ];

    /// The process's own.
    pub fn of_process() -> Self {
        Self::of(std::env::var_os)
    }

    /// What `lookup` knows.
    pub fn of(lookup: impl Fn(&'static str) -> Option<OsString>) -> Self {
        let set = Self::READ.iter().filter_map(|(name, _)| Some((*name, lookup(name)?)));
        Self(set.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The first of these variables that is set.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub(super) fn first(&self, names: &[&'static str]) -> Result<Option<Sourced<String>>, ConfigError> {
        for name in names {
            debug_assert!(Self::READ.iter().any(|(read, _)| read == name), "{name} is missing from READ");
            if let Some(value) = self.0.get(name) {
                let value = value.to_str().ok_or_else(|| ConfigError::new(Origin::Env(name), "", "is not UTF-8"))?;
                return Ok(Some(Sourced::new(value.to_owned(), Origin::Env(name))));
            }
        }
        Ok(None)
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Names only: some values are passwords (I11).
        f.debug_set().entries(self.0.keys()).finish()
    }
}
