//! Randomness that can be replayed. A failing test prints its seed; `PGPROOF_SEED=<seed>` runs it again.

use rand::{SeedableRng, rngs::StdRng};
use std::{env, thread};

/// The seed of one test. When the test panics, dropping it prints how to replay.
#[derive(Debug)]
pub struct Seed {
    value: u64,
}

impl Seed {
    /// The seed in `PGPROOF_SEED`, else a new one.
    ///
    /// # Panics
    /// Panics when `PGPROOF_SEED` is not a whole number: replaying another seed than asked for would mislead.
    #[must_use]
    pub fn from_environment() -> Self {
        let value = match env::var("PGPROOF_SEED") {
            Ok(text) => {
                text.trim().parse().unwrap_or_else(|_| panic!("PGPROOF_SEED=`{text}` is not a number"))
            }
            Err(_) => rand::random(),
        };
        Self { value }
    }

    /// This seed, for a failure kept as a regression test.
    #[must_use]
    pub fn fixed(value: u64) -> Self {
        Self { value }
    }

    /// The number itself.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value
    }

    /// A generator that begins at this seed. `stream` separates generators of one test, so that adding a draw to one
    /// does not move the others.
    #[must_use]
    pub fn rng(&self, stream: u64) -> StdRng {
        // The odd constant is 2^64 / golden ratio: neighbouring streams begin far apart.
        StdRng::seed_from_u64(self.value ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

impl Drop for Seed {
    #[expect(clippy::print_stderr, reason = "the seed has to reach the person who reads the failure")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("this failure replays with PGPROOF_SEED={}", self.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn one_seed_draws_the_same_and_streams_differ() {
        let seed = Seed::fixed(7);
        assert_eq!(seed.rng(1).random::<u64>(), seed.rng(1).random::<u64>());
        assert_ne!(seed.rng(1).random::<u64>(), seed.rng(2).random::<u64>());
    }
}
