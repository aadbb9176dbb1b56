//! The part of `pgproof agent` that keeps the objectives: it does what is due, one thing at a time, and tells before an objective breaks.
//!
//! What is due follows from what the repository proves, not from what this process remembers: so an agent that was away catches up once, and
//! two hosts that keep one repository do not do the same work twice. [`schedule`] decides and is pure; [`job`] runs one command of this
//! program as a process of its own; [`alert`] tells people and [`metrics`] tells Prometheus; [`keep`] is the loop.

mod alert;
mod job;
mod keep;
mod metrics;
mod schedule;
mod watch;

pub(crate) use job::die_with_parent;
pub(crate) use keep::{Done, Keeping, keep, once, planned};
pub(crate) use schedule::{Due, Work, cron};
