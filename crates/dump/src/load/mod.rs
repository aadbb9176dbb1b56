//! Loads a dump: observes the target, plans, fetches, and only then changes anything.
//!
//! [`plan`](self::plan()) is pure: what the dump says, what the target holds and what was asked for give a [`LoadPlan`] or a refusal.
//! [`run`] carries it out: it fetches and checks every file of the database first, so that damage in the repository is found while the target
//! is as it was; then missing roles, the database, `pg_restore`, and `ANALYZE`. Roles that exist are never changed.

mod create;
mod fetch;
mod globals;
mod observe;
mod plan;
mod run;

pub use observe::{Held, Target, TargetFacts};
pub use plan::{LoadOptions, LoadPlan, Make, plan};
pub use run::{LoadReport, Loading, run};
