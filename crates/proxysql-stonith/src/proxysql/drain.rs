//! The drain of a node before a planned takeover: what it lends, who holds the node, and the monitor's round after it.
//!
//! ProxySQL tells of a session's transaction only while `mysql-show_processlist_extended` is on, and keeps a session on its
//! server for 10 s after an insert with an auto_increment key (facts §5). The drain switches the one on and lowers the
//! other, if no variable is staged ([`stonith_core::apply`] puts them back if it is cut off).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use stonith_core::apply::{DELAYS_MS, DRAIN_NAME, DRAIN_RENEWS_S, Statement};
use stonith_core::node::Node;
use tokio::time::Instant;

use super::admin::{Admin, AdminError};
use super::answers::{self, first_column};
use super::error::ObserveError;
use super::sql;

/// What keeps a session on its connection for good (code: mysql_connection.cpp). `MultiplexDisabled` also counts a session
/// that stays for some time after an insert.
const PINS: [&str; 10] = [
    "user_variable",
    "prepared_statement",
    "lock_tables",
    "temporary_table",
    "get_lock",
    "no_multiplex",
    "no_multiplex_HG",
    "found_rows",
    "has_savepoint",
    "has_warnings",
];

/// No session has this id. The KILL of one makes each worker of ProxySQL look at its sessions at once, where it otherwise
/// does so once a second (code: `kill_session`, `signal_all_threads`).
const NO_SESSION: u64 = u32::MAX as u64;

/// A peer must take this long at least to take variables, in ms: what is lent changes once a second.
const PEERS_TAKE_MS: u64 = 2_000;

/// The times of idle sessions are this exact, if workers look at them at once.
const IDLE_EXACT: Duration = Duration::from_millis(100);

/// The sessions that hold a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// Connections in use that are not known to go by themselves.
    pub in_use: u64,
    /// Idle sessions without a transaction that keep their connection. They never leave.
    pub pinned: BTreeSet<u64>,
    /// Idle sessions without a transaction that stay for some time after an insert: for how long each has been idle.
    pub after_insert: Vec<Duration>,
}

/// What a drain lends, and since when.
#[derive(Debug)]
pub struct Lent {
    is_ours: bool,
    since: Option<Instant>,
    renewed: Instant,
    /// Whether peers of a ProxySQL Cluster look at the variables.
    clustered: bool,
    /// The delay that is lent, in ms.
    delay_ms: u64,
}

impl Lent {
    /// Nothing is lent.
    pub fn nothing() -> Self {
        Self { is_ours: false, since: None, renewed: Instant::now(), clustered: false, delay_ms: *DELAYS_MS.start() }
    }

    /// Whether a session that stays after an insert leaves soon by itself, since that insert came after the lending.
    fn lets_go(&self, idle: Duration) -> bool {
        self.since.is_some_and(|since| idle + IDLE_EXACT < since.elapsed())
    }

    /// Whether some session may see an error that waiting for its next statement spares it.
    pub fn waits_for_old(&self, holders: &Holders) -> bool {
        self.since.is_some() && holders.after_insert.iter().any(|idle| !self.lets_go(*idle))
    }

    /// Whether some session stays after an insert that leaves soon.
    pub fn waits_for_new(&self, holders: &Holders) -> bool {
        holders.after_insert.iter().any(|idle| self.lets_go(*idle))
    }
}

/// Lends the variables, unless another variable is staged, or a peer of a ProxySQL Cluster would take them. Another drain may
/// have lent them.
///
/// # Errors
/// ProxySQL could not be read or changed.
pub async fn lend(admin: &mut Admin, clustered: bool) -> Result<Lent, ObserveError> {
    let lent = |is_ours, since| Lent { is_ours, since, clustered, ..Lent::nothing() };
    if first_column(&admin.query(sql::NAMES).await?).contains(DRAIN_NAME) {
        return Ok(lent(false, Some(Instant::now())));
    }
    let seen = answers::variables(&run(admin, &Statement::Variables).await?);
    if seen.is_none_or(|seen| seen.staged > 0) || (clustered && !peers_take_nothing(admin).await?) {
        return Ok(Lent::nothing());
    }
    for statement in &Statement::LEND_FOR_DRAIN {
        run(admin, statement).await?;
    }
    Ok(lent(true, Some(Instant::now())))
}

/// Whether no peer of a ProxySQL Cluster takes what is lent, since the delay changes sooner. The settings of the peers count,
/// and the members of a cluster have the same ones. A delay that is not lent does not change.
async fn peers_take_nothing(admin: &mut Admin) -> Result<bool, ObserveError> {
    let answer = admin.query(&sql::variables(&[sql::PEERS_LOOKS, sql::PEERS_INTERVAL_MS, sql::INSERT_DELAY])).await?;
    let value = |name: &str| {
        let record =
            answer.records.iter().find(|record| record.first().is_some_and(|of| of.as_deref() == Some(name)))?;
        record.get(1)?.as_deref()?.parse::<u64>().ok()
    };
    let [looks, interval_ms, delay_ms] = [sql::PEERS_LOOKS, sql::PEERS_INTERVAL_MS, sql::INSERT_DELAY].map(value);
    let (Some(looks), Some(interval_ms), Some(delay_ms)) = (looks, interval_ms, delay_ms) else { return Ok(false) };
    let takes_late = looks.saturating_sub(1).saturating_mul(interval_ms) >= PEERS_TAKE_MS;
    Ok(looks == 0 || (takes_late && delay_ms > *DELAYS_MS.end()))
}

/// Puts back what was lent. Returns whether it is in force; otherwise the next LOAD of the variables makes it so.
///
/// # Errors
/// ProxySQL could not be read or changed.
pub async fn put_back(admin: &mut Admin, lent: &Lent) -> Result<bool, ObserveError> {
    if !lent.is_ours {
        return Ok(true);
    }
    run(admin, &Statement::PutBackDrain).await?;
    let seen = answers::drain(&run(admin, &Statement::ReadDrain).await?.records);
    let may = seen.is_some_and(|(_, staged)| staged == 0);
    if may {
        run(admin, &Statement::LoadVariables).await?;
    }
    run(admin, &Statement::DropDrain).await?;
    Ok(may)
}

/// Renews the note of a drain, and in a ProxySQL Cluster what is lent, so that no peer takes it. A drain does so each second,
/// and before what may take longer.
///
/// # Errors
/// ProxySQL could not be read or changed.
pub async fn renew(admin: &mut Admin, lent: &mut Lent) -> Result<(), ObserveError> {
    if !lent.is_ours {
        return Ok(());
    }
    run(admin, &Statement::RenewDrain).await?;
    lent.renewed = Instant::now();
    if !lent.clustered {
        return Ok(());
    }
    let staged = answers::drain(&run(admin, &Statement::ReadDrain).await?.records).map(|(_, staged)| staged);
    if staged == Some(0) {
        lent.delay_ms = if DELAYS_MS.contains(&(lent.delay_ms + 1)) { lent.delay_ms + 1 } else { *DELAYS_MS.start() };
        for statement in &Statement::lend_again(lent.delay_ms) {
            run(admin, statement).await?;
        }
    }
    Ok(())
}

/// Who holds a node by one of these names. ProxySQL's workers look at their sessions first, so that who may leave is gone
/// at the next look. The note of the drain is renewed.
///
/// # Errors
/// ProxySQL could not be read.
pub async fn holders(admin: &mut Admin, names: &BTreeSet<Node>, lent: &mut Lent) -> Result<Holders, ObserveError> {
    if lent.renewed.elapsed() >= Duration::from_secs(DRAIN_RENEWS_S) {
        renew(admin, lent).await?;
    }
    let used = admin.query(sql::USED).await?;
    let sessions = admin.query(sql::HOLDERS).await?;
    end(admin, &[NO_SESSION].into()).await?;
    let is_node = |host: &Option<String>, port: &Option<String>| {
        let node = host.as_ref().zip(port.as_ref()).and_then(|(host, port)| Node::new(host, port.parse().ok()?).ok());
        node.is_some_and(|node| names.contains(&node))
    };
    let mut found = Holders::default();
    for record in &used.records {
        let [_, host, port, count] = record.as_slice() else { continue };
        if is_node(host, port) {
            found.in_use += count.as_ref().and_then(|count| count.parse::<u64>().ok()).unwrap_or(1);
        }
    }
    for record in &sessions.records {
        let [Some(id), host, port, Some(command), idle_ms, Some(extended)] = record.as_slice() else { continue };
        let (true, "Sleep", Ok(id)) = (is_node(host, port), command.as_str(), id.parse()) else { continue };
        match held_by(extended) {
            Some(Hold::Pinned) => drop(found.pinned.insert(id)),
            Some(hold) => {
                found.in_use = found.in_use.saturating_sub(1);
                if hold == Hold::AfterInsert {
                    let idle_ms = idle_ms.as_ref().and_then(|ms| ms.parse().ok()).unwrap_or(u64::MAX);
                    found.after_insert.push(Duration::from_millis(idle_ms));
                }
            }
            None => {}
        }
    }
    Ok(found)
}

/// How an idle session without a transaction holds its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// For good.
    Pinned,
    /// For some time, or for some statements.
    AfterInsert,
    /// Until its next statement.
    Loose,
}

/// `None`: the session has a transaction, or ProxySQL does not tell.
fn held_by(extended: &str) -> Option<Hold> {
    let info: Value = serde_json::from_str(extended).ok()?;
    if info["active_transactions"].as_u64()? > 0 {
        return None;
    }
    let backends = info["backends"].as_array()?;
    let pins = |of: &Value| PINS.iter().any(|pin| of["conn"]["status"][pin].as_bool() == Some(true));
    let stays = |of: &Value| of["conn"]["auto_increment_delay_token"].as_u64().is_some_and(|statements| statements > 0);
    Some(match () {
        () if backends.iter().any(pins) => Hold::Pinned,
        () if backends.iter().any(stays) => Hold::AfterInsert,
        () => Hold::Loose,
    })
}

/// Ends these sessions.
///
/// # Errors
/// The connection failed.
pub async fn end(admin: &mut Admin, sessions: &BTreeSet<u64>) -> Result<(), ObserveError> {
    for id in sessions {
        match admin.query(&sql::render(&Statement::Kill(*id), &[])).await {
            Ok(_) | Err(AdminError::Refused { .. }) => {} // it may have left meanwhile
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes ProxySQL's monitor check every server now. A LOAD of the variables does that (facts §5). With a variable staged,
/// it would go live, and nothing is done. Returns whether it was done.
///
/// # Errors
/// ProxySQL could not be read or changed.
pub async fn wake_monitor(admin: &mut Admin) -> Result<bool, ObserveError> {
    let is_clean = admin.query(sql::STAGED_VARIABLES).await?.records.is_empty();
    if is_clean {
        run(admin, &Statement::LoadVariables).await?;
    }
    Ok(is_clean)
}

/// How long a statement waits for a server, in ms (`mysql-connect_timeout_server_max`), if ProxySQL tells.
///
/// # Errors
/// ProxySQL could not be read.
pub async fn longest_wait_ms(admin: &mut Admin) -> Result<Option<u64>, ObserveError> {
    let answer = admin.query(&sql::variables(&["mysql-connect_timeout_server_max"])).await?;
    Ok(answer.records.first().and_then(|record| record.get(1)?.as_ref()?.parse().ok()))
}

async fn run(admin: &mut Admin, statement: &Statement) -> Result<super::Answer, ObserveError> {
    Ok(admin.query(&sql::render(statement, &[])).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_pinned_stays_after_an_insert_leaves_by_itself_or_has_a_transaction() {
        let of = |transactions: u32, statements: u32, keeps: bool| {
            held_by(&format!(
                "{{\"active_transactions\":{transactions},\"backends\":[{{\"conn\":{{\"auto_increment_delay_token\":{statements},\"status\":{{\"get_lock\":false,\"user_variable\":{keeps}}}}}}}]}}"
            ))
        };
        assert_eq!(of(0, 0, false), Some(Hold::Loose));
        assert_eq!(of(0, 5, false), Some(Hold::AfterInsert));
        assert_eq!(of(0, 5, true), Some(Hold::Pinned));
        assert_eq!(of(1, 5, true), None);
        for unclear in ["", "{}", "{\"active_transactions\":0}", "{\"active_transactions\":\"0\",\"backends\":[]}"] {
            assert_eq!(held_by(unclear), None, "{unclear}");
        }
    }

    #[test]
    fn a_session_whose_last_statement_came_before_the_lending_is_waited_for_before_the_rows_are_out_only() {
        let since = Instant::now().checked_sub(Duration::from_secs(1));
        let lent = Lent { is_ours: true, since, ..Lent::nothing() };
        let idle = |ms| Holders { after_insert: vec![Duration::from_millis(ms)], ..Holders::default() };
        assert_eq!((lent.waits_for_old(&idle(2_000)), lent.waits_for_new(&idle(2_000))), (true, false));
        assert_eq!((lent.waits_for_old(&idle(300)), lent.waits_for_new(&idle(300))), (false, true));
        let not = Lent::nothing();
        assert_eq!((not.waits_for_old(&idle(2_000)), not.waits_for_new(&idle(300))), (false, false));
    }
}
