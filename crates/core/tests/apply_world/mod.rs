//! One ProxySQL in memory, for the tests of `apply`: three layers, LOAD, the monitor, a restart, sessions, and other
//! people at its tables (facts §1, §2, §4). Nothing here is random; a test walks through every point in time.

#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

pub mod drive;
pub mod scene;

use std::collections::{BTreeMap, BTreeSet};

use stonith_core::apply::{
    Backend, DRAIN_NAME, ENDED_NAME, EXTENDED_NAME, LockSeen, Place, RETURNS_NAME, Reply, SCRATCH_NAME, Session,
    Statement, Variables, WATCHED_NAME, copy_name,
};
use stonith_core::node::Node;
use stonith_core::observed::{PauseSeen, SharedLease};
use stonith_core::orders::Release;
use stonith_core::role::Role;
use stonith_core::table::{COVERED, Content, Hostgroup, Record, Row, RowKey, SCHEDULER, SERVERS, Status, Table};

pub const LOCK_TTL_MS: u64 = 30_000;
pub const PAIRS: Table = COVERED[1];
/// A table that a LOAD covers in a version to come.
pub const NEXT: Table = Table::new("mysql_next_hostgroups", 1).expect("a plain word");
pub const LAYERS: [Place; 3] = [Place::Runtime, Place::Memory, Place::Disk];

/// Every table that a LOAD covers here, the server table first.
pub fn covered() -> Vec<Table> {
    COVERED.into_iter().chain([NEXT]).collect()
}

/// A client, and the nodes that it holds a connection to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Client {
    pub id: u64,
    /// The hostgroup of its last statement: of what it holds only the node there is listed.
    pub hostgroup: u32,
    /// Per hostgroup.
    pub holds: BTreeMap<u32, Node>,
    /// A statement of its is under way.
    pub busy: bool,
    /// Its user's default hostgroup.
    pub home: u32,
}

impl Client {
    /// An idle one of hostgroup 10 that holds these; the last is its current one.
    pub fn holding(id: u64, holds: &[(u32, Node)]) -> Self {
        let hostgroup = holds.last().map_or(10, |(hostgroup, _)| *hostgroup);
        Self { id, hostgroup, holds: holds.iter().cloned().collect(), busy: false, home: 10 }
    }

    pub fn holds(&self, node: &Node) -> bool {
        self.holds.values().any(|held| held == node)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The layers of every covered table, and the copies that are there.
    pub tables: BTreeMap<(Place, Table), Content>,
    /// Owner, and when it expires.
    pub lock: Option<(String, u64)>,
    /// The note of an apply's returns.
    pub returns: Option<BTreeMap<Node, Role>>,
    /// What agents let back.
    pub released: BTreeMap<Node, Release>,
    /// The lease that an agent left: whose, until when it is good, when it was last wanted.
    pub lease: Option<(String, u64, u64)>,
    pub now_ms: u64,
    pub clients: Vec<Client>,
    /// `mysql-show_processlist_extended` in runtime, and in memory.
    pub extended: [bool; 2],
    /// Other variables that somebody staged, and those that were loaded.
    pub variables: [u64; 2],
    /// The notes that it is on for a moment, and whose hidden sessions were looked for.
    pub extended_note: bool,
    /// The note of a drain: when it was renewed, and whether the extended processlist was on.
    pub drain_note: Option<(u64, bool)>,
    /// Sessions leave their server soon after an insert, as during a drain: in runtime, and in memory.
    pub delay_lowered: [bool; 2],
    pub ended: Option<BTreeSet<Node>>,
    /// It is paused: a new client is refused. ProxySQL says so from 2.6 on.
    pub paused: bool,
    /// The agents that noted that they pause it.
    pub pause_note: Option<BTreeSet<String>>,
    /// Before 2.5.2: the monitor writes memory and LOADs.
    pub old_monitor: bool,
    /// Before 2.6: a move of the monitor adds to `version`, as a LOAD does.
    pub moves_count: bool,
    /// `version` of `mysql_servers` in `runtime_checksums_values`.
    pub version: u64,
    /// `admin-checksum_mysql_servers`.
    pub checksums: bool,
    /// The table that shows that tables can be made.
    pub scratch: bool,
    /// The note that SAVEs are watched for, and whether the disk table has the mark.
    pub watched: Option<bool>,
    /// Hosts whose rows no comparison finds (B1): their name is stored as a BLOB, say.
    pub odd: BTreeSet<String>,
    /// What no apply may ever do, and was done.
    pub broken: Vec<String>,
}

impl World {
    pub fn content(&self, place: Place, table: Table) -> &Content {
        &self.tables[&(place, table)]
    }

    pub fn content_mut(&mut self, place: Place, table: Table) -> &mut Content {
        self.tables.get_mut(&(place, table)).expect("the table is there")
    }

    pub fn rows(&self, place: Place) -> Vec<Row> {
        self.content(place, SERVERS).rows().expect("every row can be read")
    }

    /// The rows of one host, without a look at the others.
    pub fn rows_of(&self, place: Place, name: &str) -> Vec<Row> {
        self.part(place, |_, host| host == name).rows().expect("every row can be read")
    }

    /// Servers of some hostgroups and hosts, without a look at the others.
    pub fn part(&self, place: Place, is_meant: impl Fn(&str, &str) -> bool) -> Content {
        let content = self.content(place, SERVERS);
        let is_meant = |record: &&Record| match &record[..2] {
            [Some(hostgroup), Some(host)] => is_meant(hostgroup, host),
            _ => false,
        };
        Content::new(SERVERS, content.columns.clone(), content.records.values().filter(is_meant).cloned())
    }

    /// Puts other servers in the place of these.
    pub fn set_part(&mut self, place: Place, before: &Content, after: Content) {
        let records = &mut self.content_mut(place, SERVERS).records;
        before.records.keys().for_each(|key| drop(records.remove(key)));
        records.extend(after.records);
    }

    /// Rows in force, without ghosts.
    pub fn live(&self) -> Vec<Row> {
        self.rows(Place::Runtime).into_iter().filter(|row| row.status != Status::OfflineHard).collect()
    }

    pub fn row(&self, place: Place, hostgroup: u32, name: &str) -> Option<Row> {
        self.rows_of(place, name).into_iter().find(|row| row.key.hostgroup.0 == hostgroup)
    }

    pub fn set_rows(&mut self, place: Place, rows: &[Row]) {
        let content = self.content(place, SERVERS).with_rows(rows);
        self.tables.insert((place, SERVERS), content);
    }

    /// An operator's UPDATE (`Some`), INSERT or DELETE (`None`) of one server row.
    pub fn edit(&mut self, place: Place, hostgroup: u32, name: &str, edit: impl Fn(Option<Row>) -> Option<Row>) {
        let mut rows = self.rows(place);
        let at = rows.iter().position(|row| row.key.hostgroup.0 == hostgroup && row.key.hostname == name);
        let before = at.map(|at| rows.remove(at));
        rows.extend(edit(before));
        self.set_rows(place, &rows);
    }

    /// A ProxySQL that has only servers and pairs: fewer statements, for tests that multiply points in time.
    pub fn small(mut self) -> Self {
        self.tables.retain(|(_, table), _| *table == SERVERS || *table == PAIRS);
        self
    }

    pub fn copies(&self) -> usize {
        self.tables.keys().filter(|(place, _)| matches!(place, Place::Kept | Place::Target)).count()
    }

    pub fn unfinished(&self) -> bool {
        self.lock.is_some()
            || self.copies() > 0
            || self.returns.is_some()
            || self.extended_note
            || self.drain_left_over()
            || self.watched.is_some()
            || self.scratch
    }

    /// The lease as this agent sees it.
    pub fn shared_lease(&self, owner: &str) -> Option<SharedLease> {
        self.lease.as_ref().map(|(holder, until_ms, wanted_ms)| SharedLease {
            owner: holder.clone(),
            ours: holder == owner,
            left_ms: until_ms.saturating_sub(self.now_ms),
            unwanted_ms: self.now_ms.saturating_sub(*wanted_ms),
        })
    }

    pub fn pause_seen(&self) -> PauseSeen {
        let noted = self.pause_note.as_ref().is_some_and(|agents| !agents.is_empty());
        PauseSeen { paused: self.paused, noted, clients: if self.paused { self.clients.len() as u64 } else { 0 } }
    }

    pub fn used(&self) -> BTreeMap<Node, u64> {
        let mut used = BTreeMap::new();
        for ((_, node), count) in self.used_by_hostgroup() {
            *used.entry(node).or_default() += count;
        }
        used
    }

    fn used_by_hostgroup(&self) -> BTreeMap<(Hostgroup, Node), u64> {
        let mut used = BTreeMap::new();
        for (hostgroup, node) in self.clients.iter().flat_map(|client| &client.holds) {
            *used.entry((Hostgroup(*hostgroup), node.clone())).or_default() += 1;
        }
        used
    }

    /// Answers a statement of this applier's.
    pub fn ask(&mut self, owner: &str, statement: &Statement) -> Reply {
        let writes = matches!(
            statement,
            Statement::Swap { .. }
                | Statement::SwapByKey { .. }
                | Statement::Restate { .. }
                | Statement::Copy { .. }
                | Statement::Drop { .. }
                | Statement::NoteReturns(_)
                | Statement::NoteReleases(_)
                | Statement::DropReturns
                | Statement::Load
                | Statement::NoteWatch
                | Statement::MarkDisk
                | Statement::DropWatch
                | Statement::Save
                | Statement::LoadScheduler
                | Statement::SaveScheduler
        );
        if writes && self.lock.as_ref().is_none_or(|(holder, _)| holder != owner) {
            self.broken.push(format!("{owner} wrote without the lock: {statement:?}"));
        }
        let expires = self.now_ms + LOCK_TTL_MS;
        match statement {
            Statement::Names => Reply::Names(self.names()),
            Statement::TakeLock { .. } if self.lock.is_some() => Reply::Exists,
            Statement::TakeLock { owner } => {
                self.lock = Some((owner.clone(), expires));
                Reply::Changed(0)
            }
            Statement::ReadLock => Reply::Lock(
                self.lock.as_ref().map(|(owner, _)| LockSeen { owner: owner.clone(), expired: self.lock_expired() }),
            ),
            Statement::TakeOverLock { owner, from } => {
                let free = self.lock_expired();
                match &mut self.lock {
                    Some(lock) if lock.0 == *from && (free || lock.0 == *owner) => {
                        *lock = (owner.clone(), expires);
                        Reply::Changed(1)
                    }
                    _ => Reply::Changed(0),
                }
            }
            Statement::RenewLock { owner } => match &mut self.lock {
                Some(lock) if lock.0 == *owner => {
                    lock.1 = expires;
                    Reply::Changed(1)
                }
                _ => Reply::Changed(0),
            },
            Statement::DropLock { owner } => {
                if self.lock.as_ref().is_some_and(|(holder, _)| holder != owner) {
                    self.broken.push(format!("{owner} dropped another's lock"));
                }
                self.lock = None;
                Reply::Changed(0)
            }
            Statement::Read { place: Place::Runtime, table } if table.name() == "checksums_values" => {
                Reply::Content(self.checksums_values(*table))
            }
            Statement::Read { place, table } => match self.tables.get(&(*place, *table)) {
                Some(content) => Reply::Content(content.clone()),
                None => Reply::Refused("ProxySQL Admin Error: no such table".to_owned()),
            },
            Statement::Copy { from, to, table } => {
                if self.tables.contains_key(&(*to, *table)) {
                    return Reply::Exists;
                }
                let content = self.content(*from, *table).clone();
                self.tables.insert((*to, *table), content);
                Reply::Changed(0)
            }
            Statement::Drop { place, table } => {
                assert!(matches!(place, Place::Kept | Place::Target), "drops a table of ProxySQL's: {statement:?}");
                self.tables.remove(&(*place, *table));
                Reply::Changed(0)
            }
            Statement::LeaveLease { .. } if self.lease.is_some() => Reply::Exists,
            Statement::LeaveLease { owner, good_s } | Statement::RenewLease { owner, good_s } => {
                let wanted_ms =
                    self.lease.take().filter(|lease| lease.0 == *owner).map_or(self.now_ms, |lease| lease.2);
                self.lease = Some((owner.clone(), self.now_ms + good_s * 1_000, wanted_ms));
                Reply::Changed(1)
            }
            Statement::WantLease => {
                self.lease.iter_mut().for_each(|lease| lease.2 = self.now_ms);
                Reply::Changed(self.lease.iter().count() as u64)
            }
            Statement::DropLease => {
                self.lease = None;
                Reply::Changed(0)
            }
            Statement::MakeReleases => Reply::Changed(0),
            Statement::NoteReleases(releases) => {
                for (node, release) in releases {
                    let released = self.released.entry(node.clone()).or_default();
                    *released = released.and(*release);
                }
                Reply::Changed(1)
            }
            Statement::NoteReturns(_) if self.returns.is_some() => Reply::Exists,
            Statement::NoteReturns(returns) => {
                self.returns = Some(returns.clone());
                Reply::Changed(0)
            }
            Statement::ReadReturns => match &self.returns {
                Some(returns) => Reply::Returns(returns.clone()),
                None => Reply::Refused("ProxySQL Admin Error: no such table".to_owned()),
            },
            Statement::DropReturns => {
                self.returns = None;
                Reply::Changed(0)
            }
            Statement::SwapByKey { place, table, from, to } => {
                let key: Record = from.iter().take(table.key_columns).cloned().collect();
                let is = self.content(*place, *table).records.get(&key).cloned();
                let odd = std::mem::take(&mut self.odd);
                let reply = self.swap(*place, *table, is.as_ref(), to.as_ref());
                self.odd = odd;
                reply
            }
            Statement::Swap { place, table, change } => self.swap(*place, *table, change.from(), change.to()),
            Statement::Restate { place, keys, from, to } => self.restate(*place, keys, from, to),
            Statement::Load => {
                self.load();
                Reply::Changed(0)
            }
            Statement::LoadScheduler => {
                self.copy_scheduler(Place::Memory, Place::Runtime);
                Reply::Changed(0)
            }
            Statement::SaveScheduler => {
                self.copy_scheduler(Place::Memory, Place::Disk);
                Reply::Changed(0)
            }
            Statement::NoteWatch if self.watched.is_some() => Reply::Exists,
            Statement::NoteWatch => {
                self.watched = Some(false);
                Reply::Changed(0)
            }
            Statement::MarkDisk => {
                let marked = !self.content(Place::Disk, SERVERS).records.is_empty();
                self.watched = self.watched.map(|_| marked);
                Reply::Changed(u64::from(marked))
            }
            Statement::WasSaved => {
                Reply::Saved(self.watched == Some(false) && !self.content(Place::Disk, SERVERS).records.is_empty())
            }
            Statement::DropWatch => {
                self.watched = None;
                Reply::Changed(0)
            }
            Statement::Save => {
                self.save_to_disk();
                Reply::Changed(0)
            }
            Statement::Used => Reply::Used(self.used_by_hostgroup()),
            Statement::Sessions => Reply::Sessions(self.clients.iter().map(|client| self.shown(client)).collect()),
            Statement::Kill(id) => {
                self.clients.retain(|client| client.id != *id);
                Reply::Changed(0)
            }
            Statement::Variables => {
                let lowered = u64::from(self.delay_lowered[0] != self.delay_lowered[1]);
                Reply::Variables(Variables {
                    extended: self.extended.contains(&true),
                    staged: self.variables[0] + lowered,
                })
            }
            Statement::NoteExtended if self.extended_note => Reply::Exists,
            Statement::NoteExtended | Statement::DropExtended => {
                self.extended_note = *statement == Statement::NoteExtended;
                Reply::Changed(0)
            }
            Statement::SetExtended(on) => {
                self.extended[1] = *on;
                Reply::Changed(1)
            }
            Statement::LoadVariables => {
                self.extended[0] = self.extended[1];
                self.delay_lowered[0] = self.delay_lowered[1];
                self.variables = [0, self.variables[1] + self.variables[0]];
                Reply::Changed(0)
            }
            Statement::NoteDrain if self.drain_note.is_some() => Reply::Exists,
            Statement::NoteDrain => {
                self.drain_note = Some((self.now_ms, self.extended[1]));
                Reply::Changed(0)
            }
            Statement::LendDrain { .. } => {
                (self.extended[1], self.delay_lowered[1]) = (true, true);
                Reply::Changed(2)
            }
            Statement::PutBackDrain => match self.drain_note {
                Some((_, extended)) => {
                    (self.extended[1], self.delay_lowered[1]) = (extended, false);
                    Reply::Changed(2)
                }
                None => Reply::Refused("ProxySQL Admin Error: no such table: main.stonith_drain".to_owned()),
            },
            Statement::RenewDrain => {
                self.drain_note = self.drain_note.map(|(_, extended)| (self.now_ms, extended));
                Reply::Changed(1)
            }
            Statement::ReadDrain => Reply::Drain { left_over: self.drain_left_over(), staged: self.variables[0] },
            Statement::DropDrain => {
                self.drain_note = None;
                Reply::Changed(0)
            }
            Statement::NoteEnded(_) if self.ended.is_some() => Reply::Exists,
            Statement::NoteEnded(nodes) => {
                self.ended = Some(nodes.clone());
                Reply::Changed(0)
            }
            Statement::ReadEnded => Reply::Nodes(self.ended.clone().unwrap_or_default()),
            Statement::DropEnded => {
                self.ended = None;
                Reply::Changed(0)
            }
            Statement::DropScratch => {
                self.scratch = false;
                Reply::Changed(0)
            }
            Statement::MakePauseNote => {
                self.pause_note.get_or_insert_default();
                Reply::Changed(0)
            }
            Statement::NotePause { owner } => match &mut self.pause_note {
                Some(agents) => Reply::Changed(u64::from(agents.insert(owner.clone()))),
                None => Reply::Refused("ProxySQL Admin Error: no such table: main.stonith_paused".to_owned()),
            },
            Statement::PauseProxy if self.paused => Reply::Exists,
            Statement::ResumeProxy if !self.paused => Reply::Exists,
            Statement::PauseProxy | Statement::ResumeProxy => {
                self.paused = *statement == Statement::PauseProxy;
                Reply::Changed(0)
            }
            Statement::TakeBackPauseNote { owner } => {
                let taken = self.pause_note.as_mut().is_some_and(|agents| agents.remove(owner));
                Reply::Changed(u64::from(taken))
            }
            Statement::DropPauseNote => {
                self.pause_note = None;
                Reply::Changed(0)
            }
            Statement::Wait(ms) => {
                self.now_ms += ms;
                Reply::Changed(0)
            }
        }
    }

    fn names(&self) -> BTreeSet<String> {
        let tables = self.tables.keys().filter_map(|(place, table)| match place {
            Place::Memory => Some(table.name().to_owned()),
            Place::Kept | Place::Target => Some(copy_name(*place, *table)),
            _ => None,
        });
        let ours = [
            (self.lock.is_some(), "stonith_lock"),
            (self.returns.is_some(), RETURNS_NAME),
            (self.extended_note, EXTENDED_NAME),
            (self.drain_note.is_some(), DRAIN_NAME),
            (self.ended.is_some(), ENDED_NAME),
            (self.watched.is_some(), WATCHED_NAME),
            (self.scratch, SCRATCH_NAME),
        ];
        tables.chain(ours.into_iter().filter(|(is_there, _)| *is_there).map(|(_, name)| name.to_owned())).collect()
    }

    /// A drain renews its note every second.
    fn drain_left_over(&self) -> bool {
        self.drain_note.is_some_and(|(noted_ms, _)| self.now_ms > noted_ms + 3_000)
    }

    fn lock_expired(&self) -> bool {
        self.lock.as_ref().is_some_and(|(_, expires)| self.now_ms > *expires)
    }

    fn checksums_values(&self, table: Table) -> Content {
        let columns = ["name", "version", "epoch", "checksum"].map(str::to_owned).to_vec();
        let version = if self.checksums { self.version } else { 0 };
        let record = |name: &str, version: u64| [name.to_owned(), version.to_string(), "0".into(), "0x0".into()];
        let mut records = vec![record("admin_variables", 0), record("mysql_servers", version)];
        if self.checksums && !self.moves_count && !self.old_monitor {
            records.push(record("mysql_servers_v2", version));
        }
        Content::new(table, columns, records.into_iter().map(|record| record.map(Some).to_vec()))
    }

    fn shown(&self, client: &Client) -> Session {
        // With ProxySQL's DNS cache a server shows by its address.
        let address = |node: &Node| format!("address-of-{}", node.host.as_str());
        let backend = |(hostgroup, node): (&u32, &Node)| Backend {
            hostgroup: Hostgroup(*hostgroup),
            host: address(node),
            port: node.port,
        };
        Session {
            id: client.id,
            hostgroup: Some(Hostgroup(client.hostgroup)),
            current: client.holds.get(&client.hostgroup).cloned(),
            idle: !client.busy,
            home: Some(Hostgroup(client.home)),
            backends: self.extended[0].then(|| client.holds.iter().map(backend).collect()),
        }
    }

    fn swap(&mut self, place: Place, table: Table, from: Option<&Record>, to: Option<&Record>) -> Reply {
        assert!(place != Place::Runtime, "runtime is read only");
        let Some(content) = self.tables.get_mut(&(place, table)) else {
            return Reply::Refused("ProxySQL Admin Error: no such table".to_owned());
        };
        let key = |record: &Record| record.iter().take(table.key_columns).cloned().collect::<Record>();
        let is_odd =
            |record: &Record| table == SERVERS && record[1].as_ref().is_some_and(|name| self.odd.contains(name));
        if from.is_some_and(is_odd) {
            return Reply::Changed(0);
        }
        if let Some(record) = from
            && content.records.get(&key(record)) != Some(record)
        {
            return Reply::Changed(0);
        }
        match (from, to) {
            (Some(from), to) => {
                content.records.remove(&key(from));
                if let Some(to) = to {
                    content.records.insert(key(to), to.clone());
                }
            }
            (None, Some(to)) if content.records.contains_key(&key(to)) => return Reply::Changed(0),
            (None, Some(to)) => drop(content.records.insert(key(to), to.clone())),
            (None, None) => return Reply::Changed(0),
        }
        Reply::Changed(1)
    }

    fn restate(&mut self, place: Place, keys: &[RowKey], from: &(String, String), to: &(String, String)) -> Reply {
        let Some(content) = self.tables.get_mut(&(place, SERVERS)) else {
            return Reply::Refused("ProxySQL Admin Error: no such table".to_owned());
        };
        let column =
            |name: &str| content.columns.iter().position(|column| column == name).expect("the column is there");
        let (status, comment) = (column("status"), column("comment"));
        let mut changed = 0;
        for key in keys.iter().filter(|key| !self.odd.contains(&*key.hostname)) {
            let key = [key.hostgroup.to_string(), key.hostname.to_string(), key.port.to_string()].map(Some);
            let Some(record) = content.records.get_mut(&key[..]) else { continue };
            if (record[status].as_ref(), record[comment].as_ref()) == (Some(&from.0), Some(&from.1)) {
                (record[status], record[comment]) = (Some(to.0.clone()), Some(to.1.clone()));
                changed += 1;
            }
        }
        Reply::Changed(changed)
    }

    /// LOAD MYSQL SERVERS TO RUNTIME, by anybody.
    pub fn load(&mut self) {
        let before = self.rows(Place::Runtime);
        let mut after: BTreeMap<RowKey, Row> = BTreeMap::new();
        for row in self.rows(Place::Memory).into_iter().filter(|row| row.status != Status::OfflineHard) {
            let was = before.iter().find(|was| was.key == row.key).map(|was| &was.status);
            if was == Some(&Status::OfflineHard) && row.status == Status::OfflineSoft {
                self.broken.push(format!("a LOAD revived the ghost {}", row.key));
            }
            if row.status == Status::Shunned {
                self.broken.push(format!("a LOAD shunned {}", row.key));
            }
            after.insert(row.key.clone(), row);
        }
        let has_pairs = |place| !self.content(place, PAIRS).records.is_empty();
        if after.is_empty() || (has_pairs(Place::Runtime) && !has_pairs(Place::Memory)) {
            self.broken.push("a LOAD emptied a table".to_owned());
        }
        for row in before {
            // A removed row stays as a ghost while it has connections.
            let used = row.node().is_some_and(|node| self.used().contains_key(&node));
            if !after.contains_key(&row.key) && used {
                after.insert(row.key.clone(), Row { status: Status::OfflineHard, ..row });
            }
        }
        self.set_runtime(after.into_values());
        for table in covered().into_iter().filter(|table| *table != SERVERS) {
            if let Some(content) = self.tables.get(&(Place::Memory, table)).cloned() {
                self.tables.insert((Place::Runtime, table), content);
            }
        }
        self.version += 1;
    }

    /// Runtime cuts a comment at a NUL.
    fn set_runtime(&mut self, rows: impl IntoIterator<Item = Row>) {
        let cut = |mut row: Row| {
            row.comment.truncate(row.comment.find('\0').unwrap_or(row.comment.len()));
            row
        };
        self.set_rows(Place::Runtime, &rows.into_iter().map(cut).collect::<Vec<_>>());
    }

    /// LOAD SCHEDULER and SAVE SCHEDULER, by anybody.
    pub fn copy_scheduler(&mut self, from: Place, to: Place) {
        if let Some(content) = self.tables.get(&(from, SCHEDULER)).cloned() {
            self.tables.insert((to, SCHEDULER), content);
        }
    }

    /// SAVE MYSQL SERVERS TO DISK, by anybody.
    pub fn save_to_disk(&mut self) {
        self.watched = self.watched.map(|_| false);
        for table in covered() {
            if let Some(content) = self.tables.get(&(Place::Memory, table)).cloned() {
                self.tables.insert((Place::Disk, table), content);
            }
        }
    }

    /// ProxySQL starts anew, from disk.
    pub fn restart(&mut self) {
        self.tables.retain(|(place, _), _| !matches!(place, Place::Kept | Place::Target));
        self.lock = None;
        self.returns = None;
        self.lease = None;
        self.watched = None;
        self.released.clear();
        self.ended = None;
        self.extended_note = false;
        self.scratch = false;
        self.extended = [false; 2];
        (self.drain_note, self.delay_lowered) = (None, [false; 2]);
        self.clients.clear();
        (self.paused, self.pause_note) = (false, None);
        self.version = 1;
        for table in covered() {
            if let Some(content) = self.tables.get(&(Place::Disk, table)).cloned() {
                self.tables.insert((Place::Memory, table), content.clone());
                self.tables.insert((Place::Runtime, table), content);
            }
        }
        self.set_runtime(self.live());
        self.copy_scheduler(Place::Disk, Place::Memory);
        self.copy_scheduler(Place::Disk, Place::Runtime);
    }

    /// The monitor sees `read_only` and puts a node's row into the other hostgroup, settings and status as they are.
    pub fn monitor_moves(&mut self, name: &str, from: u32, to: u32) {
        let places: &[Place] = if self.old_monitor { &[Place::Runtime, Place::Memory] } else { &[Place::Runtime] };
        for place in places {
            let Some(row) = self.row(*place, from, name) else { continue };
            let mut moved = row.clone();
            moved.key.hostgroup.0 = to;
            self.edit(*place, from, name, |_| None);
            self.edit(*place, to, name, |_| Some(moved.clone()));
        }
        self.version += u64::from(self.old_monitor || self.moves_count);
    }
}
