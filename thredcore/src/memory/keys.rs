//! Tables by keys that are hashes already, and small sorted sets.

use std::{
    collections::BTreeSet,
    hash::{BuildHasherDefault, Hasher},
    mem,
    ops::Bound::{Excluded, Unbounded},
};

/// For the keys of events and of waiting threds: of a cryptographic hash any part will do.
pub(super) type KeyHash = BuildHasherDefault<KeyHasher>;

/// Takes the first eight bytes that it is given.
#[derive(Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A sorted set that is not empty; with one element, as nearly all are, it is just that.
#[derive(Debug)]
pub(super) enum Sorted<T> {
    One(T),
    #[expect(
        clippy::box_collection,
        reason = "one word, for the sake of the many sets of one element"
    )]
    Many(Box<BTreeSet<T>>),
}

impl<T: Ord> Sorted<T> {
    pub(super) fn insert(&mut self, element: T) {
        match self {
            Self::One(one) if *one == element => {}
            Self::One(_) => {
                let old = mem::replace(self, Self::Many(Box::new(BTreeSet::from([element]))));
                if let (Self::Many(set), Self::One(one)) = (self, old) {
                    set.insert(one);
                }
            }
            Self::Many(set) => _ = set.insert(element),
        }
    }

    /// Removes an element; whether it was the last one, so that the set has to go.
    pub(super) fn remove(&mut self, element: &T) -> bool {
        match self {
            Self::One(one) => one == element,
            Self::Many(set) => {
                set.remove(element);
                if set.len() == 1
                    && let Some(one) = set.pop_first()
                {
                    *self = Self::One(one);
                }
                false
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(set) => set.len(),
        }
    }

    /// The elements after one of them, in order.
    pub(super) fn after<'s>(&'s self, after: Option<&'s T>) -> impl Iterator<Item = &'s T> {
        let (one, many) = match self {
            Self::One(one) => {
                (Some(one).filter(|one| after.is_none_or(|after| *one > after)), None)
            }
            Self::Many(set) => {
                (None, Some(set.range((after.map_or(Unbounded, Excluded), Unbounded))))
            }
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sorted_set_grows_and_shrinks() {
        let mut set = Sorted::One(3);
        [1, 3, 2, 2].into_iter().for_each(|number| set.insert(number));
        assert_eq!(set.after(None).copied().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(set.after(Some(&1)).copied().collect::<Vec<_>>(), [2, 3]);
        assert!(![1, 9, 2].iter().any(|number| set.remove(number)));
        assert!(matches!(set, Sorted::One(3)));
        assert_eq!((set.after(Some(&2)).count(), set.after(Some(&3)).count()), (1, 0));
        assert!(!set.remove(&2) && set.remove(&3));
    }
}
