//! The program as a user starts it, without any server: what it says, and its exit codes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const PASSWORD: &str = "hunter2-never-shown";

/// A directory with a config, and what the program printed and ended with.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new(config: &str) -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.file("secret", &format!("{PASSWORD}\n"));
        desk.file("stonith.toml", &config.replace("DIR", &desk.0.path().display().to_string()));
        desk
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    #[must_use = "it may have failed"]
    fn run(&self, line: &str) -> (String, i32) {
        self.run_with(line, &[])
    }

    #[must_use = "it may have failed"]
    fn run_with(&self, line: &str, env: &[(&str, &Path)]) -> (String, i32) {
        let config = format!("--config={}", self.path().join("stonith.toml").display());
        let done = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"))
            .env_clear()
            .envs(env.iter().copied())
            .args(line.split_whitespace())
            .arg(config)
            .output()
            .unwrap();
        let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(!text.contains(PASSWORD), "I11: {text}");
        assert!(!text.contains('\u{1b}'), "no colours in a pipe: {text}");
        (text, done.status.code().unwrap())
    }
}

/// Nobody listens on these ports.
const MINIMAL: &str = r#"
orchestrator.endpoints = ["http://127.0.0.1:9"]
run.state_dir = "DIR/state"
[[proxysql]]
address = "127.0.0.1:9"
user = "radmin"
password_file = "DIR/secret"
"#;

#[test]
fn a_unix_socket_as_proxysqls_address_is_refused_with_the_way_out() {
    let config = MINIMAL.replace("127.0.0.1:9\"\nuser", "/tmp/proxysql_admin.sock\"\nuser");
    let by_flag = Desk::new(MINIMAL).run("config check --proxysql=/tmp/proxysql_admin.sock");
    for (text, code) in [by_flag, Desk::new(&config).run("config check")] {
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("A unix socket goes into the key socket"), "{text}");
    }
    assert_eq!(Desk::new(MINIMAL).run("config check").1, 0, "the control");
}

#[test]
fn without_a_config_it_says_what_to_write_and_changes_nothing() {
    let (text, code) = Desk::new("").run("run --once");
    assert_eq!(code, 2);
    assert!(text.contains("orchestrator.endpoints") && text.contains("--orchestrator=http://orc1:3000"), "{text}");
}

#[test]
fn a_wrong_key_is_named_with_its_line() {
    let (text, code) = Desk::new("[isolation]\nafter = \"10s\"\nscoope = \"all\"\n").run("plan");
    assert_eq!(code, 2);
    assert!(text.contains("stonith.toml:3") && text.contains("scoope"), "{text}");
}

#[test]
fn isolation_after_too_short_for_the_tick_says_what_is_expected() {
    let (text, code) = Desk::new(&format!("isolation.after = \"10s\"\n{MINIMAL}")).run("run --once");
    assert_eq!(code, 2);
    assert!(text.contains("stonith.toml:1") && text.contains("expected at least 16s"), "{text}");
}

#[test]
fn i11_config_check_prints_what_is_in_force_without_secrets() {
    let (text, code) = Desk::new(MINIMAL).run("config check");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("address = \"127.0.0.1:9\"") && text.contains("password_file"), "{text}");
    let inline = MINIMAL.replace("password_file = \"DIR/secret\"", &format!("password = \"{PASSWORD}\""));
    let (text, code) = Desk::new(&inline).run("config check");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("password = \"***\""), "{text}");
}

#[test]
fn config_check_says_where_whoever_answers_is_believed() {
    let says = |config: &str| {
        let (text, code) = Desk::new(config).run("config check");
        assert_eq!(code, 0, "{text}");
        ["plain HTTP", "tls_verify is false", "without TLS"].map(|words| text.contains(words))
    };
    assert_eq!(says(MINIMAL), [false; 3], "all of it on this host");
    let endpoint = MINIMAL.split('"').find(|part| part.starts_with("http://")).expect("an endpoint");
    assert_eq!(says(&MINIMAL.replace(endpoint, "http://orc1:3000")), [true, false, false]);
    let any = format!("orchestrator.tls_verify = false\n{}", MINIMAL.replace(endpoint, "https://orc1"));
    assert_eq!(says(&any), [false, true, false]);
    assert_eq!(says(&MINIMAL.replace(endpoint, "https://orc1")), [false; 3]);
    assert_eq!(says(&MINIMAL.replace("127.0.0.1:9\"\nuser", "10.0.0.5:6032\"\nuser")), [false, false, true]);
}

#[test]
fn the_reference_of_the_config_needs_no_config() {
    let (text, code) = Desk::new("garbage").run("config reference");
    assert_eq!((text.as_str(), code), (include_str!("../../../docs/config.md"), 0));
    let (text, code) = Desk::new("garbage").run("config reference --metrics");
    let page = include_str!("../../../docs/metrics.md");
    assert!(code == 0 && text == page, "stale; do: cargo run -- config reference --metrics > docs/metrics.md\n{text}");
}

/// The scheduler's interval is longer than the daemon's, so `run --once` needs a longer lease.
#[test]
fn a_config_for_the_daemon_alone_is_valid_and_says_so() {
    for (after, says) in [("12s", true), ("60s", false)] {
        let (text, code) = Desk::new(MINIMAL).run(&format!("config check --isolation-after={after}"));
        assert_eq!(code, 0, "{text}");
        assert_eq!(text.contains("# `run --once` refuses this config: "), says, "{text}");
        assert!(!text.contains("# `run` refuses"), "{text}");
    }
}

#[test]
fn tls_without_any_ca_to_verify_with_is_refused_and_unverified_tls_needs_none() {
    let https = MINIMAL.replace("http://127.0.0.1:9", "https://127.0.0.1:9");
    let to_proxysql = format!("{MINIMAL}tls = \"verify-identity\"\n");
    let unverified = format!("orchestrator.tls_verify = false\n{https}");
    for (config, says, expected) in [
        (&https, "no CA certificates to verify Orchestrator with", 2),
        (&to_proxysql, "no CA certificates to verify ProxySQL with", 2),
        (&unverified, "refused", 1),
    ] {
        let desk = Desk::new(config);
        desk.file("none.pem", "");
        let (text, code) = desk.run_with("plan", &[("SSL_CERT_FILE", &desk.path().join("none.pem"))]);
        assert_eq!(code, expected, "{text}");
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn a_proxysql_that_is_not_there_is_an_error_with_its_whole_cause() {
    let desk = Desk::new(MINIMAL);
    for command in ["run --once", "plan", "status", "fence node01:3306"] {
        let (text, code) = desk.run(command);
        assert_eq!(code, 1, "{command}: {text}");
        assert!(text.contains("127.0.0.1:9") && text.contains("refused"), "{command}: {text}");
    }
    let (text, code) = desk.run("plan");
    assert!(code == 1 && text.contains("0 of 1 configured"), "{text}");
}

#[test]
fn an_admin_interface_that_never_greets_is_given_up_after_5_s() {
    // The kernel takes the connection; nobody speaks.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = deaf.local_addr().unwrap();
    let begun = std::time::Instant::now();
    let (text, code) = Desk::new(&MINIMAL.replace("127.0.0.1:9\"\nuser", &format!("{address}\"\nuser"))).run("plan");
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&address.to_string()) && text.contains("5s"), "{text}");
    assert!(begun.elapsed() >= std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn the_same_error_is_not_said_again_by_the_next_start() {
    let desk = Desk::new(MINIMAL);
    let (text, code) = desk.run("run --once");
    assert!(code == 1 && text.contains("refused"), "{text}");
    let (text, code) = desk.run("run --once");
    assert_eq!((text.as_str(), code), ("", 1));
}

#[test]
fn suspend_and_resume_work_with_everything_else_dead_and_the_config_broken() {
    let desk = Desk::new(MINIMAL);
    assert_eq!(desk.run("run --once").1, 1, "it reaches nothing, and keeps its state");
    let (text, code) = desk.run("suspend --for 2h --reason upgrade");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("suspended for 2h: 127.0.0.1:9"), "{text}");
    for was in ["127.0.0.1:9", "none"] {
        let (text, code) = desk.run("resume");
        assert!(code == 0 && text.contains(&format!("suspended before: {was}")), "{text}");
    }
    desk.file("stonith.toml", "[orchestrator\n");
    let (text, code) = desk.run(&format!("suspend --reason x --state-dir={}", desk.path().join("state").display()));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("stonith.toml:1") && text.contains("suspended for 1h: 127.0.0.1:9"), "{text}");
    let (text, code) = desk.run(&format!("resume --state-dir={}", desk.path().join("state").display()));
    assert!(code == 0 && text.contains("suspended before: 127.0.0.1:9"), "{text}");
}

#[test]
fn suspend_is_refused_and_makes_nothing_where_no_agent_keeps_its_state() {
    let desk = Desk::new(MINIMAL);
    let refused = |line: &str| {
        let (text, code) = desk.run(line);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("no agent keeps its state in") && text.contains("--state-dir"), "{text}");
    };
    refused("suspend --reason x");
    refused("resume");
    assert!(!desk.path().join("state").exists());
    std::fs::create_dir(desk.path().join("state")).unwrap();
    refused("suspend --reason x");
    assert_eq!(std::fs::read_dir(desk.path().join("state")).unwrap().count(), 0);
    assert_eq!(desk.run("run --once").1, 1, "it reaches nothing, and keeps its state");
    refused("suspend --reason x --proxysql=127.0.0.1:10");
    assert_eq!(desk.run("suspend --reason x --proxysql=127.0.0.1:9").1, 0, "the control");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_said_clearly() {
    let desk = Desk::new(MINIMAL);
    desk.file("state", "a file where the directory should be");
    let (text, code) = desk.run("run --once");
    assert_eq!(code, 1);
    assert!(text.contains("isolation is not armed") && text.contains("run.state_dir"), "{text}");
    let (text, code) = desk.run("suspend --reason x");
    assert_eq!(code, 2, "{text}");
}

#[test]
fn nothing_is_written_into_a_state_directory_that_others_can_write_to() {
    let desk = Desk::new(MINIMAL);
    let dir = desk.path().join("state");
    std::fs::create_dir(&dir).unwrap();
    for mode in [0o777, 0o700] {
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
        let (text, code) = desk.run("run --once");
        assert!(code == 1 && text.contains("refused"), "{text}");
        assert_eq!(text.contains("isolation is not armed"), mode == 0o777, "{text}");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count() == 0, mode == 0o777, "{mode:o}");
    }
}

#[test]
fn a_state_from_a_newer_version_is_left_alone_and_said() {
    let desk = Desk::new(MINIMAL);
    std::fs::create_dir(desk.path().join("state")).unwrap();
    let path = desk.path().join("state/state-127.0.0.1_9.json");
    std::fs::write(&path, r#"{"version":7,"future":true}"#).unwrap();
    let (text, code) = desk.run("run --once");
    assert!(code == 1 && text.contains("newer version") && text.contains("isolation is not armed"), "{text}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), r#"{"version":7,"future":true}"#);
}

#[test]
fn a_secret_file_that_others_can_read_is_refused() {
    let desk = Desk::new(MINIMAL);
    let secret = desk.path().join("secret");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (text, code) = desk.run("plan");
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("chmod"), "{text}");
}

#[test]
fn the_version_names_the_commit_or_says_that_it_is_unknown() {
    let done = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith")).arg("--version").output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let begin = concat!("proxysql-stonith ", env!("CARGO_PKG_VERSION"), " (");
    let commit = text.strip_prefix(begin).and_then(|rest| rest.strip_suffix(")\n")).unwrap_or_else(|| panic!("{text}"));
    let is_hash = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash || commit == "commit unknown", "{text}");
}

#[cfg(feature = "demo")]
#[test]
fn the_demo_lists_its_scenarios_and_plays_one_without_colours_in_a_pipe() {
    let demo = |line: &str| {
        let done = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith")).args(line.split_whitespace()).output().unwrap();
        (String::from_utf8(done.stdout).unwrap(), done.status.code().unwrap())
    };
    let (text, code) = demo("demo --list");
    assert_eq!(code, 0);
    assert!(text.contains("without") && text.contains("cut-off"), "{text}");
    let (text, code) = demo("demo without --fast");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Every expectation held") && !text.contains('\u{1b}'), "{text}");
    assert_eq!(demo("demo nosuch").1, 2);
}

#[test]
fn suspend_suspends_the_proxysql_that_is_named_and_no_other() {
    let second = "[[proxysql]]\naddress = \"127.0.0.1:10\"\nuser = \"radmin\"\npassword_file = \"DIR/secret\"\n";
    let desk = Desk::new(&format!("{MINIMAL}{second}"));
    assert_eq!(desk.run("run --once").1, 1, "it reaches nothing, and keeps both states");
    let (text, code) = desk.run("suspend --reason x --proxysql=127.0.0.1:10");
    assert!(code == 0 && text.contains("suspended for 1h: 127.0.0.1:10."), "{text}");
    let (text, code) = desk.run("resume");
    assert!(code == 0 && text.contains("resumed: 127.0.0.1:9, 127.0.0.1:10;"), "{text}");
    assert!(text.contains("suspended before: 127.0.0.1:10"), "{text}");
}
