//! Real programs as processes: where they are, how they end, what they say.

#[path = "../../../../lab/tests/real/program.rs"]
mod program;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use program::{Running, eventually, find, free_port, skipped};

/// Where the real binaries are.
#[derive(Clone)]
pub struct Binaries {
    pub proxysql: PathBuf,
    pub orchestrator: PathBuf,
}

impl Binaries {
    /// Looks in `PROXYSQL_BIN`, `ORCHESTRATOR_BIN` and on PATH; says in one line when it skips.
    pub fn find() -> Option<Self> {
        match (
            find("proxysql", "PROXYSQL_BIN"),
            find("orchestrator", "ORCHESTRATOR_BIN"),
            find("mariadbd", "MARIADBD_BIN"),
        ) {
            (Some(proxysql), Some(orchestrator), Some(_)) => Some(Self { proxysql, orchestrator }),
            _ => {
                skipped(
                    "needs real proxysql, orchestrator and mariadbd on PATH (or PROXYSQL_BIN, ORCHESTRATOR_BIN): \
                     build them from github:sysown/proxysql and github:percona/orchestrator",
                );
                None
            }
        }
    }
}

impl Running {
    /// Starts a program that says everything into a log.
    pub fn start(mut command: Command, log: &Path) -> Self {
        command.stdin(Stdio::null()).stdout(append_to(log)).stderr(append_to(log));
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([&format!("-{signal}"), &self.0.id().to_string()]).status();
        assert!(done.expect("kill").success());
    }
}

/// A log that several processes write to.
pub fn append_to(log: &Path) -> Stdio {
    File::options().create(true).append(true).open(log).expect("a log").into()
}

/// What a program printed, if it went well.
pub fn output(command: &mut Command) -> Option<String> {
    let done = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}
