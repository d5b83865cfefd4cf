//! Parses the admin interface's answers into core types, and refuses what it does not understand (I1).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;
use stonith_core::apply::{Backend, LockSeen, Session, Variables};
use stonith_core::managed::Managed;
use stonith_core::node::Node;
use stonith_core::observed::SharedLease;
use stonith_core::orders::Release;
use stonith_core::role::Role;
use stonith_core::table::{CheckType, Content, Hostgroup, Pair, Record, Table};

use crate::untrusted_text::one_line;
use crate::wire::Answer;

/// The part of an answer that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotUnderstood(pub String);

impl NotUnderstood {
    /// Shows the answer as one bounded line.
    pub fn of(what: &impl fmt::Debug) -> Self {
        Self(one_line(&format!("{what:?}")))
    }
}

/// Parses a whole table.
///
/// # Errors
/// Two records have the same key, so it is unclear which one applies.
pub fn content(table: Table, answer: Answer) -> Result<Content, NotUnderstood> {
    let mut keys = BTreeSet::new();
    for record in &answer.records {
        if !keys.insert(&record[..table.key_columns.min(record.len())]) {
            return Err(NotUnderstood::of(record));
        }
    }
    Ok(Content::new(table, answer.columns, answer.records))
}

/// Parses `mysql_replication_hostgroups`.
///
/// # Errors
/// A record is not a pair of hostgroups with a check_type.
pub fn pairs(answer: &Answer) -> Result<Vec<Pair>, NotUnderstood> {
    let pair = |record: &Vec<Option<String>>| match record.as_slice() {
        [Some(writer), Some(reader), Some(check_type)] => Some(Pair {
            writer: Hostgroup(writer.parse().ok()?),
            reader: Hostgroup(reader.parse().ok()?),
            check_type: CheckType::parse(check_type),
        }),
        _ => None,
    };
    let read = |record| pair(record).ok_or_else(|| NotUnderstood::of(record));
    answer.records.iter().map(read).collect()
}

/// Parses columns of hostgroups.
///
/// # Errors
/// A value is not a number.
pub fn hostgroups(answer: &Answer) -> Result<Vec<Hostgroup>, NotUnderstood> {
    let values = answer.records.iter().flatten();
    let read = |value: &Option<String>| {
        let number = value.as_ref().and_then(|value| value.parse().ok()).map(Hostgroup);
        number.ok_or_else(|| NotUnderstood::of(value))
    };
    values.map(read).collect()
}

/// Parses the hostgroups of a table with unknown columns: the columns whose name ends so, or is `hostgroup_id`.
///
/// # Errors
/// A value is not a number.
pub fn named_hostgroups(mut answer: Answer) -> Result<Vec<Hostgroup>, NotUnderstood> {
    let named: Vec<bool> =
        answer.columns.iter().map(|column| column.ends_with("hostgroup") || column == "hostgroup_id").collect();
    for record in &mut answer.records {
        let mut at = named.iter();
        record.retain(|value| at.next() == Some(&true) && value.is_some());
    }
    hostgroups(&answer)
}

/// The only value of an answer, for example of a variable.
pub fn value(answer: &Answer) -> Option<&str> {
    answer.records.first()?.first()?.as_deref()
}

/// The values of the first column, such as table names.
pub fn first_column(answer: &Answer) -> BTreeSet<String> {
    answer.records.iter().filter_map(|record| record.first()?.clone()).collect()
}

/// Parses the lock, if there is one.
pub fn lock(answer: &Answer) -> Option<LockSeen> {
    let record = answer.records.first()?;
    Some(LockSeen { owner: record.first()?.clone()?, expired: record.get(1)?.as_deref() != Some("0") })
}

/// Parses the node in the first two columns, and returns the other columns.
fn of_node(record: &Record) -> Option<(Node, &[Option<String>])> {
    let [Some(host), Some(port), rest @ ..] = record.as_slice() else { return None };
    Some((Node::new(host, port.parse().ok()?).ok()?, rest))
}

/// Parses the nodes whose return is in service, but perhaps not on disk yet.
pub fn returned(records: &[Record]) -> BTreeSet<Node> {
    records.iter().filter_map(|record| Some(of_node(record)?.0)).collect()
}

/// Parses these nodes with their proven roles.
pub fn returns(records: &[Record]) -> BTreeMap<Node, Role> {
    let of = |record| {
        let (node, rest) = of_node(record)?;
        Some((node, Role::parse(rest.first()?.as_deref()?)?))
    };
    records.iter().filter_map(of).collect()
}

/// Parses the lease that the agents of this ProxySQL share, if there is one.
pub fn lease(records: &[Record], owner: &str) -> Option<SharedLease> {
    let [Some(holder), left_s, unwanted_s] = records.first()?.as_slice() else { return None };
    let ms = |seconds: &Option<String>| -> Option<u64> {
        let seconds: i64 = seconds.as_ref()?.parse().ok()?;
        Some(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000)) // 0 if the lease is over, or if the clock was set back
    };
    Some(SharedLease {
        owner: holder.clone(),
        ours: holder == owner,
        left_ms: ms(left_s)?,
        unwanted_ms: ms(unwanted_s)?,
    })
}

/// Parses the releases by agents of this ProxySQL, per node.
pub fn releases(records: &[Record]) -> BTreeMap<Node, Release> {
    let of = |record: &Record| -> Option<(Node, Release)> {
        let (node, rest) = of_node(record)?;
        let [Some(recovery_ns), Some(downtime_s), Some(ordered_s)] = rest else { return None };
        let (recovery_ns, downtime_s) = (recovery_ns.parse().ok()?, downtime_s.parse().ok()?);
        Some((node, Release { recovery_ns, downtime_s, ordered_s: ordered_s.parse().ok()? }))
    };
    records.iter().filter_map(of).collect()
}

/// Parses the connections in use per hostgroup and node. Hostgroups that are not managed do not matter.
///
/// # Errors
/// A count or its node can't be parsed. It may be above 0, and a fence waits for 0.
pub fn used(answer: &Answer, managed: &Managed) -> Result<BTreeMap<(Hostgroup, Node), u64>, NotUnderstood> {
    let mut used: BTreeMap<(Hostgroup, Node), u64> = BTreeMap::new();
    for record in &answer.records {
        let (hostgroup, host, port, count) = pooled(record).ok_or_else(|| NotUnderstood::of(record))?;
        // A fence never waits for a name that cannot be a node's.
        if let Ok(node) = Node::new(host, port)
            && managed.contains(hostgroup)
        {
            let sum = used.entry((hostgroup, node)).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    Ok(used)
}

fn pooled(record: &Record) -> Option<(Hostgroup, &str, u16, u64)> {
    let [Some(hostgroup), Some(host), Some(port), Some(count)] = record.as_slice() else { return None };
    Some((Hostgroup(hostgroup.parse().ok()?), host, port.parse().ok()?, count.parse().ok()?))
}

/// Parses the client sessions of `stats_mysql_processlist`.
pub fn sessions(answer: &Answer) -> Vec<Session> {
    let session = |record: &Record| -> Option<Session> {
        let [id, hostgroup, host, port, command, home, extended] = record.as_slice() else { return None };
        let number = |value: &Option<String>| value.as_ref()?.parse().ok().map(Hostgroup);
        let current = match (host, port) {
            (Some(host), Some(port)) => port.parse().ok().and_then(|port| Node::new(host, port).ok()),
            _ => None,
        };
        Some(Session {
            id: id.as_ref()?.parse().ok()?,
            hostgroup: number(hostgroup),
            current,
            idle: command.as_deref() == Some("Sleep"),
            home: number(home),
            backends: extended.as_deref().and_then(backends),
        })
    };
    answer.records.iter().filter_map(session).collect()
}

/// Parses the servers in `extended_info.backends`. A backend without `conn` holds no connection.
///
/// The column needs `mysql-show_processlist_extended` (code: MySQL_Session.cpp).
fn backends(extended_info: &str) -> Option<Vec<Backend>> {
    let info = serde_json::from_str::<Value>(extended_info).ok()?;
    let backend = |backend: &Value| {
        let mysql = &backend["conn"]["mysql"];
        let port = mysql["port"].as_u64().and_then(|port| u16::try_from(port).ok())?;
        let hostgroup = backend["hostgroup_id"].as_u64().and_then(|number| u32::try_from(number).ok())?;
        Some(Backend { hostgroup: Hostgroup(hostgroup), host: mysql["host"].as_str()?.to_lowercase(), port })
    };
    // A session without a statement so far has no `backends`.
    Some(info.get("backends").and_then(Value::as_array).into_iter().flatten().filter_map(backend).collect())
}

/// Parses whether the extended processlist is on, and how many other variables are staged.
pub fn variables(answer: &Answer) -> Option<Variables> {
    let [extended, staged] = answer.records.first()?.as_slice() else { return None };
    Some(Variables { extended: extended.as_deref()? != "0", staged: staged.as_ref()?.parse().ok()? })
}

/// Parses whether a drain was cut off, and how many variables besides those that it lent are staged.
pub fn drain(records: &[Record]) -> Option<(bool, u64)> {
    let [left_over, staged] = records.first()?.as_slice() else { return None };
    Some((left_over.as_deref()? != "0", staged.as_ref()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use stonith_core::observed::ProxyView;
    use stonith_core::policy::Policy;
    use stonith_core::table::CheckType::ReadOnly;

    use super::*;

    fn in_use(records: &[[&str; 4]]) -> Result<BTreeMap<(Hostgroup, Node), u64>, NotUnderstood> {
        let pair = Pair { writer: Hostgroup(10), reader: Hostgroup(20), check_type: ReadOnly };
        let foreign = [Hostgroup(30)].into();
        let proxy = ProxyView { pairs: vec![pair], foreign, ..ProxyView::default() };
        let managed = Managed::of(&proxy, &Policy::default());
        let value = |text: &&str| Some(*text).filter(|text| *text != "NULL").map(str::to_owned);
        let records = records.iter().map(|record| record.iter().map(value).collect()).collect();
        used(&Answer { records, ..Answer::default() }, &managed)
    }

    #[test]
    fn i4_connections_in_use_are_counted_in_each_managed_hostgroup() {
        let node = Node::new("node01", 3306).unwrap();
        let used = in_use(&[
            ["10", "node01", "3306", "2"],
            ["20", "Node01.", "3306", "1"],
            ["30", "node01", "3306", "9"],
            ["10", "no name", "3306", "9"],
        ]);
        let [writer, reader] = [10, 20].map(|hostgroup| (Hostgroup(hostgroup), node.clone()));
        assert_eq!(used, Ok([(writer.clone(), 2), (reader, 1)].into()));
        let most = u64::MAX.to_string();
        let used = in_use(&[["10", "node01", "3306", &most], ["10", "node01.", "3306", "1"]]);
        assert_eq!(used, Ok([(writer, u64::MAX)].into()), "not 0, for which a fence waits");
    }

    #[test]
    fn i1_two_records_of_one_key_are_not_one() {
        let record =
            |port: &str, status: &str| ["10", "node01", port, status].map(|text| Some(text.to_owned())).to_vec();
        let read = |records| {
            let columns = ["hostgroup_id", "hostname", "port", "status"].map(str::to_owned).to_vec();
            content(stonith_core::table::SERVERS, Answer { columns, records, affected: 0 })
        };
        assert_eq!(read(vec![record("3306", "ONLINE"), record("3307", "ONLINE")]).unwrap().records.len(), 2);
        assert!(read(vec![record("3306", "ONLINE"), record("3306", "OFFLINE_SOFT")]).is_err());
    }

    #[test]
    fn i3_the_hostgroups_of_a_table_of_another_version_are_those_whose_columns_are_named_so() {
        let columns = ["deployment", "writer_hostgroup", "green_hostgroup", "max_lag"].map(str::to_owned).to_vec();
        let read = |record: [Option<&str>; 4]| {
            let records = vec![record.map(|value| value.map(str::to_owned)).to_vec()];
            named_hostgroups(Answer { columns: columns.clone(), records, ..Answer::default() })
        };
        assert_eq!(read([Some("7"), Some("10"), Some("20"), Some("9")]), Ok(vec![Hostgroup(10), Hostgroup(20)]));
        assert_eq!(read([Some("7"), Some("10"), None, Some("9")]), Ok(vec![Hostgroup(10)]));
        assert!(read([Some("7"), Some("ten"), Some("20"), Some("9")]).is_err());
    }

    #[test]
    fn i1_connections_that_can_not_be_counted_are_not_none() {
        for record in [
            ["10", "node01", "3306", "-1"],
            ["10", "node01", "3306", "NULL"],
            ["10", "node01", "3306", "many"],
            ["10", "node01", "", "2"],
            ["10", "NULL", "3306", "2"],
            ["", "node01", "3306", "2"],
        ] {
            assert!(in_use(&[["10", "node02", "3306", "1"], record]).is_err(), "{record:?}");
        }
    }
}
