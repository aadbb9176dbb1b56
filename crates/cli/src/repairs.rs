//! Which configured repository heals what `verify` found in another one.
//!
//! A repair brings what is of the same name: WAL, which all repositories of a server have, and backups that were copied. So each of the others is
//! asked for the object, or for the backup that the damage hurts, before `pgproof repair` is named as the remedy. One that does not answer is no
//! help now, and verification has an answer of its own to give.

use crate::config::{Config, RepositoryConfig};
use crate::repository;
use pgproof_base::{Remedy, Severity, shell_word};
use pgproof_repo::verify::{VerifyFinding, VerifyReport};
use pgproof_repo::{Lineage, Repository};
use pgproof_store::ObjectPath;

/// The configured repositories, opened when something is wrong in one of them.
pub(crate) struct Others {
    configured: Vec<RepositoryConfig>,
    opened: Option<Vec<(String, Repository)>>,
}

impl Others {
    /// Those of the configuration file. A repository that a flag names instead has no others.
    pub(crate) fn new(config: &Config) -> Self {
        let configured = if config.is_of_file() { config.all_repositories() } else { Ok(Vec::new()) };
        Self { configured: configured.unwrap_or_default(), opened: None }
    }

    /// Puts a repair first among the remedies of everything in repository `own` that another one has.
    pub(crate) fn name_repairs(&mut self, own: &str, report: &mut VerifyReport) {
        if report.is_clean() || !self.configured.iter().any(|config| config.name == own) {
            return;
        }
        let configured = &self.configured;
        let opened = self.opened.get_or_insert_with(|| {
            let open =
                |config: &RepositoryConfig| Some((config.name.clone(), repository::open(config).ok()?));
            configured.iter().filter_map(open).collect()
        });
        for lineage in &mut report.lineages {
            let of = lineage.lineage();
            for found in lineage.findings.iter_mut().filter(|one| one.finding.severity > Severity::Info) {
                let wanted = wanted(of, found);
                let holder = opened.iter().filter(|(name, _)| name != own).find(|(_, repository)| {
                    wanted.iter().any(|path| matches!(repository.store().head(path), Ok(Some(_))))
                });
                if let Some((name, _)) = holder {
                    found.finding.remedies.insert(0, repair(own, name));
                }
            }
        }
    }
}

/// The objects any of which another repository must have.
fn wanted(lineage: Lineage, found: &VerifyFinding) -> Vec<ObjectPath> {
    let backups = found.hurts.backups.iter().map(|backup| lineage.backup(*backup).manifest());
    found.object.parse().into_iter().chain(backups).collect()
}

fn repair(own: &str, from: &str) -> Remedy {
    let command = format!("pgproof repair --repository {} --from {}", shell_word(own), shell_word(from));
    Remedy::safe(format!("Put in its place what repository {from} has"), command)
}
