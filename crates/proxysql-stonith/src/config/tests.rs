//! The config's rules: each test has the text that an operator writes, and the error or value that follows.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

mod fence_agents;
mod layers;
mod refused;
mod secrets;
mod several;
mod shown;

use super::*;
use crate::secret::{Credential, Secret};

const MINIMAL: &str = r#"
[orchestrator]
endpoints = ["http://orc1:3000"]
[[proxysql]]
address = "127.0.0.1:6032"
user = "stonith"
password = "hunter2"
"#;

/// A directory with files, and the flags and environment to try.
struct Case {
    dir: tempfile::TempDir,
    flags: Flags,
    env: BTreeMap<&'static str, String>,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // An empty config file, so that no file of this machine is read.
        let mut case = Self { dir, flags: Flags::default(), env: BTreeMap::new() };
        case.file("");
        case
    }

    fn with(text: &str) -> Self {
        let mut case = Self::new();
        case.file(text);
        case
    }

    fn file(&mut self, text: &str) {
        let path = self.write("stonith.toml", text, 0o600);
        self.flag(&keys::CONFIG_FILE, path.to_str().unwrap());
    }

    fn flag<T>(&mut self, key: &Key<T>, text: &str) {
        self.flags = self.flags.clone().with(key, text);
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.insert(name, value.to_owned());
        self
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.flags, &Environment::of(|name| self.env.get(name).map(Into::into)))
    }

    fn error(&self) -> String {
        let error = self.load().expect_err("it is accepted").to_string();
        assert!(!error.contains("hunter2"), "{error}");
        error.replace(&*self.dir.path().to_string_lossy(), "DIR")
    }
}

impl Config {
    /// The policy of the first ProxySQL.
    fn policy_of_first(&self, mode: Mode) -> Result<Policy, ConfigError> {
        self.policy(&self.proxies[0], mode)
    }

    /// `isolation.after` of the first ProxySQL.
    fn after_of_first(&self) -> Option<Duration> {
        self.proxies[0].isolation.after.as_ref().map(|after| after.value)
    }
}

fn refused(text: &str) -> String {
    Case::with(text).error()
}

fn after_minimal(more: &str) -> String {
    format!("{MINIMAL}{more}")
}

/// The time that a publication of the mark may take.
const PUBLICATION_MS: u64 = 3_000;

#[test]
fn a_default_lease_of_a_cut_off_agent_fits_the_default_deadline_of_the_barrier() {
    use stonith_core::barrier::{OnUnconfirmed, lease_wait_ms, longest_wait_ms};
    let config = Case::with(MINIMAL).load().unwrap();
    let deadline_ms = duration::millis(config.barrier.deadline);
    let lease_ms = lease_wait_ms(duration::millis(config.barrier.lease), config.tick_ms(Mode::Daemon));
    for on_unconfirmed in [OnUnconfirmed::Proceed, OnUnconfirmed::Abort] {
        let wait_ms = longest_wait_ms(deadline_ms, on_unconfirmed);
        assert!(wait_ms >= lease_ms + PUBLICATION_MS, "{on_unconfirmed:?}: {wait_ms} ms for {lease_ms} ms");
    }
}
