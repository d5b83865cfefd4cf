//! The SQL of each statement, in the admin interface's SQLite dialect (facts §1).
//!
//! A quote is doubled, a backslash is literal, and only the first of several statements would run.

use std::collections::{BTreeMap, BTreeSet};

use stonith_core::apply::{
    DELAYS_MS, DRAIN_NAME, DRAIN_RENEWS_S, ENDED_NAME, EXTENDED_NAME, PAUSED_NAME, Place, RETURNS_NAME, SCRATCH_NAME,
    Statement, WATCHED_NAME, copy_name,
};
use stonith_core::node::Node;
use stonith_core::orders::Release;
use stonith_core::role::Role;
use stonith_core::table::{Record, RowKey, SERVERS, Table};

use crate::bytes::{byte_of, to_bytes};

/// How long a lock lasts without being renewed, s. Any apply takes far less (facts §1: 14.5 ms).
pub const LOCK_TTL_S: u64 = 30;

/// Lists the tables in `main` that matter to an apply.
pub const NAMES: &str =
    "SELECT name FROM main.sqlite_master WHERE type='table' AND (name LIKE 'mysql_%' OR name LIKE 'stonith_%')";

/// The program's own tables in `main` that are not the rest of an apply: lease, releases, nodes with ended sessions, and
/// the notes of a pause and of a drain.
pub const SHARED: [&str; 5] = [LEASE_NAME, RELEASED_NAME, PAUSED_NAME, DRAIN_NAME, ENDED_NAME];

/// Reads the connections in use.
pub const USED: &str = "SELECT hostgroup,srv_host,srv_port,ConnUsed FROM stats_mysql_connection_pool WHERE ConnUsed>0";

/// The variable that makes the processlist name every server that a session holds.
const EXTENDED: &str = "mysql-show_processlist_extended";

/// The variable that tells how long a session stays on its server after an insert with an auto_increment key.
pub const INSERT_DELAY: &str = "mysql-auto_increment_delay_multiplex_timeout_ms";

const LOCK_NAME: &str = "stonith_lock";
const LEASE_NAME: &str = "stonith_lease";
const RELEASED_NAME: &str = "stonith_released";

/// Reads the shared lease: its owner, how long it lasts, and how long ago it was last wanted, s.
///
/// A lease from the future was noted before ProxySQL's clock was set back. It counts as over.
pub const LEASE: &str = "SELECT owner, CASE WHEN noted<=now THEN until-now ELSE 0 END, now-wanted \
     FROM main.stonith_lease, (SELECT CAST(strftime('%s','now') AS INTEGER) AS now)";

/// Reads the newest releases of each node.
pub const RELEASED: &str = "SELECT hostname, port, max(recovery_ns), max(downtime_s), max(ordered_s) \
     FROM main.stonith_released GROUP BY hostname, port";

/// Reads the nodes whose return is noted.
pub const RETURNS: &str = "SELECT hostname, port, role FROM main.stonith_returns";

const NOW: &str = "CAST(strftime('%s','now') AS INTEGER)";

/// Reads ProxySQL's version.
pub const VERSION: &str = "SELECT @@version";

/// Reads the columns of the tables that the program may touch: table, column, its place in the primary key or 0, its
/// place in the table. No name in it makes ProxySQL fill a table of runtime or of the statistics.
pub const COLUMNS: &str = "\
    SELECT m.name,t.name,t.pk,t.cid FROM main.sqlite_master m JOIN pragma_table_info(m.name) t WHERE m.type='table' \
    AND (m.name LIKE '%mysql_%' OR m.name LIKE '%global_var%' OR m.name LIKE 'runtime_c%' OR m.name LIKE 'runtime_p%') \
    UNION ALL SELECT m.name,t.name,t.pk,t.cid FROM stats.sqlite_master m JOIN pragma_table_info(m.name,'stats') t \
    WHERE m.name LIKE 'stats_mysql_process%' OR m.name LIKE 'stats_mysql_connection_p%' \
    UNION ALL SELECT 'disk.'||m.name,t.name,t.pk,t.cid FROM disk.sqlite_master m JOIN pragma_table_info(m.name,'disk') t \
    WHERE m.name='mysql_servers' ORDER BY 1,4";

/// Reads the names of the checksums.
pub const CHECKSUMS: &str = "SELECT name FROM runtime_checksums_values";

/// Reads whether the admin interface takes no writes, and whether LOADs are counted. `SELECT @@admin-read_only` would
/// show what memory has, and `PROXYSQL READONLY` changes runtime only.
pub const SWITCHES: &str = "SELECT variable_name,variable_value FROM runtime_global_variables \
     WHERE variable_name IN ('admin-read_only','admin-checksum_mysql_servers')";

/// Reads the hostgroup pairs in which the monitor moves rows.
pub const PAIRS: &str = "SELECT writer_hostgroup,reader_hostgroup,check_type FROM runtime_mysql_replication_hostgroups";

/// Reads the hostgroups in which other monitors of ProxySQL move rows.
pub const FOREIGN: &str = "\
    SELECT writer_hostgroup,backup_writer_hostgroup,reader_hostgroup,offline_hostgroup FROM runtime_mysql_group_replication_hostgroups \
    UNION ALL SELECT writer_hostgroup,backup_writer_hostgroup,reader_hostgroup,offline_hostgroup FROM runtime_mysql_galera_hostgroups \
    UNION ALL SELECT writer_hostgroup,reader_hostgroup,reader_hostgroup,reader_hostgroup FROM runtime_mysql_aws_aurora_hostgroups";

/// Reads the ProxySQL Cluster peers, which may include this ProxySQL.
pub const PEERS: &str = "SELECT hostname, port FROM runtime_proxysql_servers";

/// How often a peer finds a member's variables changed and alike before it takes them; never, if it is 0 (facts §6).
pub const PEERS_LOOKS: &str = "admin-cluster_mysql_variables_diffs_before_sync";

/// The time between two looks of a peer, in ms.
pub const PEERS_INTERVAL_MS: &str = "admin-cluster_check_interval_ms";

/// Reads the addresses of this ProxySQL's admin interface, as it has them.
pub const ADMIN_ADDRESSES: &str = "SELECT @@admin-mysql_ifaces";

/// Reads whether ProxySQL is paused. No record before 2.6 (facts §6).
pub const PAUSED: &str = "SELECT Variable_Value FROM stats_mysql_global WHERE Variable_Name='mysql_listener_paused'";

/// Reads the agents that noted that they pause ProxySQL.
pub const PAUSE_NOTE: &str = "SELECT owner FROM main.stonith_paused";

/// Counts the client sessions.
pub const CLIENTS: &str = "SELECT count(*) FROM stats_mysql_processlist";

/// Reads the stamp, which changes with every write to ProxySQL's tables.
///
/// A LOAD and a move by the monitor change the checksums. Any other write to memory or disk changes the count of
/// changed records (facts §1). Reading runtime changes that count too, so it is read after runtime.
pub const STAMP: &str =
    "SELECT name,version,checksum FROM runtime_checksums_values UNION ALL SELECT 'total_changes',total_changes(),''";

/// Reads a table of runtime. `columns` are those that memory has too; empty if these are all.
///
/// A column that only runtime has is state, and no part of the config (facts §12).
pub fn runtime(table: Table, columns: &[String]) -> String {
    format!("SELECT {} FROM {}", all_or(columns), name(Place::Runtime, table))
}

/// Reads the servers being edited.
pub const MEMORY_SERVERS: &str = "SELECT * FROM main.mysql_servers";

/// Reads the servers that a restart loads.
pub const DISK_SERVERS: &str = "SELECT * FROM disk.mysql_servers";

/// Reads the interval and the timeout of ProxySQL's read_only checks, ms.
pub const MONITOR_ROUND: [&str; 2] =
    ["SELECT @@mysql-monitor_read_only_interval", "SELECT @@mysql-monitor_read_only_timeout"];

/// Reads variables as they are in force. They are named, since other variables are passwords.
pub fn variables(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
    format!(
        "SELECT variable_name,variable_value FROM runtime_global_variables WHERE variable_name IN ({})",
        names.join(",")
    )
}

/// Reads the names of the variables whose value in memory is not in force. Values may be passwords.
pub const STAGED_VARIABLES: &str = "SELECT m.variable_name FROM main.global_variables m \
     JOIN runtime_global_variables r ON r.variable_name=m.variable_name \
     WHERE m.variable_value<>r.variable_value ORDER BY 1";

/// Reads for each server that ProxySQL's monitor checked: the checks in its log, how many failed, the age of the last, s,
/// and what that one said. SQLite takes the columns beside a `max()` from the record that has it.
pub const READ_ONLY_LOG: &str = "SELECT hostname,port,count(*),count(error),\
     CAST(strftime('%s','now') AS INTEGER)-max(time_start_us)/1000000 AS age_s,error,read_only \
     FROM monitor.mysql_server_read_only_log GROUP BY hostname,port";

/// Reads the same of the monitor's connects.
pub const CONNECT_LOG: &str = "SELECT hostname,port,count(*),count(connect_error),\
     CAST(strftime('%s','now') AS INTEGER)-max(time_start_us)/1000000 AS age_s,connect_error \
     FROM monitor.mysql_server_connect_log GROUP BY hostname,port";

/// Reads what ProxySQL's scheduler starts. The arguments may hold passwords.
pub const SCHEDULED: &str = "SELECT id,interval_ms,filename,arg1,arg2,arg3,arg4,arg5,comment FROM runtime_scheduler \
     WHERE active=1 ORDER BY id";

/// Reads how many servers of a hostgroup may be ONLINE before ProxySQL uses none of them.
pub const ONLINE_LIMITS: &str = "SELECT hostgroup_id,max_num_online_servers FROM runtime_mysql_hostgroup_attributes";

/// Reads the hostgroups that clients reach without a query rule.
pub const DEFAULT_HOSTGROUPS: &str =
    "SELECT DISTINCT default_hostgroup FROM runtime_mysql_users WHERE frontend=1 AND active=1 ORDER BY 1";

/// Counts the records of a table that memory and runtime do not both have, and those that memory and disk do not both
/// have. `columns` are those of memory.
pub fn differences(table: Table, columns: &[String]) -> String {
    let records = |place| format!("SELECT {} FROM {}", all_or(columns), name(place, table));
    let differ = |a: Place, b: Place| {
        let [a, b] = [records(a), records(b)];
        format!("(SELECT count(*) FROM ({a} EXCEPT {b}))+(SELECT count(*) FROM ({b} EXCEPT {a}))")
    };
    format!(
        "SELECT {} AS staged,{} AS unsaved",
        differ(Place::Memory, Place::Runtime),
        differ(Place::Memory, Place::Disk)
    )
}

/// Reads a whole table of one layer. `columns` are those to read; empty for all.
pub fn whole(place: Place, table: Table, columns: &[String]) -> String {
    format!("SELECT {} FROM {}", all_or(columns), name(place, table))
}

/// Reads the names and the defaults of a table's columns.
pub fn column_defaults(table: Table) -> String {
    format!("SELECT name,dflt_value FROM pragma_table_info({},'main')", quote(table.name()))
}

/// What an operator runs to give a server's rows the name that others of its rows have.
pub fn rename_for_people(from: &Node, to: &Node) -> String {
    format!(
        "UPDATE OR REPLACE mysql_servers SET hostname={},port={} WHERE hostname={} AND port={}; \
         LOAD MYSQL SERVERS TO RUNTIME; SAVE MYSQL SERVERS TO DISK",
        quote(to.host.as_str()),
        to.port,
        quote(from.host.as_str()),
        from.port
    )
}

/// What an operator runs so that the scheduler starts an entry no more.
pub fn unschedule_for_people(id: &str) -> String {
    format!("UPDATE scheduler SET active=0 WHERE id={}; {LOAD_SCHEDULER}", quote(id))
}

/// What an operator runs so that the scheduler starts an entry at another interval.
pub fn reschedule_for_people(id: &str, interval_ms: u64) -> String {
    format!("UPDATE scheduler SET interval_ms={interval_ms} WHERE id={}; {LOAD_SCHEDULER}", quote(id))
}

const LOAD_SCHEDULER: &str = "LOAD SCHEDULER TO RUNTIME; SAVE SCHEDULER TO DISK";

/// Reads the sessions, with the default hostgroup of each one's user.
const SESSIONS: &str = "SELECT p.SessionID,p.hostgroup,p.srv_host,p.srv_port,p.command,u.default_hostgroup,\
     p.extended_info FROM stats_mysql_processlist p LEFT JOIN runtime_mysql_users u ON u.username=p.user AND u.frontend=1";

/// Reads the sessions with what they hold.
pub const HOLDERS: &str = "SELECT SessionID,srv_host,srv_port,command,time_ms,extended_info FROM stats_mysql_processlist \
     WHERE srv_host IS NOT NULL";

/// Renders a statement. `columns` are those of its table, as last read. Where runtime is read, they are those to read;
/// empty for all.
pub fn render(statement: &Statement, columns: &[String]) -> String {
    match statement {
        Statement::Names => NAMES.to_owned(),
        Statement::TakeLock { owner } => take_lock(owner),
        Statement::ReadLock => format!("SELECT owner, {EXPIRED} FROM main.{LOCK_NAME}", EXPIRED = expired()),
        Statement::TakeOverLock { owner, from } => take_over_lock(owner, from),
        Statement::RenewLock { owner } => renew_lock(owner),
        Statement::DropLock { .. } => drop_ours(LOCK_NAME),
        Statement::Read { place: Place::Runtime, table } => runtime(*table, columns),
        Statement::Read { place, table } => format!("SELECT * FROM {}", name(*place, *table)),
        Statement::Copy { from, to, table } => copy(&name(*from, *table), &name(*to, *table), columns),
        Statement::Drop { place, table } => format!("DROP TABLE IF EXISTS {}", name(*place, *table)),
        Statement::Swap { place, table, change } => {
            swap(&name(*place, *table), columns, keys_of(*table, columns), change.from(), change.to())
        }
        Statement::SwapByKey { place, table, from, to } => swap_by_key(*place, *table, columns, from, to.as_ref()),
        Statement::Restate { place, keys, from, to } => restate(&name(*place, SERVERS), keys, from, to),
        Statement::LeaveLease { owner, good_s } => leave_lease(owner, *good_s),
        Statement::RenewLease { owner, good_s } => renew_lease(owner, *good_s),
        Statement::WantLease => format!("UPDATE main.{LEASE_NAME} SET wanted={NOW}"),
        Statement::DropLease => drop_ours(LEASE_NAME),
        Statement::NoteReturns(returns) => note_returns(returns),
        Statement::ReadReturns => RETURNS.to_owned(),
        Statement::DropReturns => drop_ours(RETURNS_NAME),
        Statement::MakeReleases => make_releases(),
        Statement::NoteReleases(releases) => note_releases(releases),
        Statement::Load => "LOAD MYSQL SERVERS TO RUNTIME".to_owned(),
        Statement::LoadScheduler => "LOAD SCHEDULER TO RUNTIME".to_owned(),
        Statement::NoteWatch => note_watch(),
        Statement::MarkDisk => mark_disk(),
        Statement::WasSaved => was_saved(),
        Statement::DropWatch => drop_ours(WATCHED_NAME),
        Statement::Save => "SAVE MYSQL SERVERS TO DISK".to_owned(),
        Statement::SaveScheduler => "SAVE SCHEDULER TO DISK".to_owned(),
        Statement::Used => USED.to_owned(),
        Statement::Sessions => SESSIONS.to_owned(),
        Statement::Kill(id) => format!("KILL CONNECTION {id}"),
        Statement::Variables => compare_variables(),
        Statement::NoteExtended => format!("CREATE TABLE main.{EXTENDED_NAME} AS SELECT {NOW} AS noted"),
        Statement::SetExtended(on) => format!("SET {EXTENDED}='{}'", u8::from(*on)),
        Statement::LoadVariables => "LOAD MYSQL VARIABLES TO RUNTIME".to_owned(),
        Statement::DropExtended => drop_ours(EXTENDED_NAME),
        Statement::NoteDrain => note_drain(),
        Statement::LendDrain { delay_ms } => lend_drain(*delay_ms),
        Statement::PutBackDrain => put_back_drain(),
        Statement::RenewDrain => format!("UPDATE main.{DRAIN_NAME} SET noted={NOW}"),
        Statement::ReadDrain => read_drain(),
        Statement::DropDrain => drop_ours(DRAIN_NAME),
        Statement::NoteEnded(nodes) => note_ended(nodes),
        Statement::ReadEnded => format!("SELECT hostname, port FROM main.{ENDED_NAME}"),
        Statement::DropEnded => drop_ours(ENDED_NAME),
        Statement::DropScratch => drop_ours(SCRATCH_NAME),
        Statement::MakePauseNote => make_pause_note(),
        Statement::NotePause { owner } => note_pause(owner),
        Statement::PauseProxy => "PROXYSQL PAUSE".to_owned(),
        Statement::TakeBackPauseNote { owner } => take_back_pause_note(owner),
        Statement::ResumeProxy => "PROXYSQL RESUME".to_owned(),
        Statement::DropPauseNote => drop_ours(PAUSED_NAME),
        Statement::Wait(_) => String::new(),
    }
}

fn keys_of(table: Table, columns: &[String]) -> &[String] {
    &columns[..table.key_columns.min(columns.len())]
}

fn swap_by_key(place: Place, table: Table, columns: &[String], from: &Record, to: Option<&Record>) -> String {
    let is = keys_of(table, columns).iter().zip(from).map(same_text);
    change(&name(place, table), columns, from, to, &is.collect::<Vec<_>>().join(" AND "))
}

fn take_lock(owner: &str) -> String {
    format!("CREATE TABLE main.{LOCK_NAME} AS SELECT {} AS owner, {NOW}+{LOCK_TTL_S} AS expires", quote(owner))
}

fn take_over_lock(owner: &str, from: &str) -> String {
    format!(
        "UPDATE main.{LOCK_NAME} SET owner={owner}, expires={NOW}+{LOCK_TTL_S} WHERE owner={} AND ({} OR owner={owner})",
        quote(from),
        expired(),
        owner = quote(owner),
    )
}

fn renew_lock(owner: &str) -> String {
    format!("UPDATE main.{LOCK_NAME} SET expires={NOW}+{LOCK_TTL_S} WHERE owner={}", quote(owner))
}

/// Makes the table that shows that tables can be made. [`Statement::DropScratch`] drops it.
pub fn make_scratch() -> String {
    format!("CREATE TABLE main.{SCRATCH_NAME} AS SELECT 1 AS tried")
}

fn drop_ours(name: &str) -> String {
    format!("DROP TABLE IF EXISTS main.{name}")
}

fn copy(from: &str, to: &str, columns: &[String]) -> String {
    format!("CREATE TABLE {to} AS SELECT {} FROM {from}", all_or(columns))
}

fn all_or(columns: &[String]) -> String {
    if columns.is_empty() { "*".to_owned() } else { columns.join(",") }
}

/// Renders a change of status and comment, for the rows that have the old ones.
fn restate(table: &str, keys: &[RowKey], from: &(String, String), to: &(String, String)) -> String {
    format!(
        "UPDATE {table} SET status={}, comment={} WHERE CAST(status AS TEXT)={} AND CAST(comment AS TEXT)={} AND {}",
        text(&to.0),
        text(&to.1),
        text(&from.0),
        text(&from.1),
        of_rows(keys)
    )
}

fn leave_lease(owner: &str, good_s: u64) -> String {
    format!(
        "CREATE TABLE main.{LEASE_NAME} AS SELECT {} AS owner, {NOW} AS noted, {NOW}+{good_s} AS until, {NOW} AS wanted",
        quote(owner)
    )
}

fn renew_lease(owner: &str, good_s: u64) -> String {
    format!(
        "UPDATE main.{LEASE_NAME} SET noted={NOW}, until={NOW}+{good_s}, \
         wanted=CASE WHEN owner={owner} THEN wanted ELSE {NOW} END, owner={owner}",
        owner = quote(owner)
    )
}

/// The names come from WITH: the SQLite of ProxySQL 2.4 (3.19) has no `column1`.
fn note_returns(returns: &BTreeMap<Node, Role>) -> String {
    format!(
        "CREATE TABLE main.{RETURNS_NAME} AS WITH noted(hostname,port,role) AS (VALUES {}) SELECT * FROM noted",
        of_nodes(returns, |role| quote(&role.to_string()))
    )
}

/// A delay that a drain at a peer has lent is not noted: nobody would ever put the right one back.
fn note_drain() -> String {
    format!(
        "CREATE TABLE main.{DRAIN_NAME} AS SELECT {NOW} AS noted,variable_name,variable_value \
         FROM main.global_variables WHERE variable_name='{EXTENDED}' \
         OR (variable_name='{INSERT_DELAY}' AND NOT {})",
        is_lent_delay("variable_value")
    )
}

/// Whether a drain lends such a delay.
fn is_lent_delay(value: &str) -> String {
    format!("CAST({value} AS INTEGER) BETWEEN {} AND {}", DELAYS_MS.start(), DELAYS_MS.end())
}

fn make_pause_note() -> String {
    format!("CREATE TABLE IF NOT EXISTS main.{PAUSED_NAME} AS SELECT '' AS owner, 0 AS noted WHERE 0")
}

fn take_back_pause_note(owner: &str) -> String {
    format!("DELETE FROM main.{PAUSED_NAME} WHERE owner={}", quote(owner))
}

fn note_pause(owner: &str) -> String {
    let owner = quote(owner);
    format!(
        "INSERT INTO main.{PAUSED_NAME} SELECT {owner},{NOW} \
         WHERE NOT EXISTS (SELECT 1 FROM main.{PAUSED_NAME} WHERE owner={owner})"
    )
}

fn make_releases() -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS main.{RELEASED_NAME} AS \
         SELECT '' AS hostname, 0 AS port, 0 AS recovery_ns, 0 AS downtime_s, 0 AS ordered_s WHERE 0"
    )
}

fn note_releases(releases: &BTreeMap<Node, Release>) -> String {
    let values = of_nodes(releases, |r| format!("{},{},{}", r.recovery_ns, r.downtime_s, r.ordered_s));
    format!("INSERT INTO main.{RELEASED_NAME} VALUES {values}")
}

/// Renders the mark that shows whether somebody ran SAVE.
///
/// A SAVE rewrites the disk table with memory's rowids. No edit changes a rowid, and nothing shows it. So the mark is a
/// rowid that neither table has. An empty disk table has no mark, and a SAVE does not show.
fn note_watch() -> String {
    format!(
        "CREATE TABLE main.{WATCHED_NAME} AS SELECT mark FROM (SELECT \
         min(0,min(rowid),(SELECT ifnull(min(rowid),0) FROM main.mysql_servers))-1 AS mark FROM disk.mysql_servers) \
         WHERE mark IS NOT NULL"
    )
}

fn mark_disk() -> String {
    format!(
        "UPDATE disk.mysql_servers SET rowid=(SELECT mark FROM main.{WATCHED_NAME}) \
         WHERE rowid=(SELECT min(rowid) FROM disk.mysql_servers)"
    )
}

fn was_saved() -> String {
    format!(
        "SELECT mark FROM main.{WATCHED_NAME} WHERE NOT EXISTS (SELECT 1 FROM disk.mysql_servers d WHERE d.rowid=mark)"
    )
}

/// Reads whether the extended processlist is on in any layer, and how many other variables are staged.
fn compare_variables() -> String {
    format!(
        "SELECT max(m.variable_name='{EXTENDED}' AND (m.variable_value<>'0' OR r.variable_value<>'0')),\
         sum(m.variable_name<>'{EXTENDED}' AND m.variable_value<>r.variable_value) \
         FROM main.global_variables m JOIN runtime_global_variables r ON r.variable_name=m.variable_name \
         WHERE m.variable_name LIKE 'mysql-%'"
    )
}

/// Gives the lent variables their values for a drain. An operator who sets the delay to 0 has switched its time limit off, so
/// it stays 0. A value that is not noted, or not any more the noted one, is left alone.
fn lend_drain(delay_ms: u64) -> String {
    format!(
        "UPDATE main.global_variables SET variable_value=CASE variable_name WHEN '{EXTENDED}' THEN '1' ELSE '{delay_ms}' END \
         WHERE EXISTS (SELECT 1 FROM main.{DRAIN_NAME} n WHERE n.variable_name=global_variables.variable_name \
         AND n.variable_value=global_variables.variable_value) \
         AND ((variable_name='{EXTENDED}' AND variable_value='0') \
         OR (variable_name='{INSERT_DELAY}' AND CAST(variable_value AS INTEGER)>{most_ms}))",
        most_ms = DELAYS_MS.end(),
    )
}

/// Whether a variable of this table has the value that a drain lends it.
fn has_lent_value(table: &str) -> String {
    format!(
        "(({table}.variable_name='{EXTENDED}' AND {table}.variable_value='1') OR \
         ({table}.variable_name='{INSERT_DELAY}' AND {}))",
        is_lent_delay(&format!("{table}.variable_value"))
    )
}

fn put_back_drain() -> String {
    let noted = format!("FROM main.{DRAIN_NAME} n WHERE n.variable_name=global_variables.variable_name");
    format!(
        "UPDATE main.global_variables SET variable_value=(SELECT n.variable_value {noted}) \
         WHERE EXISTS (SELECT 1 {noted}) AND {}",
        has_lent_value("global_variables")
    )
}

/// Reads whether nobody renews the note of a drain, and how many variables a LOAD would take live besides those that were
/// lent.
fn read_drain() -> String {
    format!(
        "SELECT NOT EXISTS (SELECT 1 FROM main.{DRAIN_NAME} WHERE noted BETWEEN {NOW}-{stale_s} AND {NOW}),count(*) \
         FROM main.global_variables m JOIN runtime_global_variables r ON r.variable_name=m.variable_name \
         LEFT JOIN main.{DRAIN_NAME} n ON n.variable_name=m.variable_name \
         WHERE m.variable_name LIKE 'mysql-%' AND m.variable_value<>ifnull(n.variable_value,r.variable_value) \
         AND NOT (n.variable_name IS NOT NULL AND {lent})",
        stale_s = 3 * DRAIN_RENEWS_S,
        lent = has_lent_value("m"),
    )
}

fn note_ended(nodes: &BTreeSet<Node>) -> String {
    let nodes: Vec<String> =
        nodes.iter().map(|node| format!("({},{})", quote(node.host.as_str()), node.port)).collect();
    let values = nodes.join(",");
    format!("CREATE TABLE main.{ENDED_NAME} AS WITH noted(hostname,port) AS (VALUES {values}) SELECT * FROM noted")
}

/// Whether a lock has expired, or is so far ahead that the clock must have been set back since.
fn expired() -> String {
    format!("(expires < {NOW} OR expires > {NOW}+{LOCK_TTL_S})")
}

fn name(place: Place, table: Table) -> String {
    match place {
        Place::Runtime => format!("runtime_{}", table.name()),
        Place::Memory => format!("main.{}", table.name()),
        Place::Disk => format!("disk.{}", table.name()),
        Place::Kept | Place::Target => format!("main.{}", copy_name(place, table)),
    }
}

/// Renders the compare-and-swap of one record.
///
/// The key is found by its index. Every other column is compared as the text that was read, whatever its stored type.
fn swap(table: &str, columns: &[String], keys: &[String], from: Option<&Record>, to: Option<&Record>) -> String {
    let has_key = |record: &Record| {
        let each = keys.iter().zip(record).map(|(column, value)| format!("{column} IS {}", literal(value.as_deref())));
        each.collect::<Vec<_>>()
    };
    match (from, to) {
        (None, Some(to)) => {
            let values: Vec<String> = to.iter().map(|value| literal(value.as_deref())).collect();
            let is_there = format!("SELECT 1 FROM {table} WHERE {}", has_key(to).join(" AND "));
            let (columns, values) = (columns.join(","), values.join(","));
            format!("INSERT OR REPLACE INTO {table} ({columns}) SELECT {values} WHERE NOT EXISTS ({is_there})")
        }
        (Some(from), to) => {
            let others = columns.iter().zip(from).skip(keys.len()).map(same_text);
            let is: Vec<String> = has_key(from).into_iter().chain(others).collect();
            change(table, columns, from, to, &is.join(" AND "))
        }
        (None, None) => format!("DELETE FROM {table} WHERE 0"),
    }
}

/// Renders the replacement or deletion of one record. Unchanged columns are not written.
///
/// The hostgroup tables have unique columns besides their key (a reader hostgroup has one pair). A record in the way of
/// the new one is replaced in the same statement, so the table is never empty.
fn change(table: &str, columns: &[String], from: &Record, to: Option<&Record>, is: &str) -> String {
    let Some(to) = to else { return format!("DELETE FROM {table} WHERE {is}") };
    let changed = columns.iter().zip(from.iter().zip(to)).filter(|(_, (from, to))| from != to);
    let set = changed.map(|(column, (_, value))| format!("{column}={}", literal(value.as_deref())));
    format!("UPDATE OR REPLACE {table} SET {} WHERE {is}", set.collect::<Vec<_>>().join(","))
}

/// Compares a column as the text that the admin interface shows, also for a BLOB or a number.
fn same_text((column, value): (&String, &Option<String>)) -> String {
    format!("CAST({column} AS TEXT) IS {}", literal(value.as_deref()))
}

/// The condition for these rows. A single row is found by the whole index.
fn of_rows(keys: &[RowKey]) -> String {
    match keys {
        [key] => format!("hostgroup_id={} AND hostname={} AND port={}", key.hostgroup, text(&key.hostname), key.port),
        keys => {
            let keys: Vec<String> = keys.iter().map(row_key).collect();
            format!("(hostgroup_id,hostname,port) IN (VALUES {})", keys.join(","))
        }
    }
}

/// Renders a row of values for each node.
fn of_nodes<T>(nodes: &BTreeMap<Node, T>, values: impl Fn(&T) -> String) -> String {
    let row = |(node, of): (&Node, &T)| format!("({},{},{})", quote(node.host.as_str()), node.port, values(of));
    nodes.iter().map(row).collect::<Vec<_>>().join(",")
}

fn row_key(key: &RowKey) -> String {
    format!("({},{},{})", key.hostgroup, text(&key.hostname), key.port)
}

fn literal(value: Option<&str>) -> String {
    value.map_or("NULL".to_owned(), text)
}

/// Renders a value of ProxySQL. If it is not UTF-8 or would end the statement, it is rendered by its bytes.
fn text(value: &str) -> String {
    if value.chars().all(|letter| letter != '\0' && byte_of(letter).is_none()) {
        return quote(value);
    }
    let hex: String = to_bytes(value).iter().map(|byte| format!("{byte:02X}")).collect();
    format!("CAST(x'{hex}' AS TEXT)")
}

/// Renders a text literal.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use stonith_core::table::Change;

    use super::*;

    #[test]
    fn a_quote_is_doubled_and_a_backslash_is_literal() {
        assert_eq!(quote(r"it's a\b"), r"'it''s a\b'");
    }

    #[test]
    fn what_is_no_text_goes_by_its_bytes() {
        assert_eq!(text(&crate::bytes::to_text(b"B\xFCro".to_vec())), "CAST(x'42FC726F' AS TEXT)");
        assert_eq!(text("a\0b"), "CAST(x'610062' AS TEXT)");
        assert_eq!(text("it's \u{e9}"), "'it''s \u{e9}'");
    }

    #[test]
    fn the_lock_lasts_30_s_and_a_lease_as_long_as_it_says_by_proxysqls_clock() {
        let sent = |statement: Statement| render(&statement, &[]);
        let (owner, from) = ("it's me".to_owned(), "another".to_owned());
        let now = "CAST(strftime('%s','now') AS INTEGER)";
        assert_eq!(
            sent(Statement::TakeLock { owner: owner.clone() }),
            format!("CREATE TABLE main.stonith_lock AS SELECT 'it''s me' AS owner, {now}+30 AS expires")
        );
        assert_eq!(
            sent(Statement::RenewLock { owner: owner.clone() }),
            format!("UPDATE main.stonith_lock SET expires={now}+30 WHERE owner='it''s me'")
        );
        let take_over = sent(Statement::TakeOverLock { owner: owner.clone(), from });
        let taken =
            format!("UPDATE main.stonith_lock SET owner='it''s me', expires={now}+30 WHERE owner='another' AND (");
        assert!(take_over.starts_with(&taken), "{take_over}");
        assert!(take_over.ends_with(" OR owner='it''s me')"), "{take_over}");
        assert_eq!(
            sent(Statement::LeaveLease { owner: owner.clone(), good_s: 7 }),
            format!(
                "CREATE TABLE main.stonith_lease AS SELECT 'it''s me' AS owner, {now} AS noted, {now}+7 AS until, {now} AS wanted"
            )
        );
        assert_eq!(
            sent(Statement::RenewLease { owner, good_s: 7 }),
            format!(
                "UPDATE main.stonith_lease SET noted={now}, until={now}+7, \
                 wanted=CASE WHEN owner='it''s me' THEN wanted ELSE {now} END, owner='it''s me'"
            )
        );
    }

    #[test]
    fn a_swap_names_every_column_so_that_it_matches_only_what_was_read() {
        let columns = ["hostgroup_id".to_owned(), "comment".to_owned()];
        let from = vec![Some("10".to_owned()), None];
        let to = vec![Some("10".to_owned()), Some("x".to_owned())];
        let table = stonith_core::table::COVERED[1];
        let swap = |from: Option<&Record>, to: Option<&Record>| {
            let change = Change::between(from.cloned(), to.cloned()).unwrap();
            render(&Statement::Swap { place: Place::Memory, table, change }, &columns)
        };
        assert_eq!(
            swap(Some(&from), Some(&to)),
            "UPDATE OR REPLACE main.mysql_replication_hostgroups SET comment='x' WHERE hostgroup_id IS '10' AND CAST(comment AS TEXT) IS NULL"
        );
        assert_eq!(
            swap(None, Some(&to)),
            "INSERT OR REPLACE INTO main.mysql_replication_hostgroups (hostgroup_id,comment) SELECT '10','x' \
             WHERE NOT EXISTS (SELECT 1 FROM main.mysql_replication_hostgroups WHERE hostgroup_id IS '10')"
        );
        assert_eq!(
            swap(Some(&from), None),
            "DELETE FROM main.mysql_replication_hostgroups WHERE hostgroup_id IS '10' AND CAST(comment AS TEXT) IS NULL"
        );
        let by_key = Statement::SwapByKey { place: Place::Memory, table, from, to: Some(to) };
        assert_eq!(
            render(&by_key, &columns),
            "UPDATE OR REPLACE main.mysql_replication_hostgroups SET comment='x' WHERE CAST(hostgroup_id AS TEXT) IS '10'"
        );
    }
}
