//! What an agent keeps between ticks: this host's lock, and the state on disk.

use stonith_core::memory::Memory;

use super::owner_of_process;
use crate::clock::Now;
use crate::config::Mode;
use crate::loopback::host_name;
use crate::state::{Books, Loaded, Lock, State, StateDir, StateError};

/// A holder of the lock without a tick for this long counts as dead, ms. A tick with an apply takes far less.
pub const HEARTBEAT_MAX_MS: u64 = 30_000;

/// An agent counts as running without a break up to this many tick gaps.
const GAPS_RUNNING_ON: u64 = 3;

/// What an agent starts with, or why it does not start.
#[derive(Debug)]
pub enum Start {
    /// The lock is held and the state was read.
    Ready(Box<Kept>),
    /// Another agent works on this ProxySQL.
    Another,
}

/// The lock and the state of one ProxySQL.
#[derive(Debug)]
pub struct Kept {
    pub(super) dir: StateDir,
    pub(super) state: State,
    pub(super) keeps: bool,
    /// What was wrong with the state directory at the start.
    pub(super) unkept: Option<String>,
    pub(super) books: Books,
    lock: Option<Lock>,
}

impl Kept {
    /// Takes the lock and reads the state.
    ///
    /// A problem with the directory is reported and leaves isolation unarmed. Evidence still fences.
    pub fn start(mut dir: StateDir, mode: Mode, tick_ms: u64) -> Start {
        let now = Now::read();
        let mut unkept = None;
        let mut say = |error: &StateError| {
            unkept = Some(format!("{error}. Evidence still fences; isolation is not armed"));
        };
        let lock = match take_lock(&mut dir, &now) {
            Ok(None) => return Start::Another, // none of its files is touched
            Ok(Some(lock)) => dir.try_out().map(|()| lock),
            Err(error) => Err(error),
        };
        let mut keeps = lock.is_ok();
        if let Err(error) = &lock {
            say(error);
        }
        let mut state = match dir.load() {
            Loaded::Kept(state) => *state,
            Loaded::Fresh => State::default(),
            Loaded::Unusable { reason, set_aside } => {
                let aside = set_aside.map_or("it can't be moved aside".to_owned(), |path| format!("moved to {path:?}"));
                tracing::error!(
                    "{reason}; {aside}; starting with an empty state: isolation is not armed until a leader is seen"
                );
                State::default()
            }
            Loaded::Untouchable(error) => {
                say(&error);
                keeps = false;
                State::default()
            }
        };
        state.memory = if state.memory == Memory::default() {
            Memory::first_start(&now.boot_id, now.boot_ms)
        } else {
            state.memory.resume(&now.boot_id, now.boot_ms, tick_ms.saturating_mul(GAPS_RUNNING_ON))
        };
        state.mode = Some(mode);
        if now.boot_id.is_empty() {
            say(&StateError::NoBootId);
            keeps = false;
        }
        if !keeps {
            // A lease that cannot be saved is old at the next start, so one lost poll would isolate (I9).
            state.memory.lease.armed = false;
            state.memory.lease.asked_ms = None;
        }
        let books = Books::open(&dir);
        Start::Ready(Box::new(Self { dir, state, keeps, unkept, books, lock: lock.ok() }))
    }

    /// Whether its files are those of this directory.
    pub fn is_in(&self, dir: &StateDir) -> bool {
        self.dir.is_same(dir)
    }

    /// What was done at the nodes themselves.
    pub fn books(&self) -> Books {
        self.books.clone()
    }

    /// The memory that the agent starts with.
    pub fn memory(&self) -> Memory {
        self.state.memory.clone()
    }

    /// The name for the lock in ProxySQL.
    ///
    /// No other process has this name while this host's lock is held. A lock that an earlier process left in ProxySQL
    /// has the same name, so it is taken over at once, before it expires.
    pub fn owner(&self) -> String {
        match self.lock.as_ref().and_then(|lock| lock.name().ok()) {
            Some(name) => format!("{}:{}:{name}", host_name(), self.state.memory.boot_id),
            None => owner_of_process(),
        }
    }
}

/// The memory for commands, and the mode of the agent that runs here. Nothing is locked, set aside or written.
///
/// `tick_ms` returns the largest gap between two ticks in a mode, ms.
pub fn peeked_memory(
    dir: &StateDir,
    tick_ms: impl Fn(Option<Mode>) -> u64,
) -> Result<(Memory, Option<Mode>), StateError> {
    let now = Now::read();
    Ok(match dir.peek()? {
        Some(state) => {
            let gap_ms = tick_ms(state.mode).saturating_mul(GAPS_RUNNING_ON);
            (state.memory.resume(&now.boot_id, now.boot_ms, gap_ms), state.mode)
        }
        None => (Memory::first_start(&now.boot_id, now.boot_ms), None),
    })
}

/// Takes the lock, or the takeover lock if the holder is dead. `None` if another agent works.
fn take_lock(dir: &mut StateDir, now: &Now) -> Result<Option<Lock>, StateError> {
    if let Some(lock) = dir.try_lock(now.boot_ms)? {
        return Ok(Some(lock));
    }
    if !is_dead(dir, now) {
        return Ok(None);
    }
    let lock = dir.try_take_over()?;
    if lock.is_some() {
        tracing::error!("the agent that holds the lock has not ticked for 30 s; taking over its work");
    }
    Ok(lock)
}

/// Whether the holder of the lock has shown no sign of life for [`HEARTBEAT_MAX_MS`]: it is stopped or hangs.
fn is_dead(dir: &StateDir, now: &Now) -> bool {
    dir.last_alive_ms(&now.boot_id).is_some_and(|alive_ms| now.boot_ms.saturating_sub(alive_ms) > HEARTBEAT_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i12_the_name_in_proxysql_goes_from_holder_to_holder_of_one_lock_and_no_other_agent_has_it() {
        let root = tempfile::tempdir().unwrap();
        let owner = |name: &str| {
            let dir = StateDir::new(&root.path().join(name), &"127.0.0.1:6032".parse().unwrap());
            let Start::Ready(kept) = Kept::start(dir, Mode::Once, 1_000) else { panic!("another is at work") };
            kept.owner()
        };
        let (one, other) = (owner("one"), owner("other"));
        assert_eq!(one, owner("one"), "the next process takes over what this one left");
        assert_ne!(one, other);
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert!(one.starts_with(&format!("{}:", host.trim_end())), "{one}");
    }

    #[test]
    fn i12_the_holder_of_the_lock_is_dead_after_30_s_without_a_sign_of_life_and_no_sooner() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(&root.path().join("state"), &"127.0.0.1:6032".parse().unwrap());
        let now = |boot_ms| Now { boot_id: "boot".to_owned(), boot_ms, wall_s: 0 };
        assert!(!is_dead(&dir, &now(u64::MAX)), "nobody has ever held it");
        drop(dir.try_lock(1_000).unwrap());
        assert!(!is_dead(&dir, &now(31_000)));
        assert!(is_dead(&dir, &now(31_001)));
        assert!(!is_dead(&dir, &now(0)), "another boot's clock");
    }

    #[test]
    fn a_start_that_comes_two_intervals_late_runs_on_and_one_that_comes_four_late_begins_anew() {
        let root = tempfile::tempdir().unwrap();
        let dir = || StateDir::new(root.path(), &"127.0.0.1:6032".parse().unwrap());
        let watching_since_s = |ago_ms: u64| {
            let now = Now::read();
            let mut memory = Memory::first_start(&now.boot_id, now.boot_ms - ago_ms);
            (memory.watching_since_s, memory.lease.last_tick_ms) = (Some(1), now.boot_ms - ago_ms);
            dir().save(&State { memory, ..State::default() }).unwrap();
            let Start::Ready(kept) = Kept::start(dir(), Mode::Once, 5_000) else { panic!("another is at work") };
            kept.memory().watching_since_s
        };
        assert_eq!(watching_since_s(10_000), Some(1));
        assert_eq!(watching_since_s(20_000), None);
    }
}
