//! The morning after: node01 was the primary, node02 was promoted, node01 is back; somebody has edits staged.
//! And what must be seen after an apply.

use std::collections::BTreeMap;

use stonith_core::apply::{Done, Outcome, Place};
use stonith_core::evidence::EvidenceKind;
use stonith_core::managed::Managed;
use stonith_core::node::Node;
use stonith_core::observed::ProxyView;
use stonith_core::plan::{Directive, Plan};
use stonith_core::role::Role;
use stonith_core::table::{COVERED, CheckType, Content, Hostgroup, Pair, Row, SERVERS, Status, Table};

use super::{Client, LAYERS, NEXT, World, covered};

pub const SERVER_COLUMNS: [&str; 7] =
    ["hostgroup_id", "hostname", "port", "status", "weight", "max_replication_lag", "comment"];

/// What an operator may well write.
pub const ODD_COMMENT: &str = r#"it's "rack 7" \ é [x]"#;

pub fn node(name: &str) -> Node {
    format!("{name}:3306").parse().unwrap()
}

fn columns(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn servers(rows: &[(u32, &str, &str, u32, &str)]) -> Content {
    let record = |(hostgroup, name, status, weight, comment): &(u32, &str, &str, u32, &str)| {
        let values = [hostgroup.to_string(), (*name).into(), "3306".into(), (*status).into(), weight.to_string()];
        values.into_iter().chain(["0".to_owned(), (*comment).to_owned()]).map(Some).collect()
    };
    Content::new(SERVERS, columns(&SERVER_COLUMNS), rows.iter().map(record))
}

fn other(table: Table, names: &[&str], records: &[&[&str]]) -> Content {
    let record =
        |values: &&[&str]| values.iter().map(|value| (*value != "NULL").then(|| (*value).to_owned())).collect();
    Content::new(table, columns(names), records.iter().map(record))
}

/// Records of one table: in force, and the ones staged beside them.
struct Others {
    table: Table,
    columns: &'static [&'static str],
    live: &'static [&'static [&'static str]],
    staged: &'static [&'static [&'static str]],
}

const OTHERS: [Others; 7] = [
    Others {
        table: COVERED[1],
        columns: &["writer_hostgroup", "reader_hostgroup", "check_type", "comment"],
        live: &[&["10", "20", "read_only", "main"], &["11", "21", "read_only", ""]],
        staged: &[
            &["10", "20", "read_only", "main"],
            &["11", "21", "read_only", ""],
            &["12", "22", "read_only", "new"],
        ],
    },
    Others {
        table: COVERED[2],
        columns: &["writer_hostgroup", "backup_writer_hostgroup", "reader_hostgroup", "comment"],
        live: &[&["40", "41", "42", "NULL"]],
        staged: &[&["40", "41", "42", "it's staged"]],
    },
    Others {
        table: COVERED[3],
        columns: &["writer_hostgroup", "reader_hostgroup", "comment"],
        live: &[&["50", "51", "galera"]],
        staged: &[],
    },
    Others {
        table: COVERED[4],
        columns: &["writer_hostgroup", "reader_hostgroup", "domain_name"],
        live: &[&["60", "61", ".aws"]],
        staged: &[&["60", "61", ".aws"], &["62", "63", ".aws2"]],
    },
    Others {
        table: COVERED[5],
        columns: &["hostgroup_id", "max_num_online_servers", "servers_defaults"],
        live: &[&["10", "1", r#"{"weight":1}"#]],
        staged: &[&["10", "2", r#"{"weight":1}"#]],
    },
    Others {
        table: COVERED[6],
        columns: &["hostname", "port", "username", "ssl_ca"],
        live: &[&["node01", "3306", "", "/ca.pem"]],
        staged: &[&["node01", "3306", "", "/new-ca.pem"], &["node09", "3306", "u", ""]],
    },
    Others {
        table: NEXT,
        columns: &["writer_hostgroup", "green_hostgroup", "comment"],
        live: &[&["70", "71", "blue"]],
        staged: &[&["70", "72", "green, staged"], &["73", "74", ""]],
    },
];

/// How the scene varies.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scene {
    /// `mysql-monitor_writer_is_also_reader`: writers have a reader row too.
    pub writer_is_also_reader: bool,
    /// Memory has the placement of after the failover: somebody saved it from runtime since.
    pub placement_in_memory: bool,
    /// Nobody has anything staged.
    pub nothing_staged: bool,
    /// node01's writer row is a ghost, a client still holds it.
    pub ghost: bool,
}

/// Those that every rule is held against.
pub const SCENES: [Scene; 5] = [
    Scene { writer_is_also_reader: false, placement_in_memory: false, nothing_staged: false, ghost: false },
    Scene { writer_is_also_reader: true, placement_in_memory: false, nothing_staged: false, ghost: false },
    Scene { writer_is_also_reader: true, placement_in_memory: true, nothing_staged: false, ghost: false },
    Scene { writer_is_also_reader: false, placement_in_memory: true, nothing_staged: true, ghost: false },
    Scene { writer_is_also_reader: true, placement_in_memory: false, nothing_staged: false, ghost: true },
];

impl Scene {
    /// A world in which node01 is to be fenced.
    pub fn world(self) -> World {
        let mut configured = vec![
            (10, "node01", "ONLINE", 1, ODD_COMMENT),
            (20, "node02", "ONLINE", 1, "new primary"),
            (20, "node03", "ONLINE", 1, "replica"),
            (20, "node04", "OFFLINE_SOFT", 1, "taken out by 'dba'"),
            (20, "node05", "ONLINE", 1, ""),
            (20, "node06", "OFFLINE_HARD", 1, "gone [for now]"),
            (11, "node01", "ONLINE", 3, ""),
            (21, "node07", "ONLINE", 1, ""),
            (30, "node01", "ONLINE", 1, "listed"),
            (40, "node01", "ONLINE", 1, "group replication"),
            (99, "node01", "ONLINE", 1, "not ours"),
            (99, "node08", "ONLINE", 1, "é"),
        ];
        if self.writer_is_also_reader {
            configured.push((20, "node01", "ONLINE", 1, "reads too"));
        }
        let disk = servers(&configured);
        let mut live = configured.clone();
        live.retain(|row| {
            row.2 != "OFFLINE_HARD" && (self.writer_is_also_reader || !(row.0 == 20 && row.1 == "node02"))
        });
        live.push((10, "node02", "ONLINE", 1, "new primary"));
        for row in &mut live {
            if row.1 == "node05" {
                row.2 = "SHUNNED";
            }
            if self.ghost && row.0 == 10 && row.1 == "node01" {
                row.2 = "OFFLINE_HARD";
            }
        }
        live.push((21, "node09", "OFFLINE_HARD", 1, "a ghost of long ago"));
        if self.placement_in_memory {
            configured.push((10, "node02", "ONLINE", 1, "new primary"));
        }
        if !self.nothing_staged {
            for row in &mut configured {
                if row.1 == "node03" {
                    row.3 = 5;
                }
            }
            configured.retain(|row| row.1 != "node07");
            configured.push((20, "node10", "ONLINE", 9, "staged, it's new"));
        }
        let mut tables = BTreeMap::new();
        for (place, content) in LAYERS.into_iter().zip([servers(&live), servers(&configured), disk]) {
            tables.insert((place, SERVERS), content);
        }
        for others in OTHERS {
            let staged = if self.nothing_staged { others.live } else { others.staged };
            for (place, records) in LAYERS.into_iter().zip([others.live, staged, others.live]) {
                tables.insert((place, others.table), other(others.table, others.columns, records));
            }
        }
        let clients = [
            Client::holding(1, &[(10, node("node01"))]),
            Client::holding(2, &[(10, node("node01")), (20, node("node03"))]),
            Client::holding(3, &[(10, node("node02"))]),
        ];
        World {
            tables,
            lock: None,
            returns: None,
            lease: None,
            released: BTreeMap::new(),
            now_ms: 1_000_000,
            clients: clients.to_vec(),
            extended: [true; 2],
            variables: [0; 2],
            extended_note: false,
            drain_note: None,
            delay_lowered: [false; 2],
            ended: None,
            paused: false,
            pause_note: None,
            old_monitor: false,
            moves_count: false,
            version: 7,
            checksums: true,
            scratch: false,
            watched: None,
            odd: [].into(),
            broken: Vec::new(),
        }
    }

    /// The same, with node01 fenced everywhere.
    pub fn fenced(self) -> World {
        let mut world = expected(&self.world(), &fence());
        world.clients.retain(|client| !client.holds(&node("node01")));
        world
    }
}

// What an operator does to a row of memory.

pub fn weigh(world: &mut World, hostgroup: u32, name: &str, weight: &str) {
    world.edit(Place::Memory, hostgroup, name, |row| {
        row.map(|mut row| {
            row.settings.insert("weight".into(), weight.into());
            row
        })
    });
}

pub fn comment(world: &mut World, hostgroup: u32, name: &str, comment: &str) {
    world.edit(Place::Memory, hostgroup, name, |row| row.map(|row| Row { comment: comment.to_owned(), ..row }));
}

pub fn state(world: &mut World, hostgroup: u32, name: &str, status: Status) {
    world.edit(Place::Memory, hostgroup, name, |row| row.map(|row| Row { status: status.clone(), ..row }));
}

/// A world in which two rows, alike in status and comment, are staged to go out of service.
pub fn two_staged_out() -> World {
    let mut world = SCENES[3].world().small();
    for place in LAYERS {
        world.edit(place, 20, "node03", |row| row.map(|row| Row { comment: String::new(), ..row }));
    }
    for name in ["node03", "node05"] {
        state(&mut world, 20, name, Status::OfflineSoft);
    }
    world
}

pub fn managed() -> Managed {
    let pair =
        |writer, reader| Pair { writer: Hostgroup(writer), reader: Hostgroup(reader), check_type: CheckType::ReadOnly };
    Managed::of_pairs([pair(10, 20), pair(11, 21)])
}

pub type Directives = BTreeMap<Node, Directive>;

pub fn fence() -> Directives {
    let directive = Directive::Fence { kind: EvidenceKind::Superseded, by: Some(node("node02")), sessions: true };
    BTreeMap::from([(node("node01"), directive)])
}

/// Somebody else's reason, with a lower rank than that of [`fence`].
pub fn second_writer(name: &str, by: &str) -> Directives {
    let directive = Directive::Fence { kind: EvidenceKind::SecondWriter, by: Some(node(by)), sessions: false };
    BTreeMap::from([(node(name), directive)])
}

pub fn unfence(role: Role) -> Directives {
    BTreeMap::from([(node("node01"), Directive::Unfence(role))])
}

/// What a tick would plan now.
pub fn plan(world: &World, directives: &Directives) -> Plan {
    let view = ProxyView {
        runtime: world.rows(Place::Runtime).into(),
        memory: world.rows(Place::Memory).into(),
        disk: world.rows(Place::Disk).into(),
        conn_used: world.used(),
        unfinished: world.unfinished(),
        released: world.released.clone(),
        returned: world.returns.iter().flat_map(BTreeMap::keys).cloned().collect(),
        ..ProxyView::default()
    };
    Plan { end_possible_holders: true, ..Plan::new(managed(), directives.clone(), &view) }
}

pub fn done(outcome: &Outcome) -> &Done {
    match outcome {
        Outcome::Applied(done) => done,
        other => panic!("not applied: {other:?}"),
    }
}

pub fn is_managed(row: &Row) -> bool {
    managed().contains(row.key.hostgroup)
}

/// Rows of node01 that are ours and in service.
pub fn in_service(world: &World, place: Place) -> Vec<Row> {
    world.rows_of(place, "node01").into_iter().filter(|row| is_managed(row) && row.status.in_service()).collect()
}

/// Rows as LOAD leaves them, less the ghosts; what is shunned at the moment counts as ONLINE.
pub fn live(rows: Vec<Row>) -> Vec<Row> {
    let mut rows: Vec<Row> = rows.into_iter().filter(|row| row.status != Status::OfflineHard).collect();
    for row in &mut rows {
        if row.status == Status::Shunned {
            row.status = Status::Online;
        }
    }
    rows.sort();
    rows
}

/// What the layers must be after the directives were carried out on this world undisturbed.
pub fn expected(world: &World, directives: &Directives) -> World {
    let plan = plan(world, directives);
    let mut after = world.clone();
    for place in LAYERS {
        let rows = world.rows(place);
        let rows = plan.carry_out(&if place == Place::Runtime { live(rows) } else { rows });
        after.set_rows(place, &rows);
    }
    after.lock = None;
    after.returns = None;
    after.watched = None;
    after.scratch = false;
    after.tables.retain(|(place, _), _| LAYERS.contains(place));
    after
}

/// Compares everything but sessions, ghosts and what is shunned.
#[track_caller]
pub fn assert_same(world: &World, expected: &World, at: &str) {
    assert_eq!(world.broken, Vec::<String>::new(), "{at}");
    assert_eq!(world.lock, None, "{at}: a lock is left");
    assert_eq!(world.copies(), 0, "{at}: copies are left");
    assert_eq!((&world.returns, world.watched, world.scratch), (&None, None, false), "{at}: a note is left");
    assert_eq!(live(world.rows(Place::Runtime)), live(expected.rows(Place::Runtime)), "{at}: mysql_servers in runtime");
    for place in [Place::Memory, Place::Disk] {
        assert_eq!(world.rows(place), expected.rows(place), "{at}: mysql_servers in {place:?}");
    }
    for place in LAYERS {
        for table in covered().into_iter().filter(|table| *table != SERVERS) {
            let [is, should] = [world, expected].map(|world| world.tables.get(&(place, table)));
            assert_eq!(is, should, "{at}: {} in {place:?}", table.name());
        }
    }
}

/// The layers alone: no lock, no copies, no sessions.
pub fn layers(world: &World) -> Vec<(Place, Table, Content)> {
    let layers = world.tables.iter().filter(|((place, _), _)| LAYERS.contains(place));
    layers.map(|((place, table), content)| (*place, *table, content.clone())).collect()
}
