//! Every command in README and docs: it runs here, or it is listed with the reason why it does not.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::stage::Stage;

/// The beginnings of commands that no test may run here, each with the reason.
const NOT_RUN: &[(&str, &str)] = &[
    ("$EDITOR ", "a person types into it"),
    ("install ", "it changes the host, as root"),
    ("apt install ", ".ci/try-packages installs the package in bare roots"),
    ("sha256sum ", ".ci/release checks the sums"),
    ("useradd ", "it changes the host, as root"),
    ("chgrp ", ".ci/try-packages does it in bare roots"),
    ("chown ", ".ci/try-packages does it in bare roots"),
    ("mkdir -p /etc/systemd", "it changes the host, as root"),
    ("printf '[Service]", "it changes the host, as root"),
    ("systemctl ", "it needs a running systemd"),
    ("promtool ", "tests/monitoring.rs runs it"),
    ("cargo fmt ", ".ci/run runs it"),
    ("cargo clippy ", ".ci/run runs it"),
    ("cargo doc ", ".ci/run runs it"),
    ("cargo fuzz ", "a tool that one installs; .ci/nightly runs it"),
    ("cargo deny ", "a tool that one installs; .ci/nightly runs it"),
    ("cargo mutants ", "a tool that one installs; .ci/nightly runs it"),
    ("cargo build ", "it has built this test"),
    ("cargo test --workspace", "it runs this test"),
    ("cargo run --release -- demo", "tests/scenarios.rs runs the demo"),
    ("cargo run -- config reference", "tests/architecture.rs compares its output"),
];

/// A command with the page that has it.
#[derive(Debug)]
struct Documented {
    page: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn pages() -> Vec<(String, String)> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let readmes = ["README.md", "CONTRIBUTING.md", "fuzz/README.md"].map(|name| root().join(name));
    let pages = docs.chain(readmes).filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    pages.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The blocks of a page in one language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut inside = None;
    for line in page.lines() {
        match (line.trim_start().strip_prefix("```"), inside) {
            (Some(_), Some(_)) => inside = None,
            (Some(word), None) => {
                inside = Some(word.trim() == language);
                found.extend((word.trim() == language).then(String::new));
            }
            (None, Some(true)) => found.last_mut().expect("a block").extend([line, "\n"]),
            (None, _) => {}
        }
    }
    found
}

/// The words between backticks outside of blocks.
fn inline(page: &str) -> Vec<String> {
    let outside: Vec<&str> = page.split("```").step_by(2).collect();
    let spans = outside.iter().flat_map(|text| text.split('`').skip(1).step_by(2));
    spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Every line of a shell in README and docs, and every command within a sentence.
fn documented() -> Vec<Documented> {
    let mut all = Vec::new();
    for (page, text) in pages() {
        let of_blocks: Vec<String> = blocks(&text, "sh").iter().map(|block| block.replace("\\\n", " ")).collect();
        let lines = of_blocks.iter().flat_map(|block| block.lines()).map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned);
        let is_command = |span: &String| {
            ["proxysql-stonith ", "cargo ", "systemctl ", "promtool ", "curl "]
                .iter()
                .any(|word| span.starts_with(word))
        };
        let commands = lines.chain(inline(&text).into_iter().filter(is_command));
        all.extend(commands.map(|text| Documented { page: page.clone(), text }));
    }
    all
}

/// The words of a test command's variables and its program.
fn without_variables(text: &str) -> &str {
    let mut rest = text;
    while let Some((word, more)) = rest.split_once(' ')
        && word.contains('=')
        && word.chars().next().is_some_and(|letter| letter.is_ascii_uppercase())
    {
        rest = more;
    }
    rest
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_program_in_readme_and_docs_works() {
    let stage = Stage::set().await;
    let bin = stage.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    symlink(env!("CARGO_BIN_EXE_proxysql-stonith"), bin.join("proxysql-stonith")).unwrap();
    let secret = stage.dir.path().join("admin.cnf");
    stage.succeeds("run --once").await; // the agent has its state, and the file with its password
    let endpoints = stage.orchestrator.endpoints();
    let config = stage.config(&format!(
        "http.listen = \"off\"\norchestrator.endpoints = {endpoints:?}\n[[proxysql]]\naddress = \"{}\"\nuser = \"radmin\"\n\
         password = \"radmin\"\n",
        stage.proxysql.address()
    ));
    let mut tried = 0;
    for Documented { page, text } in documented() {
        let line = text.replace("target/release/proxysql-stonith", "proxysql-stonith");
        // A systemd that runs here is left alone: the tests of `unit` have one of their own.
        if !line.starts_with("proxysql-stonith ") || line.starts_with("proxysql-stonith install systemd") {
            continue;
        }
        let line = line
            .replace("http://orc1:3000,http://orc2:3000,http://orc3:3000", &endpoints.join(","))
            .replace("127.0.0.1:6032", &stage.proxysql.address().to_string())
            .replace("/etc/proxysql-stonith.cnf", &secret.display().to_string())
            .replace("NODE", "node03");
        // SIGTERM ends the daemon well, and any other command that hangs with a failure.
        let limit_s = if line == "proxysql-stonith run" { 3 } else { 60 };
        let line = format!("timeout --preserve-status {limit_s} {line}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).env_clear().env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        shell.env("PROXYSQL_STONITH_CONFIG", config.trim_start_matches("--config="));
        let done = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
        let said = [&done.stdout, &done.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
        // 3, 4, 10 and 11 are answers of plan, status and doctor. Break glass lists first, and asks for --yes.
        let works = matches!(done.status.code(), Some(0 | 3 | 4 | 10 | 11)) || said.contains("then add --yes");
        assert!(works, "{page}: {line}: {:?}\n{said}", done.status);
        tried += 1;
    }
    assert!(tried >= 10, "only {tried} commands were found");
}

#[test]
fn every_command_that_tests_or_measures_names_a_target_and_a_test_that_exist() {
    let mut tried = 0;
    for Documented { page, text } in documented() {
        let command = without_variables(&text);
        if !(command.starts_with("cargo test ") || command.starts_with("cargo bench ")) || is_listed(command) {
            continue;
        }
        let words: Vec<&str> = command.split_whitespace().collect();
        let after = |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1)).copied();
        let package = match after("-p") {
            None | Some("proxysql-stonith") => "crates/proxysql-stonith",
            Some("proxysql-stonith-core") => "crates/core",
            Some("proxysql-stonith-lab") => "crates/lab",
            Some(other) => panic!("{page}: {text}: no package {other}"),
        };
        let package = root().join(package);
        let file = |folder: &str, name: &str| {
            let one = package.join(folder).join(format!("{name}.rs"));
            if one.exists() { one } else { package.join(folder).join(name) }
        };
        let target = match (after("--test"), after("--bench")) {
            (Some(name), _) => file("tests", name),
            (None, Some(name)) => file("benches", name),
            (None, None) if words.contains(&"--lib") => package.join("src"),
            (None, None) => package.clone(),
        };
        assert!(target.exists(), "{page}: {text}: there is no {}", target.display());
        let filter = words.iter().take_while(|word| **word != "--").skip(2);
        let flags_with_value = ["-p", "--test", "--bench"];
        let mut is_value = false;
        let filter = filter.filter(|word| {
            let skip = is_value || word.starts_with('-');
            is_value = flags_with_value.contains(*word);
            !skip
        });
        for filter in filter {
            assert!(tests_below(&target).contains(filter.trim_matches(':')), "{page}: {text}: no test has {filter}");
        }
        tried += 1;
    }
    assert!(tried >= 10, "only {tried} commands were found");
}

/// The paths and texts of all files below one.
fn tests_below(path: &Path) -> String {
    if path.is_file() {
        return format!("{}\n{}", path.display(), std::fs::read_to_string(path).unwrap());
    }
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let rust = entries.filter(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| tests_below(&path)).collect()
}

fn is_listed(command: &str) -> bool {
    NOT_RUN.iter().any(|(beginning, _)| command.starts_with(beginning))
}

#[test]
fn no_command_is_neither_tried_nor_listed_and_no_listed_one_is_gone() {
    let all = documented();
    let is_covered = |command: &str| {
        let is_tried = ["proxysql-stonith ", "target/release/proxysql-stonith ", "cargo test", "cargo bench "]
            .iter()
            .any(|word| command.starts_with(word));
        is_tried || is_listed(command)
    };
    let others: Vec<_> = all.iter().filter(|documented| !is_covered(without_variables(&documented.text))).collect();
    assert!(others.is_empty(), "try them in a test, or list why not: {others:#?}");
    for (beginning, reason) in NOT_RUN {
        let is_there = all.iter().any(|documented| without_variables(&documented.text).starts_with(beginning));
        assert!(is_there, "no page has {beginning:?} any more ({reason})");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sql_statement_of_the_readme_is_one_that_proxysql_takes() {
    let stage = Stage::set().await;
    let mut tried = 0;
    for (page, text) in pages() {
        for block in blocks(&text, "sql") {
            let whole = block.split_whitespace().collect::<Vec<_>>().join(" ");
            for sql in whole.split("; ").map(|sql| sql.trim().trim_end_matches(';')).filter(|sql| !sql.is_empty()) {
                if sql.starts_with("SET admin-") || sql.contains("ADMIN VARIABLES") {
                    continue; // the lab has no admin variables
                }
                if sql.starts_with("INSERT INTO scheduler") {
                    stage.proxysql.query("DELETE FROM scheduler").unwrap(); // the examples have one id
                }
                stage.proxysql.query(sql).unwrap_or_else(|error| panic!("{page}: {sql}: {error}"));
                tried += 1;
            }
        }
    }
    assert!(tried >= 3, "only {tried} statements were found");
}
