//! Refused configs: each error names the place, the key and what was expected.

use super::*;

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
            ":9: policy.exclude_hostgroups: -1 is not a hostgroup; expected 0 to 2147483647",
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
        ("[policy]\nmax_downtime_fences = 99999999999999999999", ":9: policy.max_downtime_fences: is too large"),
        ("[policy]\nfence_on = true", ":9: policy.fence_on: expected a string, found boolean"),
        ("[run]\nstate_dir = \"\"", ":9: run.state_dir: is empty; expected a path"),
        (
            "[isolation]\nafter = \"30days 1ms\"",
            ":9: isolation.after: \"30days 1ms\" is too long; expected at most 30days",
        ),
        ("[log]\nformat = \"xml\"", ":9: log.format: \"xml\" is not known; expected \"text\" or \"json\""),
        ("[[log]]", ":8: log: expected a table, written [log]; found array"),
        ("[log", ":8: is not TOML"),
    ] {
        let found = refused(&after_minimal(more));
        assert!(found.starts_with(&format!("DIR/stonith.toml{error}")), "{found}");
    }
}

#[test]
fn a_registration_needs_a_token_and_an_address_that_answers() {
    for (more, error) in [
        ("[http]\nregister_as = \"http://10.0.0.7:9632\"", "http.register_as: expected http.token_file with it"),
        (
            "[http]\nlisten = \"off\"\ntoken_file = \"token\"\nregister_as = \"http://10.0.0.7:9632\"",
            "http.register_as: expected an address as http.listen with it, and not \"off\"",
        ),
        (
            "[http]\ntoken_file = \"token\"\nregister_as = \"10.0.0.7:9632\"",
            "http.register_as: is no address of an agent: agents answer plain http only",
        ),
        ("[barrier]\nforget_after = \"1d\"", "barrier.forget_after: expected barrier.token_file with it"),
        (
            "[barrier]\ntoken_file = \"token\"\nforget_after = \"5m\"",
            "barrier.forget_after: 5m is out of range; expected 1h to 30d",
        ),
    ] {
        let found = refused(&after_minimal(more));
        assert!(found.contains(error), "{found}");
    }
    let long = format!("[http]\ntoken_file = \"token\"\nregister_as = \"http://{}:1\"", "a".repeat(120));
    let found = refused(&after_minimal(&long));
    assert!(found.contains("http.register_as: expected a shorter host name"), "{found}");
}

#[test]
fn a_hook_whose_agents_register_needs_none_in_its_config() {
    let text =
        "orchestrator.endpoints = [\"http://orc1:3000\"]\n[barrier]\ntoken_file = \"token\"\nforget_after = \"1d\"\n";
    assert!(Case::with(text).load().unwrap().barrier.agents.is_empty());
}

#[test]
fn an_alias_is_of_two_nodes_and_a_row_has_one() {
    for (more, error) in [
        ("\"10.0.0.5\" = 1", ":9: aliases: expected an instance, such as \"db1:3306\"; found integer"),
        ("\"10.0.0.5\" = \"a b\"", ":9: aliases: \"a b\" is not a host name (printable ASCII, at most 255 bytes)"),
        ("\"10.0.0.5:x\" = \"db1\"", "is not host:port"),
        ("\"a\" = \"b\"\n\"A.\" = \"c\"", ":10: aliases: a:3306 is listed twice; the first is at"),
    ] {
        let text = refused(&after_minimal(&format!("[aliases]\n{more}")));
        assert!(text.contains(error), "{text}");
    }
}

#[test]
fn an_aliases_port_is_3306_if_there_is_none() {
    let config =
        Case::with(&after_minimal("[aliases]\n\"10.0.0.5\" = \"db1:3307\"\n\"2001:db8::5\" = \"[2001:db8::6]\""));
    let config = config.load().unwrap();
    let aliases = config.policy_of_first(Mode::Daemon).unwrap().aliases;
    let aliases: Vec<String> = aliases.iter().map(|(row, instance)| format!("{row} {instance}")).collect();
    assert_eq!(aliases, ["10.0.0.5:3306 db1:3307", "[2001:db8::5]:3306 [2001:db8::6]:3306"]);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_one() {
    for (more, error) in [
        ("[isolation]\nafer = \"20s\"", ":9: isolation.afer: unknown key; did you mean \"after\"?"),
        ("[isolation]\ntimeout = \"20s\"", ":9: isolation.timeout: unknown key; known here: after, scope"),
        ("[polcy]\nmode = \"observe\"", ":8: polcy: unknown key; did you mean \"policy\"?"),
        ("[policy]\nmdoe = 1", ":9: policy.mdoe: unknown key; did you mean \"mode\"?"),
        ("passwd = \"hunter2\"", ":8: proxysql.passwd: unknown key; did you mean \"password\"?"),
    ] {
        let found = refused(&after_minimal(more));
        assert_eq!(found, format!("DIR/stonith.toml{error}"));
    }
    let found = refused(&after_minimal("[policy]\non_bxxxd = 1"));
    assert!(found.contains("policy.on_bxxxd: unknown key; known here: "), "three of eight letters: {found}");
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
    case.flag(&keys::ADDRESS, "a:1,a:1");
    assert!(case.error().starts_with("flag --proxysql: proxysql.address: a:1 is listed twice"));
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
    assert!(found.contains(":8: proxysql.tls: any public CA's certificate would be accepted"), "{found}");
    for off in ["", "tls = \"off\"\n"] {
        let found = refused(&after_minimal(&format!("ca_file = \"ca.pem\"\n{off}")));
        assert!(found.contains(":8: proxysql.ca_file: TLS is off; expected tls = \"verify-ca\""), "{found}");
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
fn a_client_certificate_comes_with_its_key() {
    let text = |keys: &str| MINIMAL.replace("[[proxysql]]", &format!("{keys}[[proxysql]]"));
    let found = refused(&text("client_cert = \"c.pem\"\n"));
    assert!(found.contains(":4: orchestrator.client_cert: expected client_key with it"), "{found}");
    let case = Case::with(&text("client_cert = \"c.pem\"\nclient_key = \"/k.pem\"\ntls_verify = false\n"));
    let tls = case.load().unwrap().orchestrators[0].tls.clone();
    let client = ClientCertificate { cert: case.dir.path().join("c.pem"), key: "/k.pem".into() };
    assert_eq!(tls, TlsConfig { verify: false, ca_file: None, client: Some(client) });
}

#[test]
fn an_absent_or_irregular_config_file_is_an_error() {
    let mut case = Case::new();
    let path = case.dir.path().join("absent.toml");
    case.flag(&keys::CONFIG_FILE, path.to_str().unwrap());
    assert!(case.error().starts_with("DIR/absent.toml: can't read the config file: No such file"));
    let path = case.dir.path().to_owned();
    case.flag(&keys::CONFIG_FILE, path.to_str().unwrap());
    assert!(case.error().contains("not a regular file"));
    let case = Case::new().env("PROXYSQL_STONITH_CONFIG", "/absent.toml");
    assert!(case.load().unwrap_err().to_string().contains("no endpoint"), "the flag wins");
}

#[test]
fn up_to_256_endpoints_and_proxies_are_taken_and_the_longest_duration_is_30_days() {
    let endpoints = |count: usize| {
        let all: Vec<String> = (0..count).map(|n| format!("http://orc{n}:3000")).collect();
        Case::with(&MINIMAL.replace("[\"http://orc1:3000\"]", &format!("{all:?}"))).load().map(drop)
    };
    assert_eq!(endpoints(256), Ok(()));
    assert!(endpoints(257).unwrap_err().to_string().contains("expected at most 256"));
    let proxies = |count: usize| {
        let more = |n| format!("[[proxysql]]\naddress = \"p{n}:6032\"\nuser = \"x\"\npassword = \"y\"\n");
        Case::with(&after_minimal(&(1..count).map(more).collect::<String>())).load().map(drop)
    };
    assert_eq!(proxies(256), Ok(()));
    assert!(proxies(257).unwrap_err().to_string().contains("more than 256 proxies"));
    assert_eq!(Case::with(&after_minimal("[isolation]\nafter = \"30days\"")).load().map(drop), Ok(()));
}
