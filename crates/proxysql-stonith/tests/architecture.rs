//! What the documents claim about the tree is so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proxysql_stonith::doctor::CHECKS;
use stonith_core::orchestrator::CameBackKind;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_invariant_is_named_with_tests_that_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut code = String::new();
    sources(&root().join("crates"), &mut code);
    let (_, invariants) = text.split_once("## Invariants").unwrap();
    for n in 1..=12 {
        let (_, rest) = invariants.split_once(&format!("**I{n} ")).unwrap_or_else(|| panic!("I{n}"));
        let section = rest.split("\n- **").next().unwrap();
        let named: Vec<&str> = section.split('`').skip(1).step_by(2).collect();
        assert!(named.iter().any(|name| name.starts_with(&format!("i{n}_"))), "I{n}: {named:?}");
        for name in named {
            assert!(code.contains(&format!("fn {name}(")), "I{n} names {name}, which is no test");
        }
    }
}

/// Programs that watch `status --json` go by the labels.
#[test]
fn every_condition_has_its_row_in_the_docs_and_no_other_has_one() {
    let code = std::fs::read_to_string(root().join("crates/core/src/condition.rs")).unwrap();
    let (_, code) = code.split_once("impl Condition {").unwrap();
    let labels = code.split_once("fn label").unwrap().1.split_once("\n    }").unwrap().0;
    let labels: BTreeSet<&str> = labels.split('"').skip(1).step_by(2).collect();
    assert!(labels.contains("held") && labels.len() > 20, "{labels:?}");
    let docs = std::fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let table = docs.split_once("Every condition, by its label").unwrap().1.split_once("\n## ").unwrap().0;
    let rows: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(rows.iter().copied().collect::<BTreeSet<_>>(), labels);
    assert_eq!(rows.len(), labels.len(), "each once");
}

/// Programs that watch `doctor --json` go by the labels.
#[test]
fn every_finding_of_doctor_has_its_row_in_the_docs_and_no_other_has_one() {
    let labels: BTreeSet<&str> = CHECKS.iter().flat_map(|check| check.labels).copied().collect();
    let page = std::fs::read_to_string(root().join("docs/doctor.md")).unwrap();
    let table = page.split_once("## Findings").unwrap().1.split_once("\n## ").unwrap().0;
    let rows: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(rows.iter().copied().collect::<BTreeSet<_>>(), labels);
    assert_eq!(rows.len(), labels.len(), "each once");
    let folder = root().join("crates/proxysql-stonith/src/doctor");
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(files, CHECKS.len() + 3, "a file for each check, and those that gather, hold the facts and report");
}

/// The agent only reads at Orchestrator. Its daemon may register itself by a tag.
#[test]
fn only_the_hook_and_a_registration_reach_the_requests_that_change_something_at_orchestrator() {
    fn users(of: &str, folder: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                users(of, &path, into);
            } else if std::fs::read_to_string(&path).unwrap().contains(of) {
                into.insert(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let src = "crates/proxysql-stonith/src";
    for (of, files) in [
        ("MarkWriter", &["hook.rs", "orchestrator.rs", "orchestrator/writer.rs"][..]),
        ("change(&mut way", &["orchestrator/tags.rs", "orchestrator/writer.rs"]),
        ("tags.give(", &["registration/kept.rs"]),
    ] {
        let mut found = BTreeSet::new();
        users(of, &root().join(src), &mut found);
        assert_eq!(found, files.iter().map(|file| format!("{src}/{file}")).collect(), "{of}");
    }
}

#[test]
fn the_readmes_two_commands_and_ci_are_the_same() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(readme.contains("cargo run --release -- demo\ncargo test --workspace\n"));
    assert!(ci.contains("\ncargo test --workspace"));
}

/// The cells of each row of a page's tables, without the headings.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let tables = page.split("\n\n").filter(|part| part.starts_with('|'));
    let lines = tables.flat_map(|table| table.lines().skip(2));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn the_table_of_what_came_back_is_the_codes_and_names_tests_that_exist() {
    let page = std::fs::read_to_string(root().join("docs/what-came-back.md")).unwrap();
    let (_, one_endpoint) = page.split_once("## One endpoint\n\n").unwrap();
    let told: Vec<(String, String)> = rows(one_endpoint.split("\n## ").next().unwrap())
        .into_iter()
        .map(|row| (row[0].to_owned(), row[2].to_owned()))
        .collect();
    assert_eq!(told, CameBackKind::ALL.map(|kind| (kind.to_string(), kind.counts().to_string())));
    let mut code = String::new();
    sources(&root().join("crates"), &mut code);
    for row in rows(&page) {
        let tests: Vec<&str> = row.last().unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row:?}");
        for test in tests {
            assert!(code.contains(&format!("fn {test}(")), "{test} is no test");
        }
    }
}

/// What a page has between backticks.
fn quoted(page: &str) -> impl Iterator<Item = &str> {
    page.split('`').skip(1).step_by(2)
}

#[test]
fn the_pages_name_tests_that_exist() {
    let mut code = String::new();
    sources(&root().join("crates"), &mut code);
    for (name, at_least) in [("security.md", 10), ("facts.md", 5), ("design.md", 0), ("packages.md", 2)] {
        let page = std::fs::read_to_string(root().join("docs").join(name)).unwrap();
        let named: Vec<&str> =
            quoted(&page).filter(|word| word.matches('_').count() >= 5 && !word.contains([' ', '-'])).collect();
        assert!(named.len() >= at_least, "docs/{name}: {named:?}");
        for test in named {
            assert!(code.contains(&format!("fn {test}(")), "docs/{name} names {test}, which is no test");
        }
    }
}

#[test]
fn every_fact_says_what_shows_it_and_every_recording_that_is_named_exists() {
    let page = std::fs::read_to_string(root().join("docs/facts.md")).unwrap();
    let is_recording = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('-');
    let named: BTreeSet<&str> = quoted(&page).filter(is_recording).collect();
    assert!(named.len() > 30, "{named:?}");
    for recording in named {
        let path = root().join("crates/lab/tests/recordings").join(recording);
        assert!(path.exists(), "docs/facts.md names {recording}, which is no recording");
    }
    let tables: Vec<&str> = page.split("\n\n").filter(|part| part.contains(" shown by |")).collect();
    assert!(tables.len() > 9, "{tables:?}");
    for row in tables.into_iter().flat_map(rows) {
        let source = row.last().unwrap();
        assert!(["`", "*source*", "*by hand*"].iter().any(|told| source.contains(told)), "nothing shows {row:?}");
    }
}

/// Every file of a folder that may cite a page, with its words in one line: a citation may go over the end of a line.
fn texts(folder: &Path, into: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_told =
            |of: &[&str], name: Option<&std::ffi::OsStr>| of.iter().any(|told| name.is_some_and(|n| n == *told));
        if path.is_dir() {
            if !is_told(&["target", ".git", "mutants.out", "recordings"], path.file_name()) {
                texts(&path, into);
            }
        } else if is_told(&["rs", "md", "txt", "toml"], path.extension()) {
            let text = std::fs::read_to_string(&path).unwrap();
            let words = text.split_whitespace().filter(|word| !["//", "///", "//!"].contains(word));
            into.push((path, words.collect::<Vec<_>>().join(" ")));
        }
    }
}

/// The numbered headings of a page, and the rows of its tables that are numbered as a part of one.
fn sections(page: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for line in page.lines() {
        let Some(text) = line.strip_prefix("## ").or(line.strip_prefix("| ")) else { continue };
        let number = text.split(' ').next().unwrap_or_default();
        let is_number = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
        if is_number && number.contains('.') {
            found.insert(number.trim_end_matches('.'));
        }
    }
    found
}

/// The sections of a page that a text cites, one by one or several after each other.
fn cited<'t>(text: &'t str, page: &str) -> Vec<&'t str> {
    let mut found = Vec::new();
    for after in text.split(&format!("{page} §")).skip(1) {
        let mut next = Some(after);
        while let Some(text) = next {
            let (number, rest) =
                text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
            found.push(number.trim_end_matches('.'));
            next = [", §", " and §", " to §"].iter().find_map(|then| rest.strip_prefix(then));
        }
    }
    found
}

#[test]
fn every_section_of_the_design_and_the_facts_that_is_cited_exists() {
    let mut files = Vec::new();
    texts(&root(), &mut files);
    for (page, at_least) in [("design", 30), ("facts", 100)] {
        let text = std::fs::read_to_string(root().join(format!("docs/{page}.md"))).unwrap();
        let sections = sections(&text);
        let mut citations = 0;
        for (path, text) in &files {
            for section in cited(text, page) {
                assert!(sections.contains(section), "{} cites {page} §{section}, which is no section", path.display());
                citations += 1;
            }
        }
        assert!(citations > at_least, "{page}: {citations}");
    }
    // How they were cited while they were no part of the repository.
    for (path, text) in &files {
        for before in ["DESIGN", "FACTS", "COMPAT", "FIELD"] {
            for after in text.split(before).skip(1) {
                let digits = after.trim_start_matches([' ', '§', 'D']);
                let is_old = after.starts_with([' ', '§']) && digits.starts_with(|c: char| c.is_ascii_digit());
                assert!(!is_old && !after.starts_with(".md"), "{} cites {before}{after:.20}", path.display());
            }
        }
    }
}

#[test]
fn every_invariant_has_its_section_in_the_design_under_the_name_that_it_has_in_the_architecture() {
    let design = std::fs::read_to_string(root().join("docs/design.md")).unwrap();
    let architecture = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let promised: Vec<&str> = design.lines().filter_map(|line| line.strip_prefix("### I")).collect();
    assert_eq!(promised.len(), 12, "{promised:?}");
    for (n, name) in promised.iter().enumerate() {
        assert!(name.starts_with(&format!("{} ", n + 1)), "{name}");
        assert!(architecture.contains(&format!("**I{name}.**")), "ARCHITECTURE.md does not name the tests of I{name}");
    }
}
