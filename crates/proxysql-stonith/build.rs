//! Notes the commit that is built, for `--version` and the metrics.

use std::path::Path;
use std::process::Command;

fn main() {
    // A package's build says it. A tree that is no git checkout has none.
    println!("cargo:rerun-if-env-changed=PROXYSQL_STONITH_COMMIT");
    let given = std::env::var("PROXYSQL_STONITH_COMMIT").ok();
    // A build for tests would be made anew after each commit, so it does not ask git.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = given.or_else(|| if is_release { from_git() } else { None }).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=PROXYSQL_STONITH_COMMIT={commit}");
    let release = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let of = if commit == "unknown" { "commit unknown" } else { commit.as_str() };
    println!("cargo:rustc-env=PROXYSQL_STONITH_VERSION={release} ({of})");
}

fn from_git() -> Option<String> {
    // A file that is missing would make each build a new one.
    for file in ["../../.git/HEAD", "../../.git/logs/HEAD"].into_iter().filter(|file| Path::new(file).exists()) {
        println!("cargo:rerun-if-changed={file}");
    }
    let asked = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(asked.stdout).ok()?;
    asked.status.success().then(|| commit.trim().to_owned())
}
