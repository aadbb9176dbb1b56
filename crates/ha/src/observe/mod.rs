//! What is seen of this node's server: by asking it, and in its files.

mod effect;
mod server;
mod wal;

pub use effect::Effect;
pub use server::{Answer, Probed, Prober, Sender, slot_of};
pub use wal::{EndOfWal, end_of_wal};
