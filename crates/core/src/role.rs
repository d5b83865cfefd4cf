//! The role in which a node returns to traffic.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The role in which a node goes back, which chooses its rows (design §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The node gets its reader row, and no writer row.
    Replica,
    /// The node gets its writer row.
    Primary,
    /// The node gets its rows exactly as they were.
    AsBefore,
}

const ROLES: [(Role, &str); 3] =
    [(Role::Replica, "replica"), (Role::Primary, "primary"), (Role::AsBefore, "as before")];

impl Role {
    /// Reads the words that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        ROLES.iter().find(|(_, name)| *name == text).map(|(role, _)| *role)
    }

    /// A stable name for programs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Replica => "replica",
            Self::Primary => "primary",
            Self::AsBefore => "as-before",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ROLES.iter().find(|(role, _)| role == self).map_or("", |(_, name)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back_from_its_words() {
        for (role, words) in ROLES {
            assert_eq!((role.to_string().as_str(), Role::parse(words)), (words, Some(role)));
        }
    }
}
