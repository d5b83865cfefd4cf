//! `[[fence_agent]]`.

use super::*;

/// A config with an agent, in which LINES take the place of its lines of that name.
fn config(lines: &[(&str, &str)], level: &str) -> String {
    let mut agent: Vec<(&str, &str)> = vec![
        ("name", r#""ipmi""#),
        ("program", r#""/bin/true""#),
        ("nodes", r#"{ "db1" = { plug = 3 }, "db2:3307" = { plug = "4" } }"#),
        ("parameters", r#"{ lanplus = true, "ip" = "10.0.1.9" }"#),
    ];
    for (name, value) in lines {
        agent.retain(|(of, _)| of != name);
        agent.push((name, value));
    }
    let agent: String = agent.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    format!("{MINIMAL}[node_fence]\n{level}\n[[fence_agent]]\n{agent}")
}

const SUPERSEDED: &str = "fence_agent = [\"superseded\"]";

#[test]
fn an_agents_parameters_are_those_of_the_node_over_those_of_all() {
    let own = r#"{ "db1" = { plug = 3, ip = "own" }, "db2:3307" = { plug = "4" } }"#;
    let case = Case::with(&config(&[("nodes", own)], SUPERSEDED));
    case.write("password", "hunter2\n", 0o600);
    let config = case.load().unwrap();
    let [agent] = &config.fence_agents.agents[..] else { panic!("{:?}", config.fence_agents) };
    let of = |node: &str| {
        let all = agent.parameters_of(&node.parse().unwrap());
        all.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of("db1:3306"), "ip=own lanplus=true plug=3");
    assert_eq!(of("db2:3307"), "ip=10.0.1.9 lanplus=true plug=4");
    // What is shown is a config with the same values.
    let shown = config.to_toml().replace("password = \"***\"", "password = \"hunter2\"");
    assert_eq!(Case::with(&shown).load().unwrap().fence_agents, config.fence_agents, "{shown}");
    assert_eq!(Case::with(MINIMAL).load().unwrap().fence_agents.kinds, []);
}

#[test]
fn what_could_power_off_another_node_or_nothing_is_refused() {
    let lines: &[(&[(&str, &str)], &str)] = &[
        (&[("nodes", r#"{ db1 = { plug = 3 }, db2 = { plug = "3" } }"#)], "have the same parameters"),
        (&[("nodes", r#"{ db1 = { plug = 3 }, "db1:3306" = { plug = 4 } }"#)], "db1:3306 is listed twice"),
        (&[("name", r#""a b""#)], "is no name"),
        (&[("nodes", "{}")], "expected name, program and nodes"),
        (&[("nodes", r#"["db1"]"#)], "expected a table"),
        (&[("program", r#""/no/such/program""#)], "/no/such/program: No such file"),
        (&[("program", r#""/etc/passwd""#)], "is not executable"),
        (&[("program", r#""/""#)], "is not a file"),
        (&[("parameters", "{ action = \"on\" }")], "the program itself says the action"),
        (&[("parameters", "{ password = \"hunter2\" }")], "expected it in secret_files"),
        (&[("parameters", "{ snmp_priv_passwd = \"hunter2\" }")], "expected it in secret_files"),
        (&[("parameters", r#"{ plug = "3\naction=on" }"#)], "expected a text of one line"),
        (&[("parameters", r#"{ "plug=4\naction" = "on" }"#)], "is no name of a parameter"),
        (&[("secret_files", r#"{ password = "absent" }"#)], "absent"),
        (&[("secret_files", r#"{ lanplus = "stonith.toml" }"#)], "\"lanplus\" is a plain parameter too"),
        (&[("retries", "101")], "out of range"),
    ];
    for (lines, problem) in lines {
        let error = Case::with(&config(lines, SUPERSEDED)).load().unwrap_err().to_string();
        assert!(error.contains(problem) && !error.contains("hunter2"), "{lines:?}: {error}");
    }
    for (level, problem) in [
        ("fence_agent = [\"barrier\"]", "no node is powered off for \"barrier\""),
        ("fence_agent = [\"manual\"]", "no node is powered off for \"manual\""),
        ("fence_agent = [\"downtime\"]", "is not known"),
    ] {
        let error = Case::with(&config(&[], level)).load().unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    let none = format!("{MINIMAL}[node_fence]\n{SUPERSEDED}\n");
    let error = Case::with(&none).load().unwrap_err().to_string();
    assert!(error.contains("expected a [[fence_agent]] with it"), "{error}");
    let twice = format!("{}\n[[fence_agent]]\nname = \"ipmi\"\nprogram = \"/bin/true\"\n", config(&[], SUPERSEDED));
    let error = Case::with(&format!("{twice}nodes = {{ db3 = {{ plug = 5 }} }}\n")).load().unwrap_err().to_string();
    assert!(error.contains("two agents have the name \"ipmi\""), "{error}");
    // Another agent with the same plug for another node of the same switch; the same node is only tried again.
    let other = |node: &str| {
        let same = "parameters = { lanplus = true, ip = \"10.0.1.9\" }";
        let (rest, _) = twice.rsplit_once("name = \"ipmi\"").unwrap();
        let text =
            format!("{rest}name = \"b\"\nprogram = \"/bin/true\"\n{same}\nnodes = {{ {node} = {{ plug = 3 }} }}\n");
        Case::with(&text).load()
    };
    assert!(other("db9").unwrap_err().to_string().contains("have the same parameters"));
    assert!(other("db1").is_ok());
}
