//! ProxySQL versions: those that this program was tried with, and what no probe can tell.

use std::fmt;
use std::str::FromStr;

/// The versions that the tests with real programs ran against, in order. The README has the same list.
pub const TRIED: [Version; 4] =
    [Version::new(2, 5, 5), Version::new(2, 6, 6), Version::new(2, 7, 1), Version::new(3, 0, 1)];

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
    /// A version by its three numbers.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// Whether it is above every version that was tried.
    pub fn is_ahead(self) -> bool {
        TRIED.iter().all(|tried| self > *tried)
    }

    /// Whether it can crash when its monitor moves a server whose ghost still has connections (facts §12).
    pub fn crashes(self) -> bool {
        (Self::new(2, 5, 2)..Self::new(2, 5, 4)).contains(&self)
    }

    /// Whether its monitor writes memory and LOADs, where later ones change runtime only (facts §12).
    pub fn monitor_writes_memory(self) -> bool {
        self < Self::new(2, 5, 2)
    }

    /// Whether `PROXYSQL PAUSE` takes several seconds: it also stops PostgreSQL's listeners (facts §6).
    pub fn pauses_slowly(self) -> bool {
        self >= Self::new(3, 0, 0)
    }

    /// Whether `PROXYSQL RESUME` may hang (facts §6). An early 3.0.0 is older than 2.7.2.
    pub fn resume_may_hang(self) -> bool {
        self < Self::new(2, 7, 2) || self == Self::new(3, 0, 0)
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

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn what_follows_the_three_numbers_is_ignored() {
        assert_eq!(version("2.7.1-16-g2726c27"), Version::new(2, 7, 1));
        assert_eq!(version("2.7.1"), Version::new(2, 7, 1));
        for text in ["ProxySQL", "", "2.7", "2.7.x", "2..1"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_versions_that_no_probe_can_tell_are_told_by_their_number() {
        let told = |of: fn(Version) -> bool| {
            let all = ["2.4.8", "2.5.0", "2.5.1", "2.5.2", "2.5.3", "2.5.4", "2.5.5", "2.6.0", "2.7.1", "3.0.1"];
            all.into_iter().filter(|text| of(version(text))).collect::<Vec<_>>()
        };
        assert_eq!(told(Version::crashes), ["2.5.2", "2.5.3"]);
        assert_eq!(told(Version::monitor_writes_memory), ["2.4.8", "2.5.0", "2.5.1"]);
    }

    #[test]
    fn only_a_version_above_every_tried_one_is_ahead() {
        assert!(TRIED.is_sorted());
        let highest = TRIED[TRIED.len() - 1];
        assert!(!highest.is_ahead() && !version("2.5.5").is_ahead());
        assert!(Version { patch: highest.patch + 1, ..highest }.is_ahead());
    }

    #[test]
    fn resume_may_hang_before_2_7_2_and_in_the_alpha_of_3_0() {
        let may_hang = |text: &str| text.parse::<Version>().unwrap().resume_may_hang();
        assert!(["2.4.8", "2.7.1-16-g2726c27", "3.0.0-alpha"].into_iter().all(may_hang));
        assert!(!["2.7.2", "2.7.3", "3.0.1"].into_iter().any(may_hang));
    }

    #[test]
    fn a_pause_is_slow_from_3_0_on() {
        let is_slow = |text: &str| text.parse::<Version>().unwrap().pauses_slowly();
        assert!(["3.0.0-alpha", "3.0.1", "3.1.0"].into_iter().all(is_slow));
        assert!(!["2.5.5", "2.7.3"].into_iter().any(is_slow));
    }

    #[test]
    fn the_readme_lists_the_versions_that_were_tried() {
        let readme = include_str!("../../../../README.md");
        for version in TRIED {
            assert!(readme.contains(&version.to_string()), "{version}");
        }
    }
}
