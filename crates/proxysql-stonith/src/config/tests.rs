//! The config's rules, each by the text that an operator writes and the error or the value that comes of it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

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

/// A directory with files in it, and the flags and environment to try.
struct Case {
    dir: tempfile::TempDir,
    flags: Flags,
    env: BTreeMap<&'static str, String>,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // So that no file of this machine is read.
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
        self.flags.config = Some(self.write("stonith.toml", text, 0o600));
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

fn refused(text: &str) -> String {
    Case::with(text).error()
}

fn after_minimal(more: &str) -> String {
    format!("{MINIMAL}{more}")
}

#[test]
fn an_endpoint_an_address_and_a_credential_are_enough() {
    let case = Case::with(MINIMAL);
    let config = case.load().unwrap();
    assert_eq!(config.orchestrator.endpoints, ["http://orc1:3000"]);
    assert_eq!(config.proxies[0].address, "127.0.0.1:6032".parse().unwrap());
    let credential = config.proxies[0].credential.read().unwrap();
    assert_eq!(credential, Credential { user: "stonith".into(), password: Secret::new("hunter2") });
    assert_eq!(config.run.state_dir, Path::new(DEFAULT_STATE_DIR));
    assert_eq!(config.policy.mode, Enforcement::Enforce);
    let policy = config.policy(Mode::Daemon).unwrap();
    assert_eq!((policy.isolation_after_ms, policy.tick_ms), (10_000, 1_200));
    assert_eq!((policy.fence_on, policy.max_downtime_fences), (FenceOn::AnyDowntime, 2));
    assert_eq!((policy.isolation_scope, policy.blind_isolates), (IsolationScope::All, false));
    assert!(policy.end_possible_holders);
}

#[test]
fn flags_alone_are_enough() {
    let mut case = Case::new();
    case.flags.orchestrator = vec!["http://orc1:3000,http://orc2:3000".into()];
    case.flags.proxysql = vec!["127.0.0.1:6032".into()];
    let text = "[client]\nuser=admin\npassword=hunter2\n[orchestrator]\nuser=orc\npassword=hunter3\n";
    case.flags.defaults_file = Some(case.write("stonith.cnf", text, 0o640));
    let config = case.load().unwrap();
    assert_eq!(config.orchestrator.endpoints, ["http://orc1:3000", "http://orc2:3000"]);
    assert_eq!(config.proxies[0].credential.read().unwrap().user, "admin");
    let orchestrator = config.orchestrator.credential.unwrap().read().unwrap();
    assert_eq!(orchestrator, Credential { user: "orc".into(), password: Secret::new("hunter3") });
}

#[test]
fn the_environment_alone_is_enough_with_the_names_of_orchestrator_client() {
    let case = Case::new()
        .env("ORCHESTRATOR_API", "http://orc1:3000/api http://orc2:3000")
        .env("ORCHESTRATOR_AUTH_USER", "orc")
        .env("ORCHESTRATOR_AUTH_PASSWORD", "hunter3")
        .env("PROXYSQL_STONITH_PROXYSQL", "127.0.0.1:6032")
        .env("PROXYSQL_STONITH_PROXYSQL_USER", "admin")
        .env("PROXYSQL_STONITH_PROXYSQL_PASSWORD", "hunter2");
    let config = case.load().unwrap();
    assert_eq!(config.orchestrator.endpoints, ["http://orc1:3000/api", "http://orc2:3000"]);
    assert_eq!(config.origin("orchestrator.endpoints"), Origin::Env("ORCHESTRATOR_API"));
    assert_eq!(config.orchestrator.credential.unwrap().read().unwrap().user, "orc");
    assert_eq!(config.proxies[0].credential.read().unwrap().password, Secret::new("hunter2"));
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let text = after_minimal("[isolation]\nafter = \"20s\"\n[run]\nstate_dir = \"/file\"\n[log]\nlevel = \"warn\"\n");
    let mut case = Case::with(&text)
        .env("PROXYSQL_STONITH_ORCHESTRATOR", "http://env:1")
        .env("ORCHESTRATOR_API", "http://shell:1")
        .env("PROXYSQL_STONITH_ISOLATION_AFTER", "30s")
        .env("PROXYSQL_STONITH_STATE_DIR", "/env")
        .env("STATE_DIRECTORY", "/systemd")
        .env("PROXYSQL_STONITH_LOG_LEVEL", "");
    let config = case.load().unwrap();
    assert_eq!(config.orchestrator.endpoints, ["http://env:1"]);
    assert_eq!(config.isolation.after, Some(Duration::from_secs(30)));
    assert_eq!(config.run.state_dir, Path::new("/env"));
    assert_eq!(config.log.level, LogLevel::Warn, "an empty variable counts as unset");
    case.flags.orchestrator = vec!["http://flag:1".into()];
    case.flags.isolation_after = Some(Duration::from_secs(40));
    case.flags.state_dir = Some("/flag".into());
    case.flags.log_level = Some(LogLevel::Debug);
    let config = case.load().unwrap();
    assert_eq!(config.orchestrator.endpoints, ["http://flag:1"]);
    assert_eq!(config.isolation.after, Some(Duration::from_secs(40)));
    assert_eq!(config.run.state_dir, Path::new("/flag"));
    assert_eq!(config.log.level, LogLevel::Debug);
}

#[test]
fn systemds_state_directory_is_a_default() {
    let case = Case::with(MINIMAL).env("STATE_DIRECTORY", "/var/lib/a:/var/lib/b");
    assert_eq!(case.load().unwrap().run.state_dir, Path::new("/var/lib/a"));
    let case = Case::with(&after_minimal("[run]\nstate_dir = \"here\"\n")).env("STATE_DIRECTORY", "/systemd");
    assert_eq!(case.load().unwrap().run.state_dir, case.dir.path().join("here"), "relative to the config file");
}

#[test]
fn a_credential_is_that_of_the_highest_layer() {
    let password = |case: &Case| {
        let credential = case.load().unwrap().proxies[0].credential.read().unwrap();
        format!("{}:{}", credential.user, credential.password.expose())
    };
    let mut case = Case::with(MINIMAL);
    assert_eq!(password(&case), "stonith:hunter2");
    case = case.env("PROXYSQL_STONITH_PROXYSQL_PASSWORD", "env");
    assert_eq!(password(&case), "stonith:env");
    case.flags.defaults_file = Some(case.write("a.cnf", "[client]\nuser=option\npassword=file\n", 0o600));
    assert_eq!(password(&case), "option:file");
    case.write("a.cnf", "[client]\npassword=file\n", 0o600);
    assert_eq!(password(&case), "stonith:file");
}

#[test]
fn the_proxy_flag_picks_proxies_and_keeps_what_the_file_says_of_them() {
    let mut case = Case::with(&after_minimal("[[proxysql]]\naddress = \"b:6032\"\nuser = \"x\"\npassword = \"y\"\n"));
    assert_eq!(case.load().unwrap().proxies.len(), 2);
    case.flags.proxysql = vec!["localhost:6032".into()];
    let config = case.load().unwrap();
    assert_eq!(config.proxies.len(), 1);
    assert_eq!(config.proxies[0].credential.read().unwrap().user, "stonith");
    case.flags.proxysql = vec!["c:6032".into()];
    assert!(case.error().starts_with("flag --proxysql: proxysql.password: no password for the admin interface c:6032"));
}

#[test]
fn a_password_in_the_config_file_is_read_again() {
    let mut case = Case::with(MINIMAL);
    let config = case.load().unwrap();
    case.file(&MINIMAL.replace("hunter2", "rotated"));
    assert_eq!(config.proxies[0].credential.read().unwrap().password, Secret::new("rotated"));
}

#[test]
fn i11_a_config_file_with_a_password_that_others_can_read_is_refused() {
    let case = Case::with(MINIMAL);
    case.write("stonith.toml", MINIMAL, 0o644);
    let error = case.error();
    assert!(error.starts_with("DIR/stonith.toml:7: ") && error.contains("chmod g-w,o-rwx"), "{error}");
    let text = MINIMAL.replace("password = \"hunter2\"", "password_file = \"secret\"");
    case.write("stonith.toml", &text, 0o644);
    case.write("secret", "hunter2\n", 0o600);
    assert_eq!(case.load().unwrap().proxies[0].credential.read().unwrap().password, Secret::new("hunter2"));
    case.write("secret", "hunter2\n", 0o604);
    assert!(case.error().contains("chmod g-w,o-rwx DIR/secret"));
}

#[test]
fn a_config_file_that_others_can_write_is_refused_though_no_password_is_in_it() {
    let case = Case::with(MINIMAL);
    let text = MINIMAL.replace("password = \"hunter2\"", "password_file = \"secret\"");
    case.write("secret", "hunter2\n", 0o600);
    case.write("stonith.toml", &text, 0o664);
    assert!(case.load().is_ok(), "the control");
    for mode in [0o666, 0o602] {
        case.write("stonith.toml", &text, mode);
        let error = case.error();
        assert!(error.contains("chmod o-w DIR/stonith.toml"), "{error}");
    }
}

#[test]
fn a_wrong_value_is_named_with_file_line_key_and_what_was_expected() {
    for (more, error) in [
        ("[run]\ninterval = \"0s\"", ":9: run.interval: \"0s\" is zero; expected at least 1ms"),
        ("[run]\ninterval = 5", ":9: run.interval: expected a duration in quotes, such as \"10s\", found integer"),
        ("[run]\ninterval = \"2h\"", ":9: run.interval: 2h is out of range; expected 100ms to 1h"),
        (
            "[isolation]\n\nafter = \"99999999999999999999s\"",
            ":10: isolation.after: \"99999999999999999999s\" is too long; expected at most 30days",
        ),
        (
            "[isolation]\nscope = \"some\"",
            ":9: isolation.scope: \"some\" is not known; expected \"all\" or \"writers\" or \"off\"",
        ),
        (
            "[policy]\nexclude_hostgroups = [1, -1]",
            ":9: policy.exclude_hostgroups: -1 is no hostgroup; expected 0 to 2147483647",
        ),
        ("[policy]\nexclude_hostgroups = [30, 30]", ":9: policy.exclude_hostgroups: 30 is listed twice"),
        (
            "[policy]\nexclude_hostgroups = [\"30\"]",
            ":9: policy.exclude_hostgroups: expected a list of whole numbers, such as [30, 40], found array",
        ),
        (
            "[policy]\nexclude_hostgroups = 30",
            ":9: policy.exclude_hostgroups: expected a list of whole numbers, such as [30, 40], found integer",
        ),
        (
            "[policy]\nmax_downtime_fences = -1",
            ":9: policy.max_downtime_fences: -1 is out of range; expected 0 to 1000",
        ),
        (
            "[policy]\nmax_downtime_fences = 99999999999999999999",
            ":9: policy.max_downtime_fences: is too large a number",
        ),
        ("[policy]\nfence_on = true", ":9: policy.fence_on: expected a string, found boolean"),
        ("[log]\nformat = \"xml\"", ":9: log.format: \"xml\" is not known; expected \"text\" or \"json\""),
        ("[log", ":8: is not TOML"),
    ] {
        let found = refused(&after_minimal(more));
        assert!(found.starts_with(&format!("DIR/stonith.toml{error}")), "{found}");
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_one() {
    for (more, error) in [
        ("[isolation]\nafer = \"20s\"", ":9: isolation.afer: unknown key; did you mean \"after\"?"),
        ("[isolation]\ntimeout = \"20s\"", ":9: isolation.timeout: unknown key; known here: after, scope"),
        ("[polcy]\nmode = \"observe\"", ":8: polcy: unknown key; did you mean \"policy\"?"),
        ("passwd = \"hunter2\"", ":8: proxysql.passwd: unknown key; did you mean \"password\"?"),
    ] {
        let found = refused(&after_minimal(more));
        assert_eq!(found, format!("DIR/stonith.toml{error}"));
    }
}

#[test]
fn what_is_missing_is_named_with_every_way_to_give_it() {
    let found = refused("");
    assert!(found.starts_with("DIR/stonith.toml: orchestrator.endpoints: no endpoint"), "{found}");
    assert!(found.contains("--orchestrator") && found.contains("ORCHESTRATOR_API"), "{found}");
    let found = refused("[orchestrator]\nendpoints = []\n");
    assert!(found.starts_with("DIR/stonith.toml:2: orchestrator.endpoints: the list is empty"), "{found}");
    let found = refused("[orchestrator]\nendpoints = [\"http://a\"]\n");
    assert!(found.contains("proxysql.address: no ProxySQL") && found.contains("--proxysql"), "{found}");
    let found = refused("[orchestrator]\nendpoints = [\"http://a\"]\n[[proxysql]]\nuser = \"x\"\n");
    assert!(found.starts_with("DIR/stonith.toml:3: proxysql.address: missing"), "{found}");
    let found = refused("[orchestrator]\nendpoints = [\"http://a\"]\n[[proxysql]]\naddress = \"a:6032\"\n");
    assert!(found.starts_with("DIR/stonith.toml:4: proxysql.password: no password"), "{found}");
    assert!(found.contains("--defaults-file"), "{found}");
    let found = refused(&MINIMAL.replace("password = \"hunter2\"", ""));
    assert!(found.contains(":6: proxysql[0].user: there is no password for this user"), "{found}");
    let found = refused(&MINIMAL.replace("user = \"stonith\"", ""));
    assert!(found.contains(":7: proxysql[0].password: no user"), "{found}");
}

#[test]
fn duplicates_are_refused_in_any_spelling() {
    let again = "[[proxysql]]\naddress = \"LOCALHOST:6032\"\nuser = \"x\"\npassword = \"y\"\n";
    let found = refused(&after_minimal(again));
    assert!(found.starts_with("DIR/stonith.toml:9: proxysql.address: localhost:6032 is listed twice; the first is at"));
    let found = refused(&MINIMAL.replace("[\"http://orc1:3000\"]", "[\"http://orc1:3000\", \"http://ORC1:3000/api\"]"));
    assert!(found.contains(":3: orchestrator.endpoints: \"http://ORC1:3000/api\" is listed twice"), "{found}");
    let mut case = Case::with(MINIMAL);
    case.flags.proxysql = vec!["a:1,a:1".into()];
    assert!(case.error().starts_with("flag --proxysql: proxysql.address: a:1 is listed twice"));
}

#[test]
fn two_sources_of_one_password_are_refused() {
    let found = refused(&after_minimal("password_file = \"x\"\n"));
    assert!(found.contains(":8: proxysql.password: more than one source"), "{found}");
    let found = refused(
        &MINIMAL.replace("[[proxysql]]", "user = \"a\"\npassword = \"b\"\npassword_file = \"c\"\n[[proxysql]]"),
    );
    assert!(found.contains(":6: orchestrator.password_file: there is a password too"), "{found}");
}

#[test]
fn tls_to_proxysql_is_off_or_proves_something() {
    let tls = |more: &str| Case::with(&after_minimal(more)).load().map(|config| config.proxies[0].tls);
    assert_eq!(tls("").unwrap(), ProxyTls::Off);
    assert_eq!(tls("tls = \"off\"\n").unwrap(), ProxyTls::Off);
    assert_eq!(tls("tls = \"verify-ca\"\nca_file = \"ca.pem\"\n").unwrap(), ProxyTls::VerifyCa);
    assert_eq!(tls("tls = \"verify-identity\"\n").unwrap(), ProxyTls::VerifyIdentity, "by the system's CAs");
    assert_eq!(tls("tls = \"verify-identity\"\nca_file = \"ca.pem\"\n").unwrap(), ProxyTls::VerifyIdentity);
    let found = refused(&after_minimal("tls = \"verify-ca\"\n"));
    assert!(found.contains(":8: proxysql.tls: a certificate of any public CA would do"), "{found}");
    for off in ["", "tls = \"off\"\n"] {
        let found = refused(&after_minimal(&format!("ca_file = \"ca.pem\"\n{off}")));
        assert!(found.contains(":8: proxysql.ca_file: there is no TLS; expected tls = \"verify-ca\""), "{found}");
    }
    let found = refused(&after_minimal("tls = \"required\"\n"));
    assert!(found.contains("\"off\" or \"verify-ca\" or \"verify-identity\""), "{found}");
}

#[test]
fn proxysql_is_written_in_one_form_and_the_other_is_explained() {
    let found = refused(&MINIMAL.replace("[[proxysql]]", "[proxysql]"));
    assert_eq!(found, "DIR/stonith.toml:4: proxysql: expected tables, one for each, written [[proxysql]]; found table");
}

#[test]
fn i11_no_error_shows_a_password() {
    for text in [
        MINIMAL.replace("\"hunter2\"", "hunter2"),
        MINIMAL.replace("\"hunter2\"", "[\"hunter2\"]"),
        MINIMAL.replace("\"hunter2\"", "\"hunter2"),
        MINIMAL.replace("\"hunter2\"", "\"hunter2\" \"hunter2\""),
        MINIMAL.replace("http://orc1:3000", "http://admin:hunter2@orc1:3000"),
        after_minimal("password = \"hunter2\"\n"),
    ] {
        refused(&text);
    }
    let case = Case::with(MINIMAL).env("PROXYSQL_STONITH_PROXYSQL_PASSWORD", "hunter2");
    let config = case.load().unwrap();
    let env = Environment::of(|name| case.env.get(name).map(Into::into));
    let shown = format!("{config:?} {env:?} {}", config.to_toml());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn i9_isolation_after_shorter_than_an_election_and_two_ticks_is_refused() {
    let config = Case::with(&after_minimal("[isolation]\nafter = \"10s\"\n")).load().unwrap();
    assert!(config.policy(Mode::Daemon).is_ok());
    let error = config.policy(Mode::Once).unwrap_err();
    assert!(matches!(error.origin, Origin::File { line: 9, .. }));
    assert_eq!(
        error.problem,
        "10s is too short; expected at least 16s: an election 5s, two starts by ProxySQL's scheduler \
         (run.scheduler_interval) 10s, an apply 1s"
    );
    let config = Case::with(&after_minimal("[isolation]\nafter = \"8s\"\n")).load().unwrap();
    let error = config.policy(Mode::Daemon).unwrap_err();
    assert!(error.problem.starts_with("8s is too short; expected at least 8s 400ms"), "{error}");
    let off = Case::with(&after_minimal("[isolation]\nafter = \"8s\"\nscope = \"off\"\n")).load().unwrap();
    assert!(off.policy(Mode::Once).is_ok(), "nothing is isolated, so nothing is too short");
}

#[test]
fn an_unset_isolation_after_fits_every_interval() {
    let config = Case::with(MINIMAL).load().unwrap();
    assert_eq!(config.policy(Mode::Once).unwrap().isolation_after_ms, 16_000);
    assert_eq!(config.policy(Mode::Daemon).unwrap().isolation_after_ms, 10_000);
    let slow = "[run]\ninterval = \"1m\"\nscheduler_interval = \"2s\"\n";
    let config = Case::with(&after_minimal(slow)).load().unwrap();
    assert_eq!(config.policy(Mode::Once).unwrap().isolation_after_ms, 10_000);
    assert_eq!(config.policy(Mode::Daemon).unwrap().isolation_after_ms, 150_000);
}

#[test]
fn the_interval_flag_is_the_schedulers_with_once() {
    let mut case = Case::with(MINIMAL);
    case.flags.interval = Some(Duration::from_secs(3));
    let config = case.load().unwrap();
    assert_eq!((config.tick_ms(Mode::Daemon), config.tick_ms(Mode::Once)), (3_600, 5_000));
    case.flags.once = true;
    let config = case.load().unwrap();
    assert_eq!((config.tick_ms(Mode::Daemon), config.tick_ms(Mode::Once)), (1_200, 3_000));
}

#[test]
fn a_client_certificate_comes_with_its_key() {
    let text = |keys: &str| MINIMAL.replace("[[proxysql]]", &format!("{keys}[[proxysql]]"));
    let found = refused(&text("client_cert = \"c.pem\"\n"));
    assert!(found.contains(":4: orchestrator.client_cert: expected client_key with it"), "{found}");
    let case = Case::with(&text("client_cert = \"c.pem\"\nclient_key = \"/k.pem\"\ntls_verify = false\n"));
    let tls = case.load().unwrap().orchestrator.tls;
    let client = ClientCertificate { cert: case.dir.path().join("c.pem"), key: "/k.pem".into() };
    assert_eq!(tls, TlsConfig { verify: false, ca_file: None, client: Some(client) });
}

#[test]
fn an_absent_or_irregular_config_file_is_an_error() {
    let mut case = Case::new();
    case.flags.config = Some(case.dir.path().join("absent.toml"));
    assert!(case.error().starts_with("DIR/absent.toml: can't read the config file: No such file"));
    case.flags.config = Some(case.dir.path().to_owned());
    assert!(case.error().contains("not a regular file"));
    let case = Case::new().env("PROXYSQL_STONITH_CONFIG", "/absent.toml");
    assert!(case.load().unwrap_err().to_string().contains("no endpoint"), "the flag wins");
}

#[test]
fn the_shown_config_is_a_config_with_origins_and_no_secret() {
    let more = "[policy]\nexclude_hostgroups = [30, 40]\nwriter_hostgroups = [50]\nerrant_gtid = \"warn\"\nend_possible_holders = false\n[isolation]\nafter = \"20s\"\n[run]\nstate_dir = \"/a \\\"b\"\n";
    let mut case = Case::with(&after_minimal(more)).env("ORCHESTRATOR_API", "http://orc9:3000");
    case.flags.log_format = Some(LogFormat::Json);
    let shown = case.load().unwrap().to_toml();
    let line = |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(line("endpoints"), "endpoints = [\"http://orc9:3000\"] # environment ORCHESTRATOR_API");
    assert!(line("password").starts_with("password = \"***\" # ") && line("password").ends_with("stonith.toml:7"));
    assert_eq!(line("format"), "format = \"json\" # flag --log-format");
    assert_eq!(line("on_blind"), "on_blind = \"hold\" # default");
    assert!(line("after").ends_with("stonith.toml:14"), "{shown}");
    let again = Case::with(&shown).load().unwrap();
    assert_eq!(again.isolation.after, Some(Duration::from_secs(20)));
    assert_eq!(again.policy.exclude_hostgroups, [Hostgroup(30), Hostgroup(40)]);
    assert_eq!(again.policy.writer_hostgroups, [Hostgroup(50)]);
    assert_eq!(again.policy.errant_gtid, ErrantGtid::Warn);
    assert!(!again.policy.end_possible_holders);
    assert_eq!(again.run.state_dir, Path::new("/a \"b"));
    assert_eq!(again.log.format, LogFormat::Json);
    let defaults = Case::with(MINIMAL).load().unwrap().to_toml();
    assert!(defaults.contains("# after = \"10s\", with run --once \"16s\" # default"), "{defaults}");
}
