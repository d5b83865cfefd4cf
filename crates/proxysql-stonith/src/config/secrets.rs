//! The sources of passwords.
//!
//! A source is kept and read again when a password is refused, so a changed password needs no restart.

use std::path::{Path, PathBuf};

use stonith_core::node::Node;

use super::file::{RawFile, Table};
use super::keys;
use super::option_file::{OptionGroup, read_group};
use super::origin::{ConfigError, Sourced};
use crate::files::{Links, OpenToOthers, Regular};
use crate::secret::{Credential, Secret};

/// The largest secret file that is read, in bytes.
const SECRET_MAX_BYTES: u64 = 64 * 1024;

/// Why a secret can't be read. It contains no secret (I11).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The file can't be read.
    #[error("can't read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Other users can read or change the file.
    #[error(transparent)]
    Open(#[from] OpenToOthers),
    /// The file lacks the user or the password.
    #[error("{path} has no {what}")]
    ProofGap {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// No user is given.
    #[error("no user is given with the password")]
    NoUser,
}

/// Where to read a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The password itself, from the environment, which does not change.
    Given(Secret),
    /// A file's content without a newline at its end.
    File(PathBuf),
    /// A group of a MySQL option file.
    OptionFile {
        /// The file.
        path: PathBuf,
        /// The group, without brackets.
        group: &'static str,
    },
    /// A section of the config file.
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// The section.
        section: PasswordOf,
    },
}

/// The section of the config file that has a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordOf {
    /// The `[[orchestrator]]` with this name; `None` is `[orchestrator]`.
    Orchestrator(Option<String>),
    /// The `[[proxysql]]` with this address.
    ProxySql(Node),
}

impl PasswordOf {
    /// The password in this section of the file.
    fn find(&self, file: &RawFile) -> Result<Option<Sourced<Secret>>, ConfigError> {
        let (section, key) = match self {
            Self::Orchestrator(_) => (keys::ENDPOINTS.about.section, &keys::ORCHESTRATOR_PASSWORD),
            Self::ProxySql(_) => (keys::ADDRESS.about.section, &keys::PROXYSQL_PASSWORD),
        };
        let is_it = |table: &&Table| match self {
            Self::Orchestrator(name) => {
                table.find(&keys::ORCHESTRATOR_NAME).is_ok_and(|found| found.map(|found| found.value) == *name)
            }
            Self::ProxySql(address) => {
                table.find(&keys::ADDRESS).is_ok_and(|found| found.is_some_and(|found| found.value == *address))
            }
        };
        file.all(section).find(is_it).map_or(Ok(None), |table| table.find(key))
    }
}

/// A user and the source of its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialSource {
    /// The user, if known without reading the password's source.
    pub user: Option<String>,
    /// The user to take if the option file names none.
    pub fallback_user: Option<String>,
    /// The source of the password.
    pub password: SecretSource,
}

impl CredentialSource {
    /// Reads the credential anew.
    ///
    /// # Errors
    /// The source can't be read, is open to other users, or lacks the user or the password.
    pub fn read(&self) -> Result<Credential, SecretError> {
        let missing = |path: &Path, what: String| SecretError::ProofGap { path: path.to_owned(), what };
        let (in_file, password) = match &self.password {
            SecretSource::Given(secret) => (None, secret.clone()),
            SecretSource::File(path) => (None, read_whole_file(path, "password")?),
            SecretSource::OptionFile { path, group } => {
                let OptionGroup { user, password } = read_group(&read_secret_file(path)?, group);
                (user, password.ok_or_else(|| missing(path, format!("password in a group [{group}]")))?)
            }
            SecretSource::ConfigFile { path, section } => (None, read_from_config(path, section)?),
        };
        let user = self.user.clone().or(in_file).or_else(|| self.fallback_user.clone());
        Ok(Credential { user: user.ok_or(SecretError::NoUser)?, password })
    }
}

fn read_from_config(path: &Path, section: &PasswordOf) -> Result<Secret, SecretError> {
    let unreadable = |error: ConfigError| SecretError::Unreadable { path: path.to_owned(), reason: error.to_string() };
    let file = RawFile::read(path).map_err(unreadable)?;
    let what = "password any more".to_owned();
    Ok(section.find(&file).map_err(unreadable)?.ok_or(SecretError::ProofGap { path: path.to_owned(), what })?.value)
}

/// Reads a file with a secret and nothing else. `what` names the secret.
///
/// # Errors
/// The file can't be read, is open to other users, or is empty.
pub fn read_whole_file(path: &Path, what: &str) -> Result<Secret, SecretError> {
    let text = read_secret_file(path)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(SecretError::ProofGap { path: path.to_owned(), what: format!("{what} in it: it is empty") });
    }
    Ok(Secret::new(text))
}

/// Reads a file that must be closed to other users. The mode is that of the open file, so both belong to one file.
fn read_secret_file(path: &Path) -> Result<String, SecretError> {
    let unreadable = |reason: String| SecretError::Unreadable { path: path.to_owned(), reason };
    let file = Regular::open(path, Links::Follow).map_err(|error| unreadable(error.to_string()))?;
    let bytes = file
        .closed_to_others("the secret file", path)?
        .read(SECRET_MAX_BYTES)
        .map_err(|error| unreadable(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn source(password: SecretSource) -> CredentialSource {
        CredentialSource { user: Some("stonith".into()), fallback_user: None, password }
    }

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn i11_a_secret_file_that_others_can_read_is_refused_with_the_way_out() {
        for mode in [0o644, 0o604, 0o602, 0o601, 0o660, 0o666] {
            let (_dir, path) = file("hunter2\n", mode);
            let problem = source(SecretSource::File(path.clone())).read().unwrap_err().to_string();
            assert!(problem.contains(&format!("chmod g-w,o-rwx {}", path.display())), "{problem}");
            assert!(!problem.contains("hunter2"));
            let group = SecretSource::OptionFile { path, group: "client" };
            assert!(matches!(source(group).read(), Err(SecretError::Open(_))));
        }
        for mode in [0o600, 0o400, 0o640] {
            let (_dir, path) = file("hunter2\n", mode);
            assert_eq!(source(SecretSource::File(path)).read().unwrap().password, Secret::new("hunter2"));
        }
    }

    /// Kubernetes mounts a secret as two links and a file, which belongs to root and is readable by the pod's `fsGroup`.
    #[test]
    fn a_secret_that_kubernetes_mounts_is_read_and_one_with_its_default_mode_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let [real, data, path] = ["..2026_11_27", "..data", "password"].map(|name| dir.path().join(name));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink("..2026_11_27", &data).unwrap();
        std::os::unix::fs::symlink("..data/password", &path).unwrap();
        fs::write(real.join("password"), "hunter2").unwrap();
        for (mode, is_read) in [(0o440, true), (0o444, false)] {
            fs::set_permissions(real.join("password"), Permissions::from_mode(mode)).unwrap();
            assert_eq!(source(SecretSource::File(path.clone())).read().is_ok(), is_read, "{mode:o}");
        }
    }

    #[test]
    fn a_rotated_password_is_read_again() {
        let (_dir, path) = file("old\n", 0o600);
        let source = source(SecretSource::File(path.clone()));
        assert_eq!(source.read().unwrap().password, Secret::new("old"));
        fs::write(&path, "new with blanks \r\n").unwrap();
        assert_eq!(source.read().unwrap().password, Secret::new("new with blanks "));
    }

    #[test]
    fn an_empty_absent_or_irregular_secret_file_is_an_error() {
        let (dir, path) = file("", 0o600);
        for path in [path.as_path(), dir.path(), &dir.path().join("absent"), Path::new("/dev/null")] {
            assert!(source(SecretSource::File(path.to_owned())).read().is_err(), "{}", path.display());
        }
    }

    #[test]
    fn a_password_in_the_config_is_read_again_for_the_proxysql_that_has_it() {
        let section = |at: u32| {
            format!("[[proxysql]]\naddress = \"10.0.0.{at}:6032\"\nuser = \"stonith\"\npassword = \"of-{at}\"\n")
        };
        let (_dir, path) = file(&[section(1), section(2)].concat(), 0o600);
        let of = |at: &str| {
            let section = PasswordOf::ProxySql(at.parse().unwrap());
            let password = SecretSource::ConfigFile { path: path.clone(), section };
            source(password).read().map(|read| read.password)
        };
        assert_eq!(of("10.0.0.1:6032"), Ok(Secret::new("of-1")));
        assert_eq!(of("10.0.0.2:6032"), Ok(Secret::new("of-2")));
        assert!(of("10.0.0.3:6032").is_err());
    }

    #[test]
    fn an_option_file_names_the_user_unless_something_above_it_does() {
        let (_dir, path) = file("[client]\nuser=in_file\npassword=x\n", 0o600);
        let mut source = source(SecretSource::OptionFile { path: path.clone(), group: "client" });
        assert_eq!(source.read().unwrap().user, "stonith");
        source = CredentialSource { user: None, fallback_user: Some("below".into()), ..source };
        assert_eq!(source.read().unwrap().user, "in_file");
        fs::write(&path, "[client]\npassword=x\n").unwrap();
        assert_eq!(source.read().unwrap().user, "below");
        source.fallback_user = None;
        assert_eq!(source.read(), Err(SecretError::NoUser));
        fs::write(&path, "[mysql]\npassword=x\n").unwrap();
        assert!(source.read().unwrap_err().to_string().contains("[client]"));
    }
}
