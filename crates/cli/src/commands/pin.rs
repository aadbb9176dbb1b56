//! `pgproof pin` and `pgproof unpin`: whether the retention may remove a backup.

use super::each::{Failure, each};
use crate::args::high::Context;
use crate::args::low::{PinArgs, UnpinArgs};
use crate::exit::Exit;
use crate::fault::Refused;
use crate::printer::{Page, Report};
use crate::repository;
use pgproof_repo::catalog::Scope;
use pgproof_repo::lease::{Holder, PinRecord};
use pgproof_repo::{BackupId, Repository, record};
use pgproof_store::PutMode;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct PinReport {
    backup: BackupId,
    pinned: bool,
    reason: Option<String>,
}

pub(crate) fn pin(args: &PinArgs, context: &Context) -> anyhow::Result<Exit> {
    let (_, opened) = repository::open_configured(context)?;
    each(context, "pin", opened, Failure::Counts, |_, repository| Ok((pin_in(repository, args)?, Exit::Done)))
}

fn pin_in(repository: &Repository, args: &PinArgs) -> anyhow::Result<PinReport> {
    let catalogs = repository::catalogs(repository, Scope::Backups)?;
    let catalogs = repository::with_dumps(repository, catalogs, &args.backup)?;
    let (catalog, backup) = repository::find_published(&catalogs, &args.backup)?;
    if backup.marked.is_some() {
        let message = format!("backup {} is marked for removal already", backup.id);
        return Err(Refused::new("backup-marked", message, "marks are final; pin another one").into());
    }
    let pin = PinRecord { by: Holder::this_process(), why: args.reason.clone(), at: catalog.at };
    record::write(repository, &catalog.lineage.backup(backup.id).pin(), &pin, PutMode::Overwrite)?;
    Ok(PinReport { backup: backup.id, pinned: true, reason: Some(args.reason.clone()) })
}

pub(crate) fn unpin(args: &UnpinArgs, context: &Context) -> anyhow::Result<Exit> {
    let (_, opened) = repository::open_configured(context)?;
    each(context, "unpin", opened, Failure::Counts, |_, repository| {
        let catalogs = repository::catalogs(repository, Scope::Backups)?;
        let catalogs = repository::with_dumps(repository, catalogs, &args.backup)?;
        let (catalog, backup) = repository::find(&catalogs, &args.backup)?;
        repository.store().delete(&catalog.lineage.backup(backup.id).pin())?;
        Ok((PinReport { backup: backup.id, pinned: false, reason: None }, Exit::Done))
    })
}

impl Report for PinReport {
    fn render(&self, page: &mut Page) {
        match self.pinned {
            true => page.line(format!("backup {} is kept until it is unpinned", self.backup)),
            false => {
                page.line(format!("backup {} is kept only as long as the retention wants it", self.backup))
            }
        }
    }
}
