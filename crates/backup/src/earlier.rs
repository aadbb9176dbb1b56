//! Observes the backups of a cluster that are in the repository already: those that can be built on, and those that were
//! interrupted.

use pgproof_repo::lease::Outcome;
use pgproof_repo::manifest::Manifest;
use pgproof_repo::{BackupId, BackupSummary, Error, Lineage, Repository, Result, record};

/// Backups that concern a new one.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    /// Published and not marked for removal.
    pub(crate) published: Vec<BackupSummary>,
    /// Without an outcome: running or interrupted, newest name first.
    pub(crate) interrupted: Vec<BackupId>,
}

/// Looks at every backup of the cluster.
pub(crate) fn observe(repository: &Repository, lineage: Lineage) -> Result<Earlier> {
    let store = repository.store();
    let names = store
        .list_dirs(Some(&lineage.backups_dir()))
        .map_err(|source| Error::Store { operation: "list the backups", source })?;
    let mut earlier = Earlier::default();
    for id in names.iter().filter_map(|name| name.parse::<BackupId>().ok()) {
        let objects = lineage.backup(id);
        match record::read::<Outcome>(repository, &objects.outcome())?.map(|found| found.value) {
            None => earlier.interrupted.push(id),
            Some(Outcome::Revoked { .. }) => {}
            Some(Outcome::Published { .. }) => {
                let marked = store
                    .head(&objects.expired())
                    .map_err(|source| Error::Store { operation: "list the backups", source })?
                    .is_some();
                if !marked {
                    earlier
                        .published
                        .push(Manifest::open(repository, lineage.system(), &id)?.summary().clone());
                }
            }
        }
    }
    earlier.interrupted.reverse();
    Ok(earlier)
}
