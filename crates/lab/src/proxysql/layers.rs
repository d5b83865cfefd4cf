//! The three layers, in SQLite: `main` is memory, `disk` is disk, `live` is runtime (FACTS §1, §2).

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

use super::wire::{Answer, Records};

const SCHEMA: &str = include_str!("schema.sql");

/// The tables that LOAD MYSQL SERVERS covers, the server table first.
const COVERED: [&str; 7] = [
    "mysql_servers",
    "mysql_replication_hostgroups",
    "mysql_group_replication_hostgroups",
    "mysql_galera_hostgroups",
    "mysql_aws_aurora_hostgroups",
    "mysql_hostgroup_attributes",
    "mysql_servers_ssl_params",
];

/// Tables that a SELECT finds filled: made anew before each.
const STATS: &str = "
CREATE TEMP TABLE stats_mysql_connection_pool (hostgroup INT , srv_host VARCHAR , srv_port INT , status VARCHAR , ConnUsed INT , ConnFree INT , ConnOK INT , ConnERR INT , MaxConnUsed INT , Queries INT , Queries_GTID_sync INT , Bytes_data_sent INT , Bytes_data_recv INT , Latency_us INT);
CREATE TEMP TABLE stats_mysql_processlist (ThreadID INT NOT NULL , SessionID INTEGER PRIMARY KEY , user VARCHAR , db VARCHAR , cli_host VARCHAR , cli_port INT , hostgroup INT , l_srv_host VARCHAR , l_srv_port INT , srv_host VARCHAR , srv_port INT , command VARCHAR , time_ms INT NOT NULL , info VARCHAR , status_flags INT , extended_info VARCHAR);
CREATE TEMP TABLE runtime_checksums_values (name VARCHAR NOT NULL , version INT NOT NULL , epoch INT NOT NULL , checksum VARCHAR NOT NULL , PRIMARY KEY (name));
";

/// A runtime row, as far as the lab itself looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRow {
    /// `hostgroup_id`.
    pub hostgroup: u32,
    /// `hostname`.
    pub host: String,
    /// `status`, upper case.
    pub status: String,
    /// `comment`.
    pub comment: String,
}

impl ServerRow {
    /// `10/node01:ONLINE[comment]`, as the timelines in `captures/` write it.
    pub fn text(&self) -> String {
        format!("{}/{}:{}[{}]", self.hostgroup, self.host, self.status, self.comment)
    }
}

/// The three layers.
pub(super) struct Layers {
    db: Connection,
    version: u64,
}

impl Layers {
    pub(super) fn new() -> Result<Self> {
        let db = Connection::open_in_memory()?;
        db.execute_batch("ATTACH ':memory:' AS disk; ATTACH ':memory:' AS live;")?;
        for layer in ["main", "disk", "live"] {
            db.execute_batch(&SCHEMA.replace("CREATE TABLE ", &format!("CREATE TABLE {layer}.")))?;
        }
        for table in COVERED.iter().chain(&["proxysql_servers"]) {
            db.execute_batch(&format!("CREATE TEMP VIEW runtime_{table} AS SELECT * FROM live.{table}"))?;
        }
        db.execute_batch(STATS)?;
        Ok(Self { db, version: 1 })
    }

    /// Runs one statement; what follows it in the same query is dropped silently (FACTS §1).
    pub(super) fn run(&self, sql: &str) -> Answer {
        match self.try_run(sql) {
            Ok(answer) => answer,
            Err(error) => {
                let text = match error {
                    rusqlite::Error::SqliteFailure(code, text) => text.unwrap_or_else(|| code.to_string()),
                    rusqlite::Error::SqlInputError { msg, .. } => msg,
                    other => other.to_string(),
                };
                Answer::Refused(format!("ProxySQL Admin Error: {text}"))
            }
        }
    }

    fn try_run(&self, sql: &str) -> Result<Answer> {
        let mut statement = first_statement(&self.db, sql)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        if columns.is_empty() {
            let affected = statement.execute([])?;
            // SQLite's count is that of the last change, ProxySQL's that of this statement.
            let changes = ["INSERT", "UPDATE", "DELETE", "REPLACE"];
            let counts = changes.iter().any(|verb| sql.trim_start().to_ascii_uppercase().starts_with(verb));
            return Ok(Answer::Done(if counts { affected as u64 } else { 0 }, String::new()));
        }
        let mut rows = statement.query([])?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            let value = |index| {
                Ok(match row.get_ref(index)? {
                    ValueRef::Null => None,
                    ValueRef::Integer(number) => Some(number.to_string()),
                    ValueRef::Real(number) => Some(number.to_string()),
                    ValueRef::Text(text) | ValueRef::Blob(text) => Some(String::from_utf8_lossy(text).into_owned()),
                })
            };
            records.push((0..columns.len()).map(value).collect::<Result<_>>()?);
        }
        Ok(Answer::Records(Records { columns, records }))
    }

    /// LOAD MYSQL SERVERS TO RUNTIME: runtime becomes memory. `used` tells which rows still hold connections.
    pub(super) fn load(&mut self, used: impl Fn(u32, &str) -> bool) -> Result<()> {
        self.purge_ghosts(used)?;
        // A row that is gone from memory stays as a ghost until the next commit finds it without connections.
        self.db.execute_batch(
            "UPDATE live.mysql_servers SET status='OFFLINE_HARD' WHERE NOT EXISTS (SELECT 1 FROM main.mysql_servers m \
               WHERE m.hostgroup_id=live.mysql_servers.hostgroup_id AND m.hostname=live.mysql_servers.hostname \
                 AND m.port=live.mysql_servers.port AND UPPER(m.status)<>'OFFLINE_HARD');
             REPLACE INTO live.mysql_servers SELECT hostgroup_id,hostname,port,gtid_port,UPPER(status),weight,compression,\
               max_connections,max_replication_lag,use_ssl,max_latency_ms,comment \
               FROM main.mysql_servers WHERE UPPER(status)<>'OFFLINE_HARD';",
        )?;
        for table in &COVERED[1..] {
            self.db.execute_batch(&format!(
                "DELETE FROM live.{table}; INSERT INTO live.{table} SELECT * FROM main.{table};"
            ))?;
        }
        self.version += 1;
        Ok(())
    }

    /// SAVE MYSQL SERVERS FROM RUNTIME: SHUNNED becomes ONLINE, ghosts become config (FACTS §2).
    pub(super) fn save_from_runtime(&self) -> Result<()> {
        for table in COVERED {
            self.db.execute_batch(&format!(
                "DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM live.{table};"
            ))?;
        }
        self.db.execute_batch("UPDATE main.mysql_servers SET status='ONLINE' WHERE status='SHUNNED'")
    }

    /// Copies one layer's config to another.
    pub(super) fn copy(&self, from: &str, to: &str) -> Result<()> {
        for table in COVERED {
            self.db.execute_batch(&format!(
                "DELETE FROM {to}.{table}; INSERT INTO {to}.{table} SELECT * FROM {from}.{table};"
            ))?;
        }
        Ok(())
    }

    /// A restart: memory and runtime are what disk has; tables that others made in `main` are gone.
    pub(super) fn restart(&mut self) -> Result<()> {
        let Answer::Records(others) =
            self.run("SELECT name FROM main.sqlite_master WHERE type='table' AND name LIKE 'stonith_%'")
        else {
            return Ok(());
        };
        for name in others.records.into_iter().flatten().flatten() {
            self.db.execute_batch(&format!("DROP TABLE main.{name}"))?;
        }
        self.copy("disk", "main")?;
        self.db.execute_batch("DELETE FROM live.mysql_servers")?;
        self.version = 0;
        self.load(|_, _| false)
    }

    /// Ghost rows without connections go with the next commit.
    pub(super) fn purge_ghosts(&self, used: impl Fn(u32, &str) -> bool) -> Result<()> {
        for row in self.rows()? {
            if row.status == "OFFLINE_HARD" && !used(row.hostgroup, &row.host) {
                self.delete(row.hostgroup, &row.host)?;
            }
        }
        Ok(())
    }

    /// The runtime rows.
    pub(super) fn rows(&self) -> Result<Vec<ServerRow>> {
        let sql = "SELECT hostgroup_id,hostname,status,comment FROM live.mysql_servers ORDER BY 1,2";
        let mut statement = self.db.prepare_cached(sql)?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok(ServerRow { hostgroup: row.get(0)?, host: row.get(1)?, status: row.get(2)?, comment: row.get(3)? })
        };
        statement.query_map([], row)?.collect()
    }

    /// The pairs in force, writer and reader.
    pub(super) fn pairs(&self) -> Result<Vec<(u32, u32)>> {
        let sql = "SELECT writer_hostgroup,reader_hostgroup FROM live.mysql_replication_hostgroups";
        let mut statement = self.db.prepare_cached(sql)?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    /// Gives a runtime row another status; `and_memory` up to 2.5.2, where the monitor wrote memory too.
    pub(super) fn set_status(&self, hostgroup: u32, host: &str, status: &str) -> Result<()> {
        let sql = "UPDATE live.mysql_servers SET status=?3 WHERE hostgroup_id=?1 AND hostname=?2";
        self.db.prepare_cached(sql)?.execute((hostgroup, host, status)).map(drop)
    }

    /// Copies a runtime row into another hostgroup, status and comment too (FACTS §2).
    pub(super) fn copy_row(&self, from: u32, to: u32, host: &str, status: &str) -> Result<()> {
        let sql = "REPLACE INTO live.mysql_servers SELECT ?2,hostname,port,gtid_port,?4,weight,compression,max_connections,\
                   max_replication_lag,use_ssl,max_latency_ms,comment FROM live.mysql_servers \
                   WHERE hostgroup_id=?1 AND hostname=?3";
        self.db.prepare_cached(sql)?.execute((from, to, host, status)).map(drop)
    }

    fn delete(&self, hostgroup: u32, host: &str) -> Result<()> {
        let sql = "DELETE FROM live.mysql_servers WHERE hostgroup_id=?1 AND hostname=?2";
        self.db.prepare_cached(sql)?.execute((hostgroup, host)).map(drop)
    }

    /// Fills a stats table anew.
    pub(super) fn fill(&self, table: &str, rows: &[Vec<Option<String>>]) -> Result<()> {
        self.db.execute_batch(&format!("DELETE FROM temp.{table}"))?;
        for row in rows {
            let marks = vec!["?"; row.len()].join(",");
            let mut statement = self.db.prepare_cached(&format!("INSERT INTO temp.{table} VALUES ({marks})"))?;
            statement.execute(rusqlite::params_from_iter(row))?;
        }
        Ok(())
    }

    /// A monitor move changes the checksum, a LOAD the version too (FACTS §1).
    pub(super) fn checksums(&self) -> Result<Vec<Vec<Option<String>>>> {
        let mut sum = 0xcbf2_9ce4_8422_2325_u64;
        for row in self.rows()? {
            for byte in row.text().bytes() {
                sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        let texts = ["mysql_servers".to_owned(), self.version.to_string(), "1".to_owned(), format!("0x{sum:016X}")];
        Ok(vec![texts.into_iter().map(Some).collect()])
    }
}

/// Only the first of several statements runs.
fn first_statement<'d>(db: &'d Connection, sql: &str) -> Result<rusqlite::Statement<'d>> {
    let mut rest = rusqlite::Batch::new(db, sql);
    match rest.next()? {
        Some(statement) => Ok(statement),
        None => db.prepare(sql),
    }
}
