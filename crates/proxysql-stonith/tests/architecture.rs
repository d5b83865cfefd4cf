//! What the documents claim about the tree is so.

use std::path::{Path, PathBuf};

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

#[test]
fn the_readmes_two_commands_and_ci_are_the_same() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(readme.contains("cargo run --release -- demo\ncargo test --workspace\n"));
    assert!(ci.contains("\ncargo test --workspace"));
}
