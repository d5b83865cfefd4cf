//! What `config check` and docs/config.md show.

use super::*;

#[test]
fn the_shown_config_is_a_config_with_origins_and_no_secret() {
    let more = "[policy]\nexclude_hostgroups = [30, 40]\nwriter_hostgroups = [50]\nerrant_gtid = \"warn\"\nend_possible_holders = false\n[isolation]\nafter = \"20s\"\n[run]\nstate_dir = \"/a \\\"b\"\n";
    let mut case = Case::with(&after_minimal(more)).env("ORCHESTRATOR_API", "http://orc9:3000");
    case.flag(&keys::LOG_FORMAT, "json");
    let shown = case.load().unwrap().to_toml();
    let line = |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(line("endpoints"), "endpoints = [\"http://orc9:3000\"] # environment ORCHESTRATOR_API");
    assert!(line("password").starts_with("password = \"***\" # ") && line("password").ends_with("stonith.toml:7"));
    assert_eq!(line("format"), "format = \"json\" # flag --log-format");
    assert_eq!(line("on_blind"), "on_blind = \"hold\" # default");
    assert!(line("after").ends_with("stonith.toml:14"), "{shown}");
    let again = Case::with(&shown).load().unwrap();
    assert_eq!(again.after_of_first(), Some(Duration::from_secs(20)));
    assert_eq!(again.proxies[0].policy.exclude_hostgroups, [Hostgroup(30), Hostgroup(40)]);
    assert_eq!(again.proxies[0].policy.writer_hostgroups, [Hostgroup(50)]);
    assert_eq!(again.proxies[0].policy.errant_gtid, ErrantGtid::Warn);
    assert!(!again.proxies[0].policy.end_possible_holders);
    assert_eq!(again.run.state_dir, Path::new("/a \"b"));
    assert_eq!(again.log.format, LogFormat::Json);
    let defaults = Case::with(MINIMAL).load().unwrap().to_toml();
    assert!(defaults.contains("# after = \"10s\", with run --once \"16s\" # default"), "{defaults}");
}

#[test]
fn the_page_of_the_config_is_made_from_the_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let page = fs::read_to_string(path).unwrap();
    assert!(page == reference(), "docs/config.md is stale; do: cargo run -- config reference > docs/config.md");
}

#[test]
fn every_key_is_in_the_page_with_its_flag_and_its_variables() {
    let page = reference();
    for key in keys::all() {
        let row = match key.section {
            "" => page.lines().find(|line| line.starts_with("The config file is named by")),
            section => {
                let part = page.split("\n## `").find(|part| part.trim_start_matches('[').starts_with(section)).unwrap();
                part.lines().find(|line| line.starts_with(&format!("| `{}` |", key.name)))
            }
        };
        let row = row.unwrap_or_else(|| panic!("{}.{}", key.section, key.name));
        for told in
            key.flag.into_iter().chain(key.env.iter().copied()).chain(key.default.filter(|text| !text.is_empty()))
        {
            assert!(row.contains(told), "{told}: {row}");
        }
    }
}

#[test]
fn each_example_in_the_page_is_a_config() {
    for (example, orchestrators) in [(reference::EXAMPLE, 1), (reference::EXAMPLE_OF_SEVERAL, 2)] {
        let case = Case::new();
        let folder = case.dir.path().to_str().unwrap();
        let text = example.replace("/etc/proxysql-stonith", folder);
        for name in ["orchestrator", "proxysql", "east", "west"] {
            case.write(&format!("{name}.password"), "hunter2\n", 0o600);
        }
        case.write("stonith.toml", &text, 0o644);
        let config = case.load().unwrap();
        assert_eq!((config.orchestrators.len(), config.proxies.len()), (orchestrators, orchestrators));
        for mode in [Mode::Once, Mode::Daemon] {
            assert!(config.policy_of_first(mode).is_ok());
        }
    }
}

#[test]
fn every_default_and_every_limit_is_a_value_of_its_key() {
    for key in keys::all() {
        let (from, to) = key.limits.unzip();
        for text in [key.default, from, to].into_iter().flatten() {
            assert!((key.takes.in_file)(text).is_ok(), "{}: {text}", key.full_name());
        }
    }
}

#[test]
fn every_key_flag_and_variable_is_defined_once_and_every_line_of_help_is_short() {
    let mut seen = std::collections::BTreeSet::new();
    for key in keys::all() {
        let names = key.flag_name().into_iter().chain(key.env.iter().copied()).chain(key.env_below);
        for name in names.map(str::to_owned).chain([key.full_name()]) {
            assert!(seen.insert(name.clone()), "{name} is defined twice");
        }
        let sentence = key.doc.split_once(". ").map_or(key.doc, |(first, _)| first);
        assert!(sentence.len() <= 110 && key.doc.ends_with('.'), "{sentence}");
    }
}

#[test]
fn the_shown_config_says_which_option_file_has_which_password() {
    let mut case = Case::with(&MINIMAL.replace("user = \"stonith\"\npassword = \"hunter2\"\n", ""));
    let text = "[client]\nuser=a\npassword=b\n[orchestrator]\nuser=c\npassword=d\n";
    let path = case.write("both.cnf", text, 0o600);
    case.flag(&keys::DEFAULTS_FILE, path.to_str().unwrap());
    let shown = case.load().unwrap().to_toml();
    let lines = |what: &str| shown.lines().filter(|line| line.contains("both.cnf") && line.contains(what)).count();
    assert_eq!((lines("# password = \"***\", in [orchestrator] of "), lines("defaults_file = ")), (1, 1), "{shown}");
}
