//! A flag wins over the environment, the environment over the file, the file over the default.

use super::*;

#[test]
fn an_endpoint_an_address_and_a_credential_are_enough() {
    let case = Case::with(MINIMAL);
    let config = case.load().unwrap();
    assert_eq!(config.orchestrators[0].endpoints, ["http://orc1:3000"]);
    assert_eq!(config.proxies[0].address, "127.0.0.1:6032".parse().unwrap());
    let credential = config.proxies[0].credential.read().unwrap();
    assert_eq!(credential, Credential { user: "stonith".into(), password: Secret::new("hunter2") });
    assert_eq!(config.run.state_dir, Path::new("/var/lib/proxysql-stonith"));
    assert_eq!(config.proxies[0].policy.mode, Enforcement::Enforce);
    let policy = config.policy_of_first(Mode::Daemon).unwrap();
    assert_eq!((policy.isolation_after_ms, policy.tick_ms), (10_000, 1_200));
    assert_eq!((policy.fence_on, policy.max_downtime_fences), (FenceOn::AnyDowntime, 2));
    assert_eq!((policy.isolation_scope, policy.blind_isolates), (IsolationScope::All, false));
    assert!(policy.end_possible_holders);
}

#[test]
fn flags_alone_are_enough() {
    let mut case = Case::new();
    case.flag(&keys::ENDPOINTS, "http://orc1:3000,http://orc2:3000");
    case.flag(&keys::ADDRESS, "127.0.0.1:6032");
    let text = "[client]\nuser=admin\npassword=hunter2\n[orchestrator]\nuser=orc\npassword=hunter3\n";
    let path = case.write("stonith.cnf", text, 0o640);
    case.flag(&keys::DEFAULTS_FILE, path.to_str().unwrap());
    let config = case.load().unwrap();
    assert_eq!(config.orchestrators[0].endpoints, ["http://orc1:3000", "http://orc2:3000"]);
    assert_eq!(config.proxies[0].credential.read().unwrap().user, "admin");
    let orchestrator = config.orchestrators[0].credential.clone().unwrap().read().unwrap();
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
    assert_eq!(config.orchestrators[0].endpoints, ["http://orc1:3000/api", "http://orc2:3000"]);
    assert_eq!(config.origin("orchestrator.endpoints"), Origin::Env("ORCHESTRATOR_API"));
    assert_eq!(config.orchestrators[0].credential.clone().unwrap().read().unwrap().user, "orc");
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
    assert_eq!(config.orchestrators[0].endpoints, ["http://env:1"]);
    assert_eq!(config.after_of_first(), Some(Duration::from_secs(30)));
    assert_eq!(config.run.state_dir, Path::new("/env"));
    assert_eq!(config.log.level, LogLevel::Warn, "an empty variable counts as unset");
    case.flag(&keys::ENDPOINTS, "http://flag:1");
    case.flag(&keys::ISOLATION_AFTER, "40s");
    case.flag(&keys::STATE_DIR, "/flag");
    case.flag(&keys::LOG_LEVEL, "debug");
    let config = case.load().unwrap();
    assert_eq!(config.orchestrators[0].endpoints, ["http://flag:1"]);
    assert_eq!(config.after_of_first(), Some(Duration::from_secs(40)));
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
fn the_proxy_flag_picks_proxies_and_keeps_what_the_file_says_of_them() {
    let mut case = Case::with(&after_minimal("[[proxysql]]\naddress = \"b:6032\"\nuser = \"x\"\npassword = \"y\"\n"));
    assert_eq!(case.load().unwrap().proxies.len(), 2);
    case.flag(&keys::ADDRESS, "localhost:6032");
    let config = case.load().unwrap();
    assert_eq!(config.proxies.len(), 1);
    assert_eq!(config.proxies[0].credential.read().unwrap().user, "stonith");
    case.flag(&keys::ADDRESS, "c:6032");
    assert!(case.error().starts_with("flag --proxysql: proxysql.password: no password for the admin interface c:6032"));
}

#[test]
fn i9_isolation_after_shorter_than_an_election_and_two_ticks_is_refused() {
    let config = Case::with(&after_minimal("[isolation]\nafter = \"10s\"\n")).load().unwrap();
    assert!(config.policy_of_first(Mode::Daemon).is_ok());
    let error = config.policy_of_first(Mode::Once).unwrap_err();
    assert!(matches!(error.origin, Origin::File { line: 9, .. }));
    assert_eq!(
        error.problem,
        "10s is too short; expected at least 16s: an election 5s, two starts by ProxySQL's scheduler \
         (run.scheduler_interval) 10s, an apply 1s"
    );
    let config = Case::with(&after_minimal("[isolation]\nafter = \"8s\"\n")).load().unwrap();
    let error = config.policy_of_first(Mode::Daemon).unwrap_err();
    assert!(error.problem.starts_with("8s is too short; expected at least 8s 400ms"), "{error}");
    let off = Case::with(&after_minimal("[isolation]\nafter = \"8s\"\nscope = \"off\"\n")).load().unwrap();
    assert!(off.policy_of_first(Mode::Once).is_ok(), "nothing is isolated, so nothing is too short");
}

#[test]
fn an_unset_isolation_after_fits_every_interval() {
    let config = Case::with(MINIMAL).load().unwrap();
    assert_eq!(config.policy_of_first(Mode::Once).unwrap().isolation_after_ms, 16_000);
    assert_eq!(config.policy_of_first(Mode::Daemon).unwrap().isolation_after_ms, 10_000);
    let slow = "[run]\ninterval = \"1m\"\nscheduler_interval = \"2s\"\n";
    let config = Case::with(&after_minimal(slow)).load().unwrap();
    assert_eq!(config.policy_of_first(Mode::Once).unwrap().isolation_after_ms, 10_000);
    assert_eq!(config.policy_of_first(Mode::Daemon).unwrap().isolation_after_ms, 150_000);
}

#[test]
fn the_interval_flag_is_the_schedulers_with_once() {
    let mut case = Case::with(MINIMAL);
    case.flag(&keys::INTERVAL, "3s");
    let config = case.load().unwrap();
    assert_eq!((config.tick_ms(Mode::Daemon), config.tick_ms(Mode::Once)), (3_600, 5_000));
    let words = ["proxysql-stonith", "run", "--once", "--interval=3s"].map(Into::into);
    case.flags = crate::cli::Cli::read(words).unwrap().flags;
    case.file(MINIMAL);
    let config = case.load().unwrap();
    assert_eq!((config.tick_ms(Mode::Daemon), config.tick_ms(Mode::Once)), (1_200, 3_000));
}

#[test]
fn the_proxy_flag_tells_proxies_of_one_host_apart_by_their_ports() {
    let second = "[[proxysql]]\naddress = \"127.0.0.1:6042\"\nuser = \"second\"\npassword = \"hunter3\"\n";
    let mut case = Case::with(&after_minimal(second));
    case.flag(&keys::ADDRESS, "127.0.0.1:6042,127.0.0.1:6032");
    let proxies = case.load().unwrap().proxies;
    let users: Vec<String> = proxies.iter().map(|proxy| proxy.credential.read().unwrap().user).collect();
    assert_eq!(users, ["second", "stonith"]);
}
