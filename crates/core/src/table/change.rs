//! What becomes of one record or row: it is made, replaced or deleted, and nothing else.

/// What becomes of one thing that a table has, or shall have.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change<T> {
    /// It is made.
    Make(T),
    /// It becomes another.
    Replace {
        /// As it was read.
        from: T,
        /// As it shall be.
        to: T,
    },
    /// It is deleted.
    Delete(T),
}

impl<T: PartialEq> Change<T> {
    /// The change from one to the other; `None` where they are the same.
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
    /// What was read; `None` where it is made.
    pub fn from(&self) -> Option<&T> {
        match self {
            Self::Make(_) => None,
            Self::Replace { from, .. } | Self::Delete(from) => Some(from),
        }
    }

    /// What it shall be; `None` where it is deleted.
    pub fn to(&self) -> Option<&T> {
        match self {
            Self::Make(to) | Self::Replace { to, .. } => Some(to),
            Self::Delete(_) => None,
        }
    }

    /// One of the two. Their keys are the same.
    pub fn either(&self) -> &T {
        match self {
            Self::Make(one) | Self::Delete(one) | Self::Replace { from: one, .. } => one,
        }
    }

    /// The change back.
    pub fn reversed(self) -> Self {
        match self {
            Self::Make(one) => Self::Delete(one),
            Self::Replace { from, to } => Self::Replace { from: to, to: from },
            Self::Delete(one) => Self::Make(one),
        }
    }
}
