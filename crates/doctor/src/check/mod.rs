//! The checks: each is one definition, from which findings, thresholds, `doctor explain` and the documentation's page come.
//!
//! A check is pure: it reads a [`Case`] and says what is wrong, with evidence and remedies that have the real names in them. It knows
//! nothing of other checks; what causes what is in [`crate::cause`]. One file for each check.

mod case;
mod registry;

pub(crate) use case::{Case, Found};
pub use registry::checks;

use crate::limits::Limit;
use pgproof_base::{Finding, Severity};

/// Where a check looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// Whether the server starts.
    Start,
    /// Whether it can be reached.
    Reach,
    /// Sessions and transactions.
    Sessions,
    /// Disks and WAL.
    Storage,
    /// Standbys, slots, subscriptions.
    Replication,
    /// Freezing and dead rows.
    Vacuum,
    /// Safety of what is stored.
    Data,
    /// Settings.
    Configuration,
    /// Tables, indexes, roles.
    Schema,
}

impl Area {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reach => "reach",
            Self::Sessions => "sessions",
            Self::Storage => "storage",
            Self::Replication => "replication",
            Self::Vacuum => "vacuum",
            Self::Data => "data",
            Self::Configuration => "configuration",
            Self::Schema => "schema",
        }
    }
}

/// One check.
#[derive(Debug)]
pub struct Check {
    /// Its stable code.
    pub code: &'static str,
    /// Where it looks.
    pub area: Area,
    /// What is wrong when it speaks.
    pub title: &'static str,
    /// Why that matters.
    pub why: &'static str,
    /// How it is mended, and what not to do.
    pub mends: &'static str,
    /// Thresholds, where it has any.
    pub limit: Option<Limit>,
    pub(crate) judge: fn(&Case<'_>) -> Vec<Found>,
}

impl Check {
    /// A finding of this check.
    pub(crate) fn found(&self, severity: Severity, subject: impl Into<String>, seen: impl Into<String>) -> Found {
        Found { finding: Finding::new(self.code, severity, seen, self.why), subject: subject.into() }
    }
}
