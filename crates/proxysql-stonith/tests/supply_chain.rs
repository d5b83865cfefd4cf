//! What the program is made of: deny.toml's rules that need neither a tool nor a network.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One TLS stack, rustls with ring: a second one is a second set of roots, bugs and updates.
const BANNED: [&str; 5] = ["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The workspace's, and that of the libFuzzer programs.
const LOCKS: [&str; 2] = ["Cargo.lock", "fuzz/Cargo.lock"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn toml(path: &str) -> toml::Table {
    std::fs::read_to_string(root().join(path)).unwrap().parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn text<'t>(table: &'t toml::Table, key: &str) -> Option<&'t str> {
    table.get(key)?.as_str()
}

/// Every package of a Cargo.lock.
fn locked(path: &str) -> Vec<toml::Table> {
    let packages = toml(path).remove("package").unwrap();
    packages.as_array().unwrap().iter().map(|package| package.as_table().unwrap().clone()).collect()
}

/// Every Cargo.toml of the workspace, and the one beside it.
fn manifests() -> Vec<String> {
    let workspace = toml("Cargo.toml");
    let members = workspace["workspace"]["members"].as_array().unwrap().iter();
    let mut paths: Vec<String> = members.map(|member| format!("{}/Cargo.toml", member.as_str().unwrap())).collect();
    assert!(paths.iter().all(|path| !path.contains('*')), "a glob hides members from this test: {paths:?}");
    paths.extend(["Cargo.toml", "fuzz/Cargo.toml"].map(str::to_owned));
    paths
}

/// The tables of dependencies in a manifest, also those of targets and of the workspace.
fn dependencies(manifest: &toml::Table) -> Vec<(String, toml::Value)> {
    let mut found = Vec::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        if key.ends_with("dependencies") {
            found.extend(table.clone());
        } else {
            found.extend(dependencies(table));
        }
    }
    found
}

#[test]
fn there_is_one_tls_stack() {
    let names: Vec<String> =
        locked("Cargo.lock").iter().map(|package| text(package, "name").unwrap().to_owned()).collect();
    assert!(names.iter().any(|name| name == "rustls") && names.iter().any(|name| name == "ring"));
    for banned in BANNED {
        assert!(!names.iter().any(|name| name == banned), "{banned} is in Cargo.lock; see deny.toml");
    }
    let deny = toml("deny.toml");
    let denied: Vec<&str> =
        deny["bans"]["deny"].as_array().unwrap().iter().map(|ban| ban["crate"].as_str().unwrap()).collect();
    assert_eq!(denied, BANNED, "deny.toml and this test ban the same");
}

#[test]
fn every_package_is_ours_or_the_registrys_with_a_checksum() {
    for package in LOCKS.into_iter().flat_map(locked) {
        let name = text(&package, "name").unwrap();
        match text(&package, "source") {
            None => assert!(name.starts_with("proxysql-stonith"), "{name} is a path outside of the workspace"),
            Some(source) => {
                assert_eq!(source, REGISTRY, "{name}");
                let checksum = text(&package, "checksum").unwrap_or_default();
                assert!(checksum.len() == 64 && checksum.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
            }
        }
    }
}

/// What is fuzzed is what is built: only the engine comes on top.
#[test]
fn the_fuzz_targets_are_built_of_the_same_versions() {
    let versions = |path: &str| -> BTreeSet<(String, String)> {
        let of = |package: &toml::Table| ["name", "version"].map(|key| text(package, key).unwrap().to_owned()).into();
        locked(path).iter().map(of).collect()
    };
    let [workspace, fuzz] = LOCKS.map(versions);
    let added: Vec<&str> = fuzz.difference(&workspace).map(|(name, _)| name.as_str()).collect();
    let engine = ["arbitrary", "jobserver", "libfuzzer-sys", "proxysql-stonith-fuzz"];
    assert_eq!(added, engine, "do: cp Cargo.lock fuzz/ && cargo fetch --manifest-path fuzz/Cargo.toml");
}

#[test]
fn no_dependency_takes_any_version_or_comes_from_git() {
    let mut seen = 0;
    for path in manifests() {
        for (name, value) in dependencies(&toml(&path)) {
            let version = value.as_str().or_else(|| value.get("version")?.as_str());
            let version = version.unwrap_or_else(|| panic!("{path}: {name} has no version"));
            assert!(!version.contains('*') && !version.trim().is_empty(), "{path}: {name} = {version:?}");
            assert!(value.get("git").is_none(), "{path}: {name} is from git");
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} dependencies were found: this test looks at the wrong place");
}

#[test]
fn every_dependency_says_what_it_is_for() {
    for path in manifests() {
        let manifest = std::fs::read_to_string(root().join(&path)).unwrap();
        let mut in_dependencies = false;
        for line in manifest.lines().map(str::trim) {
            if line.starts_with('[') {
                in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
                assert!(in_dependencies || !line.contains("dependencies."), "{path}: {line}: one line per dependency");
            } else if in_dependencies && !line.is_empty() && !line.starts_with('#') {
                let why = line.rsplit_once(" # ").map_or("", |(_, why)| why);
                assert!(why.len() >= 3, "{path}: {line}\nsays not what it is for");
            }
        }
    }
}
