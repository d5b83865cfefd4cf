//! What `doctor` reads of one ProxySQL besides what a tick reads. Nothing is written, and no value of a password is read.

use std::collections::{BTreeMap, BTreeSet};

use stonith_core::node::Node;
use stonith_core::table::{Hostgroup, Record, SERVERS, Table};

use super::admin::{Admin, AdminError};
use super::probe::Probed;
use super::sql;
use crate::untrusted_text::one_line;

/// The variables that matter. None of them is a password.
const VARIABLES: [&str; 11] = [
    "mysql-monitor_enabled",
    "mysql-monitor_username",
    "mysql-monitor_read_only_interval",
    "mysql-monitor_read_only_timeout",
    "mysql-monitor_writer_is_also_reader",
    "mysql-show_processlist_extended",
    "admin-cluster_username",
    "admin-cluster_check_interval_ms",
    "admin-cluster_mysql_servers_diffs_before_sync",
    "admin-cluster_mysql_servers_save_to_disk",
    "admin-cluster_mysql_servers_sync_algorithm",
];

/// What was read of one ProxySQL. A part that this version does not have is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Variables in force.
    pub variables: BTreeMap<String, String>,
    /// The names of the variables that are staged in memory.
    pub staged_variables: Vec<String>,
    /// The tables whose layers differ. The server table is not among them: the monitor moves its rows.
    pub differences: Vec<Differences>,
    /// The monitor's checks of read_only, by server.
    pub read_only_checks: Option<BTreeMap<Node, Checked>>,
    /// The monitor's connects, by server.
    pub connects: Option<BTreeMap<Node, Checked>>,
    /// What the scheduler starts.
    pub scheduled: Vec<Scheduled>,
    /// How many servers of a hostgroup may be ONLINE before ProxySQL uses none of them.
    pub online_limits: Option<BTreeMap<Hostgroup, u64>>,
    /// The users' default hostgroups.
    pub default_hostgroups: BTreeSet<Hostgroup>,
}

/// How many records of a table differ between layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differences {
    /// The table.
    pub table: String,
    /// Between memory and runtime.
    pub staged: u64,
    /// Between memory and disk.
    pub unsaved: u64,
}

/// What the monitor's log says of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// The number of checks in the log.
    pub checks: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The age of the last one, s by ProxySQL's clock.
    pub age_s: i64,
    /// The error of the last one.
    pub error: Option<String>,
    /// The server's `read_only` in the last one.
    pub read_only: Option<bool>,
}

/// One active entry of the scheduler. Its arguments are not kept, since they may hold passwords.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scheduled {
    /// `id`.
    pub id: String,
    /// `interval_ms`.
    pub interval_ms: u64,
    /// `filename`, which may be a program or a shell.
    pub filename: String,
    /// The arguments that are paths of files.
    pub files: Vec<String>,
    /// The known words that stand in its file name or arguments.
    pub words: BTreeSet<&'static str>,
    /// `install scheduler` made it, by its comment.
    pub is_installed: bool,
}

/// The comment of the scheduler's entry that `install scheduler` makes.
pub const SCHEDULER_COMMENT: &str = "proxysql-stonith";

/// The words of a scheduler's entry that are looked for.
const WORDS: [&str; 7] =
    ["proxysql-stonith", "--once", "orchestrator", "leader-check", "raft-leader", "downtimed", "OFFLINE_SOFT"];

impl Scheduled {
    fn read(record: &Record) -> Option<Self> {
        let [Some(id), Some(interval), Some(filename), args @ .., comment] = record.as_slice() else { return None };
        let texts = || std::iter::once(filename).chain(args.iter().flatten());
        Some(Self {
            id: id.clone(),
            interval_ms: interval.parse().ok()?,
            filename: filename.clone(),
            files: texts().filter(|text| text.starts_with('/')).cloned().collect(),
            is_installed: comment.as_deref() == Some(SCHEDULER_COMMENT),
            words: WORDS.into_iter().filter(|word| texts().any(|text| text.contains(word))).collect(),
        })
    }
}

impl Checked {
    fn read(record: &Record) -> Option<(Node, Self)> {
        let [Some(host), Some(port), Some(checks), Some(failed), Some(age_s), error, read_only @ ..] =
            record.as_slice()
        else {
            return None;
        };
        let read_only = read_only.first().cloned().flatten().filter(|_| error.is_none());
        let checked = Self {
            checks: checks.parse().ok()?,
            failed: failed.parse().ok()?,
            age_s: age_s.parse().ok()?,
            error: error.as_deref().map(one_line),
            read_only: read_only.map(|value| value != "0"),
        };
        Some((Node::new(host, port.parse().ok()?).ok()?, checked))
    }
}

/// Reads one ProxySQL.
///
/// # Errors
/// The connection failed.
pub async fn survey(admin: &mut Admin, probed: &Probed) -> Result<Survey, AdminError> {
    let pair = |record: Record| Some((record.first()?.clone()?, record.get(1)?.clone()?));
    let number = |value: &Option<String>| value.as_ref().and_then(|text| text.parse().ok());
    let variables = records(admin, &sql::variables(&VARIABLES)).await?;
    let staged = records(admin, sql::STAGED_VARIABLES).await?.unwrap_or_default();
    let limits = records(admin, sql::ONLINE_LIMITS).await?;
    let limit = |record: Record| Some((Hostgroup(record.first()?.as_ref()?.parse().ok()?), number(record.get(1)?)?));
    let defaults = records(admin, sql::DEFAULT_HOSTGROUPS).await?.unwrap_or_default();
    Ok(Survey {
        variables: variables.into_iter().flatten().filter_map(pair).collect(),
        staged_variables: staged.into_iter().flatten().flatten().collect(),
        differences: differences(admin, probed).await?,
        read_only_checks: checked(admin, sql::READ_ONLY_LOG).await?,
        connects: checked(admin, sql::CONNECT_LOG).await?,
        scheduled: records(admin, sql::SCHEDULED).await?.iter().flatten().filter_map(Scheduled::read).collect(),
        online_limits: limits.map(|limits| limits.into_iter().filter_map(limit).collect()),
        default_hostgroups: defaults
            .iter()
            .flatten()
            .filter_map(|value| Some(Hostgroup(value.as_ref()?.parse().ok()?)))
            .collect(),
    })
}

async fn checked(admin: &mut Admin, statement: &str) -> Result<Option<BTreeMap<Node, Checked>>, AdminError> {
    let read = |records: Vec<Record>| records.iter().filter_map(Checked::read).collect();
    Ok(records(admin, statement).await?.map(read))
}

async fn differences(admin: &mut Admin, probed: &Probed) -> Result<Vec<Differences>, AdminError> {
    let others = ["scheduler", "proxysql_servers"].into_iter().filter_map(|name| Table::new(name, 1));
    let tables = probed.tables().into_iter().filter(|table| *table != SERVERS).chain(others);
    let mut found = Vec::new();
    for table in tables {
        let statement = sql::differences(table, probed.runtime_columns(table));
        let Some(counts) = records(admin, &statement).await? else { continue };
        if let [Some(staged), Some(unsaved)] = counts.first().map(Vec::as_slice).unwrap_or_default()
            && let (Ok(staged), Ok(unsaved)) = (staged.parse(), unsaved.parse())
            && (staged, unsaved) != (0, 0)
        {
            found.push(Differences { table: table.name().to_owned(), staged, unsaved });
        }
    }
    Ok(found)
}

/// The records of an answer; `None` if this version does not have what the statement reads.
async fn records(admin: &mut Admin, statement: &str) -> Result<Option<Vec<Record>>, AdminError> {
    match admin.query(statement).await {
        Ok(answer) => Ok(Some(answer.records)),
        Err(AdminError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(values: &[&str]) -> Record {
        values.iter().map(|value| (*value != "NULL").then(|| (*value).to_owned())).collect()
    }

    #[test]
    fn i11_the_arguments_of_a_scheduled_program_are_not_kept() {
        let read =
            record(&["1", "5000", "/bin/sh", "/opt/failover.sh", "-phunter2", "http://orchestrator:3000", "NULL", ""]);
        let scheduled = Scheduled::read(&read).unwrap();
        assert!(!format!("{scheduled:?}").contains("hunter2"));
        assert_eq!((scheduled.interval_ms, scheduled.words), (5_000, ["orchestrator"].into()));
        assert_eq!(scheduled.files, ["/bin/sh", "/opt/failover.sh"]);
    }

    #[test]
    fn i11_no_variable_that_is_read_is_a_password() {
        assert!(VARIABLES.iter().all(|name| !name.contains("pass") && !name.contains("credentials")));
    }

    #[test]
    fn a_check_that_failed_tells_no_read_only() {
        let (node, good) = Checked::read(&record(&["node01", "3306", "9", "1", "2", "NULL", "0"])).unwrap();
        assert_eq!((node.to_string().as_str(), good.read_only, good.failed), ("node01:3306", Some(false), 1));
        let (_, bad) = Checked::read(&record(&["node01", "3306", "9", "9", "2", "Access denied", "NULL"])).unwrap();
        assert_eq!((bad.read_only, bad.error.as_deref()), (None, Some("Access denied")));
        let (_, connect) = Checked::read(&record(&["node01", "3306", "9", "0", "2", "NULL"])).unwrap();
        assert_eq!(connect.read_only, None);
    }
}
