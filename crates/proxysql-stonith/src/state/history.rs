//! What was done at the nodes themselves, a file for each level. The tasks of a level write it, and ticks read it, in one
//! [`Book`]. Commands read the file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stonith_core::node::Node;
use stonith_core::node_fence::NodeFenceRecord;
use stonith_core::node_fence::power::FenceAgentRecord;

use super::{STATE_MAX_BYTES, StateDir, StateError, VERSION, durable_file, from_json, not_newer, to_json};

/// The most records that are kept of nodes that are fenced no longer.
const ENDED_MAX: usize = 100;

/// What a level keeps of one node.
pub trait Record: Clone + PartialEq + Serialize + DeserializeOwned {
    /// How the name of its file begins.
    const FILE: &str;

    /// When the node was fenced no longer.
    fn ended_s(&self) -> Option<i64>;
}

impl Record for NodeFenceRecord {
    const FILE: &str = "node-fence";

    fn ended_s(&self) -> Option<i64> {
        self.ended_s
    }
}

impl Record for FenceAgentRecord {
    const FILE: &str = "fence-agents";

    fn ended_s(&self) -> Option<i64> {
        self.ended_s
    }
}

/// The history of one ProxySQL's nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History<R> {
    version: u32,
    /// What was done to each node.
    pub records: BTreeMap<Node, R>,
    /// Nodes to which it could not be done if it were needed, and why.
    pub unready: BTreeMap<Node, String>,
}

impl<R> Default for History<R> {
    fn default() -> Self {
        Self { version: VERSION, records: BTreeMap::new(), unready: BTreeMap::new() }
    }
}

impl<R: Record> History<R> {
    /// Forgets the oldest records of nodes that are fenced no longer, beyond the first hundred.
    fn forget_ended(&mut self) {
        let ended = self.records.iter().filter_map(|(node, record)| Some((record.ended_s()?, node.clone())));
        let mut ended: Vec<(i64, Node)> = ended.collect();
        ended.sort();
        let surplus = ended.len().saturating_sub(ENDED_MAX);
        for (_, node) in ended.into_iter().take(surplus) {
            self.records.remove(&node);
        }
    }
}

impl StateDir {
    /// Reads a history. It is empty if there is no file.
    fn history<R: Record>(&self) -> Result<History<R>, StateError> {
        let path = self.history_path::<R>();
        let Some(bytes) = durable_file::read(&path, STATE_MAX_BYTES)? else { return Ok(History::default()) };
        let read: History<R> = from_json(&bytes, &path)?;
        not_newer(read.version, &path)?;
        Ok(History { version: VERSION, ..read })
    }

    /// Writes a history durably. If that fails, what was there before is still whole.
    fn save_history<R: Record>(&self, history: &History<R>) -> Result<(), StateError> {
        let path = self.history_path::<R>();
        durable_file::make_dir(&self.dir)?;
        durable_file::write(&path, self.beside, &to_json(history, &path)?)
    }

    fn history_path<R: Record>(&self) -> PathBuf {
        self.dir.join(format!("{}-{}.json", R::FILE, self.stem))
    }
}

/// A history, in memory and on disk. Only the process that holds the agent's lock changes it.
#[derive(Debug)]
pub struct Book<R> {
    dir: StateDir,
    /// Whether the file must not be overwritten.
    untouchable: bool,
    /// The history, and why it is not that on disk. Held for a moment: no tick waits for the disk.
    known: Mutex<(History<R>, Option<String>)>,
    /// What was written last. Held while it is written.
    written: Mutex<History<R>>,
}

impl<R: Record> Book<R> {
    /// Reads the history. One that can't be read begins anew.
    pub fn open(dir: StateDir) -> Self {
        let read = dir.history();
        let untouchable = read.as_ref().is_err_and(|error| !error.is_corrupt());
        let problem = |error| format!("{error}. What was done at the nodes themselves is not known");
        let problem = read.as_ref().err().map(problem);
        let history = read.unwrap_or_default();
        Self { dir, untouchable, written: Mutex::new(history.clone()), known: Mutex::new((history, problem)) }
    }

    /// The state directory.
    pub fn dir(&self) -> &StateDir {
        &self.dir
    }

    /// The history, and why it is not that on disk.
    pub fn read(&self) -> (History<R>, Option<String>) {
        locked(&self.known).clone()
    }

    /// What was done to a node.
    pub fn record(&self, node: &Node) -> Option<R> {
        locked(&self.known).0.records.get(node).cloned()
    }

    /// The nodes that are fenced still, as far as this history knows.
    pub fn left_open(&self) -> Vec<Node> {
        let known = locked(&self.known);
        let open = known.0.records.iter().filter(|(_, record)| record.ended_s().is_none());
        open.map(|(node, _)| node.clone()).collect()
    }

    /// Changes the history, and writes it if it is not that on disk.
    pub fn change(&self, change: impl FnOnce(&mut History<R>)) {
        let mut written = locked(&self.written);
        let history = {
            let (history, _) = &mut *locked(&self.known);
            change(history);
            history.forget_ended();
            history.clone()
        };
        if history == *written || self.untouchable {
            return;
        }
        let saved = self.dir.save_history(&history);
        let problem = |error| format!("{error}. What was done at the nodes themselves is lost when this process ends");
        locked(&self.known).1 = saved.as_ref().err().map(problem);
        if saved.is_ok() {
            *written = history;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was done at one ProxySQL's nodes themselves, by level.
#[derive(Debug, Clone)]
pub struct Books {
    /// Which were made read-only.
    pub read_only: Arc<Book<NodeFenceRecord>>,
    /// Which were powered off.
    pub power: Arc<Book<FenceAgentRecord>>,
}

impl Books {
    /// Reads both histories.
    pub fn open(dir: &StateDir) -> Self {
        Self { read_only: Arc::new(Book::open(dir.again())), power: Arc::new(Book::open(dir.again())) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What the first version with both levels has on disk.
    const READ_ONLY: &str = r#"{"version":1,"records":{"node01:3306":{"kind":"superseded","id":"17:a","since_s":1,"answered_s":2,"read_only_s":2,"verified_s":3,"found_read_only":false,"sessions_ended":7,"sessions_refused":0,"server_started_s":0,"undone_s":null,"failure":null,"ended_s":null}},"unready":{"node02:3306":"no"}}"#;
    const POWER: &str = r#"{"version":1,"records":{"node01:3306":{"kind":"superseded","id":"17:a","at_s":17,"since_s":1,"is_read_only":false,"tries":1,"settled":{"id":"17:a","at_s":17,"done_s":2,"agent":"ipmi","is_dry":false},"failure":{"label":"x","text":"y","at_s":1},"ended_s":null}},"unready":{}}"#;

    fn node(number: i64) -> Node {
        Node::new(&format!("node{number:02}"), 3306).unwrap()
    }

    fn book<R: Record>(root: &tempfile::TempDir) -> Book<R> {
        Book::open(StateDir::new(&root.path().join("state"), &"127.0.0.1:6032".parse().unwrap()))
    }

    /// A book of one record, with this on disk.
    fn book_of<R: Record>(root: &tempfile::TempDir, content: &str) -> Book<R> {
        let book = book::<R>(root);
        durable_file::make_dir(&book.dir.dir).unwrap();
        fs::write(book.dir.history_path::<R>(), content).unwrap();
        Book::open(book.dir)
    }

    #[test]
    fn what_an_installed_version_wrote_is_read_and_written_as_it_was() {
        fn is_kept<R: Record>(content: &str) {
            let root = tempfile::tempdir().unwrap();
            let book = book_of::<R>(&root, content);
            assert!(book.record(&node(1)).is_some() && book.read().1.is_none());
            book.change(|history| drop(history.unready.insert(node(9), String::new())));
            book.change(|history| drop(history.unready.remove(&node(9))));
            assert_eq!(fs::read_to_string(book.dir.history_path::<R>()).unwrap(), content);
        }
        is_kept::<NodeFenceRecord>(READ_ONLY);
        is_kept::<FenceAgentRecord>(POWER);
    }

    #[test]
    fn of_nodes_that_are_fenced_no_longer_a_hundred_are_kept_and_of_fenced_ones_all() {
        let root = tempfile::tempdir().unwrap();
        let power = book_of::<FenceAgentRecord>(&root, POWER);
        let fenced = power.record(&node(1)).unwrap();
        power.change(|history| {
            history.records.extend((1..=300).map(|number| {
                // The oldest ones, and many of them, are fenced still.
                let ended_s = (number > 150).then_some(number);
                (node(number), FenceAgentRecord { ended_s, ..fenced.clone() })
            }));
        });
        for power in [power, book(&root)] {
            assert_eq!(power.left_open().len(), 150);
            let kept = (1..=300).map(|number| power.record(&node(number)).is_some());
            let wanted = (1..=300).map(|number| !(151..=200).contains(&number));
            assert!(kept.eq(wanted), "{:?}", power.read().0.records.keys());
        }
    }

    #[test]
    fn a_history_that_makes_no_sense_begins_anew_and_one_that_a_newer_version_wrote_is_left_alone() {
        let newer = POWER.replace("\"version\":1", "\"version\":2");
        for (content, is_left) in [("garbage", false), (&*newer, true)] {
            let root = tempfile::tempdir().unwrap();
            let book = book_of::<FenceAgentRecord>(&root, content);
            let problem = book.read().1.unwrap_or_default();
            assert!(problem.ends_with(". What was done at the nodes themselves is not known"), "{problem}");
            book.change(|_| {});
            let path = book.dir.history_path::<FenceAgentRecord>();
            assert_eq!(fs::read_to_string(&path).unwrap(), content, "nothing is known that could be written");
            book.change(|history| drop(history.unready.insert(node(2), "no".to_owned())));
            assert_eq!(book.read().0.unready.len(), 1);
            assert_eq!(fs::read_to_string(&path).unwrap() == content, is_left);
            assert_eq!(book.read().1.is_some(), is_left);
        }
    }

    #[test]
    fn a_history_that_was_not_written_says_so_and_is_written_later() {
        let root = tempfile::tempdir().unwrap();
        let book = book::<NodeFenceRecord>(&root);
        fs::write(root.path().join("state"), "in the directory's place").unwrap();
        book.change(|history| drop(history.unready.insert(node(1), "no".to_owned())));
        let problem = book.read().1.unwrap_or_default();
        assert!(problem.ends_with("is lost when this process ends") && book.read().0.unready.len() == 1, "{problem}");
        fs::remove_file(root.path().join("state")).unwrap();
        book.change(|_| {});
        assert_eq!(Book::open(book.dir.again()).read(), book.read());
        assert_eq!(book.read().1, None);
    }
}
