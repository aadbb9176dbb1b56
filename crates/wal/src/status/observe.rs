//! Looks at server, `pg_wal` and repository. What cannot be looked at becomes part of the observation.
//!
//! The order matters: position, then the archiver's queue, then the archive. A segment that is complete when the position is asked for
//! is in the queue or, when the archive is listed, in the archive; so no segment on its way is taken for a missing one.

use super::observation::{
    ArchiveView, CommandLine, LocalWal, Observation, ReceiverView, Room, Seen, ServerView, Waiting,
};
use crate::cluster::read_control;
use crate::error::{WalError, with_causes};
use pgproof_pg::{ArchiveName, ClusterState, SegmentName, WalSegmentSize};
use pgproof_repo::catalog::{CatalogBackup, LineageCatalog, Scope};
use pgproof_repo::lease::LeaseTimes;
use pgproof_repo::walset::WalSet;
use pgproof_repo::{Lineage, Repository};
use pgproof_server::{ConnectOptions, Facts, ReceiverFacts, ServerError, Session};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What is compared with what.
#[derive(Debug)]
pub struct StatusRequest<'a> {
    /// The data directory.
    pub pgdata: PathBuf,
    /// How to reach its server.
    pub connect: ConnectOptions,
    /// The replication slot of `archive receive`.
    pub slot: String,
    /// The repositories, each of which is compared.
    pub repositories: Vec<Compared<'a>>,
    /// How pgproof is called in a command line; for remedies.
    pub command: CommandLine,
}

/// A repository that is compared with the server.
#[derive(Debug)]
pub struct Compared<'a> {
    /// Its name.
    pub name: String,
    /// Whether WAL counts as archived only when it holds it.
    pub required: bool,
    /// The repository, or why it could not be opened.
    pub repository: Result<&'a Repository, String>,
}

/// Looks. There is one observation for each repository, in their order; server and `pg_wal` are looked at once.
///
/// # Errors
/// [`WalError::Control`]: without the control file nothing is known about the cluster. [`WalError::Unreadable`] when `pg_wal` is closed to us.
pub fn observe(request: &StatusRequest<'_>) -> Result<Vec<Observation>, WalError> {
    let control = read_control(&request.pgdata)?;
    let size = control.wal_segment_size;
    let server =
        ask(&request.connect, &request.slot).map_or_else(|error| Seen::No(with_causes(&error)), Seen::Yes);
    let local = local(&request.pgdata.join("pg_wal"), size)?;
    let lineage = Lineage::new(control.system_identifier);
    let archives: Vec<Seen<ArchiveView>> =
        request.repositories.iter().map(|compared| look(compared, lineage, size)).collect();
    let elsewhere = |at: usize| {
        let others = request.repositories.iter().zip(&archives).enumerate().filter(|(other, _)| *other != at);
        let held = others.filter_map(|(_, (compared, archive))| match archive {
            Seen::Yes(archive) => Some((compared.name.clone(), archive.wal.clone())),
            Seen::No(_) => None,
        });
        held.collect()
    };
    let one = |(at, compared): (usize, &Compared<'_>)| Observation {
        pgdata: request.pgdata.clone(),
        system: control.system_identifier,
        segment_size: size,
        checkpoint_timeline: control.timeline,
        checkpoint: control.checkpoint,
        replays: matches!(control.state, ClusterState::ShutDownInRecovery | ClusterState::InArchiveRecovery),
        server: server.clone(),
        local: local.clone(),
        archive: archives[at].clone(),
        required: compared.required,
        elsewhere: elsewhere(at),
        command: request.command.clone(),
        name: compared.name.clone(),
    };
    Ok(request.repositories.iter().enumerate().map(one).collect())
}

fn look(compared: &Compared<'_>, lineage: Lineage, size: WalSegmentSize) -> Seen<ArchiveView> {
    match &compared.repository {
        Ok(repository) => {
            archive(repository, lineage, size).map_or_else(|error| Seen::No(with_causes(&error)), Seen::Yes)
        }
        Err(why) => Seen::No(why.clone()),
    }
}

fn ask(connect: &ConnectOptions, slot: &str) -> Result<ServerView, ServerError> {
    let mut session = Session::open(connect)?;
    let facts = Facts::observe(&mut session)?;
    let receiver = ReceiverFacts::observe(&mut session, slot)?;
    let setting = |name: &str| facts.setting(name).to_owned();
    Ok(ServerView {
        in_recovery: facts.in_recovery,
        timeline: facts.timeline,
        lsn: facts.lsn,
        mode: setting("archive_mode"),
        command: setting("archive_command"),
        library: setting("archive_library"),
        timeout: setting("archive_timeout"),
        archiver: facts.archiver,
        receiver: receiver.map(|facts| ReceiverView { slot: slot.to_owned(), facts }),
    })
}

/// The queue is read before the segments: a file that leaves the queue meanwhile lies there all the same.
fn local(pg_wal: &Path, size: WalSegmentSize) -> Result<LocalWal, WalError> {
    let mut local = LocalWal { room: room(pg_wal), ..LocalWal::default() };
    let now = SystemTime::now();
    for entry in list(&pg_wal.join("archive_status"))? {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".ready") else { continue };
        local.waiting += 1;
        if let Ok(segment) = SegmentName::parse(name, size) {
            local.ready.insert(segment);
        }
        // One that is archived just now has vanished.
        let Ok(since) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
        let age_s = now.duration_since(since).unwrap_or_default().as_secs();
        if local.oldest.as_ref().is_none_or(|oldest| oldest.age_s < age_s) {
            local.oldest = Some(Waiting { name: name.to_owned(), age_s });
        }
    }
    for entry in list(pg_wal)? {
        let file = entry.file_name().to_string_lossy().into_owned();
        local.segments.extend(SegmentName::parse(&file, size));
    }
    Ok(local)
}

fn list(directory: &Path) -> Result<Vec<fs::DirEntry>, WalError> {
    let fail = |source| WalError::Unreadable { path: directory.to_owned(), source };
    fs::read_dir(directory).map_err(fail)?.collect::<Result<_, _>>().map_err(fail)
}

fn room(pg_wal: &Path) -> Option<Room> {
    let found = rustix::fs::statvfs(pg_wal).ok()?;
    Some(Room { available: found.f_bavail * found.f_frsize, total: found.f_blocks * found.f_frsize })
}

fn archive(
    repository: &Repository,
    lineage: Lineage,
    size: WalSegmentSize,
) -> pgproof_repo::Result<ArchiveView> {
    let catalog = LineageCatalog::read(repository, lineage, Scope::BackupsAndWal, LeaseTimes::default())?;
    let objects = catalog.wal.as_ref().map(|wal| wal.objects.as_slice()).unwrap_or_default();
    let complete = objects.iter().filter(|object| matches!(object.name, ArchiveName::Segment(_)));
    let last = complete.map(|object| object.meta.modified).max();
    let good = |backup: &&CatalogBackup| backup.is_good() && backup.marked.is_none();
    Ok(ArchiveView {
        place: repository.store().describe(),
        last_stored_age_s: last
            .map(|last| u64::try_from(catalog.at.duration_since(last).as_secs()).unwrap_or(0)),
        backups: catalog.published().filter(good).filter_map(CatalogBackup::span).collect(),
        wal: catalog.wal.map_or_else(|| WalSet::new(size, []), |wal| wal.set),
    })
}
