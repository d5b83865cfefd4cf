//! Real programs as processes: where they are, how they end, what they say.

#[path = "../../../../lab/tests/real/program.rs"]
mod program;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::server::Server;
pub use program::{Running, eventually, find, free_port, skipped};

/// Where the real binaries are.
#[derive(Clone)]
pub struct Binaries {
    pub proxysql: PathBuf,
    pub orchestrator: PathBuf,
    pub server: Server,
}

impl Binaries {
    /// Looks in `PROXYSQL_BIN`, `ORCHESTRATOR_BIN` and on PATH; says in one line when it skips.
    pub fn find() -> Option<Self> {
        let found = (find("proxysql", "PROXYSQL_BIN"), find("orchestrator", "ORCHESTRATOR_BIN"));
        match (found, find("mariadbd", "MARIADBD_BIN")) {
            ((Some(proxysql), Some(orchestrator)), Some(_)) => {
                Some(Self { proxysql, orchestrator, server: Server::MariaDb })
            }
            _ => {
                skipped(
                    "needs real proxysql, orchestrator and mariadbd on PATH (or PROXYSQL_BIN, ORCHESTRATOR_BIN): \
                     build them from github:sysown/proxysql and github:percona/orchestrator",
                );
                None
            }
        }
    }

    /// The same with MySQL nodes, of the server that `MYSQLD` names.
    pub fn with_mysql() -> Option<Self> {
        let Some(mysqld) = std::env::var_os("MYSQLD").map(PathBuf::from) else {
            skipped("needs a MySQL server: MYSQLD=/path/to/mysqld");
            return None;
        };
        assert!(mysqld.is_file(), "MYSQLD names no file: {}", mysqld.display());
        Self::find().map(|binaries| Self { server: Server::MySql(mysqld), ..binaries })
    }

    /// Each ProxySQL of `PROXYSQL_BINS` with each Orchestrator of `ORCHESTRATOR_BINS` (both lists as PATH is one), on
    /// MySQL nodes if `MYSQLD` names a server. What is not listed is what `find` finds.
    pub fn each() -> Vec<Self> {
        if [PROXYSQLS, ORCHESTRATORS].iter().all(|variable| std::env::var_os(variable).is_none()) {
            skipped(format!("needs binaries to go through: {PROXYSQLS}=a:b:c, {ORCHESTRATORS}=d:e, or both"));
            return Vec::new();
        }
        let one = if std::env::var_os("MYSQLD").is_some() { Self::with_mysql() } else { Self::find() };
        let Some(one) = one else { return Vec::new() };
        let orchestrators = listed(ORCHESTRATORS).unwrap_or_else(|| vec![one.orchestrator.clone()]);
        let proxysqls = listed(PROXYSQLS).unwrap_or_else(|| vec![one.proxysql.clone()]);
        let with = |orchestrator: &PathBuf, proxysql: &PathBuf| Self {
            proxysql: proxysql.clone(),
            orchestrator: orchestrator.clone(),
            server: one.server.clone(),
        };
        orchestrators.iter().flat_map(|orc| proxysqls.iter().map(move |proxysql| with(orc, proxysql))).collect()
    }
}

const PROXYSQLS: &str = "PROXYSQL_BINS";
const ORCHESTRATORS: &str = "ORCHESTRATOR_BINS";

/// The programs that a variable lists; one that is not there is a mistake.
fn listed(variable: &str) -> Option<Vec<PathBuf>> {
    let list = std::env::var_os(variable)?;
    let programs: Vec<PathBuf> = std::env::split_paths(&list).collect();
    programs.iter().for_each(|path| assert!(path.is_file(), "{variable} names no file: {}", path.display()));
    Some(programs)
}

/// What a program says of its version: the first word that begins with a digit, and the commit if a line has nothing else.
pub fn version(program: &Path) -> String {
    let text = output(Command::new(program).arg("--version")).unwrap_or_default();
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let is_commit = |line: &&str| line.len() == 40 && line.chars().all(|c| c.is_ascii_hexdigit());
    let commit = text.lines().find(is_commit).map(|commit| format!(" {}", &commit[..7]));
    number.unwrap_or("?").trim_end_matches(',').to_owned() + &commit.unwrap_or_default()
}

/// A line past the test harness's capture.
pub fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
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
