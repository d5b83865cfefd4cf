//! Bounded lists in texts for people.

use std::fmt::Display;

/// The first `most` items with commas between, and the number of the others. `count` is the number of all.
pub fn first_few<T: Display>(items: impl IntoIterator<Item = T>, count: usize, most: usize) -> String {
    let mut listed: Vec<String> = items.into_iter().take(most).map(|item| item.to_string()).collect();
    let more = count - listed.len();
    listed.extend((more > 0).then(|| format!("... and {more} more")));
    listed.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_counted() {
        assert_eq!(first_few([1, 2], 2, 2), "1, 2");
        assert_eq!(first_few([1, 2, 3], 3, 2), "1, 2, ... and 1 more");
        assert_eq!(first_few([0_u8; 0], 0, 2), "");
    }
}
