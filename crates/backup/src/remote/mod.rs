//! A backup that the server sends over the replication protocol, for a server whose files cannot be read here.
//!
//! Everything is transferred every time, and what the repository holds already is not stored again: each file is compared with the earlier backup by
//! content, as a local backup does where WAL does not tell. Pages are checked, packed and sealed by the same workers. What a replication
//! connection cannot ask stays unknown: databases, estimates, names of relations, settings files elsewhere. The order of events is as in `run.rs`.

mod spool;
mod summary;
mod unpack;

use crate::archive::{self, Archiver, NeededWal, Patience};
use crate::assemble::{self, Results};
use crate::base;
use crate::earlier;
use crate::error::BackupError;
use crate::kinds::Kinds;
use crate::options::{BackupOptions, Kind, MAX_WORKERS};
use crate::prior::{self, PriorBackup};
use crate::report::{BackupReport, process_io};
use crate::run::{IDENTITY_PACKS, Lap, full};
use crate::salvage::Salvage;
use crate::scan::Entry;
use crate::start;
use crate::suspects;
use crate::throttle::Throttle;
use crate::worker::{Compare, Output, Prior, Shared, Suspect};
use crate::{changes, copy, damage, plan, standby};
use jiff::Timestamp;
use pgproof_base::{Progress, Stage};
use pgproof_pg::label::{BackupFrom, BackupLabel};
use pgproof_pg::{ControlFile, Lsn, MajorVersion, SystemIdentifier, TimelineId, WalSegmentSize};
use pgproof_repo::access::AccessLimits;
use pgproof_repo::lease::{WalNeeded, WriterLease};
use pgproof_repo::manifest::PackTable;
use pgproof_repo::{
    BackupSummary, Lineage, ManifestWriter, PackIndex, PackInfo, PageReader, PieceIdentities, Repository,
};
use pgproof_server::replication::{BaseBackup, BaseBackupOptions, Replication, SentTablespace};
use pgproof_server::{ConnectOptions, ServerError};
use spool::Spool;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread;
use std::time::Instant;
use unpack::Unpacked;

/// The server as a replication connection knows it.
#[derive(Debug)]
struct Remote {
    server: String,
    system: SystemIdentifier,
    version_num: u32,
    segment_size: WalSegmentSize,
    checksums: bool,
    /// The path of its data directory, where the role may know it.
    data_directory: String,
}

/// What came, stored.
struct Copied {
    entries: Vec<Entry>,
    outputs: Vec<Output>,
    packs: PackTable,
    control: ControlFile,
    label: BackupLabel,
    unpacked: Unpacked,
}

/// Where the backup began and ended.
#[derive(Debug, Clone, Copy)]
struct Span {
    timeline: TimelineId,
    start: Lsn,
    stop: Lsn,
    started: Timestamp,
    stopped: Timestamp,
}

/// Takes a backup of the server at `connect` into `repository`. Needs a role with REPLICATION.
///
/// # Errors
/// See [`BackupError`]; each has a hint. The repository then holds no new backup.
pub fn run_remote(
    repository: &Repository,
    connect: &ConnectOptions,
    options: &BackupOptions,
    progress: &dyn Progress,
) -> Result<BackupReport, BackupError> {
    let (began, io_before, started) = (Instant::now(), process_io(), Timestamp::now());
    let mut lap = Lap::new(began);
    let server = |operation| move |source: ServerError| BackupError::Server { operation, source };
    let connection = Replication::open(connect, "pgproof").map_err(server("connect to the server"))?;
    let (connection, remote) = Remote::observe(connection)?;
    let lineage = Lineage::new(remote.system);
    let earlier = earlier::observe(repository, lineage).map_err(repo("list the backups"))?;
    let (lease, resumed) = start::take_lease(repository, lineage, &earlier, progress)?;
    progress.stage(Stage::Checkpoint, None);
    let mut backup = connection.base_backup(&remote.asked(options)).map_err(server("start the backup"))?;
    check_tablespaces(&backup.tablespaces)?;
    let (timeline, start) = (backup.timeline, backup.start);
    let wal = WalNeeded { timeline, from: start };
    let published = if options.kind == Kind::Full { &[][..] } else { &earlier.published };
    let (base, passed_over) = start::build_on(&lease, published, wal, progress, |candidates| {
        base::newest_to_compare(candidates, remote.version_num)
    })?;
    let mut report = BackupReport::new(lease.objects().id(), base.as_ref().map(|base| base.base.id));
    (report.resumed, report.passed_over) = (resumed, passed_over);
    report.stages.checkpoint_s = lap.take();

    progress.stage(Stage::Copying, Some(backup.bytes));
    let storing = Storing { repository, remote: &remote, lease: &lease, resumed, options, progress };
    let prior = base.map(|base| storing.open(base.base)).transpose()?;
    let mut copied = storing.copy(&mut backup, prior.as_ref())?;
    report.stages.copy_s = lap.take();

    progress.stage(Stage::WaitingForWal, None);
    let tablespaces = std::mem::take(&mut backup.tablespaces);
    let (stop, ended) = backup.finish().map_err(server("stop the backup"))?;
    let span = Span { timeline, start, stop, started, stopped: Timestamp::now() };
    let span = span.judged(ended, &copied)?;
    let needed = NeededWal { lineage, size: remote.segment_size, timeline, start, stop: span.stop };
    let mut patience = Patience::new(options.archive_timeout);
    let mut wait_for_wal = || {
        let mut archiver = archiver_of(&copied.label);
        archive::wait(repository, &mut archiver, needed, &mut patience, progress)
    };
    let (bad, acquitted) = judge_pages(repository, &copied, needed, &mut wait_for_wal)?;
    report.bad_pages = damage::places(&bad, &copied.entries);
    report.acquitted_pages = acquitted;
    report.stages.wal_s = lap.take();

    remote.fill(&mut report, span, &copied);
    let results = Results::join(&mut copied.outputs);
    let decisions = match &prior {
        Some(prior) => {
            prior::decide_all(&copied.entries, prior.manifest(), false, |_| plan::Touched::Unknown)?
        }
        None => full(&copied.entries),
    };
    report.count(&copied.entries, &decisions);
    let mut writer =
        ManifestWriter::create(repository, remote.system, &report.id).map_err(repo("begin the manifest"))?;
    let earlier = prior.as_ref().map(PageReader::manifest);
    let totals = assemble::assemble(&copied.entries, &decisions, &results, earlier, &mut writer)?;
    (report.files, report.bytes_logical) = (totals.files, totals.bytes);
    let summary = summary::summary(&remote, &report, span, &copied, &tablespaces, results.pages());
    report.stages.publish_s = lap.take();
    wait_for_wal()?;
    report.stages.wal_s += lap.take();
    let manifest = writer.finish(&copied.packs, &summary).map_err(repo("write the manifest"))?;
    report.bytes_manifest = manifest.size;
    lease.publish(manifest.size, manifest.identity).map_err(repo("publish the backup"))?;
    report.stages.publish_s += lap.take();
    report.elapsed = began.elapsed();
    report.process_io = process_io().since(io_before);
    Ok(report)
}

fn repo(operation: &'static str) -> impl FnOnce(pgproof_repo::Error) -> BackupError {
    move |source| BackupError::Repo { operation, source }
}

/// Pages that stay bad, and how many WAL mends, which is then waited for.
fn judge_pages(
    repository: &Repository,
    copied: &Copied,
    needed: NeededWal,
    wait_for_wal: &mut dyn FnMut() -> Result<(), BackupError>,
) -> Result<(Vec<Suspect>, u64), BackupError> {
    let found: Vec<Suspect> =
        copied.outputs.iter().flat_map(|output| output.suspects.iter().copied()).collect();
    if found.is_empty() {
        return Ok((found, 0));
    }
    wait_for_wal()?;
    let restored = changes::restored_pages(repository, needed)?;
    Ok(suspects::judge(found, &copied.entries, &restored))
}

fn archiver_of(label: &BackupLabel) -> Archiver<'static> {
    match label.from {
        BackupFrom::Primary => Archiver::Remote,
        BackupFrom::Standby => Archiver::PrimaryOfRemote,
    }
}

/// Those of `allow_in_place_tablespaces` have a relative place.
fn check_tablespaces(tablespaces: &[SentTablespace]) -> Result<(), BackupError> {
    match tablespaces.iter().find(|tablespace| tablespace.location.is_relative()) {
        Some(tablespace) => Err(BackupError::InPlaceTablespace { path: tablespace.location.clone() }),
        None => Ok(()),
    }
}

impl Remote {
    fn observe(mut connection: Replication) -> Result<(Replication, Self), BackupError> {
        let failed = |source| BackupError::Server { operation: "look at the server", source };
        let identity = connection.identify_system().map_err(failed)?;
        let segment_size = connection.wal_segment_size().map_err(failed)?;
        // A text of digits since there are versions; anything else is refused as a version that is not known.
        let version = connection.show("server_version_num").map_err(failed)?;
        let version_num = version.parse().unwrap_or(0);
        MajorVersion::from_server_version_num(version_num)
            .map_err(|source| BackupError::Unsupported { source })?;
        let checksums = connection.show("data_checksums").map_err(failed)? == "on";
        // Shown to superusers and to pg_read_all_settings only.
        let data_directory = connection.show("data_directory").unwrap_or_default();
        let server = connection.server().to_owned();
        let system = identity.system_identifier;
        Ok((connection, Self { server, system, version_num, segment_size, checksums, data_directory }))
    }

    fn asked<'a>(&self, options: &'a BackupOptions) -> BaseBackupOptions<'a> {
        BaseBackupOptions {
            version_num: self.version_num,
            label: &options.label,
            fast_checkpoint: options.fast_checkpoint,
            max_rate_kb: options.max_rate.map(rate_kb),
        }
    }

    /// What the report tells of the server and its pages.
    fn fill(&self, report: &mut BackupReport, span: Span, copied: &Copied) {
        let sum = |field: fn(&Output) -> u64| copied.outputs.iter().map(field).sum();
        report.system_identifier = self.system;
        report.checksums = self.checksums;
        report.from_standby = copied.label.from == BackupFrom::Standby;
        (report.timeline, report.start_lsn, report.stop_lsn) = (span.timeline, span.start, span.stop);
        report.bytes_read = sum(|output| output.bytes_read);
        report.bytes_stored = sum(|output| output.bytes_stored);
        report.bytes_salvaged = sum(|output| output.bytes_salvaged);
        report.pages_verified = sum(|output| output.pages_verified);
        report.skipped.clone_from(&copied.unpacked.skipped);
    }
}

/// In kilobytes, as much as the server takes.
fn rate_kb(bytes: NonZeroU64) -> u32 {
    u32::try_from(bytes.get() >> 10).unwrap_or(u32::MAX).clamp(32, 1 << 20)
}

impl Span {
    /// The end by the server's words, and for a standby by the control file, which the server sends last.
    fn judged(self, ended: TimelineId, copied: &Copied) -> Result<Self, BackupError> {
        let changed = |ended| BackupError::TimelineChanged { began: self.timeline, ended };
        if ended != self.timeline {
            return Err(changed(ended));
        }
        match copied.label.from {
            BackupFrom::Primary => Ok(self),
            BackupFrom::Standby => {
                let stop = standby::end(&copied.control, self.timeline, self.stop).map_err(changed)?;
                Ok(Self { stop, ..self })
            }
        }
    }
}

/// What storing needs beside the stream.
struct Storing<'a> {
    repository: &'a Repository,
    remote: &'a Remote,
    lease: &'a WriterLease,
    resumed: bool,
    options: &'a BackupOptions,
    progress: &'a dyn Progress,
}

impl Storing<'_> {
    fn open(&self, base: &BackupSummary) -> Result<PageReader, BackupError> {
        PageReader::open(self.repository, self.remote.system, &base.id, AccessLimits::default())
            .map_err(repo("open the earlier manifest"))
    }

    /// Receives everything while workers store it.
    fn copy(&self, backup: &mut BaseBackup, pages: Option<&PageReader>) -> Result<Copied, BackupError> {
        let (repository, system) = (self.repository, self.remote.system);
        let id = self.lease.objects().id();
        let mut packs = pages.map(|pages| pages.manifest().packs().clone()).unwrap_or_default();
        let first_index = packs.next_index().map_err(repo("number the packs"))?.0;
        let salvage = if self.resumed {
            Salvage::read(repository, system, &id, first_index)?
        } else {
            Salvage::default()
        };
        let kinds = Kinds::default();
        let prior = pages.map(|pages| PriorBackup {
            pages,
            identities: PieceIdentities::new(repository, system, IDENTITY_PACKS),
            kinds: &kinds,
        });
        let spool = Spool::new(if prior.is_some() { Compare::Content } else { Compare::Nothing });
        let shared = Shared {
            feed: &spool,
            failed: AtomicBool::new(false),
            repository,
            system,
            backup: &id,
            next_pack: AtomicU32::new(salvage.next_number()),
            first_index,
            pack_bytes: self.options.pack_bytes,
            codec: self.options.codec,
            // The server keeps the rate.
            throttle: Throttle::new(None),
            checksums: self.remote.checksums,
            prior: prior.as_ref().map(|prior| prior as &dyn Prior),
            salvage: &salvage,
            progress: self.progress,
        };
        let workers = self.options.workers.clamp(1, MAX_WORKERS);
        let (mut outputs, mut written, unpacked) = transfer(backup, &spool, &shared, workers)?;
        let Some(control) = unpacked.control.clone() else {
            return Err(BackupError::Incomplete { what: "pg_control", server: self.remote.server.clone() });
        };
        let (output, last) = copy::copy_contents(&shared, std::slice::from_ref(&control))?;
        outputs.push(output);
        written.extend(last);
        for info in salvage.packs().iter().chain(&written) {
            packs.insert(PackIndex(first_index + info.number.0), *info);
        }
        let entries = sorted(spool.into_entries(), &mut outputs);
        let control = self.read_control(&control.1)?;
        let label = self.read_label(&unpacked.label, backup)?;
        Ok(Copied { entries, outputs, packs, control, label, unpacked })
    }

    fn read_control(&self, bytes: &[u8]) -> Result<ControlFile, BackupError> {
        let path = "global/pg_control".into();
        let control = ControlFile::parse(bytes).map_err(|source| BackupError::ControlFile {
            path,
            attempts: 1,
            source,
        })?;
        if control.system_identifier == self.remote.system {
            return Ok(control);
        }
        Err(BackupError::OtherDataDirectory {
            pgdata: self.remote.data_directory.clone().into(),
            found: control.system_identifier,
            expected: self.remote.system,
        })
    }

    /// Recovery goes by the label, so it has to name the backup that was begun.
    fn read_label(&self, text: &str, backup: &BaseBackup) -> Result<BackupLabel, BackupError> {
        let incomplete = || BackupError::Incomplete {
            what: "a backup_label of this backup",
            server: self.remote.server.clone(),
        };
        let label = BackupLabel::parse(text).map_err(|_| incomplete())?;
        if (label.start, label.start_timeline) == (backup.start, backup.timeline) {
            return Ok(label);
        }
        Err(incomplete())
    }
}

/// One thread receives, the others store. Where both fail, the stores' failure is the cause.
fn transfer(
    backup: &mut BaseBackup,
    spool: &Spool,
    shared: &Shared<'_>,
    workers: usize,
) -> Result<(Vec<Output>, Vec<PackInfo>, Unpacked), BackupError> {
    thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let unpacked = unpack::unpack(backup, spool, &shared.failed);
            spool.end();
            unpacked
        });
        let stored = copy::copy(shared, workers);
        let unpacked = receiving.join().unwrap_or(Err(BackupError::WorkerPanicked));
        let (outputs, packs) = stored?;
        match unpacked? {
            Some(unpacked) => Ok((outputs, packs, unpacked)),
            None => Err(BackupError::WorkerPanicked),
        }
    })
}

/// Entries come as the server's directories list them; manifests are in order of path.
fn sorted(mut entries: Vec<Entry>, outputs: &mut [Output]) -> Vec<Entry> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by(|&a, &b| entries[a].path.cmp(&entries[b].path));
    let mut places = vec![0; entries.len()];
    for (place, &came) in order.iter().enumerate() {
        places[came] = place;
    }
    for output in outputs {
        output.placed.iter_mut().for_each(|placed| placed.file = places[placed.file]);
        output.suspects.iter_mut().for_each(|suspect| suspect.file = places[suspect.file]);
        output.shortened.iter_mut().for_each(|(file, _)| *file = places[*file]);
        output.vanished.iter_mut().for_each(|file| *file = places[*file]);
    }
    entries.sort_by(crate::scan::by_path);
    entries
}
