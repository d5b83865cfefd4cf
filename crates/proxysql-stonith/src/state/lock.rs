//! Locks between processes. The kernel releases them when a process ends for any reason.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::StateError;
use crate::files::{Links, Regular};

/// The length of a number in a lock file: 64 bits in hex. The first number is a name, the second when it was taken.
const NUMBER_BYTES: usize = 16;

/// A lock that is held until dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// The name of whichever process holds this lock. It is made once, and read from then on.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn name(&self) -> std::io::Result<String> {
        let name = match number_at(&self.file, 0)? {
            Some(name) => name,
            None => {
                let name = fastrand::u64(..);
                self.file.write_all_at(hex(name).as_bytes(), 0)?;
                name
            }
        };
        Ok(hex(name))
    }

    /// Notes when the lock was taken, ms of the boot clock.
    pub(super) fn note_taken(&self, boot_ms: u64) -> std::io::Result<()> {
        self.name()?;
        self.file.write_all_at(hex(boot_ms).as_bytes(), NUMBER_BYTES as u64)
    }
}

/// When the lock was last taken, ms of that boot's clock; `None` if it was not noted.
pub(super) fn taken_ms(path: &Path) -> Option<u64> {
    number_at(&Regular::open(path, Links::Refuse).ok()?.into_file(), NUMBER_BYTES as u64).ok()?
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

fn number_at(file: &File, offset: u64) -> std::io::Result<Option<u64>> {
    let mut digits = [0; NUMBER_BYTES];
    let read = file.read_at(&mut digits, offset)?;
    let text = std::str::from_utf8(&digits[..read]).unwrap_or_default();
    Ok(if read == NUMBER_BYTES { u64::from_str_radix(text, 16).ok() } else { None })
}

/// Takes a lock; `None` if another process has it.
pub(super) fn try_lock(path: &Path) -> Result<Option<Lock>, StateError> {
    let file = open(path).map_err(StateError::io("open the lock file", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock { file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(StateError::io("lock", path)(error)),
    }
}

/// Opens the lock file, or makes it.
///
/// Only a file that was just made is given to the directory's owner: an existing one may have been planted for that.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match Regular::of(options.clone().create_new(true), path, Links::Refuse) {
        Ok(made) => {
            let file = made.into_file();
            super::give_to_owner_of(path.parent().unwrap_or(Path::new(".")), &file);
            Ok(file)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Ok(Regular::of(&mut options, path, Links::Refuse)?.into_file())
        }
        Err(error) => Err(error),
    }
}

/// Waits for a lock and takes it. The guarded work takes milliseconds.
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
