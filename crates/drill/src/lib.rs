//! Prove it: recover without need, check what came back, measure how long it took and how much would have been lost.
//!
//! Promises: a drill never touches production. It restores into a private directory, recovers there with a private server that archives
//! nowhere and reaches nobody ([`pgproof_restore::private`]), and removes both, or lets the next drill do it when it was killed. What
//! keeps the cluster from coming back is a verdict of the [`DrillReport`], with the check that it fails; what merely keeps the drill from
//! being made (a full disk, a missing program) is a [`DrillError`], because it proves nothing about the backups.
//!
//! Each check is one file of [`check`]: it observes by SQL or files, and a pure function judges. [`heartbeat`] makes the data loss a
//! measured interval. [`run`] is the sequence, [`older`] the search for a backup that still passes.

mod blame;
mod check;
mod error;
pub mod heartbeat;
mod instant;
mod older;
mod options;
mod plan;
mod recover;
mod replay;
mod report;
mod run;

pub use check::{Assertion, Pattern, assertions_in};
pub use error::DrillError;
pub use options::{CheckOptions, DrillOptions, Objectives, PURPOSE, When};
pub use plan::{DrillPlan, plan};
pub use report::{
    CheckName, CheckReport, Culprit, DataLoss, DrillReport, Measured, Source, Tried, Verdict, WalReplayed,
};
pub use run::{drill, unopened};
