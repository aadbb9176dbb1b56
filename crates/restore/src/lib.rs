//! Bring an instant back.
//!
//! Promises: a restore ends with a data directory that recovers to exactly the target asked for, or with an error and a directory
//! that PostgreSQL refuses to start; targets that cannot be reached are refused before anything is written; nothing of the
//! backup is believed that its seal does not prove; nothing leaves the directories that were named.
//!
//! [`observe`] looks (repository, target directory, disk), [`plan`] decides (pure), [`run`] acts. Settings of recovery are in
//! [`settings`], for callers that recover elsewhere.

pub mod choose;
pub mod configuration;
pub mod databases;
pub mod directory;
pub mod dispositions;
pub mod engine;
pub mod error;
pub mod extract;
mod finish;
pub mod observe;
pub mod options;
pub mod places;
pub mod plan;
pub mod private;
pub mod report;
pub mod run;
pub mod settings;
pub mod shells;
pub mod start;
pub mod survey;
#[cfg(test)]
mod testing;
pub mod time;
pub mod twophase;
mod wal;

pub use choose::{GapRule, Request, TimelineChoice};
pub use error::{Refusal, RestoreError, Result};
pub use observe::{Found, Prepared, find, prepare, prepare_with};
pub use options::{Archiving, Commands, Onto, RestoreOptions, TablespaceMapping, default_workers};
pub use plan::Plan;
pub use report::Report;
pub use run::run;
pub use settings::{Edge, RecoveryTarget, TargetAction, recovery_settings};
pub use start::{StartOptions, start};
pub use time::{RequestedTime, ZoneOrigin, parse_time};
