//! Notes the commit that is built, for `--version` and the metrics.

use std::process::Command;

fn main() {
    // A package's build says it. A tree that is no git checkout has none.
    println!("cargo:rerun-if-env-changed=PROXYSQL_STONITH_COMMIT");
    println!("cargo:rerun-if-changed=../../.git/HEAD");
    println!("cargo:rerun-if-changed=../../.git/logs/HEAD");
    let given = std::env::var("PROXYSQL_STONITH_COMMIT").ok();
    let commit = given.or_else(from_git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=PROXYSQL_STONITH_COMMIT={commit}");
}

fn from_git() -> Option<String> {
    let asked = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(asked.stdout).ok()?;
    asked.status.success().then(|| commit.trim().to_owned())
}
