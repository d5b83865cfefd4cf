//! The one way to open files: only regular files, without waiting, checked after opening.
//!
//! Opening a named pipe would hang, and a file that was checked before opening may have been replaced meanwhile. In a
//! directory whose owner is not trusted, symbolic links are refused too.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// The mode bits that let other users change a file.
pub const OTHERS_WRITE: u32 = 0o002;
/// The mode bits that let users outside owner and group read a file, or let users besides the owner change it.
pub const NOT_SECRET: u32 = 0o027;

/// Whether a symbolic link is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Follow links, for files that the operator names.
    Follow,
    /// Refuse links, for directories that another user may own.
    Refuse,
}

/// An open regular file and its mode bits.
#[derive(Debug)]
pub struct Regular {
    file: File,
    /// The permissions of the open file.
    pub mode: u32,
}

/// The error for a file that must be closed to other users and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {path} is open to other users: only its owner may change it, and only owner and group may read it (mode {mode:04o}); \
     do: chmod g-w,o-rwx {path}"
)]
pub struct OpenToOthers {
    /// What the file contains, such as "the private key".
    pub what: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The file's mode.
    pub mode: u32,
}

impl Regular {
    /// Checks that only owner and group can read the file, and only the owner can change it.
    ///
    /// # Errors
    /// Other users can.
    pub fn closed_to_others(self, what: &'static str, path: &Path) -> Result<Self, OpenToOthers> {
        match self.mode & NOT_SECRET {
            0 => Ok(self),
            _ => Err(OpenToOthers { what, path: path.to_owned(), mode: self.mode }),
        }
    }

    /// Opens a file to read it.
    ///
    /// # Errors
    /// The file is absent, not a regular file, or not readable.
    pub fn open(path: &Path, links: Links) -> io::Result<Self> {
        Self::of(OpenOptions::new().read(true), path, links)
    }

    /// Opens a file with these options. `options` must not truncate: the file is checked only after opening.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn of(options: &mut OpenOptions, path: &Path, links: Links) -> io::Result<Self> {
        let no_link = if links == Links::Refuse { OFlags::NOFOLLOW } else { OFlags::empty() };
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY | no_link).bits()).map_err(io::Error::other)?;
        let file = options.custom_flags(flags).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(Self { file, mode: meta.mode() & 0o7777 })
    }

    /// Reads the content. More than `most` bytes are an error of the kind [`io::ErrorKind::FileTooLarge`].
    ///
    /// # Errors
    /// The file can't be read, or is too large.
    pub fn read(self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            let what = format!("it is larger than {most} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
        Ok(bytes)
    }

    /// The open file.
    pub fn into_file(self) -> File {
        self.file
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_pipe_a_device_and_a_directory_are_refused_and_nothing_hangs() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [pipe.as_path(), dir.path(), Path::new("/dev/null"), Path::new("/dev/zero")] {
            let error = Regular::open(path, Links::Follow).unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{}: {error}", path.display());
        }
    }

    #[test]
    fn a_symbolic_link_is_followed_only_where_that_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| dir.path().join(name));
        std::fs::write(&file, "text").unwrap();
        symlink(&file, &link).unwrap();
        assert_eq!(Regular::open(&link, Links::Follow).unwrap().read(4).unwrap(), b"text");
        assert!(Regular::open(&link, Links::Refuse).is_err());
        let error = Regular::open(&file, Links::Refuse).unwrap().read(3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
