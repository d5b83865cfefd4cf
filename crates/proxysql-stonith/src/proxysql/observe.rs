//! Reads what a decision needs from one ProxySQL.

use std::collections::BTreeSet;
use std::time::Duration;

use stonith_core::marker::Comment;
use stonith_core::observed::ProxyView;
use stonith_core::plan::Managed;
use stonith_core::policy::Policy;
use stonith_core::row::Row;
use stonith_core::table::{SERVERS, Unreadable};

use super::admin::{Admin, AdminError};
use super::answers::{NotUnderstood, content, hostgroups, pairs, used};
use super::sql;
use super::version::Version;

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
const USED: &str = "SELECT hostgroup,srv_host,srv_port,ConnUsed FROM stats_mysql_connection_pool WHERE ConnUsed>0";

/// Which version this ProxySQL is.
///
/// # Errors
/// The connection, or a version that is none.
pub async fn version(admin: &mut Admin) -> Result<Version, ObserveError> {
    let answer = admin.query(VERSION).await?;
    let text = answer.records.first().and_then(|record| record.first().cloned().flatten()).unwrap_or_default();
    text.parse().map_err(|()| not_understood(VERSION)(NotUnderstood::of(&text)))
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
        let text = answer.records.first().and_then(|record| record.first().cloned().flatten()).unwrap_or_default();
        let ms = text.parse().map_err(|_| not_understood(statement)(NotUnderstood::of(&text)))?;
        round += Duration::from_millis(ms);
    }
    Ok(round.min(MONITOR_ROUND_MAX))
}

/// Reads one ProxySQL: its three layers, its hostgroups, and whether an apply was cut off.
///
/// # Errors
/// The connection, or an answer that can't be understood; then nothing is decided for this ProxySQL.
pub async fn observe(admin: &mut Admin, policy: &Policy) -> Result<ProxyView, ObserveError> {
    let runtime = rows(admin, "SELECT * FROM runtime_mysql_servers").await?;
    let memory = rows(admin, "SELECT * FROM main.mysql_servers").await?;
    let disk = rows(admin, "SELECT * FROM disk.mysql_servers").await?;
    let pairs = pairs(&admin.query(PAIRS).await?).map_err(not_understood(PAIRS))?;
    let mut foreign = BTreeSet::new();
    for statement in [GROUP_REPLICATION, GALERA, AURORA] {
        foreign.extend(hostgroups(&admin.query(statement).await?).map_err(not_understood(statement))?);
    }
    let names = admin.query(sql::NAMES).await?;
    let ours = |name: &Option<String>| name.as_ref().is_some_and(|name| name.starts_with("stonith_"));
    let unfinished = names.records.iter().any(|record| record.first().is_some_and(ours));
    let peers = admin.query(PEERS).await?;
    let clustered = peers.records.first().and_then(|record| record.first()?.clone()).is_none_or(|count| count != "0");
    let mut view = ProxyView { runtime, memory, disk, pairs, foreign, unfinished, clustered, ..ProxyView::default() };
    let fenced = |row: &Row| Comment::parse(&row.comment) != Comment::Plain;
    if view.runtime.iter().any(fenced) || view.disk.iter().any(fenced) {
        let managed = Managed::of(&view, policy);
        view.conn_used = used(&admin.query(USED).await?, &managed).map_err(not_understood(USED))?;
    }
    Ok(view)
}

async fn rows(admin: &mut Admin, statement: &'static str) -> Result<Vec<Row>, ObserveError> {
    let answer = admin.query(statement).await?;
    Ok(content(SERVERS, answer).map_err(not_understood(statement))?.rows()?)
}
