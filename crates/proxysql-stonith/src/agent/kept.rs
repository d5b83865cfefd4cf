//! What an agent keeps between ticks: this host's lock, and the state on disk.

use stonith_core::memory::Memory;

use super::{host_name, owner_of_process};
use crate::clock::Now;
use crate::config::Mode;
use crate::state::{Loaded, Lock, State, StateDir, StateError};

/// Without a tick for so long the holder of the lock is taken for dead, in ms: far longer than a tick with an apply.
pub const HEARTBEAT_MAX_MS: u64 = 30_000;

/// So many gaps between ticks still count as running on.
const GAPS_RUNNING_ON: u64 = 3;

/// What keeps an agent from starting, or what it starts with.
#[derive(Debug)]
pub enum Start {
    /// Go on from here.
    Ready(Box<Kept>),
    /// Another agent is at work on this ProxySQL.
    Another,
}

/// What was found in the state directory.
#[derive(Debug)]
pub struct Kept {
    pub(super) dir: StateDir,
    pub(super) state: State,
    pub(super) keeps: bool,
    /// What is wrong with the state directory, from the start on.
    pub(super) unkept: Option<String>,
    lock: Option<Lock>,
}

impl Kept {
    /// Takes the lock and reads the state. What is wrong with the directory does not keep evidence from fencing:
    /// it is said, and isolation stays unarmed.
    pub fn start(mut dir: StateDir, mode: Mode, tick_ms: u64) -> Start {
        let now = Now::read();
        let mut unkept = None;
        let mut say = |error: &StateError| {
            unkept = Some(format!("{error}. Evidence fences all the same; isolation is not armed"));
        };
        let lock = match take_lock(&mut dir, &now) {
            Ok(None) => return Start::Another, // and not one file of it is touched
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
                let aside = set_aside.map_or("it can't be moved away".to_owned(), |path| format!("moved to {path:?}"));
                tracing::error!("{reason}; {aside}; starting afresh: isolation is not armed until a leader is seen");
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
            // A lease that can't be kept is always old at the next start: one lost poll would isolate (I9).
            state.memory.lease.armed = false;
            state.memory.lease.asked_ms = None;
        }
        Start::Ready(Box::new(Self { dir, state, keeps, unkept, lock: lock.ok() }))
    }

    /// The memory to start an agent with.
    pub fn memory(&self) -> Memory {
        self.state.memory.clone()
    }

    /// The name to hold the lock in ProxySQL under. While this host's lock is ours no other process has it, so what an
    /// earlier one left of its work is taken over at once instead of when its time is over.
    pub fn owner(&self) -> String {
        match self.lock.as_ref().and_then(|lock| lock.name().ok()) {
            Some(name) => format!("{}:{}:{name}", host_name(), self.state.memory.boot_id),
            None => owner_of_process(),
        }
    }
}

/// The memory that commands look with: nothing is locked, set aside or written. `tick_ms` says how far apart the ticks
/// of a mode are; the mode is the one that the agent here runs in.
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

/// The lock, or that of one who does a dead holder's work. `None`: another agent is at work.
fn take_lock(dir: &mut StateDir, now: &Now) -> Result<Option<Lock>, StateError> {
    if let Some(lock) = dir.try_lock(now.boot_ms)? {
        return Ok(Some(lock));
    }
    if !is_dead(dir, now) {
        return Ok(None);
    }
    let lock = dir.try_take_over()?;
    if lock.is_some() {
        tracing::error!("the agent that holds the lock has not ticked for 30 s: doing its work");
    }
    Ok(lock)
}

/// Whether the holder of the lock has shown no sign of life for too long: stopped, or hanging.
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
}
