//! What is seen of this node's server without asking it.

mod wal;

pub use wal::{EndOfWal, end_of_wal};
