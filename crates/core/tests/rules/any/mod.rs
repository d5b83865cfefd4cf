//! Any row, comment, marker and tick that there can be, with all that is awkward far more often than in life.

use std::collections::{BTreeMap, BTreeSet};

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use stonith_core::evidence::EvidenceKind;
use stonith_core::node::Node;
use stonith_core::observed::{Observed, ProxyView};
use stonith_core::orchestrator::{
    Addresses, Analysis, Answer, BARRIER, Backing, Downtime, Instance, LOST_IN_RECOVERY, LeaderView, Recovery,
    RecoveryHistory, TAKEOVER,
};
use stonith_core::orders::Orders;
use stonith_core::policy::{FenceOn, IsolationScope, Policy};
use stonith_core::role::Role;
use stonith_core::shared::Shared;
use stonith_core::table::{Hostgroup, Marker, Row, RowKey, Status, mark};

use crate::world::{self, WALL_S};

/// The nodes there are; few, so that things meet.
pub const NAMES: [&str; 4] = ["node01", "node02", "node03", "node04"];

pub fn node() -> impl Strategy<Value = Node> {
    select(NAMES.to_vec()).prop_map(world::node)
}

/// What an operator may write: any letters, quotes, brackets, and things that look like ours.
pub fn comment() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        "\\PC{0,6}",
        select(vec![
            "",
            " ",
            "'",
            "\"",
            "\\",
            "]",
            "[",
            " [stonith:",
            "[stonith:1 mine]",
            "was=ONLINE]",
            " [ston",
            "\n"
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(pieces, 0..4).prop_map(|pieces| pieces.concat())
}

pub fn marker() -> impl Strategy<Value = Marker> {
    let kinds = vec![
        EvidenceKind::Superseded,
        EvidenceKind::LostInRecovery,
        EvidenceKind::SecondWriter,
        EvidenceKind::Manual,
        EvidenceKind::Barrier,
        EvidenceKind::Takeover,
        EvidenceKind::Downtime,
        EvidenceKind::Isolation,
    ];
    let was = select(vec![Status::Online, Status::Shunned, Status::OfflineSoft, Status::OfflineHard]);
    let hosts =
        prop_oneof![select(NAMES.to_vec()).prop_map(str::to_owned), "[a-z0-9_-]{1,9}(\\.[a-z]{1,3})?|fe80::[0-9]"];
    let by = (hosts, any::<u16>()).prop_map(|(host, port)| Node::new(&host, port).unwrap());
    (select(kinds), option::of(by), was).prop_map(|(kind, by, was)| Marker { kind, by, was })
}

pub fn role() -> impl Strategy<Value = Role> {
    select(vec![Role::Primary, Role::Replica, Role::AsBefore])
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![
        4 => Just(Status::Online),
        1 => Just(Status::Shunned),
        3 => Just(Status::OfflineSoft),
        1 => Just(Status::OfflineHard),
        1 => Just(Status::Unknown("DRAINING".to_owned())),
    ]
}

/// A row of some node, in any spelling of its name.
pub fn named_row() -> impl Strategy<Value = Row> {
    let spelling = (select(NAMES.to_vec()), 0..4).prop_map(|(name, how)| match how {
        0 => name.to_uppercase(),
        1 => format!("{name}."),
        _ => name.to_owned(),
    });
    let hostname = prop_oneof![9 => spelling, 1 => Just("/run/mysqld.sock".to_owned()), 1 => Just("a'b".to_owned())];
    let hostgroup = select(vec![10, 20, 30, 40, 50, 60]).prop_map(Hostgroup);
    let port = prop_oneof![9 => Just(3306_u16), 1 => any::<u16>()];
    let key = (hostgroup, hostname, port).prop_map(|(hostgroup, hostname, port)| RowKey {
        hostgroup,
        hostname: hostname.into(),
        port,
    });
    let marked = (comment(), option::weighted(0.4, marker())).prop_map(|(comment, marker)| match marker {
        Some(marker) => mark(&comment, &marker),
        None => comment,
    });
    let settings = any::<u8>().prop_map(|weight| BTreeMap::from([("weight".to_owned(), weight.to_string())]));
    (key, status(), marked, settings).prop_map(|(key, status, comment, settings)| Row {
        key,
        status,
        comment,
        settings: settings.into(),
    })
}

/// A layer: no two rows of one key.
pub fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(named_row(), 0..8).prop_map(|rows| {
        let by_key: BTreeMap<RowKey, Row> = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        by_key.into_values().collect()
    })
}

/// Rows as they mostly are: no two spellings, and comments that can be read.
fn likely_rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (select(NAMES.to_vec()), select(vec![10, 20]), 0..8_u8, option::weighted(0.4, marker()));
    prop::collection::vec(row, 1..8).prop_map(|rows| {
        let row = |(name, hostgroup, status, marker): (&str, u32, u8, Option<Marker>)| {
            let mut row = world::row(hostgroup, name, Status::Online);
            if let Some(marker) = marker {
                row.status = Status::OfflineSoft;
                // What every row of a node says of one kind is the same.
                let by = marker.by.map(|_| world::node("node02"));
                row.comment = mark("", &Marker { by, ..marker });
            } else if status == 0 {
                row.status = Status::Shunned;
            }
            (row.key.clone(), row)
        };
        rows.into_iter().map(row).collect::<BTreeMap<_, _>>().into_values().collect()
    })
}

fn around(seconds: std::ops::Range<i64>) -> impl Strategy<Value = i64> {
    seconds.prop_map(|s| WALL_S + s)
}

pub fn record() -> impl Strategy<Value = Recovery> {
    let analysis = prop_oneof![3 => Just(Analysis::DeadPrimary), 1 => Just(Analysis::Other)];
    let at_ns = (-3600..3600_i64).prop_map(|s| u64::try_from(WALL_S + s).unwrap() * 1_000_000_000);
    (at_ns, option::of(around(-3600..3600)), analysis, prop::bool::weighted(0.8), node(), option::weighted(0.8, node()))
        .prop_map(|(at_ns, end_s, analysis, successful, failed, successor)| {
            // One UID names one record.
            let uid = format!("{at_ns}:{failed}{successor:?}{analysis:?}{successful}{end_s:?}");
            Recovery { at_ns, uid, end_s, analysis, successful, failed, successor, alias: String::new() }
        })
}

fn instance() -> impl Strategy<Value = Instance> {
    let likely = || prop::bool::weighted(0.8);
    let seen = (likely(), any::<bool>(), likely(), prop::bool::weighted(0.2));
    (node(), option::weighted(0.7, node()), seen, around(-3600..7200), select(vec!["", "main"])).prop_map(
        |(node, primary, (valid, read_only, replicating, downtimed), checked_s, alias)| {
            let primary = primary.filter(|primary| *primary != node);
            Instance {
                cluster: primary.as_ref().unwrap_or(&node).to_string(),
                alias: alias.to_owned(),
                valid,
                read_only,
                replicating: replicating && primary.is_some(),
                primary,
                checked_s,
                downtimed,
                uuid: String::new(),
                errant_gtid: String::new(),
                replication_error: String::new(),
                node,
            }
        },
    )
}

fn instances() -> impl Strategy<Value = Vec<Instance>> {
    prop::collection::vec(instance(), 0..6).prop_map(|all| {
        let by_node: BTreeMap<Node, Instance> = all.into_iter().map(|one| (one.node.clone(), one)).collect();
        by_node.into_values().collect()
    })
}

fn downtimes() -> impl Strategy<Value = Vec<Downtime>> {
    let reason = select(vec![LOST_IN_RECOVERY, BARRIER, TAKEOVER, "maintenance"]);
    prop::collection::btree_map(node(), (reason, around(-3600..3600)), 0..3).prop_map(|all| {
        let downtime = |(node, (reason, begin_s)): (Node, (&str, i64))| Downtime {
            node,
            reason: reason.to_owned(),
            owner: "x".to_owned(),
            begin_s,
        };
        all.into_iter().map(downtime).collect()
    })
}

fn leader() -> impl Strategy<Value = LeaderView> {
    let backing = select(vec![Backing::Majority, Backing::Majority, Backing::Single, Backing::Unconfirmed]);
    let history = option::weighted(0.9, prop::collection::vec(record(), 0..6));
    let answer = (backing, downtimes(), history, option::weighted(0.9, instances())).prop_map(
        |(backing, downtimes, history, instances)| {
            let (leader, date_s) = ("orc1".to_owned(), WALL_S + 3600);
            LeaderView::Led(Answer {
                history: history.map(|records| RecoveryHistory::whole(&leader, records)),
                leader,
                asked_ms: 5_000_000,
                date_s,
                backing,
                downtimes,
                instances,
                hooks: None,
                skipped: Vec::new(),
            })
        },
    );
    prop_oneof![9 => answer, 1 => Just(LeaderView::Leaderless), 1 => Just(LeaderView::Silent(Default::default()))]
}

/// What one tick may see.
pub fn observed() -> impl Strategy<Value = Observed> {
    let layers =
        prop_oneof![4 => [likely_rows(), likely_rows(), likely_rows()].boxed(), 1 => [rows(), rows(), rows()].boxed()];
    (layers, leader(), addresses()).prop_map(|([runtime, memory, disk], leader, addresses)| {
        let pairs = vec![world::pair(10, 20), world::pair(30, 40)];
        let [runtime, memory, disk] = [runtime, memory, disk].map(Shared::from);
        Observed {
            proxy: ProxyView { runtime, memory, disk, pairs, ..ProxyView::default() },
            leader,
            orders: Orders::default(),
            addresses,
        }
    })
}

/// Few addresses, so that hosts often share one.
fn addresses() -> impl Strategy<Value = Addresses> {
    let host = (select(NAMES.to_vec()), prop::collection::btree_set(0_u8..4, 0..3));
    let hosts = prop::collection::vec(host, 0..6);
    hosts.prop_map(|hosts| {
        let host = |(name, last): (&str, BTreeSet<u8>)| {
            (name.parse().unwrap(), last.into_iter().map(|last| [10, 0, 0, last].into()).collect())
        };
        hosts.into_iter().map(host).collect()
    })
}

pub fn policy() -> impl Strategy<Value = Policy> {
    let hostgroups = || prop::collection::btree_set(select(vec![50, 60]).prop_map(Hostgroup), 0..2);
    let fence_on = select(vec![FenceOn::AnyDowntime, FenceOn::LostInRecovery]);
    let scope = select(vec![IsolationScope::All, IsolationScope::Writers, IsolationScope::Off]);
    let chosen = (fence_on, scope, hostgroups(), hostgroups());
    chosen.prop_map(|(fence_on, isolation_scope, excluded, writers): (_, _, BTreeSet<_>, BTreeSet<_>)| Policy {
        fence_on,
        isolation_scope,
        excluded_hostgroups: excluded,
        writer_hostgroups: writers,
        ..world::policy()
    })
}
