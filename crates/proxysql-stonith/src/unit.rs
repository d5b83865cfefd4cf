//! The systemd unit of the daemon: what has to be done so that it runs, and so that it runs no more.
//!
//! ```text
//! Host::seen -> steps (pure) -> carry out one by one, or print them
//! ```
//!
//! A unit of a package, or one that somebody wrote, is enabled and never overwritten.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::config::{DEFAULT_FILE, Enforcement, Word};

/// The unit of `contrib`.
const UNIT: &str = include_str!("../../../contrib/systemd/proxysql-stonith.service");

const NAME: &str = "proxysql-stonith.service";

/// The first line of a unit that this program wrote.
const WRITTEN: &str = "# Written by `proxysql-stonith install systemd`, which `--remove` takes back";

/// Where packages put units.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// What `ProtectHome` and `PrivateTmp` hide.
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

/// Where this host's own units are.
const OWN: &str = "/etc/systemd/system";

/// The host that a unit is installed on. Tests have one of their own.
#[derive(Debug, Clone)]
pub struct Host {
    /// The directory that stands for `/`.
    pub root: PathBuf,
    /// The command that talks to systemd.
    pub systemctl: PathBuf,
    /// The command that runs another one as a user.
    pub runuser: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { root: PathBuf::from("/"), systemctl: "systemctl".into(), runuser: "runuser".into() }
    }
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// systemd is PID 1.
    pub runs_systemd: bool,
    /// A package installed a unit.
    pub has_packaged: bool,
    /// The unit of this host.
    pub unit: Option<String>,
    /// The drop-in that says a mode.
    pub drop_in: Option<String>,
    /// The user of the unit exists.
    pub has_user: bool,
    /// The config file is there.
    pub has_config: bool,
    /// systemd remembers that the daemon failed.
    pub has_failed: bool,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A file is written.
    Write {
        /// Its path on the host.
        path: PathBuf,
        /// Its text.
        text: String,
    },
    /// A file is deleted.
    Delete(PathBuf),
    /// systemctl is run.
    Systemctl(Vec<&'static str>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { path, text } => {
                write!(f, "write {}:", path.display())?;
                text.lines().try_for_each(|line| write!(f, "\n    {line}"))
            }
            Self::Delete(path) => write!(f, "delete {}", path.display()),
            Self::Systemctl(words) => write!(f, "systemctl {}", words.join(" ")),
        }
    }
}

/// Why no unit is installed.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// Another init runs here.
    #[error("systemd does not run here; nothing was changed. Start `proxysql-stonith run` by what runs services here")]
    NoSystemd,
    /// The unit's user is missing.
    #[error("user {0} of the unit does not exist; nothing was changed. Make it: useradd --system --no-create-home {0}")]
    NoUser(String),
    /// The config file is missing.
    #[error("the unit reads {DEFAULT_FILE}, which is not there; nothing was changed. Write it first")]
    NoConfig,
    /// The unit's sandbox hides the program.
    #[error(
        "the unit starts the program in a sandbox that hides {0}; nothing was changed. Install it to /usr/local/bin"
    )]
    HiddenProgram(PathBuf),
    /// The unit's user can't run the program with its config.
    #[error(
        "user {user} of the unit cannot run the program with this config: {said}. Nothing was changed. For a file that it may \
         not read: chgrp {user} FILE; chmod 0640 FILE"
    )]
    UserFails {
        /// The user.
        user: &'static str,
        /// What the program said.
        said: String,
    },
}

/// Why a step failed. Those before it were carried out.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A file was not written or deleted.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// systemctl was not run.
    #[error("systemctl {0}: {1}")]
    NotRun(String, std::io::Error),
    /// systemctl failed.
    #[error("systemctl {words} failed: {said}. `journalctl -u proxysql-stonith` has more")]
    Failed {
        /// What was asked of it.
        words: String,
        /// What it said.
        said: String,
    },
}

/// The mode that the daemon is told by its unit. It counts more than the config file's.
pub fn mode_of(seen: &Seen) -> Option<Enforcement> {
    let line =
        seen.drop_in.as_deref()?.lines().find_map(|line| line.strip_prefix("Environment=PROXYSQL_STONITH_MODE="))?;
    Enforcement::from_word(line.trim()).ok()
}

/// Whether the unit is there already.
pub fn is_installed(seen: &Seen) -> bool {
    seen.has_packaged || seen.unit.is_some()
}

/// The steps until the daemon runs `program` in `mode`; `None` leaves the mode to the config file.
///
/// # Errors
/// Something that the unit needs is missing.
pub fn install(seen: &Seen, program: &Path, mode: Option<Enforcement>) -> Result<Vec<Step>, UnitError> {
    if !seen.runs_systemd {
        return Err(UnitError::NoSystemd);
    }
    if !seen.has_user {
        return Err(UnitError::NoUser(user().to_owned()));
    }
    if !seen.has_config {
        return Err(UnitError::NoConfig);
    }
    if !seen.has_packaged && HIDDEN.iter().any(|folder| program.starts_with(folder)) {
        return Err(UnitError::HiddenProgram(program.to_owned()));
    }
    let mut steps = Vec::new();
    let text = text(program);
    let is_ours = seen.unit.as_deref().is_none_or(|unit| unit.starts_with(WRITTEN));
    if !seen.has_packaged && is_ours && seen.unit.as_ref() != Some(&text) {
        steps.push(Step::Write { path: path_of_unit(), text });
    }
    match mode {
        Some(mode) if mode_of(seen) != Some(mode) => {
            let text = format!("[Service]\nEnvironment=PROXYSQL_STONITH_MODE={}\n", mode.word());
            steps.push(Step::Write { path: path_of_drop_in(), text });
        }
        None if seen.drop_in.is_some() => steps.push(Step::Delete(path_of_drop_in())),
        _ => {}
    }
    if !steps.is_empty() {
        steps.push(Step::Systemctl(vec!["daemon-reload"]));
    }
    let was_there = is_installed(seen) && !steps.is_empty();
    steps.push(Step::Systemctl(vec!["enable", "--now", NAME]));
    if was_there {
        // `enable --now` leaves a daemon that runs as it is.
        steps.push(Step::Systemctl(vec!["restart", NAME]));
    }
    Ok(steps)
}

/// The steps until no daemon runs. State and fences stay.
///
/// # Errors
/// No systemd runs here.
pub fn remove(seen: &Seen) -> Result<Vec<Step>, UnitError> {
    if !seen.runs_systemd {
        return Err(UnitError::NoSystemd);
    }
    let mut steps = Vec::new();
    if is_installed(seen) {
        steps.push(Step::Systemctl(vec!["disable", "--now", NAME]));
        if seen.has_failed {
            steps.push(Step::Systemctl(vec!["reset-failed", NAME]));
        }
    }
    if seen.drop_in.is_some() {
        steps.push(Step::Delete(path_of_drop_in()));
    }
    if seen.unit.as_deref().is_some_and(|unit| unit.starts_with(WRITTEN)) {
        steps.push(Step::Delete(path_of_unit()));
    }
    if steps.iter().any(|step| matches!(step, Step::Delete(_))) {
        steps.push(Step::Systemctl(vec!["daemon-reload"]));
    }
    Ok(steps)
}

impl Host {
    /// Looks at the host.
    pub fn seen(&self) -> Seen {
        let read = |path: PathBuf| std::fs::read_to_string(self.at(&path)).ok();
        let passwd = read(PathBuf::from("/etc/passwd")).unwrap_or_default();
        Seen {
            runs_systemd: self.at(Path::new("/run/systemd/system")).is_dir(),
            has_packaged: PACKAGED.iter().any(|folder| self.at(&Path::new(folder).join(NAME)).exists()),
            unit: read(path_of_unit()),
            drop_in: read(path_of_drop_in()),
            has_user: passwd.lines().any(|line| line.split(':').next() == Some(user())),
            has_config: self.at(Path::new(DEFAULT_FILE)).exists(),
            has_failed: self.says("is-failed"),
        }
    }

    /// Runs `config check` as the unit's user. Where no `runuser` is, nothing is checked.
    ///
    /// # Errors
    /// That user cannot run the program, or not with its config.
    pub fn check_user(&self, program: &Path) -> Result<(), UnitError> {
        let mut command = Command::new(&self.runuser);
        command.args(["-u", user(), "--"]).arg(program).args(["config", "check"]);
        // As systemd does: nothing of this shell's environment.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        match command.output() {
            Ok(ended) if !ended.status.success() => {
                let said = crate::untrusted_text::one_line(&String::from_utf8_lossy(&ended.stderr));
                Err(UnitError::UserFails { user: user(), said })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Carries one step out.
    ///
    /// # Errors
    /// It failed.
    pub fn carry_out(&self, step: &Step) -> Result<(), StepError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |error| StepError::File(path, error)
        };
        match step {
            Step::Write { path, text } => {
                let at = self.at(path);
                at.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed(path))?;
                std::fs::write(&at, text).map_err(failed(path))
            }
            Step::Delete(path) => {
                std::fs::remove_file(self.at(path)).map_err(failed(path))?;
                if *path == path_of_drop_in() {
                    // Its folder goes too, unless somebody has other drop-ins there.
                    let _ = self.at(path).parent().map(std::fs::remove_dir);
                }
                Ok(())
            }
            Step::Systemctl(words) => {
                let ended = Command::new(&self.systemctl).args(words).output();
                let ended = ended.map_err(|error| StepError::NotRun(words.join(" "), error))?;
                if ended.status.success() {
                    return Ok(());
                }
                let said = crate::untrusted_text::one_line(&String::from_utf8_lossy(&ended.stderr));
                Err(StepError::Failed { words: words.join(" "), said })
            }
        }
    }

    /// Whether systemd says that the daemon runs.
    pub fn is_active(&self) -> bool {
        self.says("is-active")
    }

    fn says(&self, question: &str) -> bool {
        let asked = Command::new(&self.systemctl).args([question, "--quiet", NAME]).status();
        asked.is_ok_and(|status| status.success())
    }

    fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

fn path_of_unit() -> PathBuf {
    Path::new(OWN).join(NAME)
}

fn path_of_drop_in() -> PathBuf {
    Path::new(OWN).join(format!("{NAME}.d/mode.conf"))
}

/// The user that the unit names.
fn user() -> &'static str {
    UNIT.lines().find_map(|line| line.strip_prefix("User=")).unwrap_or("root")
}

/// The unit that starts this program.
fn text(program: &Path) -> String {
    let lines =
        UNIT.lines().skip_while(|line| line.starts_with('#')).map(|line| match line.strip_prefix("ExecStart=") {
            Some(command) => {
                let arguments = command.split_once(' ').map_or("", |(_, arguments)| arguments);
                format!("ExecStart={} {arguments}", program.display())
            }
            None => line.to_owned(),
        });
    std::iter::once(WRITTEN.to_owned()).chain(lines).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn ready() -> Seen {
        Seen { runs_systemd: true, has_user: true, has_config: true, ..Seen::default() }
    }

    fn program() -> &'static Path {
        Path::new("/opt/bin/proxysql-stonith")
    }

    fn shown(steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| step.to_string().lines().next().unwrap().to_owned()).collect()
    }

    const ENABLE: &str = "systemctl enable --now proxysql-stonith.service";
    const RESTART: &str = "systemctl restart proxysql-stonith.service";

    #[test]
    fn the_unit_is_that_of_contrib_with_this_programs_own_path() {
        let steps = install(&ready(), program(), None).unwrap();
        let unit = "write /etc/systemd/system/proxysql-stonith.service:";
        assert_eq!(shown(&steps), [unit, "systemctl daemon-reload", ENABLE]);
        let Step::Write { text, .. } = &steps[0] else { panic!() };
        assert!(text.contains("\nExecStart=/opt/bin/proxysql-stonith run\n"), "{text}");
        let lines = |text: &str| text.lines().filter(|line| !line.starts_with(['#', 'E'])).count();
        assert_eq!(lines(text), lines(UNIT), "nothing else is changed");
    }

    #[test]
    fn a_unit_of_a_package_or_of_somebody_is_enabled_and_not_overwritten() {
        for seen in [
            Seen { has_packaged: true, ..ready() },
            Seen { unit: Some("[Service]\nExecStart=/x\n".to_owned()), ..ready() },
        ] {
            assert_eq!(shown(&install(&seen, program(), None).unwrap()), [ENABLE]);
            assert_eq!(shown(&remove(&seen).unwrap()), ["systemctl disable --now proxysql-stonith.service"]);
        }
    }

    #[test]
    fn a_mode_is_a_drop_in_and_no_mode_takes_it_away() {
        let steps = install(&Seen { has_packaged: true, ..ready() }, program(), Some(Enforcement::Observe)).unwrap();
        let drop_in = "/etc/systemd/system/proxysql-stonith.service.d/mode.conf";
        assert_eq!(shown(&steps), [&format!("write {drop_in}:"), "systemctl daemon-reload", ENABLE, RESTART]);
        let Step::Write { text, .. } = &steps[0] else { panic!() };
        let seen = Seen { has_packaged: true, drop_in: Some(text.clone()), ..ready() };
        assert_eq!(mode_of(&seen), Some(Enforcement::Observe));
        assert_eq!(shown(&install(&seen, program(), Some(Enforcement::Observe)).unwrap()), [ENABLE]);
        let steps = shown(&install(&seen, program(), None).unwrap());
        assert_eq!(steps, [&format!("delete {drop_in}"), "systemctl daemon-reload", ENABLE, RESTART]);
    }

    #[test]
    fn what_is_missing_is_said_and_nothing_is_changed() {
        let refused = |seen: &Seen| install(seen, program(), None).unwrap_err().to_string();
        assert!(refused(&Seen { runs_systemd: false, ..ready() }).contains("systemd does not run here"));
        assert!(
            refused(&Seen { has_user: false, ..ready() })
                .contains(&format!("useradd --system --no-create-home {}", user()))
        );
        assert!(refused(&Seen { has_config: false, ..ready() }).contains(DEFAULT_FILE));
        let hidden = install(&ready(), Path::new("/root/proxysql-stonith"), None).unwrap_err().to_string();
        assert!(hidden.contains("hides /root/proxysql-stonith"), "{hidden}");
        assert!(remove(&Seen::default()).is_err());
        assert_eq!(remove(&ready()).unwrap(), []);
    }

    #[test]
    fn installed_twice_and_removed_a_host_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let said = dir.path().join("said");
        write("run/systemd/system/x", "");
        write("etc/passwd", &format!("root:x:0:0::/:/bin/sh\n{}:x:9:9::/:/bin/false\n", user()));
        write(DEFAULT_FILE.trim_start_matches('/'), "");
        write(
            "systemctl",
            &format!(
                "#!/bin/sh\necho \"$@\" >> {}\n[ \"$1\" = enable ] || [ \"$1\" = disable ] || [ \"$1\" = daemon-reload ]\n",
                said.display()
            ),
        );
        write(
            "runuser",
            "#!/bin/sh\n[ \"$4\" != /opt/unreadable ] || { echo 'password_file: Permission denied' >&2; exit 2; }\n",
        );
        let [systemctl, runuser] = ["systemctl", "runuser"].map(|name| dir.path().join(name));
        for program in [&systemctl, &runuser] {
            std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let host = Host { root: dir.path().to_owned(), systemctl, runuser };
        host.check_user(program()).unwrap();
        let refused = host.check_user(Path::new("/opt/unreadable")).unwrap_err().to_string();
        assert!(refused.contains("password_file: Permission denied") && refused.contains("chgrp"), "{refused}");
        let before = host.seen();
        assert_eq!(before, ready());
        let all = |steps: Vec<Step>| steps.iter().try_for_each(|step| host.carry_out(step));
        all(install(&before, program(), Some(Enforcement::Observe)).unwrap()).unwrap();
        let installed = host.seen();
        assert_eq!(shown(&install(&installed, program(), Some(Enforcement::Observe)).unwrap()), [ENABLE]);
        let error = all(install(&installed, program(), None).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("systemctl restart proxysql-stonith.service failed"), "what fails is said: {error}");
        all(remove(&host.seen()).unwrap()).unwrap();
        assert_eq!(host.seen(), before);
        let said = std::fs::read_to_string(said).unwrap();
        let changing: Vec<&str> = said.lines().filter(|line| !line.starts_with("is-")).collect();
        assert!(changing[0] == "daemon-reload" && changing[1].starts_with("enable --now"), "{said}");
        assert!(said.contains("disable --now") && !dir.path().join(format!("etc/systemd/system/{NAME}.d")).exists());
        let failed = Seen { has_failed: true, ..installed };
        assert!(shown(&remove(&failed).unwrap()).contains(&format!("systemctl reset-failed {NAME}")));
    }
}
