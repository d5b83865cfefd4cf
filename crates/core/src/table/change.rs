//! The change of one record or row. A change that changes nothing cannot be written.

/// The change of one record or row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change<T> {
    /// This record is made.
    Make(T),
    /// The record of one key is replaced.
    Replace {
        /// The record as it was read.
        from: T,
        /// The record afterwards.
        to: T,
    },
    /// This record, as it was read, is deleted.
    Delete(T),
}

impl<T: PartialEq> Change<T> {
    /// The change from one to the other; `None` if they are equal.
    pub fn between(from: Option<T>, to: Option<T>) -> Option<Self> {
        match (from, to) {
            (Some(from), Some(to)) => (from != to).then_some(Self::Replace { from, to }),
            (None, Some(to)) => Some(Self::Make(to)),
            (Some(from), None) => Some(Self::Delete(from)),
            (None, None) => None,
        }
    }
}

impl<T> Change<T> {
    /// The record as it was read; `None` if it is made.
    pub fn from(&self) -> Option<&T> {
        match self {
            Self::Make(_) => None,
            Self::Replace { from, .. } | Self::Delete(from) => Some(from),
        }
    }

    /// The record afterwards; `None` if it is deleted.
    pub fn to(&self) -> Option<&T> {
        match self {
            Self::Make(to) | Self::Replace { to, .. } => Some(to),
            Self::Delete(_) => None,
        }
    }

    /// The record before, or the one that is made. Both have the same key.
    pub fn either(&self) -> &T {
        match self {
            Self::Make(one) | Self::Delete(one) | Self::Replace { from: one, .. } => one,
        }
    }

    /// The opposite change.
    pub fn reversed(self) -> Self {
        match self {
            Self::Make(one) => Self::Delete(one),
            Self::Replace { from, to } => Self::Replace { from: to, to: from },
            Self::Delete(one) => Self::Make(one),
        }
    }
}
