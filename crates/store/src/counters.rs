//! What a store was really asked for, so that "one ranged request" is a measurement and not a hope.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests and bytes since the store was opened. For S3 each HTTP request counts, retries included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Reads of whole objects, ranges and tails, and look-ups of their metadata.
    pub gets: u64,
    /// Objects or parts written.
    pub puts: u64,
    /// Listings (for S3: pages of listings).
    pub lists: u64,
    /// Removals.
    pub deletes: u64,
    /// Bytes of objects received.
    pub bytes_read: u64,
    /// Bytes of objects sent.
    pub bytes_written: u64,
}

/// The running totals behind [`Counters`].
#[derive(Debug, Default)]
pub(crate) struct Meter {
    gets: AtomicU64,
    puts: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

// Totals only: no other memory is ordered by these counters, so relaxed is enough.
impl Meter {
    pub(crate) fn get(&self) {
        self.gets.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn put(&self) {
        self.puts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn wrote(&self, bytes: usize) {
        self.bytes_written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn list(&self) {
        self.lists.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn delete(&self) {
        self.deletes.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Counters {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            gets: value(&self.gets),
            puts: value(&self.puts),
            lists: value(&self.lists),
            deletes: value(&self.deletes),
            bytes_read: value(&self.bytes_read),
            bytes_written: value(&self.bytes_written),
        }
    }
}
