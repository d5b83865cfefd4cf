//! Locks between processes: the kernel drops them when a process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::StateError;

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// A name that only its holder has on this boot of this machine: that of the file, whatever path leads to it.
    pub fn name(&self) -> Option<String> {
        let meta = self.file.metadata().ok()?;
        Some(format!("{}-{}", meta.dev(), meta.ino()))
    }
}

/// Takes a lock, or `None` if another process has it.
pub(super) fn try_lock(path: &Path) -> Result<Option<Lock>, StateError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(StateError::io("open the lock file", path))?;
    super::give_to_owner_of(path.parent().unwrap_or(Path::new(".")), &file);
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock { file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(StateError::io("lock", path)(error)),
    }
}

/// Takes a lock, and waits for it: what it guards takes milliseconds.
pub(super) fn wait_for_lock(path: &Path, longest: Duration) -> Result<Lock, StateError> {
    let begun = Instant::now();
    loop {
        if let Some(lock) = try_lock(path)? {
            return Ok(lock);
        }
        if begun.elapsed() >= longest {
            return Err(StateError::Busy { path: path.to_owned(), seconds: longest.as_secs() });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
