//! ProxySQL's tables: server rows, the marker in a row's comment, and whole tables as records.

mod change;
mod content;
mod defaults;
mod hostgroup;
mod marker;
mod row;

pub use change::Change;
pub use content::{COVERED, Content, Record, SCHEDULER, SERVERS, Table, Unreadable};
pub use defaults::is_at_defaults;
pub use hostgroup::{CheckType, Hostgroup, Pair};
pub use marker::{Comment, Marker, mark, unmarked};
pub use row::{Hostname, Layer, Row, RowKey, Status};

#[cfg(test)]
pub(crate) use content::shown;
