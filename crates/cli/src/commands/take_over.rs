//! `restore --take-over` with several repositories: each of them refuses whoever archived before.
//!
//! The restore has taken over in the repository that it came from. The others get the same epoch here, or with the restored server's first
//! push where they cannot be reached now.

use crate::config::Config;
use crate::{account, repository};
use pgproof_repo::{Lineage, Repository, writer};
use pgproof_restore::{Archiving, Report};
use pgproof_server::Owner;

/// Takes over in every configured repository but `chosen`.
///
/// # Errors
/// When the chosen repository or the data directory cannot be given an epoch that all of them accept.
pub(super) fn elsewhere(
    config: &Config,
    chosen: &str,
    repository: &Repository,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (Some(epoch), Archiving::TakeOver { reason }) = (report.epoch, report.plan.archiving.clone()) else {
        return Ok(());
    };
    let lineage = Lineage::new(report.plan.system);
    let directory = report.plan.directory.clone();
    let (mut others, mut highest) = (Vec::new(), 0);
    for one in config.all_repositories()?.into_iter().filter(|one| one.name != chosen) {
        let known = repository::open(&one).and_then(|other| {
            let writer = writer::current(&other, lineage)?;
            Ok((other, writer.map_or(0, |writer| writer.value.epoch)))
        });
        match known {
            Ok((other, known)) => {
                highest = highest.max(known);
                others.push((one.name, other));
            }
            Err(error) => report.notes.push(unreached(&one.name, &error)),
        }
    }
    // Somebody took over in another one while this one was away.
    let common = if highest >= epoch { highest + 1 } else { epoch };
    if common > epoch {
        writer::take_over_from(repository, lineage, &directory, &reason, common)?;
        let file = directory.join(writer::EPOCH_FILE);
        let owner = Owner::of(&file)?;
        writer::write_epoch(&directory, common)?;
        account::give(&file, owner)?;
        report.epoch = Some(common);
    }
    for (name, other) in others {
        if let Err(error) = writer::take_over_from(&other, lineage, &directory, &reason, common) {
            report.notes.push(unreached(&name, &error.into()));
        }
    }
    Ok(())
}

fn unreached(name: &str, error: &anyhow::Error) -> String {
    format!(
        "repository {name} accepts the server that archived before until this one archives there: {}",
        crate::fault::Fault::new(error).one_line()
    )
}
