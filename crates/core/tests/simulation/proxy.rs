//! One ProxySQL: the tests' in-memory world, with its monitor on virtual time, clients, and people at its tables.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use stonith_core::apply::{Place, Reply, Statement};
use stonith_core::evidence::EvidenceKind;
use stonith_core::observed::ProxyView;
use stonith_core::table::{CheckType, Comment, Content, Hostgroup, Pair, Row, SERVERS, Status, mark, unmarked};

use super::apply_world::scene::SERVER_COLUMNS;
use super::apply_world::{Client, LAYERS, PAIRS, World};
use super::event::{ADDRESSES, Act, Hostgroups, NODES, Topology};
use super::orchestrator::{Cluster, Life, OTHER_CLUSTER, node, number};
use super::rng::Rng;

pub const WRITER: u32 = 10;
pub const READER: u32 = 20;
/// Beside the pair: reports, a fallback.
pub const BESIDE: u32 = 50;
/// The config excludes it.
pub const EXCLUDED: u32 = 99;

/// Servers that Orchestrator does not list.
pub const CROWD: u32 = 70;
const CROWD_TEXT: &str = "70";
/// A byte that is no text, as the client of ProxySQL carries it, and a NUL, at which runtime cuts a comment.
const ODD_COMMENT: &str = "B\u{10fffc}ro\0 3";

/// An edit that somebody staged: a column of a row, or a row, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub hostgroup: u32,
    pub name: String,
    pub column: &'static str,
    pub value: String,
    /// It came while an apply was under way: live for a moment is documented, until that apply's end.
    pub in_apply: bool,
    /// That apply broke off: it may be live for good.
    pub may_live: bool,
    /// Somebody LOADed it while memory was lent: the apply is to load it for them.
    pub loaded: bool,
    /// It came while an apply was under way, to a row that no comparison finds: the apply writes such a row by its key.
    pub may_be_lost: bool,
}

type Read = BTreeMap<(Place, bool), Rc<Vec<Row>>>;

#[derive(Debug, Clone)]
pub struct Proxy {
    pub world: World,
    /// Rows are read once, until somebody touches them: the rules look at each step. With the crowd, and without it.
    read: RefCell<Read>,
    /// The rules have looked at its rows as they are.
    pub judged: bool,
    pub edits: Vec<Edit>,
    /// Every comment that an operator gave a row, per node.
    pub comments: BTreeMap<String, BTreeSet<String>>,
    /// Rows that somebody took out by hand.
    pub by_hand: BTreeSet<(u32, String)>,
    /// Nodes with a row of a status that nobody knows.
    pub odd: BTreeSet<String>,
    also_reader: bool,
    pub hostgroups: Hostgroups,
    hung: BTreeMap<usize, u32>,
    dead_since: BTreeMap<usize, u64>,
    edited: u64,
    next_client: u64,
    pub load_refused_ms: u64,
    pub disk_refused_ms: u64,
    /// The disk layer was written by somebody else, or refused to be, since the last restart.
    pub disk_spoiled: bool,
    /// Runtime moved by itself since it was last read.
    pub moved: bool,
    /// Something happened here: what has a deadline starts anew.
    pub troubled_ms: u64,
    /// When somebody LOADed by hand last.
    pub loaded_ms: u64,
    /// How often ProxySQL started: appliers lose their connection.
    pub starts: u64,
    pub now_ms: u64,
    /// Who carried out a plan last, and when.
    pub applied: BTreeMap<usize, u64>,
}

impl Proxy {
    pub fn new(rng: &mut Rng, topology: Topology, now_ms: u64) -> Self {
        let also_reader = rng.one_in(2);
        let mut records = vec![];
        let mut comments: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut row = |hostgroup: u32, name: &str, comment: &str| {
            let is_odd = hostgroup != EXCLUDED && topology.odd_comments.is_some_and(|n| NODES[n] == name);
            let comment = if is_odd { ODD_COMMENT } else { comment };
            comments.entry(name.to_owned()).or_default().insert(comment.to_owned());
            let values = [&hostgroup.to_string(), name, "3306", "ONLINE", "1", "0", comment];
            records.push(values.map(|value| Some(value.to_owned())).to_vec());
        };
        let mut pairs = vec![];
        row(WRITER, NODES[0], "it's the [first]");
        if topology.hostgroups == Hostgroups::Pair {
            pairs.push(["10", "20", "read_only", "main"]);
            NODES[usize::from(!also_reader)..topology.nodes].iter().for_each(|name| row(READER, name, ""));
        } else {
            NODES[1..topology.nodes].iter().for_each(|name| row(WRITER, name, ""));
        }
        if topology.has_rows_beside {
            row(BESIDE, NODES[0], "reports");
            row(BESIDE, NODES[2], "reports");
            topology.two_names.into_iter().for_each(|n| row(BESIDE, ADDRESSES[n], "reports"));
        }
        (0..topology.crowd).for_each(|n| row(CROWD, &format!("server{n:03}"), ""));
        if topology.has_other_cluster {
            if topology.hostgroups == Hostgroups::Pair {
                pairs.push(["30", "40", "read_only", "other"]);
            }
            row(30, OTHER_CLUSTER[0], "");
            row(40, OTHER_CLUSTER[1], "");
        }
        row(EXCLUDED, NODES[0], "not ours");
        row(EXCLUDED, "elsewhere", "é");
        let servers = Content::new(SERVERS, SERVER_COLUMNS.map(str::to_owned).to_vec(), records);
        let columns = ["writer_hostgroup", "reader_hostgroup", "check_type", "comment"].map(str::to_owned).to_vec();
        let record = |pair: [&str; 4]| pair.map(|value| Some(value.to_owned())).to_vec();
        let pairs = Content::new(PAIRS, columns, pairs.into_iter().map(record));
        let tables =
            LAYERS.into_iter().flat_map(|place| [((place, SERVERS), servers.clone()), ((place, PAIRS), pairs.clone())]);
        let world = World {
            tables: tables.collect(),
            lock: None,
            returns: None,
            lease: None,
            released: BTreeMap::new(),
            now_ms,
            clients: vec![],
            extended: [rng.one_in(2); 2],
            variables: [0; 2],
            extended_note: false,
            drain_note: None,
            delay_lowered: [false; 2],
            ended: None,
            paused: false,
            pause_note: None,
            old_monitor: rng.one_in(4),
            moves_count: false,
            scratch: false,
            version: 1,
            checksums: !rng.one_in(4),
            watched: None,
            odd: topology.odd_rows.map(|n| NODES[n].to_owned()).into_iter().collect(),
            broken: vec![],
        };
        Self {
            world,
            read: RefCell::default(),
            judged: false,
            edits: vec![],
            comments,
            by_hand: BTreeSet::new(),
            odd: BTreeSet::new(),
            also_reader,
            hostgroups: topology.hostgroups,
            hung: BTreeMap::new(),
            dead_since: BTreeMap::new(),
            edited: 0,
            next_client: 1,
            load_refused_ms: 0,
            disk_refused_ms: 0,
            disk_spoiled: false,
            moved: false,
            troubled_ms: 0,
            loaded_ms: 0,
            starts: 1,
            now_ms,
            applied: BTreeMap::new(),
        }
    }

    /// The rows of a layer, without the crowd.
    pub fn rows(&self, place: Place) -> Rc<Vec<Row>> {
        let read = || self.without_crowd(place).rows().expect("every row can be read");
        self.read.borrow_mut().entry((place, false)).or_insert_with(|| Rc::new(read())).clone()
    }

    fn all_rows(&self, place: Place) -> Vec<Row> {
        let read = || self.world.rows(place);
        self.read.borrow_mut().entry((place, true)).or_insert_with(|| Rc::new(read())).to_vec()
    }

    /// Whoever may change a row, or what is known of rows, says so.
    pub fn touched(&mut self) {
        self.read.get_mut().clear();
        self.judged = false;
    }

    fn without_crowd(&self, place: Place) -> Content {
        self.world.part(place, |hostgroup, _| hostgroup != CROWD_TEXT)
    }

    /// Puts these in the place of all rows but the crowd's.
    fn set_rows(&mut self, place: Place, rows: &[Row]) {
        let before = self.without_crowd(place);
        let after = before.with_rows(rows);
        self.world.set_part(place, &before, after);
        self.touched();
    }

    fn pairs(&self) -> Vec<Pair> {
        let number = |value: &Option<String>| Hostgroup(value.as_ref().and_then(|v| v.parse().ok()).expect("a number"));
        let pair = |record: &stonith_core::table::Record| Pair {
            writer: number(&record[0]),
            reader: number(&record[1]),
            check_type: CheckType::ReadOnly,
        };
        self.world.content(Place::Runtime, PAIRS).records.values().map(pair).collect()
    }

    /// As this applier sees it.
    pub fn view(&mut self, owner: &str, now_ms: u64) -> ProxyView {
        self.world.now_ms = now_ms;
        ProxyView {
            lease: self.world.shared_lease(owner),
            runtime: self.all_rows(Place::Runtime).into(),
            memory: self.all_rows(Place::Memory).into(),
            disk: self.all_rows(Place::Disk).into(),
            pairs: self.pairs(),
            conn_used: self.world.used(),
            unfinished: self.world.unfinished(),
            released: self.world.released.clone(),
            returned: self.world.returns.iter().flat_map(BTreeMap::keys).cloned().collect(),
            ..ProxyView::default()
        }
    }

    /// A statement of an applier's, carried out or refused.
    pub fn ask(&mut self, owner: &str, statement: &Statement, now_ms: u64) -> Reply {
        self.world.now_ms = now_ms;
        let refused = |what: &str| Reply::Refused(format!("ProxySQL Admin Error: {what}"));
        if *statement == Statement::Load && now_ms < self.load_refused_ms {
            return refused("LOAD failed");
        }
        let writes = matches!(statement, Statement::Swap { .. } | Statement::Restate { .. });
        if writes && statement.place() == Some(Place::Disk) && now_ms < self.disk_refused_ms {
            self.disk_spoiled = true;
            return refused("database or disk is full");
        }
        let reply = self.world.ask(owner, statement);
        if !matches!(statement, Statement::Read { .. } | Statement::Names | Statement::Used | Statement::Sessions) {
            self.touched();
        }
        match statement {
            Statement::Read { place: Place::Runtime, table: SERVERS } => self.moved = false,
            // A move between the last look and the LOAD: known (facts §2).
            Statement::Load if std::mem::take(&mut self.moved) => {
                self.world.broken.retain(|broken| !broken.starts_with("a LOAD revived"));
            }
            _ => {}
        }
        reply
    }

    // --- by itself ------------------------------------------------------------------------------------------------

    /// The read_only monitor, once a second, and what traffic does to dead servers (facts §2).
    pub fn monitor(&mut self, cluster: &Cluster, now_ms: u64) {
        let used = self.world.used();
        let before = self.without_crowd(Place::Runtime);
        let mut rows = self.rows(Place::Runtime).to_vec();
        // A ghost goes with its last connection.
        rows.retain(|row| row.status != Status::OfflineHard || row.node().is_some_and(|n| used.contains_key(&n)));
        for (n, server) in cluster.servers.iter().enumerate() {
            match server.life {
                Life::Up => self.up(n, server.read_only, &mut rows, now_ms),
                Life::Hung => self.hangs(n, &mut rows),
                Life::Dead => {
                    self.dead_since.entry(n).or_insert(now_ms);
                    set(&mut rows, NODES[n], &Status::Online, &Status::Shunned);
                    self.world.clients.retain(|client| !client.holds(&node(NODES[n])));
                }
            }
        }
        let after = before.with_rows(&rows);
        if after != before {
            self.moved = true;
            if self.world.old_monitor && placement(&before) != placement(&after) {
                let mut memory = self.rows(Place::Memory).to_vec();
                for name in NODES {
                    follow(&mut memory, &rows, name);
                }
                self.set_rows(Place::Memory, &memory);
                self.world.version += 1;
                self.edits.retain(|edit| edit.found(&memory) == Some(true)); // the old monitor loses what is staged
            }
            self.set_rows(Place::Runtime, &rows);
        }
        self.clients(&rows);
    }

    fn up(&mut self, n: usize, read_only: bool, rows: &mut Vec<Row>, now_ms: u64) {
        let name = NODES[n];
        self.hung.remove(&n);
        if let Some(since) = self.dead_since.get(&n)
            && now_ms - since > 3_000
        {
            self.dead_since.remove(&n);
        }
        if !self.dead_since.contains_key(&n) {
            set(rows, name, &Status::Shunned, &Status::Online);
        }
        self.place(name, read_only, rows);
    }

    /// Where a node belongs that says so, or is taken to say so.
    fn place(&self, name: &str, read_only: bool, rows: &mut Vec<Row>) {
        if self.hostgroups != Hostgroups::Pair {
            return;
        }
        let of_pair = |row: &&Row| row.key.hostname == name && [WRITER, READER].contains(&row.key.hostgroup.0);
        let Some(like) = rows.iter().filter(of_pair).find(|row| row.status.in_service()).cloned() else { return };
        let to = if read_only { READER } else { WRITER };
        let at_target = |row: &Row| row.key.hostname == name && row.key.hostgroup.0 == to;
        match rows.iter_mut().find(|row| at_target(row)) {
            Some(ghost) if ghost.status == Status::OfflineHard => ghost.status = Status::Online,
            Some(_) => {}
            None => {
                let mut made = like.clone();
                made.key.hostgroup.0 = to;
                rows.push(made);
            }
        }
        if read_only || !self.also_reader {
            let other = if read_only { WRITER } else { READER };
            let leaves = |row: &Row| row.key.hostname == name && row.key.hostgroup.0 == other;
            if self.world.used().contains_key(&node(name)) {
                rows.iter_mut().filter(|row| leaves(row)).for_each(|row| row.status = Status::OfflineHard);
            } else {
                rows.retain(|row| !leaves(row));
            }
        }
    }

    /// After three timeouts it is taken for read-only: its writer row is a ghost while it has connections (facts §2).
    fn hangs(&mut self, n: usize, rows: &mut Vec<Row>) {
        let timeouts = self.hung.entry(n).or_default();
        *timeouts += 1;
        if *timeouts >= 3 {
            self.place(NODES[n], true, rows);
            set(rows, NODES[n], &Status::Online, &Status::Shunned);
        }
    }

    /// Two clients that keep to the writer; one of them also holds a reader.
    fn clients(&mut self, rows: &[Row]) {
        let online = |hostgroup: u32| {
            let in_it = rows.iter().filter(move |row| row.key.hostgroup.0 == hostgroup && row.status == Status::Online);
            in_it.filter_map(Row::node).next()
        };
        let Some(writer) = online(WRITER) else { return };
        while self.world.clients.len() < 3 {
            let id = self.next_client;
            self.next_client += 1;
            let reader = online(READER).filter(|_| id.is_multiple_of(2));
            let holds = [(WRITER, writer.clone())].into_iter().chain(reader.map(|reader| (READER, reader)));
            self.world.clients.push(Client::holding(id, &holds.collect::<Vec<_>>()));
        }
        if self.world.clients.len() >= 3 && self.now_ms.is_multiple_of(7) {
            self.world.clients.remove(0);
        }
    }

    // --- by people ------------------------------------------------------------------------------------------------

    pub fn act(&mut self, act: &Act, cluster: &Cluster, now_ms: u64, applying: bool) {
        self.act_on_rows(act, cluster, now_ms, applying);
        self.touched();
    }

    fn act_on_rows(&mut self, act: &Act, cluster: &Cluster, now_ms: u64, applying: bool) {
        self.world.now_ms = now_ms;
        self.now_ms = now_ms;
        self.troubled_ms = self.troubled_ms.max(now_ms);
        match act {
            Act::Restart => self.restart(),
            Act::LoadRefused { ms } => {
                self.load_refused_ms = now_ms + ms;
                self.troubled_ms = self.troubled_ms.max(now_ms + ms);
            }
            Act::DiskRefused { ms } => self.disk_refused_ms = now_ms + ms,
            Act::Monitor => self.monitor(cluster, now_ms),
            Act::StageWeight(n) => self.stage(NODES[*n], "weight", applying),
            Act::StageComment(n) => self.stage(NODES[*n], "comment", applying),
            Act::StageRow => self.stage_row(applying),
            Act::EditAndLoad(n) => {
                self.stage(NODES[*n], "weight", applying);
                self.load();
            }
            Act::Load => self.load(),
            Act::SaveToDisk => {
                self.world.save_to_disk();
                self.disk_spoiled = true;
            }
            Act::SoftByHand(n) => self.soft_by_hand(NODES[*n]),
            Act::BackByHand(n) => self.back_by_hand(NODES[*n]),
            Act::UnknownStatus(n) => self.unknown_status(NODES[*n], applying),
            Act::AgentCrashes { .. } | Act::Cut | Act::ReplyLost | Act::Twice | Act::Delay { .. } => {}
        }
    }

    fn restart(&mut self) {
        self.world.restart();
        self.touched();
        self.starts += 1;
        self.edits.clear();
        self.disk_spoiled = false;
        self.hung.clear();
        self.dead_since.clear();
        // What was done by hand and not saved is gone.
        let disk = self.rows(Place::Disk);
        let has = |key: &(u32, String), status: &Status| {
            disk.iter().any(|row| row.key.hostgroup.0 == key.0 && row.key.hostname == key.1 && row.status == *status)
        };
        self.by_hand.retain(|key| has(key, &Status::OfflineSoft));
        self.odd.retain(|name| {
            disk.iter().any(|row| row.key.hostname == *name && matches!(row.status, Status::Unknown(_)))
        });
        self.moved = true;
    }

    /// A LOAD by hand: what is in memory then is staged no longer.
    fn load(&mut self) {
        let broken = self.world.broken.len();
        self.world.load();
        self.touched();
        self.world.broken.truncate(broken); // not ours
        let memory = self.rows(Place::Memory);
        self.edits.retain(|edit| edit.found(&memory) == Some(false));
        self.edits.iter_mut().for_each(|edit| edit.loaded = true);
        self.loaded_ms = self.now_ms;
        self.moved = true;
    }

    fn stage(&mut self, name: &str, column: &'static str, in_apply: bool) {
        self.edited += 1;
        let value = (1_000 + self.edited).to_string();
        let mut memory = self.rows(Place::Memory).to_vec();
        let ours = |row: &&mut Row| row.key.hostname == name && [WRITER, READER].contains(&row.key.hostgroup.0);
        let Some(row) = memory.iter_mut().find(ours) else { return };
        let hostgroup = row.key.hostgroup.0;
        let value = if column == "weight" {
            row.settings.insert("weight".to_owned(), value.clone());
            value
        } else {
            let comment = format!("note {value}");
            self.comments.entry(name.to_owned()).or_default().insert(comment.clone());
            row.comment = match Comment::parse(&row.comment) {
                Comment::Marked(_, marker) => mark(&comment, &marker),
                _ => comment.clone(),
            };
            comment
        };
        self.set_rows(Place::Memory, &memory);
        self.edits.retain(|edit| (edit.hostgroup, edit.name.as_str(), edit.column) != (hostgroup, name, column));
        self.edits.push(Edit {
            hostgroup,
            name: name.to_owned(),
            column,
            value,
            in_apply,
            may_live: false,
            loaded: false,
            may_be_lost: in_apply && self.world.odd.contains(name),
        });
    }

    fn stage_row(&mut self, in_apply: bool) {
        self.edited += 1;
        let name = format!("new{}", self.edited);
        let mut memory = self.rows(Place::Memory).to_vec();
        let Some(mut row) = memory.first().cloned() else { return };
        (row.key.hostgroup.0, row.key.hostname, row.status) = (READER, name.as_str().into(), Status::Online);
        row.comment.clear();
        memory.push(row);
        self.comments.entry(name.clone()).or_default().insert(String::new());
        self.set_rows(Place::Memory, &memory);
        self.edits.push(Edit {
            hostgroup: READER,
            name,
            column: "row",
            value: String::new(),
            in_apply,
            may_live: false,
            loaded: false,
            may_be_lost: false,
        });
    }

    /// All rows of a node, in every layer: as somebody does it who knows nothing of us. They edit memory, and what memory
    /// has goes live: a row that has our marker there, since the LOAD of its fence was refused, is out already.
    fn by_hand(&mut self, name: &str, from: &Status, to: &Status) -> Vec<(u32, String)> {
        let memory = self.rows(Place::Memory);
        let marked = memory.iter().filter(|row| Comment::parse(&row.comment) != Comment::Plain);
        let marked: BTreeSet<_> = marked.map(|row| &row.key).collect();
        let is_meant =
            |row: &&mut Row| row.key.hostname == name && row.key.hostgroup.0 != EXCLUDED && !marked.contains(&row.key);
        let mut done = vec![];
        for place in LAYERS {
            let mut rows = self.rows(place).to_vec();
            for row in rows.iter_mut().filter(is_meant) {
                let key = (row.key.hostgroup.0, name.to_owned());
                let shunned = *from == Status::Online && row.status == Status::Shunned;
                if (row.status == *from || shunned) && Comment::parse(&row.comment) == Comment::Plain {
                    row.status = to.clone();
                    done.push(key);
                }
            }
            self.set_rows(place, &rows);
        }
        self.moved = true;
        self.world.version += 1;
        done
    }

    fn soft_by_hand(&mut self, name: &str) {
        if !self.world.unfinished() && !self.odd.contains(name) {
            let done = self.by_hand(name, &Status::Online, &Status::OfflineSoft);
            self.by_hand.extend(done);
        }
    }

    pub fn back_by_hand(&mut self, name: &str) {
        self.touched();
        if !self.world.unfinished() {
            self.by_hand.retain(|(_, other)| other != name);
            self.by_hand(name, &Status::OfflineSoft, &Status::Online);
        }
    }

    /// Somebody takes our markers off and puts a node's rows back in, in every layer.
    pub fn put_in(&mut self, n: usize) -> bool {
        if self.world.unfinished() || self.odd.contains(NODES[n]) {
            return false;
        }
        for place in LAYERS {
            let mut rows = self.rows(place).to_vec();
            let is_ours = |row: &&mut Row| row.node().and_then(|node| number(&node)) == Some(n);
            for row in rows.iter_mut().filter(is_ours).filter(|row| Comment::parse(&row.comment) != Comment::Plain) {
                row.comment = unmarked(&row.comment);
                row.status = Status::Online;
            }
            self.set_rows(place, &rows);
        }
        self.moved = true;
        self.world.version += 1;
        true
    }

    fn unknown_status(&mut self, name: &str, applying: bool) {
        if applying || self.world.unfinished() || self.by_hand.iter().any(|(_, other)| other == name) {
            return;
        }
        let odd = Status::Unknown("DRAINING".to_owned());
        if !self.by_hand(name, &Status::Online, &odd).is_empty() {
            self.odd.insert(name.to_owned());
        }
    }

    /// Nodes with a marker that only an operator's order ends.
    pub fn ordered_out(&self) -> BTreeSet<usize> {
        let manual =
            |row: &Row| matches!(Comment::parse(&row.comment), Comment::Marked(_, m) if m.kind == EvidenceKind::Manual);
        let rows = self.rows(Place::Runtime);
        rows.iter()
            .filter(|row| manual(row))
            .filter_map(|row| NODES.iter().position(|name| row.key.hostname == *name))
            .collect()
    }

    pub fn status_known_again(&mut self) {
        for name in std::mem::take(&mut self.odd) {
            self.by_hand(&name, &Status::Unknown("DRAINING".to_owned()), &Status::Online);
        }
        self.touched();
    }
}

impl Edit {
    /// Whether these rows show it; `None`: there is no such row, nor should there be.
    pub fn found(&self, rows: &[Row]) -> Option<bool> {
        let row = rows.iter().find(|row| row.key.hostgroup.0 == self.hostgroup && row.key.hostname == self.name);
        match (self.column, row) {
            ("row", row) => Some(row.is_some()),
            (_, None) => None,
            ("weight", Some(row)) => Some(row.settings.get("weight") == Some(&self.value)),
            (_, Some(row)) => Some(operators_part(&row.comment) == self.value),
        }
    }
}

/// The comment without our marker.
pub fn operators_part(comment: &str) -> Cow<'_, str> {
    match Comment::parse(comment) {
        Comment::Marked(..) => Cow::Owned(unmarked(comment)),
        Comment::Plain | Comment::Unreadable(_) => Cow::Borrowed(comment),
    }
}

/// What runtime has of a comment.
pub fn cut(comment: &str) -> &str {
    comment.split('\0').next().unwrap_or_default()
}

fn set(rows: &mut [Row], name: &str, from: &Status, to: &Status) {
    let meant = |row: &&mut Row| row.key.hostname == name && row.status == *from;
    rows.iter_mut().filter(meant).for_each(|row| row.status = to.clone());
}

fn placement(content: &Content) -> BTreeSet<&stonith_core::table::Record> {
    content.records.keys().collect()
}

/// Up to 2.5.2 the monitor's moves are in memory too.
fn follow(memory: &mut Vec<Row>, runtime: &[Row], name: &str) {
    let in_pair = |row: &&Row| row.key.hostname == name && [WRITER, READER].contains(&row.key.hostgroup.0);
    for hostgroup in [WRITER, READER] {
        let live = runtime
            .iter()
            .filter(in_pair)
            .find(|row| row.key.hostgroup.0 == hostgroup && row.status != Status::OfflineHard);
        let at = memory.iter().position(|row| in_pair(&row) && row.key.hostgroup.0 == hostgroup);
        match (live, at) {
            (Some(live), None) => memory.push(Row {
                status: if live.status == Status::Shunned { Status::Online } else { live.status.clone() },
                ..live.clone()
            }),
            (None, Some(at)) => drop(memory.remove(at)),
            _ => {}
        }
    }
}
