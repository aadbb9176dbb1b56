//! The few words that every capability of pgproof shares.
//!
//! Promises plain data only: what was found and what mends it ([`Finding`], [`Remedy`]), how long work reports on itself
//! ([`Progress`]), and how byte counts, durations and command lines read. No I/O, no clock: time is always an argument.
//! PostgreSQL's own words live in `pgproof-pg`.

mod bytes;
mod finding;
mod progress;
mod shell;

pub use bytes::{Bytes, ParseBytesError, human_duration};
pub use finding::{Finding, Remedy, RiskClass, Severity};
pub use progress::{NoProgress, Progress, Stage};
pub use shell::shell_word;
