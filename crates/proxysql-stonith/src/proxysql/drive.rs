//! Drives an apply over the admin connection: hands its statements out, takes the replies in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use stonith_core::apply::{Apply, LockSeen, Outcome, Reply, Session, Statement, Step};
use stonith_core::node::Node;
use stonith_core::plan::{Managed, Plan};
use stonith_core::proof::Role;
use stonith_core::row::Hostgroup;
use stonith_core::table::{Content, Record, SERVERS, Table};

use super::admin::{Admin, AdminError, Answer};
use super::sql;

/// The longest an apply may take before it lets go: well before its lock runs out.
pub const APPLY_DEADLINE: Duration = Duration::from_secs(20);

/// Is told each statement, for the debug log.
pub type LogStatement<'a> = &'a mut (dyn FnMut(&str) + Send);

/// Why an apply broke off. The next tick, ours or another agent's, finishes it.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The admin connection.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Too slow.
    #[error("the apply was broken off after {APPLY_DEADLINE:?}; the next tick finishes it")]
    Deadline,
}

/// Carries a plan out.
///
/// # Errors
/// The connection broke, or it took too long.
pub async fn drive(admin: &mut Admin, plan: Plan, owner: String, log: LogStatement<'_>) -> Result<Outcome, DriveError> {
    let began = Instant::now();
    let managed = plan.managed.clone();
    let mut apply = Apply::new(plan, owner);
    let mut columns: BTreeMap<Table, Vec<String>> = BTreeMap::new();
    let mut step = apply.next(None);
    loop {
        let statement = match step {
            Step::Done(outcome) => return Ok(outcome),
            Step::Ask(statement) => statement,
        };
        if began.elapsed() > APPLY_DEADLINE {
            return Err(DriveError::Deadline);
        }
        let reply = ask(admin, &statement, &mut columns, &managed, log).await?;
        step = apply.next(Some(reply));
    }
}

async fn ask(
    admin: &mut Admin,
    statement: &Statement,
    columns: &mut BTreeMap<Table, Vec<String>>,
    managed: &Managed,
    log: LogStatement<'_>,
) -> Result<Reply, AdminError> {
    if let Statement::Pause(ms) = statement {
        tokio::time::sleep(Duration::from_millis(*ms)).await;
        return Ok(Reply::Changed(0));
    }
    let table = match statement {
        Statement::Swap { table, .. } | Statement::Read { table, .. } => *table,
        _ => SERVERS,
    };
    let text = sql::render(statement, columns.get(&table).map_or(&[], Vec::as_slice));
    log(&text);
    let answer = match admin.query(&text).await {
        Ok(answer) => answer,
        Err(AdminError::Refused { cause, .. }) => return Ok(refused(statement, cause)),
        Err(error) => return Err(error),
    };
    Ok(match statement {
        Statement::Names => Reply::Names(first_column(&answer)),
        Statement::ReadLock => Reply::Lock(lock(&answer)),
        Statement::Read { table, .. } => {
            columns.insert(*table, answer.columns.clone());
            Reply::Content(Content::new(*table, answer.columns, answer.records))
        }
        Statement::ReadReturns => Reply::Returns(returns(&answer)),
        Statement::Used => Reply::Used(used(&answer, managed)),
        Statement::Sessions => Reply::Sessions(sessions(&answer)),
        _ => Reply::Changed(answer.affected),
    })
}

/// SQL errors all carry the same code (FACTS §1): they are told apart by their text.
fn refused(statement: &Statement, cause: String) -> Reply {
    match statement {
        Statement::TakeLock { .. }
        | Statement::Copy { .. }
        | Statement::LeaveLease { .. }
        | Statement::NoteReturns(_)
            if cause.contains("already exists") =>
        {
            Reply::Exists
        }
        Statement::ReadLock if cause.contains("no such table") => Reply::Lock(None),
        Statement::RenewLock { .. } | Statement::TakeOverLock { .. } if cause.contains("no such table") => {
            Reply::Changed(0)
        }
        _ => Reply::Refused(cause),
    }
}

fn first_column(answer: &Answer) -> BTreeSet<String> {
    answer.records.iter().filter_map(|record| record.first()?.clone()).collect()
}

fn lock(answer: &Answer) -> Option<LockSeen> {
    let record = answer.records.first()?;
    Some(LockSeen { owner: record.first()?.clone()?, expired: record.get(1)?.as_deref() != Some("0") })
}

/// A node by its first two columns, and what the others say.
pub fn of_node(record: &Record) -> Option<(Node, &[Option<String>])> {
    let [Some(host), Some(port), rest @ ..] = record.as_slice() else { return None };
    Some((Node::new(host, port.parse().ok()?).ok()?, rest))
}

fn returns(answer: &Answer) -> BTreeMap<Node, Role> {
    let of = |record| {
        let (node, rest) = of_node(record)?;
        Some((node, Role::parse(rest.first()?.as_deref()?)?))
    };
    answer.records.iter().filter_map(of).collect()
}

/// Connections in use per node, over the managed hostgroups: elsewhere a node may serve whom it likes.
pub fn used(answer: &Answer, managed: &Managed) -> BTreeMap<Node, u64> {
    let mut used = BTreeMap::new();
    for record in &answer.records {
        let [Some(hostgroup), Some(host), Some(port), Some(count)] = record.as_slice() else { continue };
        let (Ok(hostgroup), Ok(port), Ok(count)) = (hostgroup.parse(), port.parse(), count.parse::<u64>()) else {
            continue;
        };
        if let Ok(node) = Node::new(host, port)
            && managed.contains(Hostgroup(hostgroup))
        {
            *used.entry(node).or_default() += count;
        }
    }
    used
}

fn sessions(answer: &Answer) -> Vec<Session> {
    let session = |record: &Vec<Option<String>>| -> Option<Session> {
        let id = record.first()?.as_ref()?.parse().ok()?;
        let current = match (record.get(1), record.get(2)) {
            (Some(Some(host)), Some(Some(port))) => port.parse().ok().and_then(|port| Node::new(host, port).ok()),
            _ => None,
        };
        let holds = record.get(3).and_then(Option::as_deref).map(held_servers).unwrap_or_default();
        Some(Session { id, current, holds })
    };
    answer.records.iter().filter_map(session).collect()
}

/// The servers in `extended_info.backends` (there with `mysql-show_processlist_extended`; code: MySQL_Session.cpp).
fn held_servers(extended_info: &str) -> BTreeSet<Node> {
    let Ok(info) = serde_json::from_str::<Value>(extended_info) else { return BTreeSet::new() };
    let backends = info["backends"].as_array().map(Vec::as_slice).unwrap_or_default();
    let server = |backend: &Value| {
        let mysql = &backend["conn"]["mysql"];
        let port = mysql["port"].as_u64().and_then(|port| u16::try_from(port).ok())?;
        Node::new(mysql["host"].as_str()?, port).ok()
    };
    backends.iter().filter_map(server).collect()
}
