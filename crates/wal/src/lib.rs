//! Keep every change: what `archive_command` and `restore_command` call.
//!
//! Promises that [`push()`] succeeds only when the file is durable in the repository, and that [`get()`] calls a file absent only when
//! every repository proved it; that [`receive`] acknowledges only what is durable, and that [`resident`] answers for a file only when it is. How a segment is stored is `pgproof-repo`'s business; what the archive lacks is judged in [`status`].

mod cluster;
mod error;
mod get;
mod prefetch;
mod push;
pub mod receive;
mod repositories;
pub mod resident;
mod sources;
mod spool;
pub mod status;

pub use error::WalError;
pub use get::{Ahead, EXIT_UNKNOWN, GetOutcome, GetRequest, get};
pub use prefetch::{PrefetchRequest, is_recovering, prefetch};
pub use push::{PushOutcome, PushReport, PushRequest, Pushed, PushedTo, push, push_to_each};
pub use repositories::{NamedRepository, OPTIONAL_LIMIT};
