//! The ProxySQL versions that this program was tested with. The README has the same list.

use std::fmt;
use std::str::FromStr;

/// The versions that the tests with real programs ran against.
pub const TRIED: [Version; 1] = [Version { major: 2, minor: 7, patch: 1 }];

/// A ProxySQL version. The text after the third number (a build, a commit) is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The major version.
    pub major: u16,
    /// The minor version.
    pub minor: u16,
    /// The patch version.
    pub patch: u16,
}

impl Version {
    /// Whether exactly this version was tested.
    pub fn is_tried(self) -> bool {
        TRIED.contains(&self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split(['.', '-']).map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Ok(Self { major, minor, patch }),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_of_a_tried_version_is_tried_and_a_neighbour_is_not() {
        assert!("2.7.1-16-g2726c27".parse::<Version>().unwrap().is_tried());
        assert!("2.7.1".parse::<Version>().unwrap().is_tried());
        assert!(!"2.7.2".parse::<Version>().unwrap().is_tried());
        assert!("ProxySQL".parse::<Version>().is_err());
    }

    #[test]
    fn the_readme_lists_the_versions_that_were_tried() {
        let readme = include_str!("../../../../README.md");
        for version in TRIED {
            assert!(readme.contains(&format!("ProxySQL {version}")), "{version}");
        }
    }
}
