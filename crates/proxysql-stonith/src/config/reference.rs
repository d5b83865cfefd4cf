//! Renders docs/config.md from the keys.

use std::fmt::Write;

use super::definition::About;
use super::keys::{CONFIG_FILE, Form, SECTIONS};

/// The text before the keys.
const INTRODUCTION: &str = "\
# Config

<!-- Made by `cargo run -- config reference > docs/config.md` from crates/proxysql-stonith/src/config/keys.rs. -->

A flag wins over its environment variable, the variable over the config file, the file over the default. An empty
variable counts as unset. A flag or variable is for every ProxySQL.

`proxysql-stonith config check` prints the config in force with the origin of each value, and hides secrets. With
`--connect` it also tries every ProxySQL and every node of Orchestrator. `suspend` and `resume` need `run.state_dir` only.

- An unknown key or a wrong value is an error with its place: exit code 2, nothing is changed.
- A duration is a text with a unit, such as `\"10s\"`, `\"500ms\"` or `\"1m 30s\"`.
- A relative path in the config file counts from the directory of that file.
- No flag takes a password. A file with a password must be closed to other users, and is read again when the password is
  refused.
- The config file must not be writable by other users.
";

/// The example config file.
pub(super) const EXAMPLE: &str = r#"[orchestrator]
endpoints = ["https://orc1:3000", "https://orc2:3000", "https://orc3:3000"]
ca_file = "/etc/proxysql-stonith/orchestrator-ca.pem"
user = "stonith"
password_file = "/etc/proxysql-stonith/orchestrator.password"

[[proxysql]]
address = "127.0.0.1:6032"
user = "radmin"
password_file = "/etc/proxysql-stonith/proxysql.password"

[policy]
mode = "observe" # then "enforce"
exclude_hostgroups = [30, 31]

[isolation]
after = "16s"

[run]
scheduler_interval = "5s"

[log]
format = "json"
"#;

/// The text before the example with several clusters.
const SEVERAL: &str = "\
An Orchestrator decides only for the ProxySQLs that name it. `[orchestrator]` is enough where one Orchestrator knows all
clusters.
";

/// The example config file with two Orchestrators.
pub(super) const EXAMPLE_OF_SEVERAL: &str = r#"[[orchestrator]]
name = "east"
endpoints = ["https://orc1.east:3000", "https://orc2.east:3000", "https://orc3.east:3000"]
user = "stonith"
password_file = "/etc/proxysql-stonith/east.password"

[[orchestrator]]
name = "west"
endpoints = ["https://orc1.west:3000", "https://orc2.west:3000", "https://orc3.west:3000"]
user = "stonith"
password_file = "/etc/proxysql-stonith/west.password"

[[proxysql]]
address = "10.0.0.1:6032"
orchestrator = "east"
user = "radmin"
password_file = "/etc/proxysql-stonith/proxysql.password"

[[proxysql]]
address = "10.1.0.1:6032"
orchestrator = "west"
user = "radmin"
password_file = "/etc/proxysql-stonith/proxysql.password"
[proxysql.policy] # for 10.1.0.1 alone
mode = "observe"
exclude_hostgroups = [90]
[proxysql.aliases]
"10.1.0.5" = "db1"

[policy] # for both, unless their own says otherwise
exclude_hostgroups = [30, 31]
"#;

/// Renders the whole page.
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    let file = &CONFIG_FILE.about;
    let _ = write!(page, "\nThe config file is named by {}. Otherwise it is {}.\n", ways(file), file.unset);
    let _ = write!(page, "\n## Example\n\n```toml\n{EXAMPLE}```\n");
    let _ = write!(page, "\n## Example with several clusters\n\n{SEVERAL}\n```toml\n{EXAMPLE_OF_SEVERAL}```\n");
    for section in SECTIONS {
        let name = section.name;
        let header = match section.form {
            Form::Single => format!("`[{name}]`"),
            Form::Repeated => format!("`[[{name}]]`"),
            Form::SingleOrNamed => format!("`[{name}]` or `[[{name}]]`"),
        };
        let _ = write!(page, "\n## {header}\n\n{}\n\n", section.doc);
        if section.per_proxy {
            let _ = write!(
                page,
                "`[proxysql.{name}]` below the keys of a `[[proxysql]]` is for that ProxySQL alone, and wins over \
                 `[{name}]`. What it does not set is as in `[{name}]`.\n\n"
            );
        }
        if section.keys.is_empty() {
            continue;
        }
        page.push_str(
            "| key | values | default | flag or variable | what it does |\n| --- | --- | --- | --- | --- |\n",
        );
        for key in section.keys {
            let cells = [format!("`{}`", key.name), key.values(), default(key), ways(key), key.doc.to_owned()];
            let _ = writeln!(page, "| {} |", cells.join(" | "));
        }
    }
    page
}

/// The default as a config file has it.
fn default(key: &About) -> String {
    let below = key.env_below.map_or(String::new(), |name| format!("`${name}`, or "));
    match key.default.map(key.takes.in_file) {
        Some(Ok(value)) => format!("{below}`{value}`"),
        _ => key.unset.to_owned(),
    }
}

/// The flag and the variables of a key.
fn ways(key: &About) -> String {
    let ways = key.flag.iter().chain(key.env).map(|way| format!("`{way}`"));
    ways.collect::<Vec<_>>().join(" or ")
}
