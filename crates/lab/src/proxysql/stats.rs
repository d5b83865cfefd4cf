//! ProxySQL's statistics of connections and sessions (facts §4).

use std::collections::{BTreeMap, BTreeSet};

use super::rows::{RowKey, ServerRow};
use super::sessions::Client;

type Record = Vec<Option<String>>;

/// `stats_mysql_connection_pool`.
pub(super) fn connection_pool(
    rows: &[ServerRow],
    clients: &BTreeMap<u64, Client>,
    idle: &BTreeSet<RowKey>,
) -> Vec<Record> {
    let record = |row: &ServerRow| {
        let key = row.key();
        let used = clients.values().flat_map(|client| client.holds.values()).filter(|held| **held == key).count();
        let free = u8::from(used == 0 && idle.contains(&key));
        let mut values = vec![
            row.hostgroup.to_string(),
            row.host.clone(),
            row.port.to_string(),
            row.status.clone(),
            used.to_string(),
            free.to_string(),
        ];
        values.resize(14, "0".to_owned());
        values.into_iter().map(Some).collect()
    };
    rows.iter().map(record).collect()
}

/// `stats_mysql_processlist`: only the current backend of a session, NULL if it holds none there; all of them in
/// `extended_info` with `mysql-show_processlist_extended`, by their address (facts §4; code: MySQL_Session.cpp).
pub(super) fn processlist(clients: &BTreeMap<u64, Client>, extended: bool) -> Vec<Record> {
    let record = |(id, client): (&u64, &Client)| {
        let text = |text: &str| Some(text.to_owned());
        let current = client.holds.get(&client.hostgroup);
        let backend = |held: &RowKey| {
            serde_json::json!({
                "hostgroup_id": held.hostgroup, "conn": {"mysql": {"host": address(&held.host), "port": held.port}},
            })
        };
        let info = extended.then(|| {
            let backends: Vec<_> = client.holds.values().map(backend).collect();
            serde_json::json!({"backends": backends}).to_string()
        });
        vec![
            text("0"),
            Some(id.to_string()),
            text("app"),
            text(""),
            text("127.0.0.1"),
            text("40000"),
            Some(client.hostgroup.to_string()),
            text(""),
            text("0"),
            current.map(|held| held.host.clone()),
            current.map(|held| held.port.to_string()),
            text("Sleep"),
            text("0"),
            text(""),
            text("0"),
            info,
        ]
    };
    clients.iter().filter(|(_, client)| !client.dead).map(record).collect()
}

/// `stats_mysql_global`: whether it is paused, and the number of sessions (facts §6).
pub(super) fn global(paused: bool, clients: &BTreeMap<u64, Client>) -> Vec<Record> {
    let sessions = clients.values().filter(|client| !client.dead).count();
    let record = |name: &str, value: String| vec![Some(name.to_owned()), Some(value)];
    vec![
        record("Client_Connections_connected", sessions.to_string()),
        record("mysql_listener_paused", paused.to_string()),
    ]
}

/// The address in ProxySQL's DNS cache: 127.0.1.1 for node01, as measured for facts §4.
fn address(host: &str) -> String {
    let number = host.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse::<u8>();
    number.map_or_else(|_| host.to_owned(), |number| format!("127.0.1.{number}"))
}
