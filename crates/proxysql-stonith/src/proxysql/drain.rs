//! The drain of a node before a planned takeover: who holds it, and the monitor's round after it.
//!
//! ProxySQL tells of a session's transaction only while `mysql-show_processlist_extended` is on (facts §5). It is switched
//! on for the drain, as an apply does for one look, and only if no other variable is staged.

use std::collections::BTreeSet;

use serde_json::Value;
use stonith_core::apply::Statement;
use stonith_core::node::Node;

use super::admin::{Admin, AdminError};
use super::error::ObserveError;
use super::{answers, sql};

/// What keeps a session on its connection (code: mysql_connection.cpp). `MultiplexDisabled` also counts a session that waits
/// for `LAST_INSERT_ID()`, which leaves some statements later.
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

/// The sessions that hold a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// Connections in use that are not known to go by themselves.
    pub in_use: u64,
    /// Idle sessions without a transaction that keep their connection. They never leave.
    pub pinned: BTreeSet<u64>,
}

/// Whether the extended processlist was switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extended(bool);

/// Switches the extended processlist on, if that takes no staged variable live.
///
/// # Errors
/// ProxySQL could not be read or changed.
pub async fn show_transactions(admin: &mut Admin) -> Result<Extended, ObserveError> {
    let seen = answers::variables(&run(admin, &Statement::Variables).await?);
    let may = seen.is_some_and(|seen| !seen.extended && seen.staged == 0);
    if may {
        use Statement::{LoadVariables, NoteExtended, SetExtended};
        // It is off again in memory at once, so that the next LOAD switches it off even if the drain is cut off.
        for statement in [NoteExtended, SetExtended(true), LoadVariables, SetExtended(false)] {
            run(admin, &statement).await?;
        }
    }
    Ok(Extended(may))
}

/// Switches it off again.
///
/// # Errors
/// ProxySQL could not be read or changed.
pub async fn hide_transactions(admin: &mut Admin, extended: Extended) -> Result<(), ObserveError> {
    if extended.0 && answers::variables(&run(admin, &Statement::Variables).await?).is_some_and(|seen| seen.staged == 0)
    {
        run(admin, &Statement::LoadVariables).await?;
        run(admin, &Statement::DropExtended).await?;
    }
    Ok(())
}

/// Who holds a node by one of these names.
///
/// # Errors
/// ProxySQL could not be read.
pub async fn holders(admin: &mut Admin, names: &BTreeSet<Node>) -> Result<Holders, ObserveError> {
    let used = admin.query(sql::USED).await?;
    let sessions = admin.query(sql::HOLDERS).await?;
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
        let [Some(id), host, port, Some(command), Some(extended)] = record.as_slice() else { continue };
        let (true, "Sleep", Ok(id)) = (is_node(host, port), command.as_str(), id.parse()) else { continue };
        match between_transactions(extended) {
            Some(true) => drop(found.pinned.insert(id)),
            // It leaves by itself: with its next statement, or some statements after an insert (facts §5).
            Some(false) => found.in_use = found.in_use.saturating_sub(1),
            None => {}
        }
    }
    Ok(found)
}

/// Of an idle session: whether it keeps its connection though it has no transaction. `None`: it has one, or ProxySQL does
/// not tell.
fn between_transactions(extended: &str) -> Option<bool> {
    let info: Value = serde_json::from_str(extended).ok()?;
    if info["active_transactions"].as_u64()? > 0 {
        return None;
    }
    let backends = info["backends"].as_array()?;
    let pins = |of: &Value| PINS.iter().any(|pin| of["conn"]["status"][pin].as_bool() == Some(true));
    Some(backends.iter().any(pins))
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
    fn an_idle_session_is_pinned_leaves_by_itself_or_has_a_transaction() {
        let of = |transactions: u32, keeps: bool| {
            between_transactions(&format!(
                "{{\"active_transactions\":{transactions},\"backends\":[{{\"conn\":{{\"MultiplexDisabled\":true,\"status\":{{\"get_lock\":false,\"user_variable\":{keeps}}}}}}}]}}"
            ))
        };
        assert_eq!((of(0, true), of(0, false), of(1, true)), (Some(true), Some(false), None));
        for unclear in ["", "{}", "{\"active_transactions\":0}", "{\"active_transactions\":\"0\",\"backends\":[]}"] {
            assert_eq!(between_transactions(unclear), None, "{unclear}");
        }
    }
}
