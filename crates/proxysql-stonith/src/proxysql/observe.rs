//! Reads what a decision needs from one ProxySQL.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stonith_core::apply::RETURNS_NAME;
use stonith_core::managed::Managed;
use stonith_core::marker::Comment;
use stonith_core::observed::ProxyView;
use stonith_core::policy::Policy;
use stonith_core::row::Row;
use stonith_core::table::{Record, SERVERS, Unreadable};

use super::admin::{Admin, AdminError};
use super::answers::{NotUnderstood, content, first_column, hostgroups, lease, pairs, releases, returned, used, value};
use super::sql::{self, USED};

/// Why a ProxySQL could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The admin connection.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The server table.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Something else that can't be understood: held (I1).
    #[error("ProxySQL answered {statement:?} with {what}, which this version does not understand")]
    NotUnderstood {
        /// What was asked.
        statement: &'static str,
        /// What came.
        what: String,
    },
}

fn not_understood(statement: &'static str) -> impl FnOnce(NotUnderstood) -> ObserveError {
    move |NotUnderstood(what)| ObserveError::NotUnderstood { statement, what }
}

const VERSION: &str = "SELECT @@version";
const PAIRS: &str = "SELECT writer_hostgroup,reader_hostgroup,check_type FROM runtime_mysql_replication_hostgroups";
const GROUP_REPLICATION: &str = "SELECT writer_hostgroup,backup_writer_hostgroup,reader_hostgroup,offline_hostgroup FROM runtime_mysql_group_replication_hostgroups";
const GALERA: &str = "SELECT writer_hostgroup,backup_writer_hostgroup,reader_hostgroup,offline_hostgroup FROM runtime_mysql_galera_hostgroups";
const AURORA: &str = "SELECT writer_hostgroup,reader_hostgroup FROM runtime_mysql_aws_aurora_hostgroups";
const PEERS: &str = "SELECT count(*) FROM runtime_proxysql_servers";
const LOADS: &str = "SELECT version FROM runtime_checksums_values WHERE name='mysql_servers'";

/// Which version this ProxySQL is, in its own words.
///
/// # Errors
/// The connection.
pub async fn version(admin: &mut Admin) -> Result<String, ObserveError> {
    let answer = admin.query(VERSION).await?;
    Ok(value(&answer).unwrap_or_default().to_owned())
}

/// The longest that a monitor's round is waited for: one with a longer interval is seen by later ticks.
const MONITOR_ROUND_MAX: Duration = Duration::from_secs(5);

/// The interval and the timeout of ProxySQL's read_only checks together: after that a move of the monitor is seen.
///
/// # Errors
/// The connection, or a value that is no number.
pub async fn monitor_round(admin: &mut Admin) -> Result<Duration, ObserveError> {
    let mut round = Duration::ZERO;
    for statement in ["SELECT @@mysql-monitor_read_only_interval", "SELECT @@mysql-monitor_read_only_timeout"] {
        let answer = admin.query(statement).await?;
        let text = value(&answer).unwrap_or_default();
        let ms = text.parse().map_err(|_| not_understood(statement)(NotUnderstood::of(&text)))?;
        round += Duration::from_millis(ms);
    }
    Ok(round.min(MONITOR_ROUND_MAX))
}

/// How often it is read again because somebody LOADed meanwhile.
const READS_MAX: u32 = 3;

/// Reads one ProxySQL: its three layers, its hostgroups, whether an apply was cut off, and what agents share. `owner` is
/// the name that we hold the lock under.
///
/// # Errors
/// The connection, or an answer that can't be understood; then nothing is decided for this ProxySQL.
pub async fn observe(admin: &mut Admin, policy: &Policy, owner: &str) -> Result<ProxyView, ObserveError> {
    let mut loads = admin.query(LOADS).await?;
    for _ in 1..READS_MAX {
        let view = read(admin, policy, owner).await?;
        let loads_now = admin.query(LOADS).await?;
        if loads_now == loads {
            return Ok(view);
        }
        // Runtime of before and disk of after a LOAD would look like an apply that was cut off.
        loads = loads_now;
    }
    read(admin, policy, owner).await
}

/// What is ours in `main` first: a return's note is there from before its LOAD until disk has it.
async fn read(admin: &mut Admin, policy: &Policy, owner: &str) -> Result<ProxyView, ObserveError> {
    let names = admin.query(sql::NAMES).await?;
    let mut names = first_column(&names);
    names.retain(|name| name.starts_with("stonith_"));
    let returned = match names.contains(RETURNS_NAME) {
        true => returned(&ours(admin, sql::RETURNS).await?),
        false => BTreeSet::new(),
    };
    let [shared_lease, released, _] = sql::SHARED.map(|name| names.remove(name));
    let lease = if shared_lease { lease(&ours(admin, sql::LEASE).await?, owner) } else { None };
    let released = if released { releases(&ours(admin, sql::RELEASED).await?) } else { BTreeMap::new() };
    let runtime = rows(admin, "SELECT * FROM runtime_mysql_servers").await?;
    let memory = rows(admin, "SELECT * FROM main.mysql_servers").await?;
    let disk = rows(admin, "SELECT * FROM disk.mysql_servers").await?;
    let pairs = pairs(&admin.query(PAIRS).await?).map_err(not_understood(PAIRS))?;
    let mut foreign = BTreeSet::new();
    for statement in [GROUP_REPLICATION, GALERA, AURORA] {
        foreign.extend(hostgroups(&admin.query(statement).await?).map_err(not_understood(statement))?);
    }
    let peers = admin.query(PEERS).await?;
    let clustered = value(&peers).is_none_or(|count| count != "0");
    let unfinished = !names.is_empty();
    let conn_used = BTreeMap::new();
    let mut view = ProxyView {
        runtime,
        memory,
        disk,
        pairs,
        foreign,
        conn_used,
        unfinished,
        returned,
        released,
        lease,
        clustered,
    };
    let fenced = |row: &Row| Comment::parse(&row.comment) != Comment::Plain;
    if view.runtime.iter().any(fenced) || view.disk.iter().any(fenced) {
        let managed = Managed::of(&view, policy);
        let in_use = used(&admin.query(USED).await?, &managed).map_err(not_understood(USED))?;
        for ((_, node), count) in in_use {
            let sum = view.conn_used.entry(node).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    Ok(view)
}

/// The records of a table of ours; none, where another agent dropped it meanwhile.
async fn ours(admin: &mut Admin, statement: &str) -> Result<Vec<Record>, ObserveError> {
    match admin.query(statement).await {
        Ok(answer) => Ok(answer.records),
        Err(AdminError::Refused { cause, .. }) if cause.contains("no such table") => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

async fn rows(admin: &mut Admin, statement: &'static str) -> Result<Vec<Row>, ObserveError> {
    let answer = admin.query(statement).await?;
    Ok(content(SERVERS, answer).map_err(not_understood(statement))?.rows()?)
}
