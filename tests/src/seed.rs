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
