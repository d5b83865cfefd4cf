//! The config file, and the option file that may hold its passwords.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use proxysql_stonith::config::option_file::{OptionGroup, read_group};
use proxysql_stonith::config::{Config, Environment, Flags, Key, RawFile, Table, Value, keys};
use proxysql_stonith::secret::Secret;
use tempfile::TempDir;

use super::{may_be_said, owned};

/// What the passwords in the seeds begin with. A mutation may move one anywhere: it is a secret where passwords belong.
const PASSWORD: &str = "hunter";

const CONFIG: &[u8] = include_bytes!("../config.toml");
const SEVERAL: &[u8] = include_bytes!("../config-several.toml");
const OPTION_FILE: &[u8] =
    b"[client]\nuser = admin\npassword = \"hunter2\"  # see #7\n[orchestrator]\nuser='it\\'s'\npassword=a\\sb\\\\c\n";

pub fn config_seeds() -> Vec<Vec<u8>> {
    let least = b"[orchestrator]\nendpoints = [\"http://orc1:3000\"]\n[[proxysql]]\naddress = \"127.0.0.1:6032\"\n\
                  user = \"stonith\"\npassword = \"hunter2\"\n";
    let absent =
        b"[orchestrator]\nendpoints = []\n[[proxysql]]\npassword_file = \"nowhere\"\n[isolation]\nafter = 10\n";
    owned(&[CONFIG, SEVERAL, least, absent, OPTION_FILE])
}

pub fn option_file_seeds() -> Vec<Vec<u8>> {
    owned(&[OPTION_FILE, b"[client]\npassword=plain\n!include /etc/x\n", CONFIG])
}

thread_local! {
    /// Where this thread's file lies: one for all inputs.
    static DIR: RefCell<TempDir> = RefCell::new(tempfile::tempdir().unwrap());
}

fn write(name: &str, bytes: &[u8]) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = DIR.with_borrow(|dir| dir.path().join(name));
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path
}

fn reading(file: PathBuf) -> Flags {
    Flags::default().with(&keys::CONFIG_FILE, file.to_str().unwrap())
}

/// A config file.
pub fn config(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = RawFile::parse(Path::new("stonith.toml"), &text) {
        may_be_said(&error.to_string());
        shows_no_secret(&error.to_string(), &text);
    }
    let flags = reading(write("stonith.toml", bytes));
    match Config::load(&flags, &Environment::of(|_| None)) {
        Ok(config) => {
            shows_no_secret(&format!("{config:?}"), &text);
            shows_no_secret(&config.to_toml(), &text);
            reads_back(&config);
            true
        }
        Err(error) => {
            may_be_said(&error.to_string());
            shows_no_secret(&error.to_string(), &text);
            false
        }
    }
}

/// The config in force, as it is shown, is a config file with the same values, but for passwords.
fn reads_back(config: &Config) {
    let shown = config.to_toml();
    let raw = RawFile::parse(Path::new("shown.toml"), &shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    let addresses: Vec<_> =
        raw.all("proxysql").map(|table| table.find(&keys::ADDRESS).unwrap().unwrap().value).collect();
    assert_eq!(addresses, config.proxies.iter().map(|proxy| proxy.address.clone()).collect::<Vec<_>>());
    says(&raw, &keys::ENDPOINTS, &config.orchestrators[0].endpoints);
    says(&raw, &keys::INTERVAL, &config.run.interval);
    says(&raw, &keys::STATE_DIR, &config.run.state_dir);
    for (table, proxy) in raw.all("proxysql").zip(&config.proxies) {
        // What is set for one ProxySQL alone is shown in full below its own keys.
        let after = in_force(&raw, table, &keys::ISOLATION_AFTER);
        assert_eq!(after, proxy.isolation.after.as_ref().map(|after| after.value));
        assert_eq!(in_force(&raw, table, &keys::MODE), Some(proxy.policy.mode));
        assert_eq!(in_force(&raw, table, &keys::EXCLUDE_HOSTGROUPS).as_ref(), Some(&proxy.policy.exclude_hostgroups));
        assert_eq!(in_force(&raw, table, &keys::WRITER_HOSTGROUPS).as_ref(), Some(&proxy.policy.writer_hostgroups));
        assert_eq!(in_force(&raw, table, &keys::ERRANT_GTID), Some(proxy.policy.errant_gtid));
        let follows = table.find(&keys::FOLLOWS).unwrap().map(|name| name.value);
        assert_eq!(follows, proxy.orchestrator.name);
    }
}

/// The value of one ProxySQL's own section, or else of the section for all.
fn in_force<T: Value>(raw: &RawFile, proxy: &Table, key: &Key<T>) -> Option<T> {
    let own = proxy.own().find(|own| own.section() == key.about.section);
    let found = own.map_or_else(|| raw.find(key), |own| own.find(key));
    found.unwrap().map(|found| found.value)
}

fn says<T: Value + PartialEq + std::fmt::Debug>(raw: &RawFile, key: &Key<T>, value: &T) {
    assert_eq!(&raw.find(key).unwrap().unwrap().value, value);
}

/// What stands where a password belongs, and nowhere else in the file, is not said (I11).
fn shows_no_secret(said: &str, file: &str) {
    let secrets = secrets_of(file);
    let only_there = |secret: &&String| secret.starts_with(PASSWORD) && file.matches(secret.as_str()).count() == 1;
    for secret in secrets.iter().filter(only_there) {
        assert!(file.contains('\\') || !said.contains(secret.as_str()), "I11: {secret} is said: {said}");
    }
}

/// The passwords in a config file, also in one that is no TOML.
fn secrets_of(file: &str) -> Vec<String> {
    let quoted = |line: &str| Some(line.trim().strip_prefix("password")?.split('"').nth(1)?.to_owned());
    let mut secrets: Vec<String> = file.lines().filter_map(quoted).collect();
    if let Ok(table) = file.parse::<toml::Table>() {
        let proxies = table.get("proxysql").and_then(toml::Value::as_array).into_iter().flatten();
        let orchestrators = table.get("orchestrator").into_iter();
        let orchestrators =
            orchestrators.flat_map(|one| one.as_array().map_or(std::slice::from_ref(one), Vec::as_slice));
        let sections = orchestrators.chain(proxies);
        let password = |section: &toml::Value| Some(section.get("password")?.as_str()?.to_owned());
        secrets.extend(sections.filter_map(password));
    }
    secrets
}

/// A MySQL option file.
pub fn option_file(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let groups = ["client", "orchestrator"].map(|group| read_group(&text, group));
    for (group, name) in groups.iter().zip(["client", "orchestrator"]) {
        assert_eq!(read_group(&as_mysql_writes_it(name, group), name), *group);
        assert_eq!(read_group(&as_mysql_writes_it(name, group), "mysqldump"), OptionGroup::default());
    }
    let env = Environment::of(|name| match name {
        "PROXYSQL_STONITH_DEFAULTS_FILE" => Some(write("my.cnf", bytes).into()),
        "PROXYSQL_STONITH_ORCHESTRATOR" => Some("http://orc1:3000".into()),
        "PROXYSQL_STONITH_PROXYSQL" => Some("127.0.0.1:6032".into()),
        _ => None,
    });
    let secret = groups[0].password.as_ref().map_or("", Secret::expose);
    let is_said =
        |said: String| secret.starts_with(PASSWORD) && text.matches(secret).count() == 1 && said.contains(secret);
    // No file of that name: what is in /etc does not matter here.
    let flags = reading(write("empty.toml", b""));
    match Config::load(&flags, &env) {
        Ok(config) => {
            let read = config.proxies[0].credential.read().unwrap();
            assert_eq!(
                (Some(&read.user), Some(&read.password)),
                (groups[0].user.as_ref(), groups[0].password.as_ref())
            );
            assert!(!is_said(config.to_toml()), "I11");
            true
        }
        Err(error) => {
            may_be_said(&error.to_string());
            assert!(!is_said(error.to_string()), "I11: {error}");
            false
        }
    }
}

/// A group, in quotes and with escapes, as MySQL's manual has it.
fn as_mysql_writes_it(name: &str, group: &OptionGroup) -> String {
    let mut text = format!("[mysqld]\nuser=wrong\n[{name}]\n");
    for (key, value) in [("user", group.user.as_deref()), ("password", group.password.as_ref().map(Secret::expose))] {
        if let Some(value) = value {
            let letters =
                [('\\', "\\\\"), ('"', "\\\""), ('\n', "\\n"), ('\r', "\\r"), ('\t', "\\t"), ('\u{8}', "\\b")];
            let escaped: String = value
                .chars()
                .map(|c| {
                    letters.iter().find(|(letter, _)| *letter == c).map_or(c.to_string(), |(_, text)| (*text).into())
                })
                .collect();
            text.push_str(&format!("{key} = \"{escaped}\" # said by {key}\n"));
        }
    }
    text
}
