//! `archive status`: the server's position compared with what the archive holds: lag, gaps, and the command that mends each.
//!
//! [`observe()`] looks, at the server, its `pg_wal` and each repository; [`judge()`] turns what was seen into the report of one repository, purely. Works without a
//! running server, from its control file and `pg_wal` alone, and says what it could not see. Which instants can be reached is not
//! judged here: that is `list`.

mod judge;
#[cfg(test)]
mod judge_tests;
mod observation;
mod observe;
mod report;

pub use judge::judge;
pub use observation::{
    ArchiveView, CommandLine, LocalWal, Observation, ReceiverView, Room, Seen, ServerView, Waiting,
};
pub use observe::{Compared, StatusRequest, observe};
pub use report::{Gap, GapState, Position, PositionSource, Receiver, StatusReport};
