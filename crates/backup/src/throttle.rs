//! Keeps all workers together below so many bytes read a second, so that a backup leaves the disks to the server.
//!
//! What is counted are the bytes of data files; the few that a backup reads besides are not held up. Each read pays before it happens with
//! its own time at that rate, and time that nobody used is lost: what waits behind a burst is other people's queries.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Shared by all workers.
#[derive(Debug)]
pub(crate) struct Throttle {
    bytes_per_s: Option<NonZeroU64>,
    /// From when on the next read may begin.
    free: Mutex<Instant>,
}

impl Throttle {
    pub(crate) fn new(bytes_per_s: Option<NonZeroU64>) -> Self {
        Self { bytes_per_s, free: Mutex::new(Instant::now()) }
    }

    /// Returns when so many bytes may be read.
    pub(crate) fn pass(&self, bytes: usize) {
        let Some(bytes_per_s) = self.bytes_per_s else { return };
        let now = Instant::now();
        let begins = {
            // An instant is whole whatever happened to who held it.
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let (begins, next_free) = turn(*free, now, bytes, bytes_per_s);
            *free = next_free;
            begins
        };
        thread::sleep(begins.saturating_duration_since(now));
    }
}

/// When a read may begin, and from when on the next one may.
fn turn(free: Instant, now: Instant, bytes: usize, bytes_per_s: NonZeroU64) -> (Instant, Instant) {
    let begins = free.max(now);
    let nanoseconds = bytes as u128 * 1_000_000_000 / u128::from(bytes_per_s.get());
    (begins, begins + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEGABYTE: NonZeroU64 = NonZeroU64::new(1_000_000).unwrap();

    #[test]
    fn reads_take_turns_at_the_rate_and_unused_time_is_not_saved_up() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let (begins, free) = turn(start, start, 100_000, MEGABYTE);
        assert_eq!((begins, free), (start, after(100)));
        let (begins, free) = turn(free, after(1), 100_000, MEGABYTE);
        assert_eq!((begins, free), (after(100), after(200)), "two at once take turns");
        let (begins, free) = turn(free, after(5000), 100_000, MEGABYTE);
        assert_eq!((begins, free), (after(5000), after(5100)));
    }

    #[test]
    fn several_threads_together_keep_the_rate() {
        let throttle = Throttle::new(Some(MEGABYTE));
        let began = Instant::now();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5).for_each(|_| throttle.pass(10_000)));
            }
        });
        // The first of twenty reads of 10 ms each begins at once.
        assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
        let began = Instant::now();
        let unbound = Throttle::new(None);
        (0..1000).for_each(|_| unbound.pass(usize::MAX));
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}
