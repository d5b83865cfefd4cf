//! Reads from one ProxySQL what a decision needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stonith_core::apply::{RETURNS_NAME, Statement};
use stonith_core::managed::Managed;
use stonith_core::node::Node;
use stonith_core::observed::{PauseSeen, ProxyView, SharedLease};
use stonith_core::orders::Release;
use stonith_core::policy::Policy;
use stonith_core::shared::Shared;
use stonith_core::table::{Comment, Record, Row, SERVERS, Status};

use super::admin::{Admin, AdminError};
use super::answers::{
    NotUnderstood, content, drain, first_column, hostgroups, lease, named_hostgroups, pairs, releases, returned, used,
    value,
};
use super::error::ObserveError;
use super::probe::Probed;
use super::sql;
use crate::loopback::{is_here, is_this_host};
use crate::pool::Pool;

fn not_understood(statement: &str) -> impl FnOnce(NotUnderstood) -> ObserveError {
    move |NotUnderstood(what)| ObserveError::NotUnderstood { statement: statement.to_owned(), what }
}

/// The longest wait for a round of the monitor. Later ticks notice a monitor with a longer interval.
const MONITOR_ROUND_MAX: Duration = Duration::from_secs(5);

/// Interval plus timeout of ProxySQL's read_only checks. A move by the monitor shows after this time.
///
/// # Errors
/// The connection failed, or a value is not a number.
pub async fn monitor_round(admin: &mut Admin) -> Result<Duration, ObserveError> {
    let mut round = Duration::ZERO;
    for statement in sql::MONITOR_ROUND {
        let answer = admin.query(statement).await?;
        let text = value(&answer).unwrap_or_default();
        let ms = text.parse().map_err(|_| not_understood(statement)(NotUnderstood::of(&text)))?;
        round += Duration::from_millis(ms);
    }
    Ok(round.min(MONITOR_ROUND_MAX))
}

/// The hosts of an interface that listens at every address.
const ANY: [&str; 2] = ["0.0.0.0", "::"];

/// The largest number of reads, if other clients LOAD meanwhile.
const READS_MAX: u32 = 3;

/// How long tables count as unchanged without a sign of change, ms. A ghost row comes and goes without a sign.
const READ_AGAIN_MS: u64 = 30_000;

/// ProxySQL's tables, with the stamp of the reading.
#[derive(Debug)]
pub struct SeenProxy {
    /// The tables.
    pub view: ProxyView,
    /// When they were read, and how to notice a change.
    pub reading: ReadStamp,
}

/// When tables were read, and how to notice a change.
#[derive(Debug)]
pub struct ReadStamp {
    /// Whether all tables were read just now.
    pub fresh: bool,
    /// The connection that read them, and the values that change with them; `None` if no value shows every change.
    stamp: Option<(u64, Vec<Record>)>,
    read_ms: u64,
}

impl ReadStamp {
    /// The tables that the next tick may reuse.
    ///
    /// SHUNNED comes and goes without a sign too, so it counts as ONLINE. The plan then fences all that may need it,
    /// and a plan that is not empty is made again from a new reading.
    pub fn of(self, mut view: ProxyView) -> SeenProxy {
        let is_shunned = |row: &Row| row.status == Status::Shunned;
        if view.runtime.iter().any(is_shunned) {
            for row in view.runtime.iter_mut().filter(|row| is_shunned(row)) {
                row.status = Status::Online;
            }
            view.runtime = ROWS.shared(view.runtime);
        }
        SeenProxy { view, reading: self }
    }
}

/// Reads one ProxySQL: its three layers, its hostgroups, signs of an interrupted apply, and what agents share.
///
/// `owner` is this agent's name in the lock. Known tables are reused while ProxySQL's stamp is the same.
///
/// # Errors
/// The connection failed, or an answer is not understood. Then nothing is decided for this ProxySQL.
pub async fn observe(
    admin: &mut Admin,
    probed: &Probed,
    policy: &Policy,
    owner: &str,
    known: Option<SeenProxy>,
    now_ms: u64,
) -> Result<SeenProxy, ObserveError> {
    let stamp = admin.query(sql::STAMP).await;
    let mut shared = OwnTables::read(admin, owner).await?;
    let mut stamp = stamp?.records;
    if let Some(SeenProxy { mut view, reading }) = known
        && reading.stamp.as_ref().is_some_and(|(number, then)| *number == admin.number() && *then == stamp)
        && now_ms.saturating_sub(reading.read_ms) < READ_AGAIN_MS
    {
        let fenced = fenced_nodes(&view.runtime);
        view.pause = pause(admin, view.clustered, &shared).await?;
        shared.put_into(&mut view);
        if fenced.iter().any(|node| view.conn_used.contains_key(node)) {
            view.conn_used = in_use(admin, &view, policy).await?;
        }
        return Ok(SeenProxy { view, reading: ReadStamp { fresh: false, ..reading } });
    }
    let mut reads = 1;
    loop {
        let mut view = read_runtime(admin, probed).await?;
        if !fenced_nodes(&view.runtime).is_empty() {
            view.conn_used = in_use(admin, &view, policy).await?;
        }
        let before = admin.query(sql::STAMP).await?.records;
        view.memory = rows(admin, sql::MEMORY_SERVERS).await?;
        view.disk = rows(admin, sql::DISK_SERVERS).await?;
        let after = admin.query(sql::STAMP).await?.records;
        // A LOAD in between mixes the state before it with the state after it. Runtime from before and disk from after
        // look like an interrupted apply. So does a return whose note was not there yet when the notes were read.
        if loads(&after) != loads(&stamp) && reads < READS_MAX {
            shared = OwnTables::read(admin, owner).await?;
            (stamp, reads) = (after, reads + 1);
            continue;
        }
        let tells = tells_that_nothing_changed(&stamp, &before, &after);
        view.pause = pause(admin, view.clustered, &shared).await?;
        shared.put_into(&mut view);
        let stamp = tells.then(|| (admin.number(), after));
        return Ok(SeenProxy { view, reading: ReadStamp { fresh: true, stamp, read_ms: now_ms } });
    }
}

/// Whether the stamps tell that nothing changed while the tables were read. What agents share may change before `before`.
fn tells_that_nothing_changed(first: &[Record], before: &[Record], after: &[Record]) -> bool {
    after == before && checksums(after) == checksums(first) && tells_all(after)
}

/// The checksums of a stamp, without the count of changed records.
fn checksums(stamp: &[Record]) -> Vec<&Record> {
    stamp.iter().filter(|record| record[0].as_deref() != Some("total_changes")).collect()
}

/// The number of LOADs so far.
fn loads(stamp: &[Record]) -> Option<&Option<String>> {
    stamp.iter().find(|record| record[0].as_deref() == Some(SERVERS.name())).map(|record| &record[1])
}

/// Whether the stamp shows every move of the monitor, as from ProxySQL 2.6 on (facts §12).
fn tells_all(stamp: &[Record]) -> bool {
    stamp.iter().any(|record| record[0].as_deref() == Some("mysql_servers_v2"))
}

/// The agents' own tables in `main`. They are read before the tables and after the count of LOADs: a return's note is
/// there before its LOAD, until disk has it.
struct OwnTables {
    unfinished: bool,
    paused_note: bool,
    returned: BTreeSet<Node>,
    lease: Option<SharedLease>,
    released: BTreeMap<Node, Release>,
}

impl OwnTables {
    async fn read(admin: &mut Admin, owner: &str) -> Result<Self, ObserveError> {
        let names = first_column(&admin.query(sql::NAMES).await?);
        let mut left: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        left.retain(|name| name.starts_with("stonith_"));
        let returned = match left.contains(RETURNS_NAME) {
            true => returned(&ours(admin, sql::RETURNS).await?),
            false => BTreeSet::new(),
        };
        let [shared_lease, released, paused_note, drain_note, ..] = sql::SHARED.map(|name| left.remove(name));
        let lease = if shared_lease { lease(&ours(admin, sql::LEASE).await?, owner) } else { None };
        let released = if released { releases(&ours(admin, sql::RELEASED).await?) } else { BTreeMap::new() };
        let drain_left = drain_note && drain_is_left_over(admin).await?;
        Ok(Self { unfinished: drain_left || !left.is_empty(), paused_note, returned, lease, released })
    }

    fn put_into(self, view: &mut ProxyView) {
        view.unfinished = self.unfinished;
        view.returned = self.returned;
        view.lease = self.lease;
        view.released = self.released;
    }
}

/// Whether a drain was cut off. One that ends just now has no note any more.
async fn drain_is_left_over(admin: &mut Admin) -> Result<bool, ObserveError> {
    let read = sql::render(&Statement::ReadDrain, &[]);
    Ok(drain(&ours(admin, &read).await?).is_some_and(|(left_over, _)| left_over))
}

/// Reads runtime, and the hostgroups in force.
async fn read_runtime(admin: &mut Admin, probed: &Probed) -> Result<ProxyView, ObserveError> {
    let runtime = runtime(admin, probed).await?;
    let pairs = pairs(&admin.query(sql::PAIRS).await?).map_err(not_understood(sql::PAIRS))?;
    let mut foreign = hostgroups(&admin.query(sql::FOREIGN).await?).map_err(not_understood(sql::FOREIGN))?;
    for table in probed.unknown_hostgroups() {
        let statement = sql::runtime(table, &[]);
        foreign.extend(named_hostgroups(admin.query(&statement).await?).map_err(not_understood(&statement))?);
    }
    let clustered = has_peers(admin).await?;
    Ok(ProxyView { runtime, pairs, foreign: foreign.into_iter().collect(), clustered, ..ProxyView::default() })
}

/// Reads the rows in force.
///
/// # Errors
/// The connection failed, or the answer is not understood.
pub async fn runtime(admin: &mut Admin, probed: &Probed) -> Result<Shared<Vec<Row>>, ObserveError> {
    rows(admin, &sql::runtime(SERVERS, probed.runtime_columns(SERVERS))).await
}

/// Whether `runtime_proxysql_servers` names another ProxySQL. A name that cannot be told from this ProxySQL's is one.
async fn has_peers(admin: &mut Admin) -> Result<bool, ObserveError> {
    let peers = admin.query(sql::PEERS).await?.records;
    if peers.is_empty() {
        return Ok(false);
    }
    let addresses = admin.query(sql::ADMIN_ADDRESSES).await?;
    let is_itself = is_itself(value(&addresses).unwrap_or_default(), admin.address());
    Ok(!peers.iter().all(|peer| node_of(peer).is_some_and(|peer| is_itself(&peer))))
}

fn node_of(record: &Record) -> Option<Node> {
    let [Some(host), Some(port)] = record.as_slice() else { return None };
    Node::new(host, port.parse().ok()?).ok()
}

/// Tells this ProxySQL's own entry from its peers': by the address that the agent uses, or by one of `admin-mysql_ifaces`.
fn is_itself(ifaces: &str, reached_at: &Node) -> impl Fn(&Node) -> bool {
    let own: BTreeSet<Node> = ifaces.split(';').filter_map(|address| address.parse().ok()).collect();
    let reached_at = reached_at.clone();
    move |peer| {
        let listens_everywhere = own.iter().any(|own| own.port == peer.port && ANY.contains(&own.host.as_str()));
        let is_beside = || is_here(reached_at.host.as_str()) && is_this_host(peer.host.as_str());
        own.contains(peer) || *peer == reached_at || (listens_everywhere && is_beside())
    }
}

/// Reads whether ProxySQL is paused. Only a member of a ProxySQL Cluster is asked, or one that agents paused.
async fn pause(admin: &mut Admin, clustered: bool, shared: &OwnTables) -> Result<PauseSeen, ObserveError> {
    let mut seen = PauseSeen::default();
    if !clustered && !shared.paused_note {
        return Ok(seen);
    }
    seen.paused = value(&admin.query(sql::PAUSED).await?) == Some("true");
    if seen.paused || shared.paused_note {
        let clients = admin.query(sql::CLIENTS).await?;
        let count = value(&clients).and_then(|count| count.parse().ok());
        seen.clients = count.ok_or_else(|| not_understood(sql::CLIENTS)(NotUnderstood::of(&clients.records)))?;
    }
    if shared.paused_note {
        seen.noted = !ours(admin, sql::PAUSE_NOTE).await?.is_empty();
    }
    Ok(seen)
}

/// The nodes with a row that has a fence note.
fn fenced_nodes(rows: &[Row]) -> BTreeSet<Node> {
    rows.iter().filter(|row| Comment::parse(&row.comment) != Comment::Plain).filter_map(Row::node).collect()
}

async fn in_use(admin: &mut Admin, view: &ProxyView, policy: &Policy) -> Result<BTreeMap<Node, u64>, ObserveError> {
    let managed = Managed::of(view, policy);
    let mut sums: BTreeMap<Node, u64> = BTreeMap::new();
    for ((_, node), count) in used(&admin.query(sql::USED).await?, &managed).map_err(not_understood(sql::USED))? {
        let sum = sums.entry(node).or_default();
        *sum = sum.saturating_add(count);
    }
    Ok(sums)
}

/// Reads one of the agents' own tables. It is empty if another agent dropped it meanwhile.
async fn ours(admin: &mut Admin, statement: &str) -> Result<Vec<Record>, ObserveError> {
    match admin.query(statement).await {
        Ok(answer) => Ok(answer.records),
        Err(AdminError::Refused { cause, .. }) if cause.contains("no such table") => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The rows of all ProxySQLs. Most layers are equal to another, of the same ProxySQL or of others.
static ROWS: Pool<Vec<Row>> = Pool::empty();

async fn rows(admin: &mut Admin, statement: &str) -> Result<Shared<Vec<Row>>, ObserveError> {
    let answer = admin.query(statement).await?;
    let rows = content(SERVERS, answer).map_err(not_understood(statement))?.rows()?;
    Ok(ROWS.shared(rows.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Answer;

    fn stamp(values: &[(&str, &str)]) -> Vec<Record> {
        let record = |(name, loads): &(&str, &str)| [*name, *loads, "0x1"].map(|text| Some(text.to_owned())).to_vec();
        values.iter().map(record).collect()
    }

    #[test]
    fn only_a_proxysql_with_a_checksum_of_runtime_tells_every_change() {
        let names = |names: &[&str]| stamp(&names.iter().map(|name| (*name, "1")).collect::<Vec<_>>());
        assert!(tells_all(&names(&["mysql_servers", "mysql_servers_v2", "total_changes"])));
        assert!(!tells_all(&names(&["mysql_servers", "total_changes"])), "before 2.6");
    }

    #[test]
    fn a_peer_is_any_entry_that_is_not_the_proxys_own_address() {
        let node = |text: &str| text.parse::<Node>().unwrap();
        let own = |ifaces: &str, reached_at: &str, peer: &str| is_itself(ifaces, &node(reached_at))(&node(peer));
        assert!(own("10.0.0.5:6032;/tmp/admin.sock", "proxy1:6032", "10.0.0.5:6032"), "one of its interfaces");
        assert!(own("0.0.0.0:6032", "10.0.0.5:6032", "10.0.0.5:6032"), "where the agent reaches it");
        assert!(own("0.0.0.0:6032", "127.0.0.1:6032", &format!("{}:6032", crate::loopback::host_name())));
        for peer in ["10.0.0.6:6032", "10.0.0.5:6033", "proxy2:6032", "127.0.0.2:6032"] {
            assert!(!own("10.0.0.5:6032", "127.0.0.1:6032", peer), "{peer}");
            assert!(!own("0.0.0.0:6032", "10.0.0.5:6032", peer), "{peer}");
        }
        assert!(!own("0.0.0.0:6032", "127.0.0.1:6032", "192.0.2.1:6032"), "an address that no interface here has");
    }

    #[test]
    fn a_stamp_has_the_count_of_loads_and_the_checksums() {
        let seen = stamp(&[("mysql_servers_v2", "4"), ("mysql_servers", "5"), ("total_changes", "6")]);
        assert_eq!(loads(&seen), Some(&Some("5".to_owned())));
        assert_eq!(checksums(&seen), [&seen[0], &seen[1]], "total_changes counts this program's own records too");
    }

    #[test]
    fn tables_are_unchanged_if_neither_a_checksum_nor_a_record_of_memory_or_disk_changed() {
        let seen = |loads: &str, changes: &str| stamp(&[("mysql_servers_v2", loads), ("total_changes", changes)]);
        let first = seen("4", "6");
        assert!(tells_that_nothing_changed(&first, &seen("4", "7"), &seen("4", "7")), "what agents share changed");
        assert!(!tells_that_nothing_changed(&first, &seen("4", "7"), &seen("4", "8")));
        assert!(!tells_that_nothing_changed(&first, &seen("5", "7"), &seen("5", "7")));
        let old = stamp(&[("mysql_servers", "4")]);
        assert!(!tells_that_nothing_changed(&old, &old, &old), "before 2.6");
    }

    fn row(status: &str, comment: &str) -> Row {
        let columns = ["hostgroup_id", "hostname", "port", "status", "comment"].map(str::to_owned).to_vec();
        let records = vec![["10", "node01", "3306", status, comment].map(|text| Some(text.to_owned())).to_vec()];
        content(SERVERS, Answer { columns, records, ..Answer::default() }).unwrap().rows().unwrap().remove(0)
    }

    #[test]
    fn a_shunned_row_is_kept_as_online_and_any_other_as_it_is() {
        for (seen, kept) in [("SHUNNED", "ONLINE"), ("ONLINE", "ONLINE"), ("OFFLINE_SOFT", "OFFLINE_SOFT")] {
            let view = ProxyView { runtime: vec![row(seen, "")].into(), ..ProxyView::default() };
            let reading = ReadStamp { fresh: true, stamp: None, read_ms: 0 };
            assert_eq!(*reading.of(view).view.runtime, [row(kept, "")]);
        }
    }

    #[test]
    fn a_node_is_fenced_if_a_row_has_a_note_even_one_that_can_not_be_read() {
        for (comment, is_fenced) in
            [("rack 7", false), (" [stonith:1 manual was=ONLINE]", true), (" [stonith:9 x]", true)]
        {
            assert_eq!(fenced_nodes(&[row("ONLINE", comment)]).len(), usize::from(is_fenced), "{comment}");
        }
    }
}
