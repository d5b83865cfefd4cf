//! Real programs as processes: where they are, how they end, what they say.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program on PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// A program that is named by a variable, or is on PATH.
fn find(name: &str, variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_file()).or_else(|| on_path(name))
}

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
                println!(
                    "SKIPPED: needs real proxysql, orchestrator and mariadbd on PATH (or PROXYSQL_BIN, ORCHESTRATOR_BIN): \
                     build them from github:sysown/proxysql and github:percona/orchestrator"
                );
                None
            }
        }
    }
}

/// A process that ends with its owner.
pub struct Running(pub Child);

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

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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
