//! Errors of the state directory, each with what to do about it.

use std::io;
use std::path::PathBuf;

use stonith_core::node::Node;

/// Why state or orders could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The operating system refused.
    #[error("can't {action} {path}: {source}{}", way_out(source))]
    Io {
        /// The action, such as "read".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Other users could change what the agent relies on.
    #[error("other users can write to the state directory {path} (mode {mode:04o}); do: chmod go-w {path}")]
    OpenToOthers {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The directory's owner could change what the agent relies on.
    #[error(
        "the state directory {path} belongs to user {owner}, but this runs as user {us}; name a directory of your own \
         (run.state_dir, --state-dir), or do: chown {us} {path}"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner's id.
        owner: u32,
        /// The id that this process acts as.
        us: u32,
    },
    /// A newer version wrote the file.
    #[error(
        "{path} was written by a newer version of this program (format {version}); it is left alone. Upgrade, or move it away"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format's version.
        version: u32,
    },
    /// The file is corrupt.
    #[error("{path} makes no sense: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The file belongs to another ProxySQL.
    #[error("{path} belongs to another ProxySQL, {proxy}")]
    OtherProxy {
        /// The file.
        path: PathBuf,
        /// The other ProxySQL.
        proxy: Node,
    },
    /// The file is too large.
    #[error("{path} is larger than {most} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        most: u64,
    },
    /// The file could not be read before, so it is not overwritten.
    #[error("{path} is not written: it could not be read, or a newer version wrote it")]
    LeftAlone {
        /// The file.
        path: PathBuf,
    },
    /// The boot has no id.
    #[error(
        "/proc/sys/kernel/random/boot_id can't be read, so times of this boot and of another cannot be told apart; mount /proc"
    )]
    NoBootId,
    /// Another command holds the lock of the orders.
    #[error("another command has held {path} for {seconds} s; try again")]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long this command waited, s.
        seconds: u64,
    },
}

impl StateError {
    /// Whether the content is wrong, so that setting the file aside helps.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::OtherProxy { .. } | Self::TooLarge { .. })
    }

    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }

    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; it must belong to the user that runs the agent: run this as that user or root, or name another \
             directory (run.state_dir, --state-dir)"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
            "; name another directory (run.state_dir, --state-dir)"
        }
        _ if is_full(error) => "; free some space",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_was_tried_on_what_and_the_way_out() {
        for (errno, says) in
            [(28, "free some space"), (122, "free some space"), (13, "run.state_dir"), (30, "--state-dir"), (5, "")]
        {
            let error = StateError::io("write", "/var/lib/x")(io::Error::from_raw_os_error(errno));
            let text = error.to_string();
            assert!(text.starts_with("can't write /var/lib/x: ") && text.contains(says), "{text}");
            assert_eq!(error.is_disk_full(), says == "free some space");
            assert_eq!(text.contains("free some space"), error.is_disk_full(), "{text}");
        }
    }
}
