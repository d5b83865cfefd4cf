//! How the admin interface answers a statement: by its own commands, else by SQLite (facts §1).

use super::layers::RUNTIME;
use super::stats::{connection_pool, global, processlist};
use super::wire::Raw;
use super::{Engine, variables};

/// Whether a statement changes nothing.
pub(super) fn only_reads(sql: &str) -> bool {
    let verb = sql.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    matches!(verb.as_str(), "SELECT" | "SHOW" | "EXPLAIN")
}

/// The beginnings of statements that ProxySQL answers itself.
pub(super) const OWN: [&str; 26] = [
    "LOAD",
    "SAVE",
    "KILL CONNECTION",
    "PROXYSQL PAUSE",
    "PROXYSQL RESUME",
    "PROXYSQL READONLY",
    "PROXYSQL READWRITE",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "START TRANSACTION",
    "USE",
    "SET",
    "SELECT @@",
    "SELECT DATABASE()",
    "SELECT VERSION()",
    "SELECT USER()",
    "SELECT CURRENT_USER()",
    "SELECT CONNECTION_ID()",
    "SHOW DATABASES",
    "SHOW SCHEMAS",
    "SHOW TABLES",
    "SHOW PROCESSLIST",
    "SHOW FULL PROCESSLIST",
    "SHOW VARIABLES",
    "SHOW GLOBAL VARIABLES",
];

/// The beginnings of statements that SQLite answers.
pub(super) const SQL: [&str; 12] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "REPLACE",
    "CREATE",
    "DROP",
    "EXPLAIN",
    "VALUES",
    "WITH",
    "SAVEPOINT",
    "RELEASE",
];

/// Whether a statement in upper case begins with this text.
fn begins(upper: &str, head: &str) -> bool {
    let rest = upper.strip_prefix(head);
    rest.is_some_and(|rest| head.ends_with('@') || !rest.starts_with(|next: char| next.is_alphanumeric()))
}

impl Engine {
    /// Answers a statement of a user.
    pub(super) fn run(&mut self, sql: &str, user: &str) -> Raw {
        let sql = sql.trim().trim_end_matches(';').trim_end();
        let upper = sql.to_ascii_uppercase();
        let words: Vec<&str> = upper.split_whitespace().collect();
        let one_blank = words.join(" ");
        if !upper.contains("@@") && self.settings.stats_users.iter().any(|name| name == user) {
            return self.stats_only(sql);
        }
        if !OWN.iter().any(|head| begins(&one_blank, head)) {
            return self.sql(sql);
        }
        match words[..] {
            ["LOAD" | "SAVE", .., "TO" | "FROM", _] => match self.move_config(&words) {
                Some(moved) => done(moved),
                None => self.sql(sql),
            },
            // The number is parsed as by atoi; text after it is ignored.
            ["KILL", "CONNECTION", id, ..] => {
                let digits = id.find(|c: char| !c.is_ascii_digit()).unwrap_or(id.len());
                self.kill_client(id[..digits].parse().unwrap_or(0))
            }
            ["PROXYSQL", "PAUSE"] if self.paused => {
                refused("ProxySQL MySQL module is already paused, impossible to pause")
            }
            ["PROXYSQL", "RESUME"] if !self.paused => {
                refused("ProxySQL MySQL module is not paused, impossible to resume")
            }
            ["PROXYSQL", word @ ("PAUSE" | "RESUME")] => {
                self.paused = word == "PAUSE";
                nothing()
            }
            ["PROXYSQL", word @ ("READONLY" | "READWRITE")] => {
                self.read_only = word == "READONLY";
                match self.layers.set_runtime_variable("admin-read_only", &self.read_only.to_string()) {
                    Ok(()) => nothing(),
                    Err(error) => refused(&error.to_string()),
                }
            }
            ["BEGIN" | "BEGIN;" | "COMMIT" | "COMMIT;" | "ROLLBACK" | "ROLLBACK;" | "USE", ..]
            | ["START", "TRANSACTION", ..] => nothing(),
            ["SET", ..] => variables::set(&mut self.layers, sql).raw(),
            ["SELECT" | "SHOW", ..] => match variables::ask(&self.layers, &self.settings, user, sql) {
                Some(variables::Asked::Answer(answer)) => answer.raw(),
                Some(variables::Asked::Sql(sql)) => self.sql(&sql),
                None => self.sql(sql),
            },
            _ => self.sql(sql),
        }
    }

    /// Runs LOAD and SAVE, and returns the number of counted records; `None` for an unknown command (22-admin).
    fn move_config(&mut self, words: &[&str]) -> Option<rusqlite::Result<u64>> {
        let [verb, what @ .., to_from, place] = words else { return None };
        let place = match *place {
            "RUN" | "RUNTIME" => RUNTIME,
            "MEM" | "MEMORY" => "main",
            "DISK" => "disk",
            // The command loads the configuration file, which the lab does not have.
            "CONFIG" if (*verb, *to_from) == ("LOAD", "FROM") => return Some(Ok(0)),
            _ => return None,
        };
        let (from, to) = match (*verb, *to_from, place) {
            ("LOAD", "TO", RUNTIME) | ("LOAD", "FROM", "main") => ("main", RUNTIME),
            ("SAVE", "FROM", RUNTIME) | ("SAVE", "TO", "main") => (RUNTIME, "main"),
            ("SAVE", "TO", "disk") | ("SAVE", "FROM", "main") => ("main", "disk"),
            ("LOAD", "FROM", "disk") | ("LOAD", "TO", "main") => ("disk", "main"),
            _ => return None,
        };
        let covered = self.layers.plays.names();
        let tables: &[&str] = match what {
            ["MYSQL", "VARIABLES"] => return Some(self.layers.copy_variables(from, to, "mysql-")),
            ["ADMIN", "VARIABLES"] => {
                let copied = self.layers.copy_variables(from, to, "admin-");
                self.read_only = self.layers.runtime_variable("admin-read_only").as_deref() == Some("true");
                return Some(copied);
            }
            ["MYSQL", "SERVERS"] => &covered,
            ["MYSQL", "USERS"] => &["mysql_users"],
            ["SCHEDULER"] => &["scheduler"],
            ["PROXYSQL", "SERVERS"] => &["proxysql_servers"],
            _ => return None,
        };
        let moved = match (what, from, to) {
            (["MYSQL", "SERVERS"], "main", RUNTIME) => self.load(),
            (["MYSQL", "SERVERS"], RUNTIME, "main") => self.purge().and_then(|()| self.layers.save_from_runtime()),
            _ => self.layers.copy(from, to, tables),
        };
        Some(moved.map(|()| 0))
    }

    pub(super) fn load(&mut self) -> rusqlite::Result<()> {
        let (used, idle) = (self.used(), std::mem::take(&mut self.idle));
        self.layers.load(used, |key| idle.contains(key))?;
        let rows = self.layers.rows()?;
        let has = |status: &'static str| {
            let keys: Vec<_> = rows.iter().filter(|row| row.status == status).map(|row| row.key()).collect();
            move |key: &_| keys.contains(key)
        };
        let (is_gone, is_shunned) = (has("OFFLINE_HARD"), has("SHUNNED"));
        self.idle = idle.into_iter().filter(|key| !is_gone(key)).collect();
        // A row that is SHUNNED again after it was ONLINE stays shunned permanently (facts §2).
        self.shunned.retain(|key, _| is_shunned(key));
        Ok(())
    }

    /// Removes ghosts without connections, as each read of runtime does (code: dump_table_mysql).
    pub(super) fn purge(&mut self) -> rusqlite::Result<()> {
        let used = self.used();
        self.layers.purge_ghosts(used)
    }

    /// Answers a user of `admin-stats_credentials`, who only sees the statistics, as `main`.
    fn stats_only(&mut self, sql: &str) -> Raw {
        let lower = sql.to_ascii_lowercase();
        let mut names = lower.split(|c: char| !c.is_ascii_alphanumeric() && !"_.".contains(c));
        match names.find(|name| name.starts_with("runtime_") || name.starts_with("disk.")) {
            Some(name) => refused(&format!("no such table: {name}")),
            None => self.sql(&lower.replace("main.", "stats.")),
        }
    }

    /// Fills the tables that the statement names, and lets SQLite answer.
    fn sql(&mut self, sql: &str) -> Raw {
        if let Err(error) = self.refresh(&sql.to_ascii_lowercase()) {
            return refused(&error.to_string());
        }
        // PROXYSQL READONLY applies to clients' statements only. The lab itself still writes.
        if self.read_only {
            self.layers.read_only(true);
        }
        let answer = self.layers.run(sql);
        if self.read_only {
            self.layers.read_only(false);
        }
        let is_syntax_error = matches!(&answer, Raw::Refused(text) if text.ends_with(": syntax error"));
        let verb = sql.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        if is_syntax_error && !SQL.contains(&verb.as_str()) {
            self.unknown.push(sql.to_owned());
        }
        answer
    }

    fn refresh(&mut self, lower: &str) -> rusqlite::Result<()> {
        if lower.contains("runtime_mysql_servers") {
            self.purge()?;
        }
        if lower.contains("runtime_checksums_values") {
            self.layers.fill_checksums()?;
        }
        if lower.contains("stats_mysql_connection_pool") {
            let rows = self.layers.rows()?;
            self.layers.fill("stats_mysql_connection_pool", &connection_pool(&rows, &self.clients, &self.idle))?;
        }
        if lower.contains("stats_mysql_global") {
            self.layers.fill("stats_mysql_global", &global(self.paused, &self.clients))?;
        }
        if lower.contains("stats_mysql_processlist") {
            let extended =
                self.layers.runtime_variable("mysql-show_processlist_extended").is_some_and(|value| value != "0");
            self.layers.fill("stats_mysql_processlist", &processlist(&self.clients, extended))?;
        }
        self.layers.refresh_runtime(lower)
    }

    fn kill_client(&mut self, id: u64) -> Raw {
        match self.clients.get_mut(&id).filter(|client| !client.dead) {
            Some(client) => {
                client.end();
                nothing()
            }
            None => refused(&format!("Unknown thread id: {id}")),
        }
    }
}

fn nothing() -> Raw {
    Raw::Done(0, String::new())
}

fn refused(words: &str) -> Raw {
    Raw::Refused(format!("ProxySQL Admin Error: {words}"))
}

fn done(result: rusqlite::Result<u64>) -> Raw {
    match result {
        Ok(records) => Raw::Done(records, String::new()),
        Err(error) => refused(&error.to_string()),
    }
}
