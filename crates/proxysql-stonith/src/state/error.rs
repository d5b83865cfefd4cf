//! What can go wrong with the state directory, each with what to do about it.

use std::io;
use std::path::PathBuf;

use stonith_core::node::Node;

/// Why something could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system refused.
    #[error("can't {action} {path}: {source}{}", way_out(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// Others could change what the agent relies on.
    #[error("other users can write to the state directory {path} (mode {mode:04o}); do: chmod go-w {path}")]
    OpenToOthers {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Its owner could change what the agent relies on.
    #[error(
        "the state directory {path} belongs to user {owner}, and this runs as user {us}: name a directory of your own \
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
    /// A newer version wrote it.
    #[error(
        "{path} was written by a newer version of this program (format {version}); it is left alone. Upgrade, or move it away"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format's version.
        version: u32,
    },
    /// It is no such file.
    #[error("{path} makes no sense: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It was made for another ProxySQL.
    #[error("{path} is that of another ProxySQL, {proxy}")]
    OtherProxy {
        /// The file.
        path: PathBuf,
        /// Which.
        proxy: Node,
    },
    /// It is too large to be right.
    #[error("{path} is larger than {most} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        most: u64,
    },
    /// It could not be read before, so it is not overwritten.
    #[error("{path} is not written: it could not be read, or is that of a newer version")]
    LeftAlone {
        /// The file.
        path: PathBuf,
    },
    /// Nothing names this boot.
    #[error(
        "/proc/sys/kernel/random/boot_id can't be read: nothing tells this boot's times from another's; mount /proc"
    )]
    NoBootId,
    /// Another command holds the orders.
    #[error("another command has held {path} for {seconds} s; try again")]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
}

impl StateError {
    /// Whether the content is wrong, so that setting it aside helps.
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
