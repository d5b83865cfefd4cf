//! The statements that an apply sends to ProxySQL, and the replies, as types. The real admin interface, the lab and an
//! in-memory world carry them out. The SQL is made at the edge.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::node::Node;
use crate::orders::Release;
use crate::role::Role;
use crate::table::{Change, Content, Hostgroup, Record, RowKey, Table};

/// The place of a table's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// `runtime_<table>`: read only.
    Runtime,
    /// `main.<table>`.
    Memory,
    /// `disk.<table>`.
    Disk,
    /// `main.stonith_kept_<table>`: the content that memory is put back to.
    Kept,
    /// `main.stonith_target_<table>`: the content that goes live.
    Target,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Statement {
    /// Lists the tables in `main`: the covered ones and the program's own. Replies [`Reply::Names`].
    Names,
    /// Makes the lock. Replies [`Reply::Exists`] if there is one.
    TakeLock {
        /// The new owner.
        owner: String,
    },
    /// Reads the lock. Replies [`Reply::Lock`].
    ReadLock,
    /// Takes over a lock that expired or is this apply's own. Changes 0 records if it is no longer `from`'s.
    TakeOverLock {
        /// The new owner.
        owner: String,
        /// The owner that was read.
        from: String,
    },
    /// Postpones the lock's expiry. Changes 0 records if the lock is no longer this owner's.
    RenewLock {
        /// The owner.
        owner: String,
    },
    /// Drops the lock if it is this owner's.
    DropLock {
        /// The owner.
        owner: String,
    },
    /// Reads a whole table. Replies [`Reply::Content`].
    Read {
        /// The place of the content.
        place: Place,
        /// The table.
        table: Table,
    },
    /// Makes a verbatim copy in one statement.
    Copy {
        /// The place that is read.
        from: Place,
        /// The copy that is made.
        to: Place,
        /// The table.
        table: Table,
    },
    /// Drops a copy if it is there.
    Drop {
        /// The copy.
        place: Place,
        /// The table.
        table: Table,
    },
    /// Makes, replaces or deletes one record if it still is as it was read, to the byte.
    Swap {
        /// The place of the record.
        place: Place,
        /// The table.
        table: Table,
        /// The record's change.
        change: Change<Record>,
    },
    /// Replaces or deletes the record of a key without a comparison, for a record that no comparison finds.
    SwapByKey {
        /// The place of the record.
        place: Place,
        /// The table.
        table: Table,
        /// The record as it was read.
        from: Record,
        /// The record afterwards; `None` deletes it.
        to: Option<Record>,
    },
    /// Sets status and comment of many server rows that have the same status and comment.
    Restate {
        /// The place of the rows.
        place: Place,
        /// The rows.
        keys: Vec<RowKey>,
        /// Status and comment as they were read.
        from: (String, String),
        /// Status and comment afterwards.
        to: (String, String),
    },
    /// Leaves this agent's lease in ProxySQL. Replies [`Reply::Exists`] if there is one.
    LeaveLease {
        /// This agent.
        owner: String,
        /// The time that the lease is valid for, in s of ProxySQL's clock.
        good_s: u64,
    },
    /// Renews this agent's lease, or replaces one that is over.
    RenewLease {
        /// This agent.
        owner: String,
        /// The time that the lease is valid for, in s of ProxySQL's clock.
        good_s: u64,
    },
    /// Says that this agent counts on the other agent's lease.
    WantLease,
    /// Drops the lease if it is there.
    DropLease,
    /// Notes which nodes the next LOAD lets back and in which roles, in one statement. Replies [`Reply::Exists`] if
    /// there is such a note.
    NoteReturns(BTreeMap<Node, Role>),
    /// Reads the noted returns. Replies [`Reply::Returns`].
    ReadReturns,
    /// Drops the noted returns if they are there.
    DropReturns,
    /// Makes the list of releases if there is none.
    MakeReleases,
    /// Adds to the list of releases.
    NoteReleases(BTreeMap<Node, Release>),
    /// LOAD MYSQL SERVERS TO RUNTIME.
    Load,
    /// LOAD SCHEDULER TO RUNTIME.
    LoadScheduler,
    /// Notes the mark that the disk table is about to get. Replies [`Reply::Exists`] if there is such a note.
    NoteWatch,
    /// Sets the mark in the disk table. It is hidden, and only a SAVE removes it.
    MarkDisk,
    /// Asks whether a SAVE removed the mark. Replies [`Reply::Saved`].
    WasSaved,
    /// Drops the note of the mark if it is there.
    DropWatch,
    /// SAVE MYSQL SERVERS TO DISK.
    Save,
    /// SAVE SCHEDULER TO DISK.
    SaveScheduler,
    /// Reads the connections in use per node of the managed hostgroups. Replies [`Reply::Used`].
    Used,
    /// Reads the processlist. Replies [`Reply::Sessions`].
    Sessions,
    /// KILL CONNECTION, with the session's id.
    Kill(u64),
    /// Reads ProxySQL's MySQL variables. Replies [`Reply::Variables`].
    Variables,
    /// Notes that the extended processlist is on for a moment.
    NoteExtended,
    /// Switches the extended processlist on or off in memory.
    SetExtended(bool),
    /// LOAD MYSQL VARIABLES TO RUNTIME.
    LoadVariables,
    /// Drops the note of the extended processlist.
    DropExtended,
    /// Notes a drain, with the values that it lends. Replies [`Reply::Exists`] if there is such a note.
    NoteDrain,
    /// Gives the lent variables their values for a drain, in memory.
    LendDrain {
        /// The delay after an insert, one of [`super::DELAYS_MS`].
        delay_ms: u64,
    },
    /// Gives them the noted values again, in memory.
    PutBackDrain,
    /// Renews the note of a drain.
    RenewDrain,
    /// Reads the note of a drain. Replies [`Reply::Drain`].
    ReadDrain,
    /// Drops the note of a drain.
    DropDrain,
    /// Notes the fenced nodes whose hidden sessions were looked for.
    NoteEnded(BTreeSet<Node>),
    /// Reads those nodes. Replies [`Reply::Nodes`].
    ReadEnded,
    /// Drops the note of those nodes if it is there.
    DropEnded,
    /// Drops the table that showed that tables can be made.
    DropScratch,
    /// Makes the note of pauses if it is not there.
    MakePauseNote,
    /// Notes that this agent pauses ProxySQL.
    NotePause {
        /// The agent.
        owner: String,
    },
    /// `PROXYSQL PAUSE`: takes no new client. Replies [`Reply::Exists`] if ProxySQL is paused already.
    PauseProxy,
    /// Takes back what this agent noted.
    TakeBackPauseNote {
        /// The agent.
        owner: String,
    },
    /// `PROXYSQL RESUME`: takes clients again. Replies [`Reply::Exists`] if ProxySQL takes them already.
    ResumeProxy,
    /// Drops the note of pauses.
    DropPauseNote,
    /// Makes the driver wait, in ms. Any reply will do.
    Wait(u64),
}

/// The most characters of a record's key in an error. A hostname can be long.
const KEY_SHOWN_MAX_CHARS: usize = 100;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Runtime => "runtime",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Kept => "the kept copy",
            Self::Target => "the target copy",
        })
    }
}

fn swap(f: &mut fmt::Formatter<'_>, place: &Place, table: &Table, change: &Change<Record>) -> fmt::Result {
    let key: Vec<&str> =
        change.either().iter().take(table.key_columns).map(|value| value.as_deref().unwrap_or("NULL")).collect();
    let what = match change {
        Change::Make(_) => "make",
        Change::Replace { .. } => "change",
        Change::Delete(_) => "delete",
    };
    let key: String = key.join("/").chars().take(KEY_SHOWN_MAX_CHARS).collect();
    write!(f, "{what} {} {} in {place}", table.name(), key.escape_debug())
}

/// A short form for errors, without contents.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names => f.write_str("list the tables in main"),
            Self::TakeLock { .. } => f.write_str("take the lock"),
            Self::ReadLock => f.write_str("read the lock"),
            Self::TakeOverLock { from, .. } => write!(f, "take over the lock of {from}"),
            Self::RenewLock { .. } => f.write_str("renew the lock"),
            Self::DropLock { .. } => f.write_str("drop the lock"),
            Self::Read { place, table } => write!(f, "read {} of {place}", table.name()),
            Self::Copy { from, to, table } => write!(f, "copy {} of {from} to {to}", table.name()),
            Self::Drop { place, table } => write!(f, "drop {} of {place}", table.name()),
            Self::Swap { place, table, change } => swap(f, place, table, change),
            Self::SwapByKey { place, table, .. } => {
                write!(f, "change a record of {} in {place} by its key", table.name())
            }
            Self::Restate { place, keys, to, .. } => write!(f, "set {} rows {} in {place}", keys.len(), to.0),
            Self::LeaveLease { .. } => f.write_str("leave a lease"),
            Self::RenewLease { .. } => f.write_str("renew the lease"),
            Self::WantLease => f.write_str("count on a lease"),
            Self::DropLease => f.write_str("drop the lease"),
            Self::NoteReturns(nodes) => write!(f, "note {} returns", nodes.len()),
            Self::ReadReturns => f.write_str("read the noted returns"),
            Self::DropReturns => f.write_str("drop the noted returns"),
            Self::MakeReleases => f.write_str("make the list of releases"),
            Self::NoteReleases(nodes) => write!(f, "note {} releases", nodes.len()),
            Self::Load => f.write_str("LOAD MYSQL SERVERS TO RUNTIME"),
            Self::LoadScheduler => f.write_str("LOAD SCHEDULER TO RUNTIME"),
            Self::NoteWatch => f.write_str("note the mark of the disk table"),
            Self::MarkDisk => f.write_str("mark the disk table"),
            Self::WasSaved => f.write_str("read the mark of the disk table"),
            Self::DropWatch => f.write_str("drop the note of the mark"),
            Self::Save => f.write_str("SAVE MYSQL SERVERS TO DISK"),
            Self::SaveScheduler => f.write_str("SAVE SCHEDULER TO DISK"),
            Self::Used => f.write_str("read the connections in use"),
            Self::Sessions => f.write_str("read the processlist"),
            Self::Kill(id) => write!(f, "KILL CONNECTION {id}"),
            Self::Variables => f.write_str("read the variables"),
            Self::NoteExtended => f.write_str("note the extended processlist"),
            Self::SetExtended(true) => f.write_str("switch the extended processlist on"),
            Self::SetExtended(false) => f.write_str("switch the extended processlist off"),
            Self::LoadVariables => f.write_str("LOAD MYSQL VARIABLES TO RUNTIME"),
            Self::DropExtended => f.write_str("drop the note of the extended processlist"),
            Self::NoteDrain => f.write_str("note the drain"),
            Self::LendDrain { .. } => f.write_str("set the variables for a drain"),
            Self::PutBackDrain => f.write_str("set the variables as before the drain"),
            Self::RenewDrain => f.write_str("renew the note of the drain"),
            Self::ReadDrain => f.write_str("read the note of the drain"),
            Self::DropDrain => f.write_str("drop the note of the drain"),
            Self::NoteEnded(nodes) => write!(f, "note {} nodes whose sessions were ended", nodes.len()),
            Self::ReadEnded => f.write_str("read the nodes whose sessions were ended"),
            Self::DropEnded => f.write_str("drop the note of nodes whose sessions were ended"),
            Self::DropScratch => f.write_str("drop the scratch table"),
            Self::MakePauseNote => f.write_str("make the note of pauses"),
            Self::NotePause { .. } => f.write_str("note the pause"),
            Self::PauseProxy => f.write_str("PROXYSQL PAUSE"),
            Self::TakeBackPauseNote { .. } => f.write_str("take back the note of the pause"),
            Self::ResumeProxy => f.write_str("PROXYSQL RESUME"),
            Self::DropPauseNote => f.write_str("drop the note of the pause"),
            Self::Wait(ms) => write!(f, "wait {ms} ms"),
        }
    }
}

impl Statement {
    /// Whether it is about sessions. The apply goes on if such a statement is refused, since a fence comes first.
    pub(super) fn is_about_sessions(&self) -> bool {
        matches!(
            self,
            Self::Kill(_)
                | Self::Variables
                | Self::NoteExtended
                | Self::SetExtended(_)
                | Self::LoadVariables
                | Self::DropExtended
                | Self::NoteDrain
                | Self::LendDrain { .. }
                | Self::PutBackDrain
                | Self::RenewDrain
                | Self::ReadDrain
                | Self::DropDrain
                | Self::NoteEnded(_)
                | Self::ReadEnded
                | Self::DropEnded
        )
    }

    /// Whether it pauses or resumes ProxySQL. The apply goes on if such a statement is refused.
    pub(super) fn is_about_the_pause(&self) -> bool {
        matches!(
            self,
            Self::MakePauseNote
                | Self::NotePause { .. }
                | Self::PauseProxy
                | Self::TakeBackPauseNote { .. }
                | Self::ResumeProxy
                | Self::DropPauseNote
        )
    }

    /// Whether it is about a SAVE by somebody else. The apply goes on if such a statement is refused, since a fence
    /// comes first.
    pub fn is_about_saves(&self) -> bool {
        matches!(self, Self::NoteWatch | Self::MarkDisk | Self::WasSaved | Self::DropWatch)
    }

    /// The number of records that it must change, if it compares them first; else 0.
    pub fn names(&self) -> u64 {
        match self {
            Self::Swap { .. } => 1,
            Self::Restate { keys, .. } => keys.len() as u64,
            _ => 0,
        }
    }

    /// The one place that it reads or changes. A copy has two, and gives `None`.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Read { place, .. }
            | Self::Drop { place, .. }
            | Self::Swap { place, .. }
            | Self::SwapByKey { place, .. }
            | Self::Restate { place, .. } => Some(*place),
            Self::Save | Self::SaveScheduler => Some(Place::Disk),
            _ => None,
        }
    }
}

/// ProxySQL's answer to a statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reply {
    /// The statement was carried out. The number of records that it matched.
    Changed(u64),
    /// The table to make is there already.
    Exists,
    /// The names of tables.
    Names(BTreeSet<String>),
    /// The lock, if there is one.
    Lock(Option<LockSeen>),
    /// A table's content.
    Content(Content),
    /// The noted returns.
    Returns(BTreeMap<Node, Role>),
    /// Connections in use (`ConnUsed`) per hostgroup and node.
    Used(BTreeMap<(Hostgroup, Node), u64>),
    /// The client sessions.
    Sessions(Vec<Session>),
    /// The state of ProxySQL's MySQL variables.
    Variables(Variables),
    /// Whether the note of a drain is left over, and how many variables besides those that it lent are staged.
    Drain {
        /// Its drain was cut off.
        left_over: bool,
        /// The number of variables that a LOAD would take live.
        staged: u64,
    },
    /// Whether somebody saved to disk since the disk table was marked.
    Saved(bool),
    /// The nodes of a note.
    Nodes(BTreeSet<Node>),
    /// ProxySQL's own error.
    Refused(String),
}

/// A lock as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LockSeen {
    /// The lock's owner.
    pub owner: String,
    /// By ProxySQL's own clock its time is over, or so far ahead that the clock was set back.
    pub expired: bool,
}

/// A client session in `stats_mysql_processlist`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Session {
    /// `SessionID`, as KILL CONNECTION takes it.
    pub id: u64,
    /// The hostgroup of its current or last statement.
    pub hostgroup: Option<Hostgroup>,
    /// The server that it holds a connection to in that hostgroup.
    pub current: Option<Node>,
    /// The session waits for its client.
    pub idle: bool,
    /// The default hostgroup of its user.
    pub home: Option<Hostgroup>,
    /// Every server that it holds a connection to, one per hostgroup, if ProxySQL tells (`extended_info`).
    pub backends: Option<Vec<Backend>>,
}

/// A server that a session holds a connection to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Backend {
    /// The hostgroup of the connection.
    pub hostgroup: Hostgroup,
    /// The address that ProxySQL connected to. With its DNS cache this is not the row's name.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// The state of ProxySQL's MySQL variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variables {
    /// `mysql-show_processlist_extended` is on in runtime or memory.
    pub extended: bool,
    /// The number of other variables that differ between memory and runtime.
    pub staged: u64,
}

/// The most rows that one [`Statement::Restate`] names. It keeps a statement far below any packet limit.
const RESTATE_ROWS_MAX: usize = 300;

/// The statements that turn one content into another. Rows that change alike, in status and comment only, share a
/// statement. The `stuck` records go by their key.
pub fn swaps(place: Place, table: Table, from: &Content, to: &Content, stuck: &BTreeSet<Record>) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    let mut alike: BTreeMap<(Stated, Stated), usize> = BTreeMap::new();
    for change in from.changes_to(to) {
        if let Some(from) = change.from().filter(|record| stuck.contains(&record[..table.key_columns])) {
            statements.push(Statement::SwapByKey { place, table, from: from.clone(), to: change.to().cloned() });
            continue;
        }
        let Some((key, was, becomes)) = restate(table, &from.columns, &change) else {
            statements.push(Statement::Swap { place, table, change });
            continue;
        };
        let stated = (was, becomes);
        match alike.get(&stated).and_then(|at| statements.get_mut(*at)) {
            Some(Statement::Restate { keys, .. }) if keys.len() < RESTATE_ROWS_MAX => keys.push(key),
            _ => {
                alike.insert(stated.clone(), statements.len());
                let (from, to) = stated;
                statements.push(Statement::Restate { place, keys: vec![key], from, to });
            }
        }
    }
    statements
}

/// The records that these statements missed although they are still as they were read.
pub(super) fn stuck(missed: &[Statement], now: &Content) -> BTreeSet<Record> {
    let mut stuck = BTreeSet::new();
    for statement in missed {
        match statement {
            Statement::Swap { table, change: Change::Replace { from, .. } | Change::Delete(from), .. } => {
                let key = &from[..table.key_columns.min(from.len())];
                if now.records.get(key) == Some(from) {
                    stuck.insert(key.to_vec());
                }
            }
            Statement::Restate { keys, from, .. } => {
                let column = |name: &str| now.columns.iter().position(|column| column == name);
                let (Some(status), Some(comment)) = (column("status"), column("comment")) else { continue };
                for key in keys.iter().map(key_record) {
                    let text = |at: usize| now.records.get(&key).and_then(|record| record.get(at)?.as_deref());
                    if (text(status), text(comment)) == (Some(&from.0), Some(&from.1)) {
                        stuck.insert(key);
                    }
                }
            }
            _ => {}
        }
    }
    stuck
}

/// The key columns of a row's record.
pub(super) fn key_record(key: &RowKey) -> Record {
    [key.hostgroup.to_string(), key.hostname.to_string(), key.port.to_string()].map(Some).to_vec()
}

type Stated = (String, String);

fn restate(table: Table, columns: &[String], change: &Change<Record>) -> Option<(RowKey, Stated, Stated)> {
    let Change::Replace { from, to } = change else { return None };
    if table != crate::table::SERVERS {
        return None;
    }
    let at = |name: &str| columns.iter().position(|column| column == name);
    let (status, comment) = (at("status")?, at("comment")?);
    let same = (0..columns.len()).all(|i| i == status || i == comment || from.get(i) == to.get(i));
    let stated = |record: &Record| Some((record.get(status)?.clone()?, record.get(comment)?.clone()?));
    let key = RowKey {
        hostgroup: Hostgroup(from.get(at("hostgroup_id")?)?.as_ref()?.parse().ok()?),
        hostname: from.get(at("hostname")?)?.clone()?.into(),
        port: from.get(at("port")?)?.as_ref()?.parse().ok()?,
    };
    same.then_some((key, stated(from)?, stated(to)?))
}

#[cfg(test)]
mod tests {
    use std::array::from_fn;

    use super::*;
    use crate::table::SERVERS;
    use crate::table::shown::servers;

    /// Rows with the ports 1, 2, .. and these statuses, weights and comments.
    fn content<const N: usize>(rows: [[&str; 3]; N]) -> Content {
        let ports: [String; N] = from_fn(|n| (n + 1).to_string());
        let row = |n: usize| {
            let [status, weight, comment] = rows[n];
            ["10", "node01", &ports[n], status, weight, comment]
        };
        servers(["hostgroup_id", "hostname", "port", "status", "weight", "comment"], (0..N).map(row))
    }

    #[test]
    fn an_error_names_the_statement_in_a_few_words_whatever_it_carries() {
        let long =
            vec![Some("10".to_owned()), Some("node01".to_owned()), Some("3306".to_owned()), Some("x".repeat(9_999))];
        let swap = Statement::Swap { place: Place::Memory, table: SERVERS, change: Change::Delete(long.clone()) };
        assert_eq!(swap.to_string(), "delete mysql_servers 10/node01/3306 in memory");
        let by_key = Statement::SwapByKey { place: Place::Disk, table: SERVERS, from: long, to: None };
        assert_eq!(by_key.to_string(), "change a record of mysql_servers in disk by its key");
        assert_eq!(Statement::Load.to_string(), "LOAD MYSQL SERVERS TO RUNTIME");
    }

    /// The number of rows that each statement names; 0 for a statement about one record.
    fn rows_named(from: &Content, to: &Content) -> Vec<usize> {
        let named = |statement: &Statement| match statement {
            Statement::Restate { keys, .. } => keys.len(),
            _ => 0,
        };
        swaps(Place::Memory, SERVERS, from, to, &BTreeSet::new()).iter().map(named).collect()
    }

    #[test]
    fn rows_that_change_alike_go_together_as_many_as_a_statement_may_name() {
        let [from, to] = ["ONLINE", "OFFLINE_SOFT"].map(|status| content([[status, "1", ""]; RESTATE_ROWS_MAX + 1]));
        assert_eq!(rows_named(&from, &to), [RESTATE_ROWS_MAX, 1]);
    }

    #[test]
    fn rows_that_differ_in_what_they_were_or_become_go_alone() {
        let from = content([["ONLINE", "1", "a"], ["ONLINE", "1", "b"], ["ONLINE", "1", "b"], ["ONLINE", "1", "b"]]);
        let to = [["OFFLINE_SOFT", "1", ""], ["OFFLINE_SOFT", "1", ""], ["SHUNNED", "1", ""], ["SHUNNED", "2", ""]];
        assert_eq!(rows_named(&from, &content(to)), [1, 1, 1, 0], "the last has another weight");
    }

    #[test]
    fn rows_that_change_alike_go_together_whatever_stands_between_them() {
        let from = content([["ONLINE", "1", "a"], ["ONLINE", "1", "b"], ["ONLINE", "1", "a"], ["ONLINE", "1", "b"]]);
        let [a, b] = ["a", "b"].map(|comment| ["OFFLINE_SOFT", "1", comment]);
        assert_eq!(rows_named(&from, &content([a, b, a, b])), [2, 2]);
    }
}
