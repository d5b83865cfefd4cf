//! Why a ProxySQL could not be read.

use stonith_core::node::Node;
use stonith_core::table::Unreadable;

use super::admin::AdminError;

/// Why a ProxySQL could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The admin connection failed.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The server table is not understood.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The user is one of `admin-stats_credentials`.
    #[error(
        "ProxySQL at {address} shows only its statistics to this user: use one of admin-admin_credentials, not of \
         admin-stats_credentials"
    )]
    StatsOnly {
        /// The admin interface.
        address: Node,
    },
    /// A table or a column that every look needs is missing. One sentence for each.
    #[error("{0}")]
    Unfit(String),
    /// Another answer is not understood, so everything is held (I1).
    #[error("ProxySQL answered {statement:?} with {what}, which this version does not understand")]
    NotUnderstood {
        /// The statement.
        statement: String,
        /// The answer.
        what: String,
    },
}
