//! A fast hash with fixed keys, so that runs are alike.
//!
//! Not for keys that a stranger chooses: ids of threds are derived by a cryptographic hash, and
//! choosing the partition of an event gains nobody anything.

use std::hash::{BuildHasherDefault, Hasher};

pub(crate) type FastHash = BuildHasherDefault<FoldHasher>;

/// Multiplies eight bytes at a time into the state and folds the halves of the product, as wyhash
/// does.
#[derive(Debug, Default)]
pub(crate) struct FoldHasher(u64);

impl FoldHasher {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for FoldHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.fold(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.fold(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_u8(&mut self, byte: u8) {
        self.fold(u64::from(byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, hash::BuildHasher};

    use super::*;

    #[test]
    fn hashes_of_like_texts_differ_in_all_parts() {
        let hash = |text: &str| FastHash::new().hash_one(text);
        let hashes: Vec<_> = (0..4096).map(|number| hash(&format!("thred {number}"))).collect();
        for shift in [0, 20, 40, 52] {
            let parts: HashSet<_> = hashes.iter().map(|hash| hash >> shift & 0xfff).collect();
            // Of 4096 even throws into 4096 bins, 63 % are hit.
            assert!((2400..2800).contains(&parts.len()), "{} bins at {shift}", parts.len());
        }
        assert_ne!(hash("a"), hash("a\0"));
        assert_ne!(hash(""), hash("\0"));
    }
}
