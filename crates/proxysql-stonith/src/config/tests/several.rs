//! Several Orchestrators, and what is set for one ProxySQL alone.

use std::collections::BTreeSet;

use super::*;

const SEVERAL: &str = r#"
[[orchestrator]]
name = "east"
endpoints = ["http://east:3000"]
user = "of-east"
password = "hunter2-east"
[[orchestrator]]
name = "west"
endpoints = ["http://west:3000"]
user = "of-west"
password = "hunter2-west"
tick_timeout = "2s"
[[proxysql]]
address = "10.0.0.1:6032"
orchestrator = "east"
user = "stonith"
password = "hunter2"
[[proxysql]]
address = "10.1.0.1:6032"
orchestrator = "west"
user = "stonith"
password = "hunter2"
[proxysql.policy]
mode = "observe"
exclude_hostgroups = [9]
[proxysql.aliases]
"10.0.0.5" = "db9"
[proxysql.isolation]
after = "30s"
[policy]
exclude_hostgroups = [8]
writer_hostgroups = [7]
[aliases]
"10.0.0.5" = "db1"
"10.0.0.6" = "db2"
"#;

/// `SEVERAL` with one text replaced by another.
fn with(from: &str, to: &str) -> String {
    assert!(SEVERAL.contains(from), "{from}");
    SEVERAL.replacen(from, to, 1)
}

#[test]
fn each_proxysql_follows_the_orchestrator_that_it_names() {
    let case = Case::with(SEVERAL);
    let config = case.load().unwrap();
    let followed = |index: usize| {
        let one = &config.proxies[index].orchestrator;
        (one.endpoints[0].clone(), one.credential.as_ref().unwrap().read().unwrap().user, one.tick_timeout.as_secs())
    };
    assert_eq!(followed(0), ("http://east:3000".to_owned(), "of-east".to_owned(), 4));
    assert_eq!(followed(1), ("http://west:3000".to_owned(), "of-west".to_owned(), 2));
}

#[test]
fn what_a_proxysql_has_of_its_own_wins_for_it_alone_and_the_rest_is_inherited() {
    let config = Case::with(SEVERAL).load().unwrap();
    let of = |index: usize| {
        let proxy = &config.proxies[index];
        let policy = config.policy(proxy, Mode::Daemon).unwrap();
        let hostgroups = |all: BTreeSet<Hostgroup>| all.into_iter().map(|group| group.0).collect::<Vec<_>>();
        let aliases: Vec<String> = policy.aliases.iter().map(|(row, of)| format!("{row} {of}")).collect();
        let groups = (hostgroups(policy.excluded_hostgroups), hostgroups(policy.writer_hostgroups));
        (proxy.policy.mode, groups, policy.isolation_after_ms, aliases.join(", "))
    };
    let aliases =
        ["10.0.0.5:3306 db1:3306", "10.0.0.5:3306 db9:3306"].map(|one| format!("{one}, 10.0.0.6:3306 db2:3306"));
    let [all, own] = aliases;
    assert_eq!(of(0), (Enforcement::Enforce, (vec![8], vec![7]), 10_000, all));
    assert_eq!(of(1), (Enforcement::Observe, (vec![9], vec![7]), 30_000, own));
}

#[test]
fn a_flag_or_variable_is_for_every_proxysql_also_for_one_with_a_section_of_its_own() {
    let modes = |case: &Case| case.load().unwrap().proxies.iter().map(|proxy| proxy.policy.mode).collect::<Vec<_>>();
    let mut case = Case::with(&with("mode = \"observe\"", "mode = \"enforce\""));
    assert_eq!(modes(&case), [Enforcement::Enforce; 2]);
    case = case.env("PROXYSQL_STONITH_MODE", "observe");
    assert_eq!(modes(&case), [Enforcement::Observe; 2]);
    case.flag(&keys::MODE, "enforce");
    assert_eq!(modes(&case), [Enforcement::Enforce; 2]);
}

#[test]
fn the_shown_config_has_the_origin_of_each_value_for_each_proxysql() {
    let mut case = Case::with(SEVERAL);
    case.flag(&keys::ISOLATION_SCOPE, "writers");
    let shown = case.load().unwrap().to_toml();
    let shown = shown.replace(&*case.dir.path().to_string_lossy(), "DIR");
    let part = |header: &str| {
        let (_, part) = shown.split_once(&format!("{header}\n")).unwrap_or_else(|| panic!("{shown}"));
        part.split("\n\n").next().unwrap().to_owned()
    };
    let own = part("[proxysql.policy]");
    assert!(
        own.starts_with("mode = \"observe\" # DIR/stonith.toml:24\nfence_on = \"any-downtime\" # default\n"),
        "{own}"
    );
    assert!(own.contains("exclude_hostgroups = [9] # DIR/stonith.toml:25\n"), "{own}");
    assert!(own.contains("writer_hostgroups = [7] # DIR/stonith.toml:32\n"), "{own}");
    assert_eq!(
        part("[proxysql.aliases]"),
        "\"10.0.0.5:3306\" = \"db9:3306\" # DIR/stonith.toml:27\n\"10.0.0.6:3306\" = \"db2:3306\" # DIR/stonith.toml:35"
    );
    assert_eq!(
        part("[proxysql.isolation]"),
        "after = \"30s\" # DIR/stonith.toml:29\nscope = \"writers\" # flag --isolation-scope"
    );
    assert!(part("[policy]").contains("exclude_hostgroups = [8] # DIR/stonith.toml:31\n"));
    assert_eq!(shown.matches("[proxysql.policy]").count(), 1, "the other has none: {shown}");
    let again = Case::with(&shown.replace("***", "hunter2")).load().unwrap();
    let policies = |config: &Config| {
        let of = |proxy: &ProxyConfig| (config.policy(proxy, Mode::Daemon).unwrap(), proxy.policy.mode);
        config.proxies.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(policies(&again), policies(&case.load().unwrap()));
    assert_eq!(again.proxies[1].orchestrator.endpoints, ["http://west:3000"]);
}

#[test]
fn sections_that_do_not_fit_together_are_refused_with_what_to_do() {
    for (text, error) in [
        (
            with("[[orchestrator]]", "[orchestrator]"),
            ":7: orchestrator: the file has both [orchestrator] and [[orchestrator]]; expected one Orchestrator as \
             [orchestrator], or each as [[orchestrator]] with a name",
        ),
        (
            with("name = \"west\"\n", ""),
            ":7: orchestrator.name: missing; expected a name in each [[orchestrator]], such as name = \"east\"",
        ),
        (with("\"west\"", "\"east\""), ":8: orchestrator.name: two [[orchestrator]] have the name \"east\""),
        (
            with("name = \"west\"", "name = \"we st\""),
            ":8: orchestrator.name: is no name; expected 1 to 64 letters, digits, \"-\", \"_\" and \".\", such as \"east\"",
        ),
        (
            with("http://west:3000", "http://EAST:3000/api"),
            ":9: orchestrator.endpoints: \"http://EAST:3000/api\" belongs to the [[orchestrator]] \"east\" too; expected \
             each endpoint in one section",
        ),
        (
            with("endpoints = [\"http://west:3000\"]\n", ""),
            ":8: orchestrator.endpoints: missing; expected every node of this Orchestrator, such as [\"http://orc1:3000\"]",
        ),
        (
            with("orchestrator = \"west\"", "orchestrator = \"south\""),
            ":20: proxysql.orchestrator: no [[orchestrator]] has this name; expected \"east\" or \"west\"",
        ),
        (
            with("orchestrator = \"west\"\n", ""),
            ":18: proxysql.orchestrator: missing; expected the name of the [[orchestrator]] that decides for it: \"east\" or \
             \"west\"",
        ),
        (
            MINIMAL.replace("address", "orchestrator = \"east\"\naddress"),
            ":5: proxysql.orchestrator: the only Orchestrator has no name. Delete this line, or write [[orchestrator]] with \
             a name",
        ),
        (
            MINIMAL.replace("endpoints", "name = \"east\"\nendpoints"),
            ":3: orchestrator.name: [orchestrator] has no name. Delete this line, or write [[orchestrator]] to have several",
        ),
        (
            "orchestrator = 1".to_owned(),
            ":1: orchestrator: expected a table, written [orchestrator], or several, written [[orchestrator]]; found integer",
        ),
    ] {
        let found = refused(&text);
        assert!(found.starts_with(&format!("DIR/stonith.toml{error}")), "{found}");
    }
}

#[test]
fn a_wrong_value_in_a_section_of_one_proxysql_is_named_with_its_place() {
    for (text, error) in [
        (with("mode", "mdoe"), ":24: proxysql.policy.mdoe: unknown key; did you mean \"mode\"?"),
        (with("\"observe\"", "true"), ":24: proxysql.policy.mode: expected a string, found boolean"),
        (with("[proxysql.policy]", "[proxysql.log]"), ":23: proxysql.log: unknown key; known here: "),
        (
            after_minimal("policy = \"observe\"\n"),
            ":8: proxysql.policy: expected a table, written [proxysql.policy]; found string",
        ),
        (
            with("[proxysql.policy]\n", "[proxysql.policy]\nmax_downtime_fences = -1\n"),
            ":24: proxysql[1].policy.max_downtime_fences: -1 is out of range",
        ),
        (with("[proxysql.policy]\n", "[proxysql.policy]\nuser = \"x\"\n"), ":24: proxysql.policy.user: unknown key"),
    ] {
        let found = refused(&text);
        assert!(found.starts_with(&format!("DIR/stonith.toml{error}")), "{found}");
    }
}

#[test]
fn i9_the_isolation_of_one_proxysql_must_fit_the_interval_too() {
    let config = Case::with(&with("after = \"30s\"", "after = \"8s\"")).load().unwrap();
    let errors = config.proxies.iter().map(|proxy| config.policy(proxy, Mode::Daemon).err()).collect::<Vec<_>>();
    assert!(matches!(errors.as_slice(), [None, Some(ConfigError { origin: Origin::File { line: 29, .. }, .. })]));
}

#[test]
fn what_flags_and_variables_set_for_orchestrator_is_refused_if_there_are_several() {
    let told = |place: &str, key: &str| {
        format!(
            "{place}: orchestrator.{key}: it does not say for which of the 2 [[orchestrator]] sections it is. Leave it out, \
             and set {key} in the sections instead"
        )
    };
    let mut case = Case::with(SEVERAL);
    case.flag(&keys::ENDPOINTS, "http://x");
    assert_eq!(case.error(), told("flag --orchestrator", "endpoints"));
    let orchestrators = keys::SECTIONS.iter().find(|section| section.name == "orchestrator").unwrap();
    for (key, variable) in orchestrators.keys.iter().flat_map(|key| key.env.iter().map(|name| (key.name, *name))) {
        let case = Case::with(SEVERAL).env(variable, "http://x");
        assert_eq!(case.error(), told(&format!("environment {variable}"), key));
    }
    let mut case = Case::with(SEVERAL);
    let path = case.write("a.cnf", "[client]\nuser=a\npassword=b\n", 0o600);
    case.flag(&keys::DEFAULTS_FILE, path.to_str().unwrap());
    assert!(case.load().is_ok(), "it has nothing for Orchestrator");
    case.write("a.cnf", "[client]\nuser=a\npassword=b\n[orchestrator]\nuser=c\npassword=d\n", 0o600);
    assert_eq!(case.error(), told("flag --defaults-file", "password"));
    let mut case = Case::with(SEVERAL);
    case.flag(&keys::ADDRESS, "10.9.9.9:6032");
    assert_eq!(
        case.error(),
        "flag --proxysql: proxysql.orchestrator: 10.9.9.9:6032 has no [[proxysql]] section; add one, which says \
         orchestrator = \"east\" or \"west\""
    );
}

#[test]
fn of_one_orchestrator_with_a_name_flags_set_the_keys_and_no_proxysql_has_to_name_it() {
    let text = MINIMAL.replace("[orchestrator]", "[[orchestrator]]\nname = \"only\"");
    let mut case = Case::with(&text);
    case.flag(&keys::ENDPOINTS, "http://flag");
    let config = case.load().unwrap();
    assert_eq!(config.proxies[0].orchestrator.endpoints, ["http://flag"]);
    let shown = config.to_toml();
    assert!(
        shown.contains("[[orchestrator]]\nname = \"only\" # ")
            && shown.contains("\norchestrator = \"only\" # default\n")
    );
    assert!(shown.contains("endpoints = [\"http://flag\"] # flag --orchestrator\n"), "{shown}");
}

#[test]
fn the_proxy_flag_keeps_the_orchestrator_and_the_policy_of_the_proxysql() {
    let mut case = Case::with(SEVERAL);
    case.flag(&keys::ADDRESS, "10.1.0.1:6032");
    let config = case.load().unwrap();
    let [proxy] = config.proxies.as_slice() else { panic!("{config:?}") };
    assert_eq!((proxy.orchestrator.name.as_deref(), proxy.policy.mode), (Some("west"), Enforcement::Observe));
}

#[test]
fn the_password_of_each_orchestrator_is_read_again_from_its_own_section() {
    let mut case = Case::with(SEVERAL);
    let config = case.load().unwrap();
    let passwords = || {
        let of = |one: &Arc<OrchestratorConfig>| one.credential.as_ref().unwrap().read().unwrap().password;
        config.orchestrators.iter().map(|one| of(one).expose().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(passwords(), ["hunter2-east", "hunter2-west"]);
    case.file(&with("hunter2-west", "rotated"));
    assert_eq!(passwords(), ["hunter2-east", "rotated"]);
}

#[test]
fn i11_no_output_shows_the_password_of_any_orchestrator() {
    let config = Case::with(SEVERAL).load().unwrap();
    let shown = format!("{config:?} {}", config.to_toml());
    assert!(!shown.contains("hunter2"), "{shown}");
    let case = Case::with(SEVERAL);
    case.write("stonith.toml", &SEVERAL.replace("password = \"hunter2\"", "password_file = \"secret\""), 0o644);
    case.write("secret", "hunter2\n", 0o600);
    assert!(case.error().contains(":6: password: other users can read the password in this file"));
}
