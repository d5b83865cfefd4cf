//! The defaults of the server table's columns.

use super::{Row, unmarked};

/// The columns beside key, status and comment, the same in every version (facts §12).
const DEFAULTS: [(&str, &str); 7] = [
    ("gtid_port", "0"),
    ("weight", "1"),
    ("compression", "0"),
    ("max_connections", "1000"),
    ("max_replication_lag", "0"),
    ("use_ssl", "0"),
    ("max_latency_ms", "0"),
];

/// Whether nobody set anything but the row's key and status: every other column is at ProxySQL's default, and the
/// operator's part of the comment is empty. A column that this program does not know is not at its default.
pub fn is_at_defaults(row: &Row) -> bool {
    let is_default = |(name, value): (&String, &String)| DEFAULTS.contains(&(name.as_str(), value.as_str()));
    row.settings.iter().all(is_default) && unmarked(&row.comment).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Hostgroup, RowKey, Status};

    #[test]
    fn a_row_with_any_column_set_is_not_at_the_defaults_and_this_programs_note_sets_none() {
        let row = |name: &str, value: &str, comment: &str| Row {
            key: RowKey { hostgroup: Hostgroup(10), hostname: "node01".into(), port: 3306 },
            status: Status::OfflineSoft,
            comment: comment.to_owned(),
            settings: DEFAULTS
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into_iter()
                .chain([(name.to_owned(), value.to_owned())])
                .collect(),
        };
        for comment in ["", " [stonith:1 superseded by=node02:3306 was=ONLINE]"] {
            assert!(is_at_defaults(&row("weight", "1", comment)), "{comment}");
        }
        for (name, value, comment) in [
            ("use_ssl", "1", ""),
            ("max_connections", "100", ""),
            ("weight", "1", "rack 7"),
            ("from_a_later_version", "0", ""),
        ] {
            assert!(!is_at_defaults(&row(name, value, comment)), "{name} {comment}");
        }
    }
}
