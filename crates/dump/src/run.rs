//! Carries out one dump, from the lease to the publication.
//!
//! The lease and its base come first, so that expiry leaves both alone. Then one database after the other: `pg_dump` writes files into a
//! temporary directory, and each is stored and removed as soon as it is closed. Roles and other globals come last: a role that a dumped
//! table belongs to is then among them, also one that was made while the dump ran. A failure anywhere leaves packs that the next run uses again,
//! and no dump.

use crate::child::Running;
use crate::error::DumpError;
use crate::known::Known;
use crate::options::{DumpOptions, MAX_JOBS};
use crate::report::{DatabaseReport, DumpReport};
use crate::sink::{self, Job, Sink, StoredFile};
use crate::source::{self, Database, Source, Wanted};
use crate::spool::Spool;
use jiff::Timestamp;
use pgproof_base::{Progress, Stage};
use pgproof_pg::WalLevel;
use pgproof_repo::catalog::{CatalogBackup, LineageCatalog, Scope};
use pgproof_repo::lease::{Holder, LeaseTimes, WriterClaim, WriterLease};
use pgproof_repo::manifest::summary::{
    BackupKind, DataDirectory, DumpSummary, DumpedDatabase, DumpedGlobals, ServerSettings, Totals,
};
use pgproof_repo::{
    BackupId, BackupSummary, FileEntry, Lineage, Manifest, ManifestWriter, PackIndex, PackInfo, PackTable,
    Repository,
};
use rustix::fs::inotify;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Where a dump keeps the roles and other globals.
pub(crate) const GLOBALS: &str = "globals.sql";

/// The file of a database that says what the others are. Written last, and only read when `pg_dump` has ended.
const TABLE_OF_CONTENTS: &str = "toc.dat";

/// Between two looks at what `pg_dump` has closed.
const PAUSE: Duration = Duration::from_millis(10);

/// The folder of a database.
pub(crate) fn folder(oid: u32) -> String {
    format!("databases/{oid}")
}

/// Dumps `source` into `repository`.
///
/// # Errors
/// See [`DumpError`]; each has a hint. The repository then holds no new dump.
pub fn run(
    repository: &Repository,
    source: &mut Source,
    options: &DumpOptions,
    progress: &dyn Progress,
) -> Result<DumpReport, DumpError> {
    let began = Instant::now();
    let started = Timestamp::now();
    let wanted = source::observe(source, &options.selection)?;
    let spool = Spool::create(&options.temp)?;
    let lineage = Lineage::dumps(source.facts.system_identifier);
    let begun = begin(repository, lineage, options, progress)?;
    let id = begun.lease.objects().id();
    let known = Known::default();
    let mut packs = PackTable::new();
    if let Some(earlier) = &begun.base {
        packs = earlier.packs().clone();
        known.add_earlier(repository, lineage, earlier, progress)?;
    }
    let salvaged = known.add_interrupted(repository, lineage, &id, &packs)?;
    let sink = Sink {
        repository,
        lineage,
        dump: id,
        codec: options.codec,
        pack_bytes: options.pack_bytes,
        known,
        next_pack: AtomicU32::new(salvaged.iter().map(|(_, pack)| pack.number.0 + 1).max().unwrap_or(0)),
        first_index: packs.next_index().map_err(DumpError::repo("number the packs"))?.0,
    };
    progress.stage(Stage::Copying, None);
    let mut manifest =
        ManifestWriter::create(repository, lineage, &id).map_err(DumpError::repo("begin the manifest"))?;
    let dumping = Dumping { source, wanted: &wanted, options, spool: &spool, progress };
    let (dumped, written) = dumping.store_all(&sink, &mut manifest)?;
    for (index, pack) in salvaged {
        packs.insert(index, pack);
    }
    let bytes_packed: u64 = written.iter().map(|pack| pack.size).sum();
    for pack in written {
        packs.insert(PackIndex(sink.first_index + pack.number.0), pack);
    }
    let mut report = report(source, &wanted, options, &begun, &dumped);
    report.bytes_stored = bytes_packed;
    let summary = summary(source, &wanted, options, &report, (started, Timestamp::now()));
    let manifest = manifest.finish(&packs, &summary).map_err(DumpError::repo("write the manifest"))?;
    report.bytes_stored += manifest.size;
    begun.lease.publish(manifest.size, manifest.identity).map_err(DumpError::repo("publish the dump"))?;
    report.elapsed = began.elapsed();
    Ok(report)
}

/// A dump that has begun.
struct Begun {
    lease: WriterLease,
    resumed: bool,
    base: Option<Manifest>,
}

/// Goes on with an interrupted dump or begins one, and holds on to the dump whose content is used again.
fn begin(
    repository: &Repository,
    lineage: Lineage,
    options: &DumpOptions,
    progress: &dyn Progress,
) -> Result<Begun, DumpError> {
    let times = LeaseTimes::default();
    let catalog = LineageCatalog::read(repository, lineage, Scope::Backups, times)
        .map_err(DumpError::repo("list the dumps"))?;
    let mut base = if options.full { None } else { earlier(&catalog, options).map(|dump| dump.id) };
    let claim = |base: Option<BackupId>| WriterClaim {
        kind: "dump".to_owned(),
        bases: base.into_iter().collect(),
        wal: None,
    };
    let open = |base: Option<BackupId>| {
        base.map(|base| Manifest::open(repository, lineage, &base))
            .transpose()
            .map_err(DumpError::repo("open the earlier dump"))
    };
    // What the interrupted one stored may be what is damaged, so a full dump begins anew.
    if let Some(interrupted) = catalog.resumable().filter(|_| !options.full) {
        match WriterLease::resume(repository, interrupted.objects, claim(base), times) {
            Ok(lease) => {
                progress.note(&format!("continuing the interrupted dump {}", interrupted.id));
                return Ok(Begun { lease, resumed: true, base: open(base)? });
            }
            Err(pgproof_repo::Error::LeaseHeld { .. } | pgproof_repo::Error::BackupGone { .. }) => {}
            Err(error) if error.is_conflict() => {}
            Err(source) => {
                return Err(DumpError::Repo { operation: "continue the interrupted dump", source });
            }
        }
    }
    loop {
        match WriterLease::take(repository, lineage.backup(new_id()), claim(base), times) {
            Ok(lease) => return Ok(Begun { lease, resumed: false, base: open(base)? }),
            Err(pgproof_repo::Error::BackupGone { backup, why }) if base.is_some() => {
                progress.note(&format!("not using what {backup} holds: {why}"));
                base = None;
            }
            Err(source) => return Err(DumpError::Repo { operation: "begin the dump", source }),
        }
    }
}

/// The newest dump of the same selection, else the newest of everything, else the newest.
fn earlier<'a>(catalog: &'a LineageCatalog, options: &DumpOptions) -> Option<&'a CatalogBackup> {
    let likeness = |dump: &CatalogBackup| {
        let found = dump.summary.as_ref().and_then(|summary| summary.dump.as_ref());
        let selection = found.map(|dump| &dump.selection);
        (selection == Some(&options.selection), selection.is_some_and(|selection| selection.is_everything()))
    };
    let usable = catalog.published().filter(|dump| dump.marked.is_none());
    // The last of equals is the newest.
    usable.max_by_key(|dump| (likeness(dump), dump.summary.as_ref().map(|summary| summary.stopped)))
}

/// A name by the clock and three random bytes, which the standard library draws for its hash maps.
fn new_id() -> BackupId {
    let random = RandomState::new().hash_one(std::process::id()).to_le_bytes();
    BackupId::new(Timestamp::now(), [random[0], random[1], random[2]])
}

/// What was stored of one database.
struct Dumped {
    bytes: u64,
    bytes_new: u64,
    files: u64,
}

/// All that is dumped, as the main thread sees it.
struct Dumping<'a> {
    source: &'a Source,
    wanted: &'a Wanted,
    options: &'a DumpOptions,
    spool: &'a Spool,
    progress: &'a dyn Progress,
}

/// Where files go to be stored, and where the results come from.
struct Storing {
    jobs: Sender<Job>,
    done: Receiver<Result<StoredFile, DumpError>>,
}

impl Dumping<'_> {
    fn jobs(&self) -> usize {
        self.options.jobs.clamp(1, MAX_JOBS)
    }

    /// Dumps and stores everything; gives what each database, and lastly the globals, came to, and the packs that were written.
    fn store_all(
        &self,
        sink: &Sink<'_>,
        manifest: &mut ManifestWriter,
    ) -> Result<(Vec<Dumped>, Vec<PackInfo>), DumpError> {
        let (jobs, waiting) = channel();
        let (finished, done) = channel();
        let waiting = Mutex::new(waiting);
        // The session of `self` is not for several threads.
        let progress = self.progress;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.jobs())
                .map(|_| {
                    let (waiting, finished) = (&waiting, finished.clone());
                    scope.spawn(move || sink::work(sink, waiting, &finished, progress))
                })
                .collect();
            drop(finished);
            let storing = Storing { jobs, done };
            let dumped = self.dump_all(&storing, manifest);
            // Without a sender the threads come to their end.
            drop(storing);
            let mut packs = Vec::new();
            for thread in threads {
                packs.extend(thread.join().unwrap_or(Err(DumpError::WorkerPanicked))?);
            }
            Ok((dumped?, packs))
        })
    }

    fn dump_all(&self, storing: &Storing, manifest: &mut ManifestWriter) -> Result<Vec<Dumped>, DumpError> {
        let mut dumped = Vec::new();
        for database in &self.wanted.databases {
            dumped.push(self.dump_database(database, storing, manifest)?);
        }
        if self.options.selection.is_everything() {
            dumped.push(self.dump_globals(storing, manifest)?);
        }
        Ok(dumped)
    }

    fn dump_database(
        &self,
        database: &Database,
        storing: &Storing,
        manifest: &mut ManifestWriter,
    ) -> Result<Dumped, DumpError> {
        let directory = self.spool.dir(&database.oid.to_string())?;
        let folder = folder(database.oid);
        let watch = Watch::on(&directory)?;
        let mut running = Running::start(self.pg_dump(database, &directory)?)?;
        let mut sent: u64 = 0;
        let mut files = Vec::new();
        let mut send = |name: &str| {
            let job = Job { path: directory.join(name), name: format!("{folder}/{name}") };
            sent += 1;
            // A closed channel means that a thread failed, which the results tell.
            let _ = storing.jobs.send(job);
        };
        while running.ended()?.is_none() {
            watch.closed()?.iter().filter(|name| *name != TABLE_OF_CONTENTS).for_each(|name| send(name));
            while let Ok(stored) = storing.done.try_recv() {
                files.push(stored?);
            }
            thread::sleep(PAUSE);
        }
        running.finish(self.spool.path())?;
        // What was closed since, and what a full queue of events may have left out. What was told is not looked for: its file may be
        // gone already.
        let told: Vec<String> = watch.closed()?;
        told.iter().filter(|name| *name != TABLE_OF_CONTENTS).for_each(|name| send(name));
        let mut left = sent.saturating_sub(files.len() as u64);
        while left > 0 {
            files.push(received(&storing.done)?);
            left -= 1;
        }
        let names = remaining(&directory)?;
        for name in &names {
            let path = directory.join(name);
            let _ = storing.jobs.send(Job { path, name: format!("{folder}/{name}") });
        }
        for _ in &names {
            files.push(received(&storing.done)?);
        }
        fs::remove_dir(&directory).map_err(DumpError::host("remove", &directory))?;
        add_files(manifest, files)
    }

    fn dump_globals(&self, storing: &Storing, manifest: &mut ManifestWriter) -> Result<Dumped, DumpError> {
        let path = self.spool.path().join(GLOBALS);
        let Source { clients, connect, .. } = self.source;
        let database = connect.database.as_deref().unwrap_or("postgres");
        let mut command =
            clients.command("pg_dumpall", connect, database).map_err(DumpError::server("call pg_dumpall"))?;
        command.args(["--globals-only", "--no-sync"]).arg("--file").arg(&path);
        if !self.wanted.passwords {
            command.arg("--no-role-passwords");
        }
        Running::start(command)?.finish(self.spool.path())?;
        let _ = storing.jobs.send(Job { path, name: GLOBALS.to_owned() });
        add_files(manifest, vec![received(&storing.done)?])
    }

    fn pg_dump(&self, database: &Database, directory: &Path) -> Result<Command, DumpError> {
        let Source { clients, connect, .. } = self.source;
        let mut command =
            clients.command("pg_dump", connect, &database.name).map_err(DumpError::server("call pg_dump"))?;
        // Not compressed by pg_dump: one changed row would change all that follows it in its file. Not synced: it is removed at once.
        command.args(["--format=directory", "--compress=0", "--no-sync"]);
        command.arg(format!("--jobs={}", self.jobs())).arg("--file").arg(directory);
        command.args(self.options.selection.schemas.iter().map(|schema| format!("--schema={schema}")));
        command.args(self.options.selection.tables.iter().map(|table| format!("--table={table}")));
        Ok(command)
    }
}

/// The next result; there is one for every job, unless a thread came to its end.
fn received(done: &Receiver<Result<StoredFile, DumpError>>) -> Result<StoredFile, DumpError> {
    done.recv().unwrap_or(Err(DumpError::WorkerPanicked))
}

/// The names of the files in a directory.
fn remaining(directory: &Path) -> Result<Vec<String>, DumpError> {
    let read = |error| DumpError::host("list", directory)(error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(read)? {
        names.push(entry.map_err(read)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Adds the files of one database, or the globals, to the manifest.
fn add_files(manifest: &mut ManifestWriter, files: Vec<StoredFile>) -> Result<Dumped, DumpError> {
    let mut dumped = Dumped { bytes: 0, bytes_new: 0, files: files.len() as u64 };
    let mut entries: Vec<FileEntry> = Vec::new();
    for file in files {
        dumped.bytes += file.bytes;
        dumped.bytes_new += file.bytes_new;
        entries.extend(file.entries);
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    entries
        .iter()
        .try_for_each(|entry| manifest.add(entry))
        .map_err(DumpError::repo("write the manifest"))?;
    Ok(dumped)
}

/// Tells which files in a directory were written and closed.
struct Watch {
    events: OwnedFd,
}

impl Watch {
    fn on(directory: &Path) -> Result<Self, DumpError> {
        let failed = |error: rustix::io::Errno| DumpError::host("watch", directory)(error.into());
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let events = inotify::init(flags).map_err(failed)?;
        inotify::add_watch(&events, directory, inotify::WatchFlags::CLOSE_WRITE).map_err(failed)?;
        Ok(Self { events })
    }

    /// The files that were closed since the last call.
    fn closed(&self) -> Result<Vec<String>, DumpError> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        let mut names = Vec::new();
        loop {
            match reader.next() {
                // An overflowing queue has an event without a name: what it left out is found when pg_dump has ended.
                Ok(event) => names.extend(event.file_name().map(|name| name.to_string_lossy().into_owned())),
                Err(rustix::io::Errno::AGAIN) => return Ok(names),
                Err(error) => return Err(DumpError::host("watch", "the temporary directory")(error.into())),
            }
        }
    }
}

fn globals(wanted: &Wanted, options: &DumpOptions) -> DumpedGlobals {
    match (options.selection.is_everything(), wanted.passwords) {
        (false, _) => DumpedGlobals::None,
        (true, true) => DumpedGlobals::WithPasswords,
        (true, false) => DumpedGlobals::WithoutPasswords,
    }
}

fn report(
    source: &Source,
    wanted: &Wanted,
    options: &DumpOptions,
    begun: &Begun,
    dumped: &[Dumped],
) -> DumpReport {
    let databases = wanted.databases.iter().zip(dumped).map(|(database, dumped)| DatabaseReport {
        name: database.name.clone(),
        bytes: dumped.bytes,
        bytes_new: dumped.bytes_new,
        files: dumped.files,
    });
    let mut notes = Vec::new();
    if source.clients.version > source.version {
        notes.push(format!(
            "pg_dump {0} dumped a server of PostgreSQL {1}, because that version's own is not on this host: its output is made for \
             PostgreSQL {0} and newer",
            source.clients.version, source.version
        ));
    }
    let globals = globals(wanted, options);
    if globals == DumpedGlobals::WithoutPasswords {
        notes
            .push("the role may not read pg_authid, so roles were dumped without their passwords".to_owned());
    }
    let bytes: u64 = dumped.iter().map(|dumped| dumped.bytes).sum();
    let bytes_new: u64 = dumped.iter().map(|dumped| dumped.bytes_new).sum();
    DumpReport {
        id: begun.lease.objects().id(),
        base: begun.base.as_ref().map(|base| base.summary().id),
        resumed: begun.resumed,
        databases: databases.collect(),
        globals,
        program_version: source.clients.version.number(),
        bytes,
        bytes_reused: bytes - bytes_new,
        bytes_stored: 0,
        left_out: wanted.left_out.clone(),
        notes,
        elapsed: Duration::ZERO,
    }
}

/// What the manifest says of the dump. Positions are the server's when it began: they order dumps as they order backups.
fn summary(
    source: &Source,
    wanted: &Wanted,
    options: &DumpOptions,
    report: &DumpReport,
    times: (Timestamp, Timestamp),
) -> BackupSummary {
    let facts = &source.facts;
    let databases = wanted.databases.iter().zip(&report.databases).map(|(database, dumped)| DumpedDatabase {
        oid: database.oid,
        name: database.name.clone(),
        bytes: dumped.bytes,
        files: dumped.files,
        roles: database.roles.clone(),
        properties: database.properties.clone(),
    });
    let dump = DumpSummary {
        selection: options.selection.clone(),
        program_version: report.program_version,
        databases: databases.collect(),
        globals: report.globals,
    };
    let files = report.databases.iter().map(|database| database.files).sum::<u64>();
    BackupSummary {
        origin: Default::default(),
        id: report.id,
        system: facts.system_identifier,
        kind: BackupKind::Dump,
        base: report.base,
        server_version: facts.version_num,
        control_version: 0,
        catalog_version: facts.catalog_version,
        block_size: facts.block_size,
        wal_segment_size: facts.wal_segment_size.bytes(),
        checksums: facts.checksums,
        timeline: facts.timeline,
        start_lsn: facts.lsn,
        stop_lsn: facts.lsn,
        started: times.0,
        stopped: times.1,
        from_standby: facts.in_recovery,
        backup_label: String::new(),
        tablespace_map: None,
        tablespaces: Vec::new(),
        data_directory: DataDirectory { path: facts.data_directory.display().to_string(), mode: 0 },
        settings: settings(facts),
        external_files: Vec::new(),
        databases: Vec::new(),
        totals: Totals {
            files: files + u64::from(report.globals != DumpedGlobals::None),
            bytes_logical: report.bytes,
            bytes_read: report.bytes,
            bytes_stored: report.bytes_stored,
            ..Totals::default()
        },
        checksum_failures: Vec::new(),
        unnamed_changes: Vec::new(),
        trusting: 0,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        host: Holder::this_process().host,
        labels: Default::default(),
        dump: Some(Box::new(dump)),
    }
}

fn settings(facts: &pgproof_server::Facts) -> ServerSettings {
    let number = |name: &str| facts.setting(name).parse().unwrap_or(0);
    ServerSettings {
        max_connections: number("max_connections"),
        max_worker_processes: number("max_worker_processes"),
        max_wal_senders: number("max_wal_senders"),
        max_prepared_transactions: number("max_prepared_transactions"),
        max_locks_per_transaction: number("max_locks_per_transaction"),
        wal_level: match facts.setting("wal_level") {
            "minimal" => WalLevel::Minimal,
            "logical" => WalLevel::Logical,
            _ => WalLevel::Replica,
        },
        other: Default::default(),
    }
}
