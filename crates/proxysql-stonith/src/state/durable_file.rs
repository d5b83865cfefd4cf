//! Files that are whole or absent, even after a power cut.
//!
//! A file is written under a temporary name, synced and renamed, and the directory is synced. The caller holds a lock,
//! so there is one writer at a time. The temporary name is always the same, and the next write replaces what a killed
//! writer left.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::StateError;
use crate::files::{Links, Regular};

/// The suffix of a file while it is written. Two simultaneous writers must not share one.
pub(super) const BESIDE: &str = ".new";

/// The suffix for an agent that does a dead agent's work.
pub(super) const BESIDE_OF_TAKEOVER: &str = ".takeover";

/// The number of corrupt files that are kept to look at. After that, the last one is replaced.
const SET_ASIDE_MAX: u32 = 9;

/// Makes a directory that only this user can enter. An existing one must not be writable by other users.
pub(super) fn make_dir(dir: &Path) -> Result<(), StateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(StateError::io("make the state directory", dir))?;
    let meta = std::fs::metadata(dir).map_err(StateError::io("look at", dir))?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(StateError::OpenToOthers { path: dir.to_owned(), mode });
    }
    not_foreign(dir, meta.uid(), rustix::process::geteuid().as_raw())
}

/// Checks that the directory belongs to this user. Root may use any user's directory, as `suspend` under sudo does.
fn not_foreign(dir: &Path, owner: u32, us: u32) -> Result<(), StateError> {
    match us == 0 || us == owner {
        true => Ok(()),
        false => Err(StateError::Foreign { path: dir.to_owned(), owner, us }),
    }
}

/// Reads a file that may be absent.
pub(super) fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, StateError> {
    let read = Regular::open(path, Links::Refuse).and_then(|file| file.read(most));
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Err(StateError::TooLarge { path: path.to_owned(), most })
        }
        Err(error) => Err(StateError::io("read", path)(error)),
    }
}

/// Replaces a whole file durably.
pub(super) fn write(path: &Path, beside: &str, bytes: &[u8]) -> Result<(), StateError> {
    let beside = with_ending(path, beside);
    let written = create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| given_up(&beside, path, error))?;
    std::fs::rename(&beside, path).map_err(StateError::io("replace", path))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StateError::io("sync", dir))
}

/// Replaces a whole file as other processes see it. A crash of the host may lose the change.
///
/// The file changes places with the one beside it, which the next write overwrites. A rename would remove the old file and
/// make ext4 send the new one to the disk at once, for five times the CPU.
pub(super) fn write_unsynced(path: &Path, beside: &str, bytes: &[u8]) -> Result<(), StateError> {
    let beside = with_ending(path, beside);
    let written = overwrite(&beside, bytes).or_else(|_| create(&beside)?.write_all(bytes));
    written.map_err(|error| given_up(&beside, path, error))?;
    // There is no file yet, or the file system can't exchange two.
    let exchanged = renameat_with(CWD, &beside, CWD, path, RenameFlags::EXCHANGE);
    exchanged.or_else(|_| std::fs::rename(&beside, path)).map_err(StateError::io("replace", path))
}

/// Overwrites a file that exists. One with a second name may be another's, planted there.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = Regular::of(OpenOptions::new().write(true), path, Links::Refuse)?.into_file();
    let meta = file.metadata()?;
    if meta.nlink() != 1 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    file.write_all_at(bytes, 0)?;
    let size = bytes.len() as u64;
    if meta.len() == size { Ok(()) } else { file.set_len(size) }
}

/// Removes what was written of a file.
fn given_up(beside: &Path, path: &Path, error: io::Error) -> StateError {
    let _ = std::fs::remove_file(beside);
    StateError::io("write", path)(error)
}

/// Tries whether [`write`] of this many bytes would succeed, without syncing.
pub(super) fn try_out(path: &Path, beside: &str, bytes: usize) -> Result<(), StateError> {
    let beside = with_ending(path, beside);
    let written = create(&beside).and_then(|mut file| file.write_all(&vec![b' '; bytes]));
    let removed = std::fs::remove_file(&beside);
    written.and(removed).map_err(StateError::io("write", path))
}

/// Moves a file aside, to `.bad-1`, `.bad-2` and so on.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StateError> {
    let name = |n: u32| with_ending(path, &format!(".bad-{n}"));
    let free = (1..SET_ASIDE_MAX).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(SET_ASIDE_MAX));
    std::fs::rename(path, &free).map_err(StateError::io("set aside", path))?;
    Ok(free)
}

fn create(path: &Path) -> io::Result<File> {
    // `create_new` does not follow a link that another user planted.
    let new = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = match new() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            new()?
        }
        done => done?,
    };
    super::give_to_owner_of(path.parent().unwrap_or(Path::new(".")), &file);
    Ok(file)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_another_user_is_refused_by_all_but_root() {
        let dir = Path::new("/var/lib/x");
        for (owner, us, is_ours) in
            [(0, 0, true), (108, 0, true), (108, 108, true), (0, 108, false), (1000, 108, false)]
        {
            assert_eq!(not_foreign(dir, owner, us).is_ok(), is_ours, "{us} in the directory of {owner}");
        }
        let problem = not_foreign(dir, 0, 108).unwrap_err().to_string();
        assert!(problem.contains("chown 108 /var/lib/x"), "{problem}");
    }
}
