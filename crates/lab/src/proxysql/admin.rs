//! What the admin interface does with a statement: its own commands, else SQLite (FACTS §1).

use std::collections::BTreeMap;

use super::Engine;
use super::sessions::{connection_pool, processlist};
use super::wire::{Answer, Records};

/// The variables that can be asked for.
pub(super) fn variables(version: &str, monitor_interval_ms: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("version", version),
        ("version_comment", "(ProxySQL Admin Module)"),
        ("mysql-monitor_read_only_interval", monitor_interval_ms),
        ("mysql-monitor_read_only_timeout", "500"),
        ("mysql-show_processlist_extended", "0"),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether a statement changes nothing.
pub(super) fn only_reads(sql: &str) -> bool {
    let verb = sql.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    matches!(verb.as_str(), "SELECT" | "SHOW" | "EXPLAIN")
}

/// Verbs that SQLite answers for ProxySQL.
const SQL: [&str; 8] = ["SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "EXPLAIN"];

impl Engine {
    /// Answers a statement.
    pub(super) fn run(&mut self, sql: &str) -> Answer {
        let sql = without_comment(sql.trim()).trim_end_matches(';').trim_end();
        let words: Vec<String> = sql.split_whitespace().map(str::to_ascii_uppercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["LOAD", "MYSQL", "SERVERS", "TO", "RUN" | "RUNTIME"]
            | ["LOAD", "MYSQL", "SERVERS", "FROM", "MEM" | "MEMORY"] => {
                let holds = self.holds();
                done(self.layers.load(holds))
            }
            ["SAVE", "MYSQL", "SERVERS", "FROM", "RUN" | "RUNTIME"]
            | ["SAVE", "MYSQL", "SERVERS", "TO", "MEM" | "MEMORY"] => done(self.layers.save_from_runtime()),
            ["SAVE", "MYSQL", "SERVERS", "TO", "DISK"] | ["SAVE", "MYSQL", "SERVERS", "FROM", "MEM" | "MEMORY"] => {
                done(self.layers.copy("main", "disk"))
            }
            ["LOAD", "MYSQL", "SERVERS", "FROM", "DISK"] | ["LOAD", "MYSQL", "SERVERS", "TO", "MEM" | "MEMORY"] => {
                done(self.layers.copy("disk", "main"))
            }
            ["KILL", "CONNECTION", id] => self.kill_client(id),
            ["PROXYSQL", "PAUSE"] => {
                self.paused = true;
                Answer::Done(0, String::new())
            }
            ["PROXYSQL", "RESUME"] => {
                self.paused = false;
                Answer::Done(0, String::new())
            }
            ["BEGIN" | "COMMIT" | "ROLLBACK", ..] => Answer::Done(0, String::new()),
            ["SELECT", variable, ..] if variable.starts_with("@@") => self.variable(sql),
            ["SELECT", "DATABASE()"] => one("DATABASE()", "admin"),
            ["SHOW", "DATABASES"] => one("name", "main"),
            ["SET", ..] => self.set(sql),
            ["INSERT" | "UPDATE" | "DELETE" | "REPLACE", ..] if names_runtime(&words) => {
                // Answers as if it had been done, and does nothing (FACTS §1).
                Answer::Done(self.layers.rows().map_or(0, |rows| rows.len() as u64), String::new())
            }
            [verb, ..] if SQL.contains(&verb) => self.sql(sql),
            _ => {
                self.unknown.push(sql.to_owned());
                let near = sql.split_whitespace().next().unwrap_or_default();
                Answer::Refused(format!("ProxySQL Admin Error: near \"{near}\": syntax error"))
            }
        }
    }

    fn sql(&mut self, sql: &str) -> Answer {
        let lower = sql.to_ascii_lowercase();
        let mut fill = Ok(());
        if lower.contains("stats_mysql_connection_pool") {
            let rows = self.layers.rows().unwrap_or_default();
            fill = self.layers.fill("stats_mysql_connection_pool", &connection_pool(&rows, &self.clients));
        }
        if lower.contains("stats_mysql_processlist") {
            let extended = self.variables.get("mysql-show_processlist_extended").is_some_and(|value| value != "0");
            fill = fill.and(self.layers.fill("stats_mysql_processlist", &processlist(&self.clients, extended)));
        }
        if lower.contains("runtime_checksums_values") {
            let sums = self.layers.checksums();
            fill = fill.and(sums.and_then(|sums| self.layers.fill("runtime_checksums_values", &sums)));
        }
        match fill {
            Ok(()) => self.layers.run(sql),
            Err(error) => Answer::Refused(format!("ProxySQL Admin Error: {error}")),
        }
    }

    /// Single variables work; several in one SELECT are a syntax error.
    fn variable(&self, sql: &str) -> Answer {
        let rest = sql["SELECT".len()..].trim();
        let name = rest.split_whitespace().next().unwrap_or_default();
        match self.variables.get(&name[2..]) {
            Some(value) => one(name, value),
            None => Answer::Refused(format!("ProxySQL Admin Error: near \"{rest}\": syntax error")),
        }
    }

    /// An unknown variable is answered OK, with an ERROR in the info text (FACTS §1).
    fn set(&mut self, sql: &str) -> Answer {
        let rest = sql["SET".len()..].trim();
        let Some((name, value)) = rest.split_once('=') else { return Answer::Done(0, String::new()) };
        match self.variables.get_mut(name.trim()) {
            Some(kept) => {
                *kept = value.trim().trim_matches('\'').to_owned();
                Answer::Done(1, String::new())
            }
            None => Answer::Done(0, format!("ERROR: Unknown global variable: '{}'.", name.trim())),
        }
    }

    fn kill_client(&mut self, id: &str) -> Answer {
        match id.parse().ok().and_then(|id| self.clients.get_mut(&id)) {
            Some(client) => {
                client.end();
                Answer::Done(0, String::new())
            }
            None => Answer::Refused("ProxySQL Admin Error: Unknown thread id".to_owned()),
        }
    }
}

/// A comment may stand before a statement.
fn without_comment(sql: &str) -> &str {
    match sql.strip_prefix("/*").and_then(|rest| rest.split_once("*/")) {
        Some((_, statement)) => statement.trim_start(),
        None => sql,
    }
}

/// Whether a statement would write to a runtime table.
fn names_runtime(words: &[&str]) -> bool {
    let table = words.iter().find(|word| !SQL.contains(word) && !matches!(**word, "INTO" | "FROM" | "OR" | "IGNORE"));
    table.is_some_and(|table| table.trim_start_matches("MAIN.").starts_with("RUNTIME_"))
}

fn done(result: rusqlite::Result<()>) -> Answer {
    match result {
        Ok(()) => Answer::Done(0, String::new()),
        Err(error) => Answer::Refused(format!("ProxySQL Admin Error: {error}")),
    }
}

fn one(column: &str, value: &str) -> Answer {
    Answer::Records(Records { columns: vec![column.to_owned()], records: vec![vec![Some(value.to_owned())]] })
}
