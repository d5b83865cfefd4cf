//! What an agent keeps on disk for one ProxySQL. The fences are not kept here: they are in ProxySQL itself.
//!
//! ```text
//! state-<host>_<port>.json    must survive a crash of the host; synced when it changes, under the agent's lock
//! tick-<host>_<port>.json     this boot's times and the logged errors; each tick, never synced; `.new` is the one before
//! orders-<host>_<port>.json   suspension and releases; written by commands, under a lock of its own
//! node-fence-<host>_<port>.json   which nodes were made read-only, when, and what went wrong; synced when it changes
//! fence-agents-<host>_<port>.json  which nodes were powered off, likewise
//! power-<node>.json               the last failover for which a node was powered off: one file for all ProxySQLs, written under
//!                                 power-<node>.lock, which is held while an agent of the node runs
//! lock-<host>_<port>          held by the agent while it works; contains its name in ProxySQL, and when it was taken
//! ```
//!
//! A quiet tick therefore costs no sync. The tick's file counts only beside the state that it belongs to.
//! Losing any file is safe: a lost state is unarmed, lost orders are no orders.
//!
//! **Invariant:** a file is whole or absent, never half written. A file from a newer version is never overwritten.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stonith_core::memory::Memory;
use stonith_core::node::Node;

use crate::config::Mode;
use crate::logging::LogOnce;
use crate::untrusted_text::one_line;

mod durable_file;
mod error;
mod history;
mod lock;
mod orders;
mod power;
#[cfg(test)]
mod tests;

pub use error::StateError;
pub use history::{Book, Books, History, Record};
pub use lock::Lock;
pub use orders::{StandingOrders, Suspension};

/// The version of both files' format.
pub const VERSION: u32 = 1;

/// The largest state file, in bytes. A thousand records take half a megabyte.
pub const STATE_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What is kept from tick to tick.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// The memory of [`stonith_core::decide`].
    pub memory: Memory,
    /// Which errors were logged.
    pub errors: LogOnce,
    /// How the agent that wrote the state runs.
    pub mode: Option<Mode>,
}

/// The result of reading the kept state.
#[derive(Debug)]
pub enum Loaded {
    /// There is no state: this is the first start here, or it was lost.
    Fresh,
    /// The state was read.
    Kept(Box<State>),
    /// The file is corrupt or belongs to another ProxySQL. The agent starts as for the first time, and reports it.
    Unusable {
        /// The reason.
        reason: StateError,
        /// Where the file was moved, so that an operator can look at it.
        set_aside: Option<PathBuf>,
    },
    /// The file can't be read, or a newer version wrote it. It is left alone, and [`StateDir::save`] refuses.
    ///
    /// The agent continues unarmed, and reports it.
    Untouchable(StateError),
}

/// A file's content, with the bytes that it was read from.
type Read = (StateIn, Vec<u8>);

/// The files of one ProxySQL in the state directory.
#[derive(Debug)]
pub struct StateDir {
    dir: PathBuf,
    proxy: Node,
    stem: String,
    /// The state on disk, so that only changes are written.
    lasting: Option<Lasting>,
    /// The tick's file on disk.
    tick: Option<Vec<u8>>,
    /// Whether the state file must not be overwritten.
    untouchable: bool,
    /// The suffix of files while they are written.
    beside: &'static str,
}

/// The state on disk.
#[derive(Debug)]
struct Lasting {
    memory: Memory,
    /// The digest of its file, which the tick's file names.
    digest: String,
    bytes: usize,
}

impl Lasting {
    fn of(memory: Memory, file: &[u8]) -> Self {
        let digest = Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { memory, digest, bytes: file.len() }
    }
}

/// The fields that every version of the file has.
#[derive(Deserialize)]
struct Head {
    version: u32,
    proxy: Node,
}

#[derive(Serialize)]
struct StateOut<'s> {
    version: u32,
    proxy: &'s Node,
    memory: &'s Memory,
    /// The digest of the state's file, in the tick's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'s LogOnce>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
}

#[derive(Deserialize)]
struct StateIn {
    memory: Memory,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    errors: LogOnce,
    #[serde(default)]
    mode: Option<Mode>,
}

impl StateDir {
    /// Whether another value names the same files.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.dir, &self.stem) == (&other.dir, &other.stem)
    }

    /// Names the files; opens nothing.
    pub fn new(dir: &Path, proxy: &Node) -> Self {
        Self {
            dir: dir.to_owned(),
            proxy: proxy.clone(),
            stem: stem(proxy),
            lasting: None,
            tick: None,
            untouchable: false,
            beside: durable_file::BESIDE,
        }
    }

    /// Names the same files; knows nothing of what is in them.
    pub fn again(&self) -> Self {
        Self { beside: self.beside, ..Self::new(&self.dir, &self.proxy) }
    }

    /// Finds the files of every ProxySQL with agent state in this directory, sorted by name. Makes nothing.
    ///
    /// # Errors
    /// The directory is absent or can't be read.
    pub fn all_in(dir: &Path) -> Result<Vec<Self>, StateError> {
        let mut proxies = BTreeSet::new();
        for entry in std::fs::read_dir(dir).map_err(StateError::io("read", dir))? {
            let name = entry.map_err(StateError::io("read", dir))?.file_name();
            let name = name.to_string_lossy();
            if let Some(stem) = name.strip_prefix("state-").and_then(|rest| rest.strip_suffix(".json")) {
                let written: Option<Head> = durable_file::read(&dir.join(&*name), STATE_MAX_BYTES)
                    .ok()
                    .flatten()
                    .and_then(|bytes| serde_json::from_slice(&bytes).ok());
                proxies.extend(written.map(|head| head.proxy).or_else(|| proxy_of(stem)));
            } else if let Some(stem) = name.strip_prefix("lock-") {
                proxies.extend(proxy_of(stem));
            }
        }
        Ok(proxies.iter().map(|proxy| Self::new(dir, proxy)).collect())
    }

    /// The ProxySQL of these files.
    pub fn proxy(&self) -> &Node {
        &self.proxy
    }

    /// Whether an agent has kept state here.
    pub fn is_kept(&self) -> bool {
        self.state_path().exists() || self.lock_path().exists()
    }

    /// Makes the directory if it is missing, and takes the agent's lock. `None` if another agent works.
    ///
    /// The lock lasts until the [`Lock`] is dropped or the process ends. `boot_ms` is now by the boot clock.
    ///
    /// # Errors
    /// The directory can't be made or is open to others; the lock file can't be opened or written.
    pub fn try_lock(&self, boot_ms: u64) -> Result<Option<Lock>, StateError> {
        durable_file::make_dir(&self.dir)?;
        let path = self.lock_path();
        let lock = lock::try_lock(&path)?;
        if let Some(lock) = &lock {
            lock.note_taken(boot_ms).map_err(StateError::io("write", &path))?;
        }
        Ok(lock)
    }

    /// Takes the takeover lock, for an agent that does a dead holder's work. `None` if another agent has it.
    ///
    /// The holder may wake up meanwhile, so this agent writes its files under other temporary names.
    ///
    /// # Errors
    /// As for [`Self::try_lock`].
    pub fn try_take_over(&mut self) -> Result<Option<Lock>, StateError> {
        let lock = lock::try_lock(&self.dir.join(format!("takeover-{}", self.stem)))?;
        self.beside = durable_file::BESIDE_OF_TAKEOVER;
        Ok(lock)
    }

    /// Tries whether the state can be written. Needs the lock.
    ///
    /// On an error isolation stays unarmed, since the arming could not be kept. Evidence still fences.
    ///
    /// # Errors
    /// The directory can't be written, or the disk is full.
    pub fn try_out(&self) -> Result<(), StateError> {
        let bytes = self.lasting.as_ref().map_or(0, |lasting| lasting.bytes).max(4096);
        durable_file::try_out(&self.state_path(), self.beside, bytes)
    }

    /// When the agent that holds the lock was last alive, ms of this boot's clock; `None` if unknown.
    ///
    /// Taking the lock and each tick count as signs of life.
    pub fn last_alive_ms(&self, boot_id: &str) -> Option<u64> {
        let taken_ms = lock::taken_ms(&self.lock_path())?;
        // The tick's file is read alone: while the state is being written, the two files differ for a moment.
        let tick = self.read(&self.tick_path()).ok().flatten().map(|(tick, _)| tick.memory);
        let ticked_ms = tick.filter(|memory| memory.boot_id == boot_id).map(|memory| memory.lease.last_tick_ms);
        Some(ticked_ms.unwrap_or(0).max(taken_ms))
    }

    /// Reads the kept state. A corrupt file is set aside, so that the next save does not overwrite it.
    pub fn load(&mut self) -> Loaded {
        match self.read(&self.state_path()) {
            Ok(None) => Loaded::Fresh,
            Ok(Some((lasting, bytes))) => {
                let lasting = Lasting::of(lasting.memory, &bytes);
                let (state, tick) = self.with_times(&lasting);
                (self.lasting, self.tick) = (Some(lasting), tick);
                Loaded::Kept(state)
            }
            Err(reason) if reason.is_corrupt() => {
                Loaded::Unusable { set_aside: durable_file::set_aside(&self.state_path()).ok(), reason }
            }
            Err(reason) => {
                self.untouchable = true;
                Loaded::Untouchable(reason)
            }
        }
    }

    /// Reads the kept state and changes nothing, not even a corrupt file. Commands that only read use it.
    ///
    /// # Errors
    /// The file can't be read or is corrupt.
    pub fn peek(&self) -> Result<Option<Box<State>>, StateError> {
        let read = self.read(&self.state_path())?;
        Ok(read.map(|(lasting, bytes)| self.with_times(&Lasting::of(lasting.memory, &bytes)).0))
    }

    /// The state with what the tick's file has, if that belongs to it. If not, one write was lost.
    fn with_times(&self, lasting: &Lasting) -> (Box<State>, Option<Vec<u8>>) {
        let mut state = Box::new(State { memory: lasting.memory.clone(), ..State::default() });
        match self.read(&self.tick_path()) {
            Ok(Some((tick, bytes))) if tick.state.as_ref() == Some(&lasting.digest) => {
                state.memory = state.memory.with_times(&tick.memory);
                (state.errors, state.mode) = (tick.errors, tick.mode);
                (state, Some(bytes))
            }
            _ => (state, None),
        }
    }

    /// Writes the state durably if it changed. Returns whether it wrote. Needs the lock.
    ///
    /// # Errors
    /// The state can't be written, or the existing file must not be overwritten. The old state is still whole.
    pub fn save(&mut self, state: &State) -> Result<bool, StateError> {
        let path = self.state_path();
        if self.untouchable {
            return Err(StateError::LeftAlone { path });
        }
        let memory = state.memory.without_times();
        let lasting = match self.lasting.take().filter(|lasting| lasting.memory == memory) {
            Some(same) => same,
            None => self.write_lasting(memory, &path)?,
        };
        let out = StateOut {
            memory: &state.memory.times(),
            state: Some(&lasting.digest),
            errors: Some(&state.errors),
            mode: state.mode,
            ..self.out(&state.memory)
        };
        let tick = to_json(&out, &path)?;
        self.lasting = Some(lasting);
        let changed = self.tick.as_ref() != Some(&tick); // the tick's file names the state's digest
        if changed {
            durable_file::write_unsynced(&self.tick_path(), self.beside, &tick)?;
            self.tick = Some(tick);
        }
        Ok(changed)
    }

    fn write_lasting(&self, memory: Memory, path: &Path) -> Result<Lasting, StateError> {
        let file = to_json(&self.out(&memory), path)?;
        if file.len() as u64 > STATE_MAX_BYTES {
            return Err(StateError::TooLarge { path: path.to_owned(), most: STATE_MAX_BYTES });
        }
        durable_file::write(path, self.beside, &file)?;
        Ok(Lasting::of(memory, &file))
    }

    fn out<'s>(&'s self, memory: &'s Memory) -> StateOut<'s> {
        StateOut { version: VERSION, proxy: &self.proxy, memory, state: None, errors: None, mode: None }
    }

    fn read(&self, path: &Path) -> Result<Option<Read>, StateError> {
        let Some(bytes) = durable_file::read(path, STATE_MAX_BYTES)? else { return Ok(None) };
        self.check_head(path, &bytes)?;
        Ok(Some((from_json(&bytes, path)?, bytes)))
    }

    /// Checks the version before all else: a file of a newer version may look corrupt.
    fn check_head(&self, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = from_json(bytes, path)?;
        not_newer(version, path)?;
        let Head { version, proxy } = from_json(bytes, path)?;
        if version == 0 {
            return Err(StateError::Corrupt { path: path.to_owned(), reason: "version 0".to_owned() });
        }
        if proxy != self.proxy {
            return Err(StateError::OtherProxy { path: path.to_owned(), proxy });
        }
        Ok(())
    }

    fn lock_path(&self) -> PathBuf {
        self.dir.join(format!("lock-{}", self.stem))
    }

    fn state_path(&self) -> PathBuf {
        self.dir.join(format!("state-{}.json", self.stem))
    }

    fn tick_path(&self) -> PathBuf {
        self.dir.join(format!("tick-{}.json", self.stem))
    }
}

fn to_json(value: &impl Serialize, path: &Path) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec(value).map_err(|error| corrupt(path, &error))
}

fn from_json<'b, T: Deserialize<'b>>(bytes: &'b [u8], path: &Path) -> Result<T, StateError> {
    serde_json::from_slice(bytes).map_err(|error| corrupt(path, &error))
}

/// Refuses a file of a later program.
fn not_newer(version: u32, path: &Path) -> Result<(), StateError> {
    if version > VERSION { Err(StateError::Newer { path: path.to_owned(), version }) } else { Ok(()) }
}

fn corrupt(path: &Path, error: &serde_json::Error) -> StateError {
    StateError::Corrupt { path: path.to_owned(), reason: one_line(&error.to_string()) }
}

/// The name of a ProxySQL in file names, such as `127.0.0.1_6032`.
///
/// Two ProxySQLs may have the same stem. The field `proxy` in the file distinguishes them.
fn stem(proxy: &Node) -> String {
    // A host name and a file name may both have 255 bytes, and the file name contains more than the host.
    const HOST_MAX: usize = 180;
    let safe = |letter: char| if letter.is_ascii_alphanumeric() || "-.:_".contains(letter) { letter } else { '%' };
    let host: String = proxy.host.as_str().chars().take(HOST_MAX).map(safe).collect();
    format!("{host}_{}", proxy.port)
}

/// The ProxySQL that a stem names, if that is clear.
fn proxy_of(stem: &str) -> Option<Node> {
    let (host, port) = stem.rsplit_once('_')?;
    Node::new(host, port.parse().ok()?).ok().filter(|node| self::stem(node) == stem)
}

/// Gives a file made by root to the owner of its directory: `suspend` under sudo must not lock the agent out.
fn give_to_owner_of(dir: &Path, file: &File) {
    use std::os::unix::fs::{MetadataExt, fchown};
    let (Ok(dir), Ok(meta)) = (std::fs::metadata(dir), file.metadata()) else { return };
    if (dir.uid(), dir.gid()) != (meta.uid(), meta.gid()) {
        // Only root may change the owner. For other users the file is already theirs.
        let _ = fchown(file, Some(dir.uid()), Some(dir.gid()));
    }
}
