//! Where randomness comes from: one number, printed, so that any run can be had again.

use proptest::test_runner::{Config, RngSeed};

/// The seed of this run: `THRED_SEED`, or always the same one.
///
/// # Panics
/// When `THRED_SEED` is no number.
pub fn seed() -> u64 {
    match std::env::var("THRED_SEED") {
        Ok(text) => text.parse().expect("THRED_SEED is a whole number"),
        Err(_) => 1,
    }
}

/// So many random cases, times `THRED_CASES` if that is set. Shown when a test fails: the seed.
///
/// # Panics
/// When `THRED_CASES` is no number.
pub fn cases(count: u32) -> Config {
    let factor = std::env::var("THRED_CASES")
        .map_or(1, |text| text.parse().expect("THRED_CASES is a whole number"));
    let seed = seed();
    println!("THRED_SEED={seed}");
    Config {
        cases: count.saturating_mul(factor),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 500,
        ..Config::default()
    }
}

/// Random numbers that follow from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to below `end`, which is at least 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }

    /// One of so many.
    pub fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap_or(0)
    }

    /// Brings a list into any order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for place in (1..list.len()).rev() {
            list.swap(place, self.pick(place + 1));
        }
    }
}
