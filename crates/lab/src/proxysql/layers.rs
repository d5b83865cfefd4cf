//! The three layers in SQLite. `main` is memory, `disk` is disk, and runtime is a schema that no statement names.
//!
//! The `runtime_` tables in `main` are filled from it before a statement that names them (facts §1, §2).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};
use tokio::time::Instant;

use super::rows::{RowKey, ServerRow};
use super::versions::Version;
use super::wire::{Raw, Records};

const SCHEMA: &str = include_str!("schema.sql");

/// The table of servers.
const SERVERS: &str = "mysql_servers";

/// The tables that other commands cover.
const OTHERS: [&str; 4] = ["proxysql_servers", "scheduler", "mysql_users", "global_variables"];

/// The tables that are filled from elsewhere, as in 2.7.1's sqlite_master.
const FILLED: &str = "
CREATE TABLE stats.stats_mysql_connection_pool (hostgroup INT , srv_host VARCHAR , srv_port INT , status VARCHAR , ConnUsed INT , ConnFree INT , ConnOK INT , ConnERR INT , MaxConnUsed INT , Queries INT , Queries_GTID_sync INT , Bytes_data_sent INT , Bytes_data_recv INT , Latency_us INT);
CREATE TABLE stats.stats_mysql_processlist (ThreadID INT NOT NULL , SessionID INTEGER PRIMARY KEY , user VARCHAR , db VARCHAR , cli_host VARCHAR , cli_port INT , hostgroup INT , l_srv_host VARCHAR , l_srv_port INT , srv_host VARCHAR , srv_port INT , command VARCHAR , time_ms INT NOT NULL , info VARCHAR , status_flags INT , extended_info VARCHAR);
CREATE TABLE stats.stats_mysql_global (Variable_Name VARCHAR NOT NULL PRIMARY KEY , Variable_Value VARCHAR NOT NULL);
CREATE TABLE main.runtime_checksums_values (name VARCHAR NOT NULL , version INT NOT NULL , epoch INT NOT NULL , checksum VARCHAR NOT NULL , PRIMARY KEY (name));
";

/// The tables whose filling `total_changes()` does not count (facts §6).
const UNCOUNTED: [&str; 2] = ["stats_mysql_global", "stats_mysql_processlist"];

/// How long an idle connection keeps a row that LOAD removed as a ghost.
///
/// ProxySQL's threads close the connection that fast (seen gone after 50 ms, captures/4-sessions).
const IDLE_CONNECTIONS_CLOSE: Duration = Duration::from_millis(50);

/// A comment as in ProxySQL's runtime: text of any type, up to the first NUL (facts §2).
const CUT_AT_NUL: &str =
    "CAST(substr(CAST(comment AS BLOB),1,instr(CAST(CAST(comment AS BLOB)||x'00' AS BLOB),x'00')-1) AS TEXT)";

/// The three layers.
pub(super) struct Layers {
    db: Connection,
    /// What the version that is played has.
    pub(super) plays: Version,
    version: u64,
    epoch: u64,
    /// The number of LOADs of the other ProxySQLs, and the checksum of the rows that the last one loaded.
    peer_loads: u64,
    peers: u64,
    /// The checksum of the last loaded rows. The monitor does not change this one.
    loaded: u64,
    /// The rows that LOAD removed while they still had an idle connection.
    cooling: BTreeMap<RowKey, Instant>,
    /// `total_changes()`: the records changed in `main` and `disk` since the start. Filling a table counts too.
    total: u64,
    /// `runtime_checksums_values` as last filled.
    filled: Vec<Vec<Option<String>>>,
    /// The number of records that the last statement changed. CREATE TABLE and the like answer it unchanged.
    changes: u64,
    known: Known,
}

/// What was read of runtime since its last change.
struct Known {
    /// The server rows.
    rows: Option<Vec<ServerRow>>,
    /// The checksum of the server rows.
    servers: Option<u64>,
    /// The tables whose `runtime_` table shows them.
    shown: BTreeSet<&'static str>,
}

impl Layers {
    /// Makes empty layers, with these variables in each, as the version of this name has them.
    pub(super) fn new(variables: &[(&str, String)], version: &str) -> Result<Self> {
        let plays = Version::named(version);
        let definitions = plays.definitions(SCHEMA);
        let db = Connection::open_in_memory()?;
        db.set_prepared_statement_cache_capacity(64);
        for schema in ["disk", "stats", RUNTIME] {
            db.execute_batch(&format!("ATTACH ':memory:' AS {schema}"))?;
        }
        for layer in ["main.", "disk.", &format!("{RUNTIME}."), "main.runtime_"] {
            db.execute_batch(&definitions.replace("CREATE TABLE ", &format!("CREATE TABLE {layer}")))?;
        }
        db.execute_batch(FILLED)?;
        db.execute_batch(&plays.state_columns())?;
        for layer in ["main", "disk", RUNTIME] {
            for (name, value) in variables {
                db.execute(&format!("INSERT INTO {layer}.global_variables VALUES (?1,?2)"), (name, value))?;
            }
        }
        // All but the variables are empty.
        let shown = plays.names().into_iter().chain(OTHERS).filter(|table| *table != "global_variables").collect();
        Ok(Self {
            db,
            plays,
            peer_loads: 0,
            peers: 0,
            version: 0,
            epoch: now_s(),
            loaded: 0,
            cooling: BTreeMap::new(),
            total: 0,
            filled: Vec::new(),
            changes: 0,
            known: Known { rows: None, servers: None, shown },
        })
    }

    /// Runs one statement. Further statements in the same query are dropped silently (facts §1).
    pub(super) fn run(&mut self, sql: &str) -> Raw {
        match self.try_run(sql) {
            Ok(answer) => answer,
            Err(error) => Raw::Refused(format!("ProxySQL Admin Error: {}", words(error))),
        }
    }

    fn try_run(&mut self, sql: &str) -> Result<Raw> {
        let sql = &sql.replace("total_changes()", &self.total.to_string());
        let Some(mut statement) = first_statement(&self.db, sql)? else {
            // The statement is empty or a comment ([5-admin]).
            return Ok(Raw::Refused("ProxySQL Admin Error: not an error".to_owned()));
        };
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let verb = sql.trim_start().get(..6).unwrap_or_default().to_ascii_uppercase();
        let counts = matches!(verb.as_str(), "INSERT" | "UPDATE" | "DELETE" | "REPLAC");
        if columns.is_empty() {
            statement.execute([])?;
            if counts {
                self.changes = self.db.changes();
                self.total += self.changes;
            }
            return Ok(Raw::Done(self.changes, String::new()));
        }
        let mut rows = statement.query([])?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            let value = |index| {
                Ok(match row.get_ref(index)? {
                    ValueRef::Null => None,
                    ValueRef::Integer(number) => Some(number.to_string().into_bytes()),
                    ValueRef::Real(number) => Some(number.to_string().into_bytes()),
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.to_vec()),
                })
            };
            records.push((0..columns.len()).map(value).collect::<Result<_>>()?);
        }
        if counts {
            // The statement has a RETURNING.
            self.changes = self.db.changes();
            self.total += self.changes;
        }
        Ok(Raw::Records(Records { columns, records }))
    }

    /// LOAD MYSQL SERVERS TO RUNTIME: copies memory to runtime. `used` are the rows with connections in use, `idle` the
    /// rows with idle ones.
    pub(super) fn load(&mut self, used: impl Fn(&RowKey) -> bool, idle: impl Fn(&RowKey) -> bool) -> Result<()> {
        self.cooling.clear();
        self.purge_ghosts(&used)?;
        // A row that is gone from memory stays as a ghost while it has connections. OFFLINE_HARD counts as gone too.
        let sql = format!(
            "SELECT hostgroup_id,hostname,port FROM {RUNTIME}.mysql_servers r WHERE status<>'OFFLINE_HARD' AND NOT EXISTS \
               (SELECT 1 FROM main.mysql_servers m WHERE m.hostgroup_id=r.hostgroup_id AND m.hostname=r.hostname \
                  AND m.port=r.port AND UPPER(m.status)<>'OFFLINE_HARD')"
        );
        let mut statement = self.db.prepare(&sql)?;
        let key = |row: &rusqlite::Row<'_>| Ok(RowKey::new(row.get(0)?, &row.get::<_, String>(1)?, row.get(2)?));
        let gone: Vec<RowKey> = statement.query_map([], key)?.collect::<Result<_>>()?;
        drop(statement);
        for key in gone {
            if idle(&key) {
                self.cooling.insert(key.clone(), Instant::now());
            }
            self.set_status(&key, "OFFLINE_HARD")?;
        }
        self.db.execute_batch(&format!(
            "REPLACE INTO {RUNTIME}.mysql_servers SELECT hostgroup_id,hostname,port,gtid_port,UPPER(status),weight,\
               compression,max_connections,max_replication_lag,use_ssl,max_latency_ms,{CUT_AT_NUL} \
               FROM main.mysql_servers WHERE UPPER(status)<>'OFFLINE_HARD'"
        ))?;
        self.runtime_changes(SERVERS);
        if self.rows()?.iter().any(|row| row.status == "OFFLINE_HARD") {
            // A ghost whose row is OFFLINE_HARD in memory has that row's comment ([3m-sigstop-pinned-hard-2s]).
            self.db.execute_batch(&format!(
                "UPDATE {RUNTIME}.mysql_servers SET comment=m.comment FROM main.mysql_servers m \
                   WHERE mysql_servers.status='OFFLINE_HARD' AND m.hostgroup_id=mysql_servers.hostgroup_id \
                   AND m.hostname=mysql_servers.hostname AND m.port=mysql_servers.port"
            ))?;
            self.runtime_changes(SERVERS);
        }
        let names = self.plays.names();
        self.copy("main", RUNTIME, &names[1..])?;
        self.version += 1;
        self.epoch = now_s();
        self.loaded = 0;
        for table in self.with_records("main", "main", &names)? {
            self.loaded = self.sum(self.loaded, &format!("main.{table}"), "")?;
        }
        self.changes = 0;
        Ok(())
    }

    /// SAVE MYSQL SERVERS FROM RUNTIME: SHUNNED becomes ONLINE, ghosts become config (facts §2).
    pub(super) fn save_from_runtime(&mut self) -> Result<()> {
        self.copy(RUNTIME, "main", &self.plays.names())?;
        self.db.execute_batch("UPDATE main.mysql_servers SET status='ONLINE' WHERE status='SHUNNED'")
    }

    /// What was read of a table of runtime counts no longer.
    fn runtime_changes(&mut self, table: &str) {
        self.known.shown.remove(table);
        if table == SERVERS {
            (self.known.rows, self.known.servers) = (None, None);
        }
    }

    /// Those of the tables that have records in one of two layers.
    fn with_records<'t>(&self, one: &str, other: &str, tables: &[&'t str]) -> Result<Vec<&'t str>> {
        let has = |table| format!("EXISTS(SELECT 1 FROM {one}.{table}) OR EXISTS(SELECT 1 FROM {other}.{table})");
        let all: Vec<String> = tables.iter().map(has).collect();
        let mut statement = self.db.prepare_cached(&format!("SELECT {}", all.join(",")))?;
        let has: Vec<bool> = statement.query_row([], |row| (0..tables.len()).map(|at| row.get(at)).collect())?;
        Ok(tables.iter().zip(has).filter_map(|(table, has)| has.then_some(*table)).collect())
    }

    /// Copies one layer's tables to another.
    pub(super) fn copy(&mut self, from: &str, to: &str, tables: &[&str]) -> Result<()> {
        self.total += u64::from(to != RUNTIME);
        if to == RUNTIME && tables == ["proxysql_servers"] {
            self.peer_loads += 1;
            self.peers = self.sum(0, "main.proxysql_servers", "")?;
        }
        for table in self.with_records(from, to, tables)? {
            if to == RUNTIME {
                self.runtime_changes(table);
            }
            self.db.execute_batch(&format!(
                "DELETE FROM {to}.{table}; INSERT INTO {to}.{table} SELECT * FROM {from}.{table};"
            ))?;
        }
        self.changes = 0;
        Ok(())
    }

    /// Copies the variables with a prefix. Returns how many; ProxySQL counts none to and from runtime (22-admin).
    pub(super) fn copy_variables(&mut self, from: &str, to: &str, prefix: &str) -> Result<u64> {
        let sql = format!(
            "REPLACE INTO {to}.global_variables SELECT * FROM {from}.global_variables WHERE variable_name LIKE ?1||'%'"
        );
        self.runtime_changes("global_variables");
        let copied = self.db.execute(&sql, [prefix])?;
        if to == RUNTIME {
            return Ok(0); // the count of the last change stays as it was (22-admin/sessions.txt)
        }
        self.total += copied as u64;
        self.changes = if from == RUNTIME { 0 } else { copied as u64 };
        Ok(self.changes)
    }

    /// Restarts: memory and runtime are loaded from disk, and tables that clients made in `main` are gone.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.db.execute_batch("PRAGMA query_only=0")?;
        let all = "SELECT name FROM main.sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%'";
        let names: Vec<String> = self.db.prepare(all)?.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
        let covered = self.plays.names();
        let own = |name: &str| {
            let name = name.strip_prefix("runtime_").unwrap_or(name);
            covered.contains(&name) || OTHERS.contains(&name) || name == "checksums_values"
        };
        for name in names.iter().filter(|name| !own(name)) {
            self.db.execute_batch(&format!("DROP TABLE main.\"{}\"", name.replace('"', "\"\"")))?;
        }
        self.runtime_changes(SERVERS);
        self.db.execute_batch(&format!("DELETE FROM {RUNTIME}.mysql_servers"))?;
        self.copy("disk", "main", &covered)?;
        self.copy("disk", "main", &OTHERS)?;
        self.copy("main", RUNTIME, &OTHERS)?;
        (self.version, self.total) = (0, 0);
        self.load(|_| false, |_| false)
    }

    /// Removes ghost rows without connections, as the next read of runtime does.
    pub(super) fn purge_ghosts(&mut self, used: impl Fn(&RowKey) -> bool) -> Result<()> {
        self.cooling.retain(|_, since| since.elapsed() < IDLE_CONNECTIONS_CLOSE);
        for row in self.rows()? {
            let key = row.key();
            if row.status == "OFFLINE_HARD" && !used(&key) && !self.cooling.contains_key(&key) {
                let sql = format!("DELETE FROM {RUNTIME}.mysql_servers WHERE (hostgroup_id,hostname,port)=(?1,?2,?3)");
                self.runtime_changes(SERVERS);
                self.db.prepare_cached(&sql)?.execute((key.hostgroup, &key.host, key.port))?;
            }
        }
        Ok(())
    }

    /// Removes the idle connections of removed rows. A client's statement wakes ProxySQL's threads, which close them.
    ///
    /// The ghosts of 3b are gone 9 ms after the LOAD. Those of 4-sessions are not, because no client writes there.
    pub(super) fn close_idle(&mut self) {
        self.cooling.clear();
    }

    /// The runtime rows.
    pub(super) fn rows(&mut self) -> Result<Vec<ServerRow>> {
        if let Some(rows) = &self.known.rows {
            return Ok(rows.clone());
        }
        let sql = format!(
            "SELECT hostgroup_id,hostname,port,status,weight,comment FROM {RUNTIME}.mysql_servers ORDER BY 1,2,3"
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok(ServerRow {
                hostgroup: row.get(0)?,
                host: row.get(1)?,
                port: row.get(2)?,
                status: row.get(3)?,
                weight: row.get(4)?,
                comment: String::from_utf8_lossy(row.get_ref(5)?.as_bytes()?).into_owned(),
            })
        };
        let rows = statement.query_map([], row)?.collect::<Result<Vec<_>>>()?;
        self.known.rows = Some(rows.clone());
        Ok(rows)
    }

    /// The pairs in force, each with writer and reader hostgroup.
    pub(super) fn pairs(&self) -> Result<Vec<(u32, u32)>> {
        let sql = format!("SELECT writer_hostgroup,reader_hostgroup FROM {RUNTIME}.mysql_replication_hostgroups");
        self.db.prepare_cached(&sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    /// The largest number of ONLINE servers in a hostgroup for which any of them is used.
    pub(super) fn max_online(&self, hostgroup: u32) -> Result<u32> {
        let sql = format!(
            "SELECT COALESCE(MAX(max_num_online_servers),1000000) FROM {RUNTIME}.mysql_hostgroup_attributes \
               WHERE hostgroup_id=?1"
        );
        self.db.prepare_cached(&sql)?.query_row([hostgroup], |row| row.get(0))
    }

    /// Sets the status of a runtime row.
    pub(super) fn set_status(&mut self, key: &RowKey, status: &str) -> Result<()> {
        let sql = format!("UPDATE {RUNTIME}.mysql_servers SET status=?4 WHERE (hostgroup_id,hostname,port)=(?1,?2,?3)");
        self.runtime_changes(SERVERS);
        self.db.prepare_cached(&sql)?.execute((key.hostgroup, &key.host, key.port, status)).map(drop)
    }

    /// Copies a runtime row into another hostgroup, comment and settings too (facts §2).
    pub(super) fn copy_row(&mut self, from: &RowKey, to: u32, status: &str) -> Result<()> {
        let sql = format!(
            "REPLACE INTO {RUNTIME}.mysql_servers SELECT ?4,hostname,port,gtid_port,?5,weight,compression,\
               max_connections,max_replication_lag,use_ssl,max_latency_ms,comment FROM {RUNTIME}.mysql_servers \
               WHERE (hostgroup_id,hostname,port)=(?1,?2,?3)"
        );
        self.runtime_changes(SERVERS);
        self.db.prepare_cached(&sql)?.execute((from.hostgroup, &from.host, from.port, to, status)).map(drop)
    }

    /// Fills the `runtime_` tables that a statement names. Writing to one has no effect, since it is filled again.
    pub(super) fn refresh_runtime(&mut self, lower: &str) -> Result<()> {
        if !lower.contains("runtime_") {
            return Ok(());
        }
        let tables = self.plays.names().into_iter().chain(OTHERS);
        for table in tables.filter(|table| lower.contains(&format!("runtime_{table}"))) {
            if !self.known.shown.contains(table) {
                self.show(table)?;
            }
            if table != "global_variables" {
                self.changes = 0; // variables do not change it (22-admin/sessions.txt)
            }
            self.total += 1;
        }
        if !["select", "create"].iter().any(|verb| lower.starts_with(verb)) {
            self.known.shown.clear(); // the statement may write to them
        }
        Ok(())
    }

    /// Fills the `runtime_` table of a table of runtime.
    fn show(&mut self, table: &'static str) -> Result<()> {
        self.db.prepare_cached(&format!("DELETE FROM main.runtime_{table}"))?.execute([])?;
        // ProxySQL lists its servers by hostgroup.
        let order = if table == SERVERS { "ORDER BY hostgroup_id,rowid" } else { "" };
        let state = self.plays.state_values(table);
        let sql = format!("INSERT INTO main.runtime_{table} SELECT *{state} FROM {RUNTIME}.{table} {order}");
        self.db.prepare_cached(&sql)?.execute([])?;
        self.known.shown.insert(table);
        Ok(())
    }

    /// Fills a stats table anew.
    pub(super) fn fill(&mut self, table: &str, rows: &[Vec<Option<String>>]) -> Result<()> {
        self.db.prepare_cached(&format!("DELETE FROM {table}"))?.execute([])?;
        for row in rows {
            let marks = vec!["?"; row.len()].join(",");
            let mut statement = self.db.prepare_cached(&format!("INSERT INTO {table} VALUES ({marks})"))?;
            statement.execute(rusqlite::params_from_iter(row))?;
        }
        self.changes = 0;
        self.total += u64::from(!UNCOUNTED.contains(&table));
        Ok(())
    }

    /// Fills `runtime_checksums_values`. ProxySQL does so only after a change (code: dumped_at).
    pub(super) fn fill_checksums(&mut self) -> Result<()> {
        let sums = self.checksums()?;
        if self.filled != sums {
            self.fill("runtime_checksums_values", &sums)?;
            self.filled = sums;
            self.changes = 1; // they are put in one by one (22-admin/probe.txt)
        }
        Ok(())
    }

    /// A variable in memory.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let sql = "SELECT variable_value FROM main.global_variables WHERE variable_name=?1";
        self.db.query_row(sql, [name], |row| row.get(0)).ok()
    }

    /// A variable in force.
    pub(super) fn runtime_variable(&self, name: &str) -> Option<String> {
        let sql = format!("SELECT variable_value FROM {RUNTIME}.global_variables WHERE variable_name=?1");
        self.db.query_row(&sql, [name], |row| row.get(0)).ok()
    }

    /// Sets a variable in force only, as commands do.
    pub(super) fn set_runtime_variable(&mut self, name: &str, value: &str) -> Result<()> {
        let sql = format!("UPDATE {RUNTIME}.global_variables SET variable_value=?2 WHERE variable_name=?1");
        self.runtime_changes("global_variables");
        self.db.execute(&sql, (name, value)).map(drop)
    }

    /// Sets a variable in memory. Returns whether it exists.
    pub(super) fn set_variable(&mut self, name: &str, value: &str) -> Result<bool> {
        let sql = "UPDATE main.global_variables SET variable_value=?2 WHERE variable_name=?1";
        let set = self.db.execute(sql, (name, value))?;
        self.changes = set as u64;
        self.total += self.changes;
        Ok(set > 0)
    }

    /// PROXYSQL READONLY: clients' statements must not write.
    pub(super) fn read_only(&self, on: bool) {
        // SQLite has this pragma, so it cannot fail.
        let _ = self.db.pragma_update(None, "query_only", on);
    }

    /// Counts a move of the monitor, where the version that is played does.
    pub(super) fn count_move(&mut self) {
        self.version += u64::from(self.plays.moves_count());
    }

    /// `runtime_checksums_values`: a monitor move changes the checksum, a LOAD the version too (facts §1). SHUNNED counts
    /// as ONLINE and a ghost not at all, since both are local (code: MYHGM_GEN_CLUSTER_ADMIN_RUNTIME_SERVERS).
    pub(super) fn checksums(&mut self) -> Result<Vec<Vec<Option<String>>>> {
        let servers = match self.known.servers {
            Some(sum) => sum,
            None => self.sum(0, &format!("{RUNTIME}.mysql_servers"), "status<>'OFFLINE_HARD'")?,
        };
        self.known.servers = Some(servers);
        let ours = |name: &str| name.starts_with("mysql_servers");
        let sum = |name: &str| match name {
            "mysql_servers" => servers,
            "mysql_servers_v2" => self.loaded,
            "proxysql_servers" => self.peers,
            _ => 0,
        };
        let names = ["admin_variables", "mysql_query_rules", "mysql_servers", "mysql_users", "mysql_variables"];
        let record = |name: &str| {
            let version = match name {
                "proxysql_servers" => 1 + self.peer_loads,
                name if ours(name) => self.version,
                _ => 1,
            };
            let texts = [name.to_owned(), version.to_string(), self.epoch.to_string(), format!("0x{:016X}", sum(name))];
            texts.into_iter().map(Some).collect()
        };
        let postgres = ["pgsql_query_rules", "pgsql_servers", "pgsql_users", "pgsql_variables"];
        let postgres = postgres.into_iter().filter(|_| self.plays.has_postgres());
        let loaded = (!self.plays.moves_count()).then_some("mysql_servers_v2");
        Ok(names.into_iter().chain(["proxysql_servers"]).chain(loaded).chain(postgres).map(record).collect())
    }

    /// Adds a table's records to an FNV-1a sum. An empty table does not change the sum.
    fn sum(&self, mut sum: u64, table: &str, only: &str) -> Result<u64> {
        let filter = if only.is_empty() { "1" } else { only };
        let mut statement = self.db.prepare_cached(&format!("SELECT * FROM {table} WHERE {filter} ORDER BY 1,2,3"))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                let text = match row.get_ref(column)? {
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
                    other => format!("{other:?}"),
                };
                let text = text.replace("\"SHUNNED\"", "\"ONLINE\"");
                for byte in text.bytes() {
                    sum = (sum ^ u64::from(byte)).wrapping_add(0xcbf2_9ce4_8422_2325).wrapping_mul(0x0100_0000_01b3);
                }
            }
        }
        Ok(sum)
    }
}

/// The name of runtime's schema, which no client's statement uses.
pub(super) const RUNTIME: &str = "the_labs_runtime";

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// SQLite's error text without rusqlite's.
fn words(error: rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => text.unwrap_or_else(|| code.to_string()),
        rusqlite::Error::SqlInputError { msg, .. } => msg,
        other => other.to_string(),
    }
}

/// Only the first of several statements runs.
fn first_statement<'d>(db: &'d Connection, sql: &str) -> Result<Option<rusqlite::Statement<'d>>> {
    rusqlite::Batch::new(db, sql).next()
}
