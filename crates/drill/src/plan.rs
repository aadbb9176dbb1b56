//! What a drill would do: `--dry-run`.

use crate::error::DrillError;
use crate::instant;
use crate::options::DrillOptions;
use crate::recover;
use crate::report::CheckName;
use jiff::Timestamp;
use pgproof_repo::Repository;
use pgproof_restore::{Plan, prepare};
use serde::Serialize;

/// What a drill would do.
#[derive(Debug, Serialize)]
pub struct DrillPlan {
    /// How the cluster comes back, into a private directory.
    pub restore: Box<Plan>,
    /// What is checked then.
    pub checks: Vec<CheckName>,
    /// The operator's assertions, by name.
    pub assertions: Vec<String>,
    /// Other recoveries tried when this one fails by its backup, at most.
    pub older: usize,
}

/// Makes the plan. Changes nothing.
///
/// # Errors
/// [`DrillError`] for whatever would stop the recovery and can be seen now.
pub fn plan(
    repository: &Repository,
    options: &DrillOptions,
    now: Timestamp,
) -> Result<DrillPlan, DrillError> {
    let request = instant::request(repository, options)?;
    let prepared = prepare(repository, &recover::restore_options(options, request), now)
        .map_err(|source| DrillError::Restore { source: Box::new(source) })?;
    let checks = &options.checks;
    let is_made = |check: &CheckName| match check {
        CheckName::Assertions => !checks.assertions.is_empty(),
        CheckName::Command => checks.command.is_some(),
        _ => true,
    };
    Ok(DrillPlan {
        restore: Box::new(prepared.plan),
        checks: CheckName::ALL.into_iter().filter(is_made).collect(),
        assertions: checks.assertions.iter().map(|assertion| assertion.name.clone()).collect(),
        older: options.older,
    })
}
