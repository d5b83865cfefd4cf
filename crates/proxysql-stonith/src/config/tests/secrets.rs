//! The sources of passwords. No output shows a password.

use super::*;

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
    let path = case.write("a.cnf", "[client]\nuser=option\npassword=file\n", 0o600);
    case.flag(&keys::DEFAULTS_FILE, path.to_str().unwrap());
    assert_eq!(password(&case), "option:file");
    case.write("a.cnf", "[client]\npassword=file\n", 0o600);
    assert_eq!(password(&case), "stonith:file");
}

#[test]
fn a_user_beside_an_option_file_or_above_it_wins_over_the_one_in_it() {
    let beside = MINIMAL.replace("password = \"hunter2\"", "defaults_file = \"a.cnf\"");
    let user = |text: &str, env: &[(&'static str, &str)]| {
        let case = env.iter().fold(Case::with(text), |case, (name, value)| case.env(name, value));
        case.write("a.cnf", "[client]\nuser=option\npassword=file\n", 0o600);
        case.load().unwrap().proxies[0].credential.read().unwrap().user
    };
    let alone = beside.replace("user = \"stonith\"", "");
    assert_eq!(user(&alone, &[]), "option");
    assert_eq!(user(&beside, &[]), "stonith");
    assert_eq!(user(&alone, &[("PROXYSQL_STONITH_PROXYSQL_USER", "above")]), "above");
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
fn two_sources_of_one_password_are_refused() {
    let found = refused(&after_minimal("password_file = \"x\"\n"));
    assert!(found.contains(":8: proxysql.password_file: more than one source"), "{found}");
    let found = refused(
        &MINIMAL.replace("[[proxysql]]", "user = \"a\"\npassword = \"b\"\npassword_file = \"c\"\n[[proxysql]]"),
    );
    assert!(found.contains(":6: orchestrator.password_file: more than one source"), "{found}");
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
