//! What lives where in the binary crate, and who may use whom (ARCHITECTURE.md). The sources are read as text.

use std::path::{Path, PathBuf};

/// The source files of the crate without their tests: the path below `src`, and the text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            if name.ends_with(".rs") && !name.ends_with("tests.rs") && !name.ends_with("recorded.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((name, text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned()));
            }
        }
    }
    assert!(found.len() > 60, "{}", found.len());
    found
}

/// Whether a file is the module or below it.
fn is_of(name: &str, module: &str) -> bool {
    name == format!("{module}.rs") || name.starts_with(&format!("{module}/"))
}

/// The code without comments.
fn code(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The crate's modules that a file names, by `crate::` paths: `use crate::{a, b}` counts as both.
fn used(text: &str) -> Vec<String> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut found = Vec::new();
    for after in code(text).split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap();
                found.extend(list.split(',').map(|part| part.trim().split(|c| !is_word(c)).next().unwrap().to_owned()));
            }
            None => found.push(after.split(|c| !is_word(c)).next().unwrap().to_owned()),
        }
    }
    found
}

/// Fails for every file of `modules` that names one of `others`.
fn does_not_use(modules: &[&str], others: &[&str]) {
    let mut seen = 0;
    for (name, text) in sources() {
        if modules.iter().any(|module| is_of(&name, module)) {
            seen += 1;
            let used = used(&text);
            let bad: Vec<&String> = used.iter().filter(|module| others.contains(&module.as_str())).collect();
            assert!(bad.is_empty(), "src/{name} uses {bad:?}");
        }
    }
    assert!(seen > 0, "{modules:?}");
}

#[test]
fn sql_is_written_in_one_file_for_each_server() {
    let begins = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "CREATE TABLE", "DROP TABLE", "PRAGMA", "LOAD MYSQL"];
    let begins = [&begins[..], &["SAVE MYSQL", "KILL CONNECTION", "UNION "]].concat();
    let mut in_its_file = 0;
    for (name, text) in sources() {
        // The stage of the demo is ProxySQL's operator, and no part of the agent.
        if is_of(&name, "scenario") {
            continue;
        }
        // A text for people may name a statement; one that begins with it is it.
        let literals = code(&text);
        let statements = literals.match_indices('"').filter(|(at, _)| {
            let text = literals[at + 1..].trim_start_matches(['\\', '\n', ' ']);
            begins.iter().any(|begin| text.starts_with(begin))
        });
        let count = statements.count();
        match name == "proxysql/sql.rs" || name == "mysql/sql.rs" {
            true => in_its_file += count,
            false => assert_eq!(count, 0, "src/{name} has SQL"),
        }
    }
    assert!(in_its_file > 20, "control: {in_its_file}");
}

#[test]
fn adapters_know_neither_each_other_nor_who_uses_them() {
    let above = ["agent", "commands", "doctor", "report", "scenario", "cli", "state"];
    does_not_use(&["orchestrator"], &[&above[..], &["proxysql", "mysql"]].concat());
    does_not_use(&["proxysql"], &[&above[..], &["orchestrator", "mysql"]].concat());
    does_not_use(&["mysql"], &[&above[..], &["orchestrator", "proxysql", "node_fence", "fence_agent"]].concat());
}

#[test]
fn a_fence_of_the_node_itself_is_no_phase_of_an_apply() {
    does_not_use(
        &["agent", "proxysql", "orchestrator", "report", "http", "metrics"],
        &["node_fence", "fence_agent", "mysql"],
    );
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src");
    for file in ["apply.rs", "plan.rs", "decide.rs"] {
        let text = std::fs::read_to_string(core.join(file)).unwrap();
        assert!(!code(&text).contains("node_fence") && !code(&text).contains("fence_agent"), "{file}");
    }
}

#[test]
fn commands_and_reports_go_through_the_agent() {
    does_not_use(&["commands", "report"], &["orchestrator", "proxysql", "state/lock"]);
    does_not_use(&["agent"], &["commands", "cli", "doctor", "scenario"]);
    does_not_use(&["report"], &["commands", "cli", "config", "state"]);
    does_not_use(&["doctor"], &["commands", "cli", "report", "state"]);
}

#[test]
fn http_and_metrics_reach_neither_agents_nor_servers() {
    let servers = ["orchestrator", "proxysql", "state", "commands", "cli", "scenario"];
    does_not_use(&["metrics"], &[&servers[..], &["agent", "http"]].concat());
    does_not_use(&["http"], &servers);
    does_not_use(&["service", "board"], &servers);
    does_not_use(&["agent"], &["board", "service", "http", "metrics"]);
}

#[test]
fn only_the_agent_holds_the_memory() {
    let mut holders = Vec::new();
    for (name, text) in sources() {
        if code(&text).contains("stonith_core::memory") && !is_of(&name, "agent") {
            holders.push(name);
        }
    }
    // It writes what the agent keeps.
    assert_eq!(holders, ["state.rs"]);
}

#[test]
fn a_module_is_a_file_beside_its_folder() {
    let old: Vec<String> =
        sources().into_iter().map(|(name, _)| name).filter(|name| name.ends_with("mod.rs")).collect();
    assert!(old.iter().all(|name| name == "config/mod.rs"), "{old:?}");
}
