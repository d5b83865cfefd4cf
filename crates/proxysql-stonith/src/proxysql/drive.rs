//! Drives an apply over the admin connection: it sends the statements and returns the replies.

use std::collections::BTreeMap;
use std::time::Duration;

use stonith_core::apply::{Apply, Outcome, Place, Reply, Statement, Step};
use stonith_core::lending::{Lending, LendingOutcome, OwnRecord};
use stonith_core::managed::Managed;
use stonith_core::plan::Plan;
use stonith_core::table::{SERVERS, Table};

use super::admin::{Admin, AdminError};
use super::answers::{NotUnderstood, content, drain, first_column, lock, returned, returns, sessions, used, variables};
use super::probe::Probed;
use super::sql;
use crate::wire::Answer;

/// The longest time of an apply. It ends well before its lock expires.
pub const APPLY_DEADLINE: Duration = Duration::from_secs(20);

/// Gets each statement, for the debug log.
pub type LogStatement<'a> = &'a mut (dyn FnMut(&str) + Send);

/// Why an apply broke off. The next tick of this or another agent finishes it.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The admin connection failed.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The apply took too long.
    #[error("the apply was stopped after {APPLY_DEADLINE:?}; the next tick finishes it")]
    Deadline,
}

/// Applies a plan.
///
/// # Errors
/// The connection broke, or the apply took too long.
pub async fn drive(
    admin: &mut Admin,
    probed: &Probed,
    plan: Plan,
    owner: String,
    boot_ms: impl Fn() -> u64,
    log: LogStatement<'_>,
) -> Result<Outcome, DriveError> {
    let managed = plan.managed.clone();
    let mut apply = Apply::new(plan, owner, probed.tables());
    to_the_end(admin, probed, &managed, |reply| apply.next(reply), boot_ms, log).await
}

/// Carries a change of the scheduler's table out.
///
/// # Errors
/// The connection broke, or it took too long.
pub async fn drive_lending(
    admin: &mut Admin,
    probed: &Probed,
    change: OwnRecord,
    owner: String,
    boot_ms: impl Fn() -> u64,
    log: LogStatement<'_>,
) -> Result<LendingOutcome, DriveError> {
    let mut lending = Lending::new(change, owner);
    to_the_end(admin, probed, &Managed::default(), |reply| lending.next(reply), boot_ms, log).await
}

/// Sends what a state machine asks, until it is over.
///
/// The clock also counts while the machine is suspended: ProxySQL may run on another host, where the lock expires
/// meanwhile.
async fn to_the_end<O>(
    admin: &mut Admin,
    probed: &Probed,
    managed: &Managed,
    mut next: impl FnMut(Option<Reply>) -> Step<O>,
    boot_ms: impl Fn() -> u64,
    log: LogStatement<'_>,
) -> Result<O, DriveError> {
    let began_ms = boot_ms();
    let mut columns: BTreeMap<Table, Vec<String>> = BTreeMap::new();
    let mut step = next(None);
    loop {
        let statement = match step {
            Step::Done(outcome) => return Ok(outcome),
            Step::Ask(statement) => statement,
        };
        if Duration::from_millis(boot_ms().saturating_sub(began_ms)) > APPLY_DEADLINE {
            return Err(DriveError::Deadline);
        }
        let reply = ask(admin, probed, &statement, &mut columns, managed, log).await?;
        step = next(Some(reply));
    }
}

async fn ask(
    admin: &mut Admin,
    probed: &Probed,
    statement: &Statement,
    columns: &mut BTreeMap<Table, Vec<String>>,
    managed: &Managed,
    log: LogStatement<'_>,
) -> Result<Reply, AdminError> {
    if let Statement::Wait(ms) = statement {
        tokio::time::sleep(Duration::from_millis(*ms)).await;
        return Ok(Reply::Changed(0));
    }
    let table = match statement {
        Statement::Swap { table, .. } | Statement::SwapByKey { table, .. } | Statement::Read { table, .. } => *table,
        _ => SERVERS,
    };
    let of_table: &[String] = match statement {
        Statement::Read { place: Place::Runtime, table } | Statement::Copy { from: Place::Runtime, table, .. } => {
            probed.runtime_columns(*table)
        }
        Statement::Copy { .. } => &[],
        _ => columns.get(&table).map_or(&[], Vec::as_slice),
    };
    let text = sql::render(statement, of_table);
    log(&text);
    match admin.query(&text).await {
        Ok(answer) => Ok(answered(statement, answer, columns, managed)),
        Err(AdminError::Refused { cause, .. }) => Ok(refused(statement, cause)),
        Err(error) => Err(error),
    }
}

fn answered(
    statement: &Statement,
    answer: Answer,
    columns: &mut BTreeMap<Table, Vec<String>>,
    managed: &Managed,
) -> Reply {
    match statement {
        Statement::Names => Reply::Names(first_column(&answer)),
        Statement::ReadLock => Reply::Lock(lock(&answer)),
        Statement::Read { table, .. } => {
            columns.insert(*table, answer.columns.clone());
            content(*table, answer).map_or_else(|error| Reply::Refused(error.to_string()), Reply::Content)
        }
        Statement::ReadReturns => Reply::Returns(returns(&answer.records)),
        Statement::Used => used(&answer, managed).map_or_else(|error| Reply::Refused(error.to_string()), Reply::Used),
        Statement::Sessions => Reply::Sessions(sessions(&answer)),
        Statement::Variables => match variables(&answer) {
            Some(seen) => Reply::Variables(seen),
            None => Reply::Refused(format!("{:?}", NotUnderstood::of(&answer.records))),
        },
        Statement::ReadDrain => match drain(&answer.records) {
            Some((left_over, staged)) => Reply::Drain { left_over, staged },
            None => Reply::Refused(format!("{:?}", NotUnderstood::of(&answer.records))),
        },
        Statement::WasSaved => Reply::Saved(!answer.records.is_empty()),
        Statement::ReadEnded => Reply::Nodes(returned(&answer.records)),
        _ => Reply::Changed(answer.affected),
    }
}

/// Interprets an SQL error by its text, because all have the same code (facts §1).
fn refused(statement: &Statement, cause: String) -> Reply {
    match statement {
        Statement::TakeLock { .. }
        | Statement::Copy { .. }
        | Statement::LeaveLease { .. }
        | Statement::NoteReturns(_)
        | Statement::NoteExtended
        | Statement::NoteDrain
        | Statement::NoteEnded(_)
        | Statement::NoteWatch
            if cause.contains("already exists") =>
        {
            Reply::Exists
        }
        Statement::PauseProxy if cause.contains("already paused") => Reply::Exists,
        Statement::ResumeProxy if cause.contains("not paused") => Reply::Exists,
        Statement::ReadLock if cause.contains("no such table") => Reply::Lock(None),
        Statement::RenewLock { .. } | Statement::TakeOverLock { .. } if cause.contains("no such table") => {
            Reply::Changed(0)
        }
        _ => Reply::Refused(cause),
    }
}

#[cfg(test)]
mod tests {
    use stonith_core::apply::LockSeen;
    use stonith_core::node::Node;
    use stonith_core::role::Role;

    use super::*;

    fn reply(statement: &Statement, record: &[&str]) -> Reply {
        let record: Vec<_> = record.iter().map(|text| Some((*text).to_owned())).collect();
        let records = if record.is_empty() { Vec::new() } else { vec![record] };
        answered(
            statement,
            Answer { records, affected: 7, ..Answer::default() },
            &mut BTreeMap::new(),
            &Managed::default(),
        )
    }

    #[test]
    fn an_answer_is_read_as_its_statement_needs() {
        let node = Node::new("node01", 3306).unwrap();
        let lock = |expired| Reply::Lock(Some(LockSeen { owner: "another".to_owned(), expired }));
        assert_eq!(reply(&Statement::ReadLock, &["another", "0"]), lock(false));
        assert_eq!(reply(&Statement::ReadLock, &["another", "1"]), lock(true));
        assert_eq!(reply(&Statement::ReadLock, &[]), Reply::Lock(None));
        let returns = reply(&Statement::ReadReturns, &["node01", "3306", "primary"]);
        assert_eq!(returns, Reply::Returns([(node.clone(), Role::Primary)].into()));
        assert_eq!(reply(&Statement::ReadEnded, &["node01", "3306"]), Reply::Nodes([node].into()));
        assert_eq!(reply(&Statement::WasSaved, &["1"]), Reply::Saved(true));
        assert_eq!(reply(&Statement::WasSaved, &[]), Reply::Saved(false));
        assert_eq!(reply(&Statement::Load, &[]), Reply::Changed(7));
    }

    #[test]
    fn an_error_counts_only_if_it_says_what_the_statement_expects() {
        let owner = || "me".to_owned();
        let (take, renew) = (Statement::TakeLock { owner: owner() }, Statement::RenewLock { owner: owner() });
        let take_over = Statement::TakeOverLock { owner: owner(), from: "another".to_owned() };
        let (exists, none, other) =
            ("table stonith_lock already exists", "no such table: stonith_lock", "disk is full");
        let reply = |statement: &Statement, cause: &str| refused(statement, cause.to_owned());
        for (statement, cause, expected) in [
            (&take, exists, Reply::Exists),
            (&Statement::NoteWatch, exists, Reply::Exists),
            (&Statement::ReadLock, none, Reply::Lock(None)),
            (&renew, none, Reply::Changed(0)),
            (&take_over, none, Reply::Changed(0)),
        ] {
            assert_eq!(reply(statement, cause), expected, "{statement:?}");
            assert_eq!(reply(statement, other), Reply::Refused(other.to_owned()), "{statement:?}");
        }
        assert_eq!(reply(&Statement::Load, exists), Reply::Refused(exists.to_owned()));
        assert_eq!(reply(&Statement::Load, none), Reply::Refused(none.to_owned()));
    }
}
