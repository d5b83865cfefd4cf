//! Variables, and the queries of stock clients that ProxySQL answers itself ([5-admin]).

use std::time::Duration;

use super::Settings;
use super::layers::Layers;
use super::monitor::PINGS_MAX;
use super::wire::{Answer, Records};

/// The global variables of the lab.
pub(super) fn all(settings: &Settings) -> Vec<(&'static str, String)> {
    let ms = |time: Duration| time.as_millis().to_string();
    vec![
        ("admin-version", settings.version.clone()),
        ("admin-read_only", "false".to_owned()),
        ("admin-checksum_mysql_servers", "true".to_owned()),
        ("admin-cluster_check_interval_ms", "1000".to_owned()),
        ("admin-cluster_mysql_variables_diffs_before_sync", "3".to_owned()),
        ("mysql-monitor_ping_interval", ms(settings.ping_interval)),
        ("mysql-monitor_ping_max_failures", PINGS_MAX.to_string()),
        ("mysql-monitor_read_only_interval", ms(settings.monitor_interval)),
        ("mysql-monitor_read_only_timeout", "500".to_owned()),
        ("mysql-monitor_read_only_max_timeout_count", settings.read_only_max_timeouts.to_string()),
        ("mysql-monitor_writer_is_also_reader", settings.writer_is_also_reader.to_string()),
        ("mysql-shun_recovery_time_sec", settings.shun_recovery.as_secs().to_string()),
        ("mysql-show_processlist_extended", "0".to_owned()),
        ("mysql-auto_increment_delay_multiplex_timeout_ms", "10000".to_owned()),
        ("mysql-connect_timeout_server_max", "10000".to_owned()),
    ]
}

/// How a query is answered.
pub(super) enum Asked {
    /// With this answer.
    Answer(Answer),
    /// By SQLite, with another statement.
    Sql(String),
}

/// Answers a query that ProxySQL handles itself; `None` leaves it to SQLite.
pub(super) fn ask(layers: &Layers, settings: &Settings, user: &str, sql: &str) -> Option<Asked> {
    let lower = sql.to_ascii_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    let user = || format!("{user}@127.0.0.1");
    let answer = match words[..] {
        ["select", "@@version_comment", "limit", "1"] => one("'(ProxySQL Admin Module)'", "(ProxySQL Admin Module)"),
        ["select", name, ..] if name.starts_with("@@") => return Some(Asked::Answer(variable(layers, settings, sql))),
        ["select", "database()"] => one("DATABASE()", "admin"),
        ["select", "version()"] => one("version()", &settings.version),
        ["select", "user()"] => one("user()", &user()),
        ["select", "current_user()"] => one("current_user()", &user()),
        ["select", "connection_id()"] => one("CONNECTION_ID()", "0"),
        ["show", "databases" | "schemas"] => databases(),
        ["show", "tables"] => return Some(Asked::Sql(tables("main"))),
        ["show", "tables", "from", schema] => return Some(Asked::Sql(tables(schema))),
        ["show", "processlist"] => return Some(Asked::Sql(PROCESSLIST.to_owned())),
        ["show", "full", "processlist"] => return Some(Asked::Sql("SELECT * FROM stats_mysql_processlist".to_owned())),
        ["show", "variables" | "global", ..] => return Some(Asked::Sql(show_variables(&words, sql, settings)?)),
        _ => return None,
    };
    Some(Asked::Answer(answer))
}

const PROCESSLIST: &str = "SELECT SessionID,user,db,hostgroup,command,time_ms,info FROM stats_mysql_processlist";

/// Single variables work; several in one SELECT are a syntax error.
fn variable(layers: &Layers, settings: &Settings, sql: &str) -> Answer {
    let rest = sql["SELECT".len()..].trim();
    let name = rest.split([' ', '\t', '\n', ';']).next().unwrap_or_default();
    if name.contains(',') {
        return Answer::Refused("ProxySQL Admin Error: near \",\": syntax error".to_owned());
    }
    match name.to_ascii_lowercase().as_str() {
        "@@version" | "@@version_comment" => one("@@version", &settings.version),
        "@@max_allowed_packet" => one(name, "67108864"),
        "@@global.read_only" => one(name, "0"),
        lower => match layers.variable(&lower[2..]) {
            Some(value) => one(name, &value),
            None => Answer::Records(Records { columns: vec![name.to_owned()], records: Vec::new() }),
        },
    }
}

/// An unknown variable is answered OK, with an ERROR in the info text (facts §1).
pub(super) fn set(layers: &mut Layers, sql: &str) -> Answer {
    let rest = sql["SET".len()..].split(';').next().unwrap_or_default().trim();
    let (name, value) = rest.split_once('=').map_or((rest, ""), |(name, value)| (name.trim(), value.trim()));
    let first = name.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if matches!(first.as_str(), "names" | "autocommit") {
        return Answer::Done(0, String::new());
    }
    match layers.set_variable(name, value.trim_matches('\'')) {
        Ok(true) => Answer::Done(1, String::new()),
        Ok(false) => Answer::Done(0, format!("ERROR: Unknown global variable: '{name}'.")),
        Err(error) => Answer::Refused(format!("ProxySQL Admin Error: {error}")),
    }
}

/// Rewrites SHOW VARIABLES [LIKE '...'] as SQL. SHOW GLOBAL VARIABLES has only the version (22-admin).
fn show_variables(words: &[&str], sql: &str, settings: &Settings) -> Option<String> {
    let columns = "variable_name AS Variable_name, variable_value AS Value";
    match words {
        ["show", "global", "variables", "like", "'version'"] => {
            Some(format!("SELECT 'version' AS Variable_name, '{}' AS Value", settings.version.replace('\'', "''")))
        }
        ["show", "variables"] => Some(format!("SELECT {columns} FROM global_variables ORDER BY variable_name")),
        ["show", "variables", "like", _] => {
            let pattern = sql.split_whitespace().last()?;
            Some(format!("SELECT {columns} FROM global_variables WHERE variable_name LIKE {pattern}"))
        }
        _ => None,
    }
}

fn tables(schema: &str) -> String {
    format!(
        "SELECT name AS tables FROM {schema}.sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    )
}

fn databases() -> Answer {
    let records = [("0", "main"), ("2", "disk"), ("3", "stats"), ("4", "monitor"), ("5", "stats_history")];
    let record = |(seq, name): (&str, &str)| [seq, name, ""].map(|text| Some(text.to_owned())).to_vec();
    let columns = ["seq", "name", "file"].map(str::to_owned).to_vec();
    Answer::Records(Records { columns, records: records.into_iter().map(record).collect() })
}

fn one(column: &str, value: &str) -> Answer {
    Answer::Records(Records { columns: vec![column.to_owned()], records: vec![vec![Some(value.to_owned())]] })
}
