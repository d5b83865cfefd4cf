//! The environment variables that the program reads. They are read once, so that tests need no global state.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::keys;
use super::origin::{ConfigError, Origin, Sourced};

/// The values of the variables that keys name. An empty variable counts as unset.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<&'static str, OsString>);

impl Environment {
    /// The names of all variables that the program reads.
    pub fn variables() -> impl Iterator<Item = &'static str> {
        keys::all().flat_map(|key| key.env.iter().copied().chain(key.env_below))
    }

    /// The environment of this process.
    pub fn of_process() -> Self {
        Self::of(std::env::var_os)
    }

    /// The environment that `lookup` returns.
    pub fn of(lookup: impl Fn(&'static str) -> Option<OsString>) -> Self {
        let set = Self::variables().filter_map(|name| Some((name, lookup(name)?)));
        Self(set.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The first of these variables that is set.
    ///
    /// # Errors
    /// The variable is not UTF-8.
    pub(super) fn first(
        &self,
        names: impl IntoIterator<Item = &'static str>,
    ) -> Result<Option<Sourced<&str>>, ConfigError> {
        let mut set = names.into_iter().filter_map(|name| Some((name, self.0.get(name)?)));
        let Some((name, value)) = set.next() else { return Ok(None) };
        let value = value.to_str().ok_or_else(|| ConfigError::new(Origin::Env(name), "", "is not UTF-8"))?;
        Ok(Some(Sourced::new(value, Origin::Env(name))))
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Only names are shown: some values are passwords (I11).
        f.debug_set().entries(self.0.keys()).finish()
    }
}
