//! Equal values of many loops, kept in memory once.
//!
//! A hundred ProxySQLs often have the same rows. This shares memory only: each loop still reads and checks by itself.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError, Weak};

use stonith_core::shared::Shared;

/// The values that are in use, by their hash. The pool itself keeps none alive.
pub struct Pool<T> {
    in_use: Mutex<BTreeMap<u64, Vec<Weak<T>>>>,
}

impl<T: Eq + Hash> Pool<T> {
    /// A pool without values.
    pub const fn empty() -> Self {
        Self { in_use: Mutex::new(BTreeMap::new()) }
    }

    /// The same value, in the memory of an equal one if there is one.
    pub fn shared(&self, value: Shared<T>) -> Shared<T> {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|_, same_hash| {
            same_hash.retain(|kept| kept.strong_count() > 0);
            !same_hash.is_empty()
        });
        let same_hash = in_use.entry(hasher.finish()).or_default();
        match same_hash.iter().filter_map(Weak::upgrade).find(|kept| **kept == *value) {
            Some(kept) => kept.into(),
            None => {
                same_hash.push(std::sync::Arc::downgrade(value.arc()));
                value
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn equal_values_share_memory_until_nobody_has_them() {
        let pool = Pool::empty();
        let [one, other, third] = [1, 1, 3].map(|n| pool.shared(Shared::from(vec![n])));
        assert!(Arc::ptr_eq(one.arc(), other.arc()) && !Arc::ptr_eq(one.arc(), third.arc()));
        drop((one, other));
        assert_eq!(*pool.shared(vec![1].into()), vec![1]);
        assert_eq!(pool.in_use.lock().unwrap().len(), 2);
    }
}
