//! Carries out one backup, from the lease to the publication.
//!
//! The order is what makes the copy sound: the lease and its base first, so that expiry leaves both alone; `pg_backup_start`; only then
//! is anything of the cluster looked at; `pg_control` last of the files; `pg_backup_stop`, the wait for the archive, the
//! manifest, and the one write that makes the backup exist. A failure anywhere leaves packs that the next run uses again, and no
//! backup.

use crate::archive::{Archiver, NeededWal, Patience};
use crate::assemble::{self, Results};
use crate::changes;
use crate::cluster::{self, Cluster};
use crate::error::BackupError;
use crate::feed::Planned;
use crate::kinds::Kinds;
use crate::options::{BackupOptions, Kind, MAX_WORKERS};
use crate::plan::{Decision, Read, Reason, Touched};
use crate::prior::{self, PriorBackup};
use crate::report::{BackupReport, Stages, process_io};
use crate::salvage::Salvage;
use crate::scan::{self, Entry};
use crate::start::{self, Begun};
use crate::summary::{self, Ending};
use crate::suspects;
use crate::throttle::Throttle;
use crate::worker::{Output, Prior, Shared};
use crate::{archive, copy, damage, estimates, standby, tasks};
use jiff::Timestamp;
use pgproof_base::{Progress, Stage};
use pgproof_pg::ControlFile;
use pgproof_repo::access::AccessLimits;
use pgproof_repo::manifest::summary::Database;
use pgproof_repo::manifest::{ManifestWriter, PackTable};
use pgproof_repo::{BackupSummary, Manifest, PackIndex, PageReader, PieceIdentities, Repository};
use pgproof_server::{RunningBackup, StoppedBackup};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Instant;

/// The control file, whose path every entry of a backup is compared with.
const CONTROL: &str = "global/pg_control";

/// Takes a backup of `cluster` into `repository`.
///
/// # Errors
/// See [`BackupError`]; each has a hint. The repository then holds no new backup.
pub fn run(
    repository: &Repository,
    cluster: &mut Cluster,
    options: &BackupOptions,
    progress: &dyn Progress,
) -> Result<BackupReport, BackupError> {
    let began = Instant::now();
    let io_before = process_io();
    let mut lap = Lap::new(began);
    let started = Timestamp::now();
    let estimates = estimates::begin(cluster);
    progress.stage(Stage::Checkpoint, None);
    let begun = start::begin(repository, cluster, options, progress)?;
    let mut stages = Stages { checkpoint_s: lap.take(), ..Stages::default() };

    progress.stage(Stage::Changes, None);
    let work = Work::prepare(repository, cluster, &begun, options, progress)?;
    stages.changes_s = lap.take();

    progress.stage(Stage::Copying, Some(work.bytes_planned()));
    let mut copied = work.copy(repository, cluster, &begun, options, progress)?;
    stages.copy_s = lap.take();

    progress.stage(Stage::WaitingForWal, None);
    let Begun { lease, running, .. } = begun;
    let (timeline, start_lsn) = (running.timeline, running.start);
    let stopped = stop(cluster, running, &copied.control)?;
    let ended = Timestamp::now();
    let mut patience = Patience::new(options.archive_timeout);
    let needed = cluster.needed_wal(timeline, start_lsn, stopped.stop);
    let mut wait_for_wal = |cluster: &mut Cluster| {
        archive::wait(repository, &mut Archiver::Cluster(cluster), needed, &mut patience, progress)
    };
    let mut acquitted = 0;
    if !copied.suspects.is_empty() || !copied.unnamed.is_empty() {
        // Only WAL tells whether replay mends them, and whether they changed while they were copied.
        wait_for_wal(cluster)?;
        acquitted = copied.judge_suspects(&work, repository, needed)?;
        copied.judge_unnamed(&work, repository, cluster, &begun.history, (start_lsn, &stopped))?;
    }
    stages.wal_s = lap.take();

    let id = lease.objects().id();
    let mut report = work.report(&copied, id, begun.base.as_ref().map(|base| base.id));
    report.trusting = match &begun.base {
        Some(base) if !work.check && begun.distrust.is_none() => base.trusting + 1,
        _ => 0,
    };
    report.from_standby = cluster.is_standby();
    report.passed_over = begun.passed_over;
    report.resumed = begun.resumed;
    (report.timeline, report.start_lsn, report.stop_lsn) = (timeline, start_lsn, stopped.stop);
    report.system_identifier = cluster.facts.system_identifier;
    report.checksums = cluster.facts.checksums;
    report.bad_pages = damage::name_pages(&copied.suspects, &work.entries, cluster);
    report.unnamed_changes = damage::name_pages(&copied.unnamed, &work.entries, cluster);
    report.acquitted_pages = acquitted;
    // While the archiver works. The manifest gets its name after the wait: a backup that waited in vain can be resumed.
    let databases = estimates.join().unwrap_or_default();
    let (manifest, summary) =
        work.assemble(repository, cluster, &copied, &mut report, &stopped, (started, ended), databases)?;
    stages.publish_s = lap.take();
    wait_for_wal(cluster)?;
    stages.wal_s += lap.take();
    let repo = |operation| move |source| BackupError::Repo { operation, source };
    let manifest = manifest.finish(&copied.packs, &summary).map_err(repo("write the manifest"))?;
    report.bytes_manifest = manifest.size;
    lease.publish(manifest.size, manifest.identity).map_err(repo("publish the backup"))?;
    stages.publish_s += lap.take();
    report.stages = stages;
    report.elapsed = began.elapsed();
    report.process_io = process_io().since(io_before);
    Ok(report)
}

/// Ends the backup in the server. On a standby the copy is consistent where the copied control file says, because that is what recovery
/// goes by (`InitWalRecovery` in `src/backend/access/transam/xlogrecovery.c`).
fn stop(
    cluster: &mut Cluster,
    running: RunningBackup,
    control: &ControlFile,
) -> Result<StoppedBackup, BackupError> {
    let timeline = running.timeline;
    let stopped = running.stop(&mut cluster.session);
    if !cluster.is_standby() {
        return stopped.map_err(|source| BackupError::Server { operation: "stop the backup", source });
    }
    standby::judge_end(cluster, timeline, stopped, control)
}

/// Time between two marks.
pub(crate) struct Lap(Instant);

impl Lap {
    pub(crate) fn new(began: Instant) -> Self {
        Self(began)
    }

    pub(crate) fn take(&mut self) -> f64 {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.0, now)).as_secs_f64()
    }
}

/// The plan of one backup, and what it was made from.
struct Work {
    entries: Vec<Entry>,
    decisions: Vec<Decision>,
    skipped: Vec<String>,
    gaps: Vec<String>,
    /// Files whose content was read while planning.
    external: Vec<(usize, Vec<u8>)>,
    control: usize,
    prior: Option<PageReader>,
    /// Everything is read, to see whether WAL named every change.
    check: bool,
    kinds: Kinds,
}

/// What the workers did.
struct Copied {
    results: Results,
    packs: PackTable,
    /// The control file as it was stored.
    control: ControlFile,
    suspects: Vec<crate::worker::Suspect>,
    unnamed: Vec<crate::worker::Suspect>,
    bytes_read: u64,
    bytes_stored: u64,
    bytes_salvaged: u64,
    pages_verified: u64,
}

impl Work {
    fn prepare(
        repository: &Repository,
        cluster: &Cluster,
        begun: &Begun,
        options: &BackupOptions,
        progress: &dyn Progress,
    ) -> Result<Self, BackupError> {
        let scan::Scan { mut entries, skipped } = scan::scan(&cluster.pgdata, &cluster.tablespace_directory)?;
        let outside = cluster.external_files()?;
        entries.extend(outside.iter().map(|(entry, _)| entry.clone()));
        entries.sort_by(scan::by_path);
        let place = |path: &str| entries.binary_search_by(|entry| entry.path.as_str().cmp(path));
        let control = place(CONTROL).map_err(|_| BackupError::Unreadable {
            path: cluster.pgdata.join(CONTROL),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let mut external: Vec<(usize, Vec<u8>)> = outside
            .into_iter()
            .filter_map(|(entry, content)| Some((place(&entry.path).ok()?, content)))
            .collect();
        external.sort_by_key(|(file, _)| *file);
        let mut work = Self {
            entries,
            decisions: Vec::new(),
            skipped,
            gaps: Vec::new(),
            external,
            control,
            prior: None,
            check: false,
            kinds: Kinds::default(),
        };
        match &begun.base {
            None => work.decisions = full(&work.entries),
            Some(base) => {
                let system = cluster.facts.system_identifier;
                let prior = PageReader::open(repository, system, &base.id, AccessLimits::default())
                    .map_err(|source| BackupError::Repo { operation: "open the earlier manifest", source })?;
                work.check = begun.distrust.is_none() && reads_all(options, base);
                if work.check {
                    progress.note("reading every file, to see whether WAL named every change");
                    work.kinds = cluster.kinds()?;
                }
                work.decide(repository, cluster, begun, base, prior.manifest(), progress)?;
                work.prior = Some(prior);
            }
        }
        Ok(work)
    }

    /// Finds out what changed since `base`, and what is read therefore.
    fn decide(
        &mut self,
        repository: &Repository,
        cluster: &Cluster,
        begun: &Begun,
        base: &BackupSummary,
        prior: &Manifest,
        progress: &dyn Progress,
    ) -> Result<(), BackupError> {
        if let Some(why) = begun.distrust {
            self.gaps = vec![format!("backup {} cannot be trusted to differ by WAL only: {why}", base.id)];
            progress.note(&format!("reading every file and comparing it with backup {}: {why}", base.id));
            self.decisions = prior::decide_all(&self.entries, prior, false, |_| Touched::Unknown)?;
            return Ok(());
        }
        let changed =
            changes::observe(repository, cluster, &begun.history, base.start_lsn, begun.running.start)?;
        self.gaps = changed.gaps().to_vec();
        for gap in &self.gaps {
            progress.note(&format!("comparing contents, because WAL does not tell: {gap}"));
        }
        self.decisions = prior::decide_all(&self.entries, prior, self.check, |entry| changed.touched(entry))?;
        Ok(())
    }

    fn bytes_planned(&self) -> u64 {
        let pairs = self.entries.iter().zip(&self.decisions);
        pairs.map(|(entry, decision)| tasks::bytes_planned(entry, decision)).sum()
    }

    fn held(&self) -> Vec<usize> {
        let mut held: Vec<usize> = self.external.iter().map(|(file, _)| *file).collect();
        held.push(self.control);
        held.sort_unstable();
        held
    }

    fn copy(
        &self,
        repository: &Repository,
        cluster: &Cluster,
        begun: &Begun,
        options: &BackupOptions,
        progress: &dyn Progress,
    ) -> Result<Copied, BackupError> {
        let system = cluster.facts.system_identifier;
        let backup = begun.lease.objects().id();
        let repo = |operation| move |source| BackupError::Repo { operation, source };
        let mut packs = self.prior.as_ref().map(|prior| prior.manifest().packs().clone()).unwrap_or_default();
        let first_index = packs.next_index().map_err(repo("number the packs"))?.0;
        let salvage = if begun.resumed {
            Salvage::read(repository, system, &backup, first_index)?
        } else {
            Salvage::default()
        };
        let prior = self.prior.as_ref().map(|pages| PriorBackup {
            pages,
            identities: PieceIdentities::new(repository, system, IDENTITY_PACKS),
            kinds: &self.kinds,
        });
        let batches = tasks::batches(&self.entries, &self.decisions, prior.is_some(), &self.held());
        let shared = Shared {
            feed: &Planned::new(&cluster.pgdata, &self.entries, batches),
            failed: AtomicBool::new(false),
            repository,
            system,
            backup: &backup,
            next_pack: AtomicU32::new(salvage.next_number()),
            first_index,
            pack_bytes: options.pack_bytes,
            codec: options.codec,
            throttle: Throttle::new(options.max_rate),
            checksums: cluster.facts.checksums,
            prior: prior.as_ref().map(|prior| prior as &dyn Prior),
            salvage: &salvage,
            progress,
        };
        let (mut outputs, mut written) = copy::copy(&shared, options.workers.clamp(1, MAX_WORKERS))?;
        let mut contents = self.external.clone();
        let (bytes, control) = cluster::read_control(&cluster.pgdata)?;
        contents.push((self.control, bytes));
        let (output, last) = copy::copy_contents(&shared, &contents)?;
        outputs.push(output);
        written.extend(last);
        for info in salvage.packs().iter().chain(&written) {
            packs.insert(PackIndex(first_index + info.number.0), *info);
        }
        Ok(Copied::join(outputs, packs, control))
    }

    fn report(
        &self,
        copied: &Copied,
        id: pgproof_repo::BackupId,
        base: Option<pgproof_repo::BackupId>,
    ) -> BackupReport {
        let mut report = BackupReport::new(id, base);
        report.gaps.clone_from(&self.gaps);
        report.skipped.clone_from(&self.skipped);
        report.bytes_read = copied.bytes_read;
        report.bytes_stored = copied.bytes_stored;
        report.bytes_salvaged = copied.bytes_salvaged;
        report.pages_verified = copied.pages_verified;
        report.checked = self.check;
        report.count(&self.entries, &self.decisions);
        report
    }

    /// The manifest but for its end, and the summary that goes there.
    fn assemble(
        &self,
        repository: &Repository,
        cluster: &Cluster,
        copied: &Copied,
        report: &mut BackupReport,
        stopped: &StoppedBackup,
        times: (Timestamp, Timestamp),
        databases: Vec<Database>,
    ) -> Result<(ManifestWriter, BackupSummary), BackupError> {
        let system = cluster.facts.system_identifier;
        let mut writer = ManifestWriter::create(repository, system, &report.id)
            .map_err(|source| BackupError::Repo { operation: "begin the manifest", source })?;
        let totals = assemble::assemble(
            &self.entries,
            &self.decisions,
            &copied.results,
            self.prior.as_ref().map(PageReader::manifest),
            &mut writer,
        )?;
        (report.files, report.bytes_logical) = (totals.files, totals.bytes);
        let mode = std::fs::metadata(&cluster.pgdata).map_or(0o700, |metadata| metadata.mode() & 0o7777);
        let ending = Ending {
            stopped,
            times,
            databases,
            external: self.external.iter().map(|(file, _)| self.entries[*file].path.clone()).collect(),
            mode,
            pages_changed: copied.results.pages(),
        };
        let summary = summary::summary(cluster, report, ending);
        Ok((writer, summary))
    }
}

/// Packs whose piece identities are remembered while contents are compared: 60 kB each.
pub(crate) const IDENTITY_PACKS: usize = 256;

/// Is it time not to trust WAL?
fn reads_all(options: &BackupOptions, base: &BackupSummary) -> bool {
    match options.kind {
        Kind::Auto => options.read_all_after.is_some_and(|after| base.trusting >= after),
        Kind::ReadAll => true,
        Kind::Full => false,
    }
}

pub(crate) fn full(entries: &[Entry]) -> Vec<Decision> {
    let decide = |entry: &Entry| match entry.kind {
        scan::EntryKind::File => Decision { reason: Reason::Full, read: Read::Whole },
        _ => Decision { reason: Reason::Always, read: Read::Nothing },
    };
    entries.iter().map(decide).collect()
}

impl Copied {
    fn join(mut outputs: Vec<Output>, packs: PackTable, control: ControlFile) -> Self {
        let results = Results::join(&mut outputs);
        let sum = |field: fn(&Output) -> u64| outputs.iter().map(field).sum();
        Self {
            results,
            packs,
            control,
            suspects: outputs.iter().flat_map(|output| output.suspects.iter().copied()).collect(),
            unnamed: outputs.iter().flat_map(|output| output.unnamed.iter().copied()).collect(),
            bytes_read: sum(|output| output.bytes_read),
            bytes_stored: sum(|output| output.bytes_stored),
            bytes_salvaged: sum(|output| output.bytes_salvaged),
            pages_verified: sum(|output| output.pages_verified),
        }
    }

    /// Drops unnamed pages that the server changed, with WAL, while they were copied.
    fn judge_unnamed(
        &mut self,
        work: &Work,
        repository: &Repository,
        cluster: &Cluster,
        history: &pgproof_pg::TimelineHistory,
        (start, stopped): (pgproof_pg::Lsn, &StoppedBackup),
    ) -> Result<(), BackupError> {
        if self.unnamed.is_empty() {
            return Ok(());
        }
        let changed = changes::observe(repository, cluster, history, start, stopped.stop)?;
        let page_of = |page| suspects::page_of(page, &work.entries);
        self.unnamed.retain(|&page| page_of(page).is_none_or(|page| !changed.names(page)));
        Ok(())
    }

    /// Drops suspects that replay mends; returns how many.
    fn judge_suspects(
        &mut self,
        work: &Work,
        repository: &Repository,
        needed: NeededWal,
    ) -> Result<u64, BackupError> {
        if self.suspects.is_empty() {
            return Ok(0);
        }
        let restored = changes::restored_pages(repository, needed)?;
        let suspects = std::mem::take(&mut self.suspects);
        let (bad, acquitted) = suspects::judge(suspects, &work.entries, &restored);
        self.suspects = bad;
        Ok(acquitted)
    }
}
