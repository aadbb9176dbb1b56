//! Performs a verification: lists, reads, resolves, judges, and leaves a record.

use super::hurts::of_segment;
use super::manifests::{self, ManifestCheck, PackKey};
use super::object::{self, Depth, ReadPack, Wrong};
use super::report::{Hurts, LineageReport, VerifyCounts, VerifyFinding, VerifyReport};
use super::verified::{self, Known, VerifiedObject, VerifiedRecord};
use super::{VerifyOptions, wal};
use crate::catalog::{
    BackupState, CatalogBackup, LineageCatalog, PackObject, Scope, WalObject, all_lineages,
};
use crate::layout::{Content, Lineage};
use crate::lease::{ReaderClaim, ReaderLease};
use crate::repository::Repository;
use crate::walset::RecoveryWindows;
use crate::{Error, Result, parallel};
use jiff::Timestamp;
use pgproof_base::{Bytes, Finding, Progress, Remedy, Severity, Stage};
use pgproof_store::{ObjectMeta, ObjectPath};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reads the repository again and says what is not as it was written.
///
/// # Errors
/// [`Error::Store`] when the store cannot be read; damage and absence are findings.
pub fn verify(
    repository: &Repository,
    options: &VerifyOptions,
    progress: &dyn Progress,
) -> Result<VerifyReport> {
    let now = || repository.store().now().map_err(Error::store("ask for the time"));
    let began = now()?;
    let mut reports = Vec::new();
    for lineage in all_lineages(repository)? {
        if options.lineage.is_none_or(|wanted| wanted == lineage.system()) {
            reports.push(Verification::begin(repository, lineage, options, progress)?.run()?);
        }
    }
    Ok(VerifyReport { began, ended: now()?, lineages: reports })
}

/// A verification of one lineage.
struct Verification<'a> {
    repository: &'a Repository,
    lineage: Lineage,
    options: &'a VerifyOptions,
    progress: &'a dyn Progress,
    catalog: LineageCatalog,
    windows: RecoveryWindows,
    known: Known,
    findings: Mutex<Vec<VerifyFinding>>,
    whole: Mutex<Vec<VerifiedObject>>,
    counts: Counts,
    /// While it is held, nothing that is being read is removed.
    _lease: Option<ReaderLease>,
}

#[derive(Default)]
struct Counts {
    objects: AtomicU64,
    bytes: AtomicU64,
    skipped: AtomicU64,
    skipped_bytes: AtomicU64,
}

impl<'a> Verification<'a> {
    fn begin(
        repository: &'a Repository,
        lineage: Lineage,
        options: &'a VerifyOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let read = || LineageCatalog::read(repository, lineage, Scope::BackupsAndWal, options.times);
        let lease = take_lease(repository, &read()?, options, progress);
        // Read again under the lease: what was swept in between is not missing.
        let catalog = read()?;
        let windows = catalog.windows();
        let known = verified::known(verified::read_verified(repository, lineage)?);
        Ok(Self {
            repository,
            lineage,
            options,
            progress,
            catalog,
            windows,
            known,
            findings: Mutex::default(),
            whole: Mutex::default(),
            counts: Counts::default(),
            _lease: lease,
        })
    }

    fn run(self) -> Result<LineageReport> {
        let wal_bytes = self.catalog.wal.as_ref().map_or(0, |wal| wal.stored_bytes());
        let pack_bytes: u64 = self.catalog.packs.iter().map(|pack| pack.bytes).sum();
        self.progress.stage(Stage::Verifying, Some(wal_bytes + pack_bytes));
        self.records()?;
        let packs = self.packs()?;
        self.manifests(&packs)?;
        self.segments()?;
        let judged = wal::judge(&self.catalog, &self.windows, &self.known);
        lock(&self.findings).extend(judged);
        self.strays();
        self.ledger()?;
        self.finish()
    }

    /// Whether an object was read recently; counts it then.
    fn is_recent(&self, object: &VerifiedObject) -> bool {
        let recent = verified::is_recent(&self.known, object, self.options.since, self.catalog.at);
        if recent {
            self.counts.skipped.fetch_add(1, Ordering::Relaxed);
            self.counts.skipped_bytes.fetch_add(object.bytes, Ordering::Relaxed);
            self.progress.advance(object.bytes);
        }
        recent
    }

    /// An object was read in full and is what was written.
    fn is_whole(&self, object: VerifiedObject) {
        self.read(object.bytes);
        lock(&self.whole).push(object);
    }

    fn named(&self, path: &ObjectPath, bytes: u64, stored: Timestamp) -> VerifiedObject {
        let below = path.as_str().strip_prefix(self.lineage.dir().as_str());
        let below = below.map_or(path.as_str(), |below| below.trim_start_matches('/'));
        VerifiedObject { path: below.to_owned(), bytes, stored }
    }

    fn named_by(&self, meta: &ObjectMeta) -> VerifiedObject {
        self.named(&meta.path, meta.size, meta.modified)
    }

    fn read(&self, bytes: u64) {
        self.counts.objects.fetch_add(1, Ordering::Relaxed);
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn find(&self, finding: Finding, object: &ObjectPath, hurts: Hurts) {
        lock(&self.findings).push(VerifyFinding { finding, object: object.to_string(), hurts });
    }

    /// Small records and history files.
    fn records(&self) -> Result<()> {
        let mut paths: Vec<ObjectPath> = Vec::new();
        for backup in &self.catalog.backups {
            let objects = backup.objects;
            paths.extend([objects.lease(), objects.outcome(), objects.expired(), objects.pin()]);
        }
        paths.extend(self.catalog.readers.iter().map(|reader| reader.meta.path.clone()));
        paths.push(self.lineage.writer());
        let verified = self.repository.store().list(Some(&self.lineage.verified_dir()), None);
        let verified = verified.map_err(Error::store("list the verifications"))?;
        paths.extend(verified.into_iter().map(|object| object.path));
        parallel::try_map(&paths, self.options.threads, |path| self.record(path))?;
        let histories = self.catalog.wal.as_ref().map_or(&[][..], |wal| &wal.histories);
        parallel::try_map(histories, self.options.threads, |object| self.history(object))?;
        self.states();
        Ok(())
    }

    fn record(&self, path: &ObjectPath) -> Result<()> {
        let Some(wrong) = object::read_record(self.repository, path)? else { return Ok(()) };
        let is_backups = path.name() == "outcome";
        let why = match path.name() {
            "outcome" => "without it nobody can tell that the backup exists",
            "writer" => "a server that was replaced cannot be told from the one that archives",
            _ => "what it said is lost",
        };
        let severity = if is_backups { Severity::Critical } else { Severity::Warning };
        let finding =
            Finding::new("verify-record-damaged", severity, format!("{path} is damaged: {wrong}"), why);
        let owner = self.catalog.backups.iter().find(|backup| path.is_below(Some(&backup.objects.dir())));
        let hurts = owner.filter(|_| is_backups).map(|backup| Hurts::backup(backup.id)).unwrap_or_default();
        self.find(finding, path, hurts);
        Ok(())
    }

    fn history(&self, meta: &ObjectMeta) -> Result<()> {
        let Some(wrong) = object::read_history(self.repository, self.lineage, meta)? else {
            self.is_whole(self.named_by(meta));
            return Ok(());
        };
        let seen = format!("{} is damaged: {wrong}", meta.path);
        let why = "recovery along its timeline cannot find the way";
        let command = format!("pgproof archive push pg_wal/{}", meta.path.name());
        let remedy = "Remove the damaged object and archive the file again, if it is still in pg_wal";
        let finding = Finding::new("verify-history-damaged", Severity::Critical, seen, why)
            .with(Remedy::safe(remedy, command));
        self.find(finding, &meta.path, Hurts::default());
        Ok(())
    }

    /// What the catalog could not make sense of.
    fn states(&self) {
        for backup in &self.catalog.backups {
            if let BackupState::Damaged { what } = &backup.state {
                let seen = format!("backup {} cannot be used: {what}", backup.id);
                let why = "it was published, and cannot be restored";
                let finding = Finding::new("verify-backup-damaged", Severity::Critical, seen, why)
                    .with(self.take_another());
                self.find(finding, &backup.objects.manifest(), Hurts::backup(backup.id));
            }
        }
    }

    /// Reads packs; those that no manifest names are read too, since an unfinished backup may go on with them.
    fn packs(&self) -> Result<BTreeMap<PackKey, ReadPack>> {
        let packs = &self.catalog.packs;
        let read = parallel::try_map(packs, self.options.threads, |pack| self.pack(*pack))?;
        Ok(read.into_iter().map(|pack| ((pack.object.backup, pack.object.number), pack)).collect())
    }

    fn pack(&self, pack: PackObject) -> Result<ReadPack> {
        let path = self.lineage.backup(pack.backup).pack(pack.number);
        let named = self.named(&path, pack.bytes, pack.stored);
        let depth = if self.is_recent(&named) { Depth::Index } else { Depth::Content };
        let advance = |bytes| self.progress.advance(bytes);
        let read = object::read_pack(self.repository, self.lineage, pack, depth, &advance)?;
        if depth == Depth::Content {
            match read.wrong.is_none() && read.damaged.is_empty() {
                true => self.is_whole(named),
                false => self.read(named.bytes),
            }
        }
        Ok(read)
    }

    fn manifests(&self, packs: &BTreeMap<PackKey, ReadPack>) -> Result<()> {
        let readable = |backup: &&CatalogBackup| backup.summary.is_some();
        let backups: Vec<&CatalogBackup> = self.catalog.backups.iter().filter(readable).collect();
        let checks = parallel::try_map(&backups, self.options.threads, |backup| {
            self.manifest(backup, packs).map(|check| (backup.id, check))
        })?;
        let mut by_pack: BTreeMap<PackKey, Hurts> = BTreeMap::new();
        for (_, check) in checks {
            for (key, hurts) in check.hurts {
                by_pack.entry(key).or_default().merge(hurts);
            }
        }
        self.judge_packs(packs, by_pack);
        Ok(())
    }

    fn manifest(&self, backup: &CatalogBackup, packs: &BTreeMap<PackKey, ReadPack>) -> Result<ManifestCheck> {
        let path = backup.objects.manifest();
        let mut check = manifests::check(self.repository, self.lineage, backup, packs)?;
        let advance = |bytes| self.progress.advance(bytes);
        if let Some(stated) = backup.manifest
            && let Some(wrong) = object::read_manifest_bytes(self.repository, &path, stated, &advance)?
        {
            check.wrong.push(wrong);
        }
        self.read(backup.sizes.manifest);
        if !check.wrong.is_empty() {
            let seen = format!("the manifest of backup {} is damaged: {}", backup.id, check.wrong.join("; "));
            let why = "the backup cannot be restored, or not as a whole";
            let finding = Finding::new("verify-manifest-damaged", Severity::Critical, seen, why)
                .with(self.take_another());
            self.find(finding, &path, Hurts::backup(backup.id));
        }
        if let Some(example) = &check.example {
            let seen = format!("the manifest of backup {} does not fit its packs: {example}", backup.id);
            let why = "these files cannot be restored";
            let finding = Finding::new("verify-manifest-unresolved", Severity::Critical, seen, why)
                .with(self.store_anew());
            self.find(finding, &path, check.unresolved.clone());
        }
        Ok(check)
    }

    fn take_another(&self) -> Remedy {
        match self.lineage.content() {
            Content::Cluster => Remedy::safe("Take a new backup", "pgproof backup"),
            Content::Dumps => Remedy::safe("Take a new dump", "pgproof dump"),
        }
    }

    fn store_anew(&self) -> Remedy {
        match self.lineage.content() {
            Content::Cluster => {
                Remedy::safe("Take a full backup, which stores everything anew", "pgproof backup --full")
            }
            Content::Dumps => {
                Remedy::safe("Take a full dump, which stores everything anew", "pgproof dump --full")
            }
        }
    }

    fn judge_packs(&self, packs: &BTreeMap<PackKey, ReadPack>, mut hurts: BTreeMap<PackKey, Hurts>) {
        for (key, pack) in packs {
            let path = self.lineage.backup(key.0).pack(key.1);
            let hurt = hurts.remove(key).unwrap_or_default();
            if let Some(seen) = pack_damage(pack) {
                let (severity, why) = match hurt.is_nothing() {
                    true => (Severity::Warning, "no backup uses what is damaged"),
                    false => (Severity::Critical, "files of these backups cannot be restored as they were"),
                };
                let finding =
                    Finding::new("verify-pack-damaged", severity, format!("{path} is damaged: {seen}"), why)
                        .with(self.store_anew());
                self.find(finding, &path, hurt);
            }
        }
        // What is left is named by manifests and not there.
        for (key, hurt) in hurts {
            let path = self.lineage.backup(key.0).pack(key.1);
            let why = "files of these backups cannot be restored";
            let finding =
                Finding::new("verify-pack-missing", Severity::Critical, format!("{path} is missing"), why)
                    .with(self.store_anew());
            self.find(finding, &path, hurt);
        }
    }

    fn segments(&self) -> Result<()> {
        let objects = self.catalog.wal.as_ref().map_or(&[][..], |wal| &wal.objects);
        parallel::try_map(objects, self.options.threads, |object| self.segment(object)).map(drop)
    }

    fn segment(&self, segment: &WalObject) -> Result<()> {
        let Some(set) = self.catalog.wal_set() else { return Ok(()) };
        let named = self.named_by(&segment.meta);
        if self.is_recent(&named) {
            return Ok(());
        }
        let advance = |bytes| self.progress.advance(bytes);
        let size = set.segment_size();
        let wrong = object::read_segment(self.repository, self.lineage, segment, size, &advance)?;
        let Some(wrong) = wrong else {
            self.is_whole(named);
            return Ok(());
        };
        if wrong_is_removal(self.repository, &segment.meta.path)? {
            return Ok(());
        }
        self.read(segment.meta.size);
        let is_partial = matches!(segment.name, pgproof_pg::ArchiveName::Partial(_));
        let hurts = match is_partial {
            true => Hurts::default(),
            false => of_segment(&self.catalog, &self.windows.windows, segment.segment),
        };
        let severity = if hurts.is_nothing() { Severity::Warning } else { Severity::Critical };
        let why = match hurts.is_nothing() {
            true => "no recovery window leads through it",
            false => "recovery stops here: instants after it are not reached from backups before it",
        };
        let seen = format!("{} is damaged: {wrong}", segment.meta.path);
        let command = format!("pgproof archive push pg_wal/{}", segment.name);
        let finding = Finding::new("verify-wal-damaged", severity, seen, why)
            .with(Remedy::safe(
                "Remove the damaged object and archive the segment again, if it is still in pg_wal",
                command,
            ))
            .with(Remedy::safe(
                "Take a new backup, from which all later instants are reached",
                "pgproof backup",
            ));
        self.find(finding, &segment.meta.path, hurts);
        Ok(())
    }

    /// What nobody refers to, and what nobody knows.
    fn strays(&self) {
        let wal = self.catalog.wal.iter().flat_map(|wal| &wal.strays);
        for stray in self.catalog.strays.iter().chain(wal) {
            let seen = format!("{} is no object of this format", stray.path);
            let finding = Finding::new("verify-object-unknown", Severity::Warning, seen, "nothing reads it");
            self.find(finding, &stray.path, Hurts::default());
        }
        let used: BTreeSet<PackKey> =
            self.catalog.backups.iter().flat_map(|backup| backup.packs.keys().copied()).collect();
        let unfinished: BTreeSet<_> = self
            .catalog
            .backups
            .iter()
            .filter(|b| matches!(b.state, BackupState::Running | BackupState::Interrupted { .. }))
            .map(|backup| backup.id)
            .collect();
        let unused = |pack: &&PackObject| {
            !used.contains(&(pack.backup, pack.number)) && !unfinished.contains(&pack.backup)
        };
        let unused: Vec<&PackObject> = self.catalog.packs.iter().filter(unused).collect();
        if let Some(first) = unused.first() {
            let bytes = Bytes(unused.iter().map(|pack| pack.bytes).sum());
            let seen = format!("{} packs ({bytes}) belong to no backup", unused.len());
            let why = "an interrupted backup or removal left them; they only take room";
            let finding = Finding::new("verify-unreferenced", Severity::Info, seen, why)
                .with(Remedy::safe("Remove what nothing refers to", "pgproof expire"));
            self.find(finding, &self.lineage.backup(first.backup).pack(first.number), Hurts::default());
        }
    }

    fn ledger(&self) -> Result<()> {
        let ledger = crate::ledger::verify(self.repository, self.lineage, self.options.threads)?;
        lock(&self.findings).extend(ledger.flaws.into_iter().map(super::ledger::finding));
        Ok(())
    }

    fn finish(self) -> Result<LineageReport> {
        let mut findings = self.findings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        findings.sort_by(|a, b| (b.finding.severity, &a.object).cmp(&(a.finding.severity, &b.object)));
        let mut objects = self.whole.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        objects.sort_by(|a, b| a.path.cmp(&b.path));
        let bad = findings.iter().filter(|found| found.finding.severity > Severity::Info).count() as u64;
        let record = VerifiedRecord { at: self.catalog.at, objects, findings: bad };
        if !record.objects.is_empty()
            && let Err(error) = verified::write(self.repository, self.lineage, &record)
        {
            // A repository that cannot be written can still be verified.
            self.progress.note(&format!("what was verified could not be recorded: {error}"));
        }
        let counts = VerifyCounts {
            objects: self.counts.objects.into_inner(),
            bytes: Bytes(self.counts.bytes.into_inner()),
            skipped: self.counts.skipped.into_inner(),
            skipped_bytes: Bytes(self.counts.skipped_bytes.into_inner()),
        };
        let (system, content) = (self.lineage.system(), self.lineage.content());
        Ok(LineageReport { system, content, findings, counts })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn pack_damage(pack: &ReadPack) -> Wrong {
    let frames = || {
        let some: Vec<String> = pack.damaged.iter().take(10).map(ToString::to_string).collect();
        format!(
            "{} of {} extents are not what was written ({})",
            pack.damaged.len(),
            pack.frames.len(),
            some.join(", ")
        )
    };
    match (&pack.wrong, pack.damaged.is_empty()) {
        (Some(wrong), _) => Some(wrong.clone()),
        (None, false) => Some(frames()),
        (None, true) => None,
    }
}

/// Whether an object is gone because it was removed meanwhile, as segments are that no backup needs any more.
fn wrong_is_removal(repository: &Repository, path: &ObjectPath) -> Result<bool> {
    let found = repository.store().head(path).map_err(Error::store("look for a segment"))?;
    Ok(found.is_none())
}

/// Announces reading. A repository that cannot be written is verified without a lease.
fn take_lease(
    repository: &Repository,
    catalog: &LineageCatalog,
    options: &VerifyOptions,
    progress: &dyn Progress,
) -> Option<ReaderLease> {
    let unmarked = catalog.published().filter(|backup| backup.marked.is_none());
    let backups = unmarked.map(|backup| backup.id).collect();
    let claim = ReaderClaim { kind: "verify".to_owned(), backups, wal: None };
    match ReaderLease::take(repository, catalog.lineage, claim, options.times) {
        Ok(lease) => Some(lease),
        Err(error) => {
            progress.note(&format!(
                "verifying without a lease, so what expires meanwhile may be missed: {error}"
            ));
            None
        }
    }
}
