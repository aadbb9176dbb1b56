//! Backups of real servers: an incremental one must hold, page by page, what a full one of the same state holds.
//!
//! The archive is fed as in production, by `archive_command`, but in two steps: the server copies segments aside and waits, and a thread of
//! the test pushes them with `pgproof-wal`, which is what `pgproof archive push` calls. A server that did not wait would reuse
//! segments that are in neither place yet.

use crate::kinds::{connect_to, kinds_of};
use pgproof_backup::{BackupOptions, BackupReport, Cluster, Kind};
use pgproof_base::NoProgress;
use pgproof_pg::{Fork, MajorVersion, RelPath, SystemIdentifier};
use pgproof_repo::access::AccessLimits;
use pgproof_repo::manifest::summary::ReadReason;
use pgproof_repo::walobject::StoreOptions;
use pgproof_repo::{CreateOptions, FileKind, PageReader, Repository, Suite, key};
use pgproof_store::Directory;
use pgproof_testkit::Postgres;
use pgproof_wal::PushRequest;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A server that archives into a repository of its own.
struct Site {
    postgres: Postgres,
    repository: Repository,
    stop: Arc<AtomicBool>,
    pusher: Option<JoinHandle<()>>,
}

impl Site {
    fn new(version: MajorVersion) -> Self {
        let postgres =
            Postgres::builder(version).archive_by_copying().setting("autovacuum", "off").start().unwrap();
        let copy = postgres.value("SHOW archive_command").unwrap().replace('\'', "''");
        let wait = format!("while [ ! -e \"{}/%f\" ]; do sleep 0.02; done", pushed_dir(&postgres).display());
        postgres.each(&[&format!("ALTER SYSTEM SET archive_command = '{copy} && {wait}'")]).unwrap();
        postgres.reload().unwrap();
        let pair = key::generate();
        let options = CreateOptions { suite: Suite::Aes256Gcm, recipients: vec![pair.recipient.clone()] };
        let store = Arc::new(Directory::create(postgres.ground().join("repository")).unwrap());
        let repository = Repository::create(store, &options).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let pusher = push_all(&postgres, &repository, Arc::clone(&stop));
        Self { postgres, repository, stop, pusher: Some(pusher) }
    }

    fn backup(&self, kind: Kind) -> BackupReport {
        self.backup_with(BackupOptions { kind, ..BackupOptions::default() })
    }

    fn backup_with(&self, options: BackupOptions) -> BackupReport {
        let mut cluster = Cluster::open(&connect_to(&self.postgres), None).unwrap();
        pgproof_backup::run(&self.repository, &mut cluster, &options, &NoProgress).unwrap()
    }

    fn pages(&self, report: &BackupReport) -> PageReader {
        let limits = AccessLimits::default();
        PageReader::open(&self.repository, report.system_identifier, &report.id, limits).unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(pusher) = self.pusher.take() {
            pusher.join().unwrap();
        }
    }
}

/// An empty file for each segment that was pushed.
fn pushed_dir(postgres: &Postgres) -> PathBuf {
    postgres.dir("pushed").unwrap()
}

/// Pushes what appears in the server's archive directory until told to stop.
fn push_all(postgres: &Postgres, repository: &Repository, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    let (archive, pgdata, done) =
        (postgres.archive_dir(), postgres.pgdata().to_owned(), pushed_dir(postgres));
    let repository = repository.clone();
    std::thread::spawn(move || {
        let mut pushed = std::collections::BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            let names = std::fs::read_dir(&archive).unwrap().map(|entry| entry.unwrap().file_name());
            for name in names.filter(|name| !name.to_string_lossy().starts_with('.')) {
                if pushed.insert(name.clone()) {
                    let request = PushRequest { pgdata: pgdata.clone(), path: archive.join(&name) };
                    pgproof_wal::push(&repository, &request, StoreOptions::default()).unwrap();
                    std::fs::write(done.join(name), "").unwrap();
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    })
}

/// Every page of every relation file of `base/` is the same in both backups, as PostgreSQL sees it: hint bits change without WAL, and
/// an incremental backup keeps those that its base had. Free space maps are hints throughout.
fn assert_same_relations(postgres: &Postgres, one: &PageReader, other: &PageReader) {
    let kinds = kinds_of(postgres);
    let mut compared = 0;
    for entry in other.manifest().files() {
        let entry = entry.unwrap();
        if entry.kind != FileKind::File || !entry.path.starts_with("base/") {
            continue;
        }
        let file = one.file(&entry.path).unwrap().unwrap_or_else(|| panic!("{} is missing", entry.path));
        assert_eq!(file.length, entry.length, "length of {}", entry.path);
        let relation = RelPath::parse(&entry.path);
        if relation.is_some_and(|relation| relation.file.fork == Fork::Fsm) {
            continue;
        }
        for block in 0..entry.length.div_ceil(8192) as u32 {
            let (mut left, mut right) = ([0; 8192], [0; 8192]);
            one.page(&entry.path, block, &mut left).unwrap();
            other.page(&entry.path, block, &mut right).unwrap();
            let is_same = match relation {
                Some(relation) => kinds.same_page(&relation, block, &left, &right),
                None => left == right,
            };
            assert!(is_same, "{} block {block} differs", entry.path);
            compared += 1;
        }
    }
    assert!(compared > 1000, "only {compared} pages were compared");
}

fn churn(postgres: &Postgres) {
    postgres
        .each(&[
            "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 97 = 0",
            "DELETE FROM pgbench_accounts WHERE aid BETWEEN 500 AND 900",
            "CREATE TABLE fresh AS SELECT g, repeat('x', 100) AS filler FROM generate_series(1, 20000) g",
            "CREATE INDEX ON fresh (g)",
            "DELETE FROM fresh WHERE g > 10000",
            "VACUUM pgbench_accounts",
            "VACUUM fresh",
            "TRUNCATE pgbench_history",
            "CREATE DATABASE copied",
            "CHECKPOINT",
        ])
        .unwrap();
}

fn an_incremental_holds_what_a_full_holds(version: MajorVersion) {
    let site = Site::new(version);
    site.postgres.load_pgbench(3).unwrap();
    let first = site.backup(Kind::Auto);
    assert_eq!(first.base, None);
    assert!(first.is_good() && first.pages_verified > 4000, "{first:?}");

    churn(&site.postgres);
    let second = site.backup(Kind::Auto);
    assert_eq!(second.base, Some(first.id));
    assert_eq!(second.gaps, Vec::<String>::new());
    let reused = second.reasons[&ReadReason::Reused];
    assert!(reused.bytes > 5 << 20, "WAL should have spared most files: {:?}", second.reasons);
    let full = site.backup(Kind::Full);
    assert_same_relations(&site.postgres, &site.pages(&second), &site.pages(&full));

    let third = site.backup(Kind::Auto);
    assert!(
        third.bytes_stored < full.bytes_stored / 20,
        "nothing changed, {} bytes stored",
        third.bytes_stored
    );
    assert_same_relations(&site.postgres, &site.pages(&third), &site.pages(&full));
    assert_ne!(first.system_identifier, SystemIdentifier(0));
}

#[test]
fn an_incremental_backup_of_15_holds_what_a_full_one_holds() {
    an_incremental_holds_what_a_full_holds(MajorVersion::V15);
}

#[test]
fn an_incremental_backup_of_17_holds_what_a_full_one_holds() {
    an_incremental_holds_what_a_full_holds(MajorVersion::V17);
}

#[test]
fn a_bad_page_is_named_and_its_backup_is_never_built_upon() {
    let site = Site::new(MajorVersion::V15);
    site.postgres.load_pgbench(1).unwrap();
    let good = site.backup(Kind::Auto);
    site.postgres.checkpoint().unwrap();
    let path = site.postgres.value("SELECT pg_relation_filepath('pgbench_accounts')").unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(site.postgres.pgdata().join(&path)).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 7 * 8192 + 4000).unwrap();

    let bad = site.backup(Kind::Full);
    assert!(!bad.is_good());
    let page = &bad.bad_pages[0];
    assert_eq!((page.path.as_str(), page.block, page.fork.as_str()), (path.as_str(), 7, "main"));
    assert_eq!(page.relation.as_deref(), Some("public.pgbench_accounts"));
    assert_eq!(page.database.as_deref(), Some("postgres"));
    assert_eq!(bad.bad_pages.len(), 1);

    let next = site.backup(Kind::Auto);
    assert_eq!(next.base, Some(good.id), "a backup with bad pages must not be built upon");
}

#[test]
fn a_backup_that_reads_everything_finds_what_wal_did_not_name() {
    let site = Site::new(MajorVersion::V15);
    site.postgres.load_pgbench(2).unwrap();
    let first = site.backup(Kind::Auto);
    churn(&site.postgres);
    // Hint bits, which change without WAL, are no finding.
    site.postgres.each(&["SELECT count(*) FROM pgbench_accounts", "SELECT count(*) FROM fresh"]).unwrap();
    let trusting = site.backup(Kind::Auto);
    assert_eq!((first.trusting, trusting.trusting), (0, 1));
    churn_again(&site.postgres);
    let checked = site.backup_with(BackupOptions { read_all_after: Some(1), ..BackupOptions::default() });
    assert_eq!((checked.checked, checked.trusting, checked.base), (true, 0, Some(trusting.id)));
    assert!(checked.is_reassuring(), "WAL named everything: {:?}", checked.unnamed_changes);
    assert!(checked.bytes_read > checked.bytes_logical * 9 / 10, "it must read everything");
    assert!(checked.bytes_stored < first.bytes_stored / 2, "and store what changed only");

    // Something else than the server writes to a page, with a checksum that holds.
    site.postgres.checkpoint().unwrap();
    let path = site.postgres.value("SELECT pg_relation_filepath('pgbench_tellers')").unwrap();
    forge(&site.postgres.pgdata().join(&path), 0);
    let blind = site.backup(Kind::Auto);
    assert!(blind.is_reassuring() && !blind.checked, "WAL says that the page did not change");
    let seeing = site.backup(Kind::ReadAll);
    let found: Vec<_> = seeing.unnamed_changes.iter().map(|page| (page.path.as_str(), page.block)).collect();
    assert_eq!(found, [(path.as_str(), 0)]);
    assert_eq!(seeing.unnamed_changes[0].relation.as_deref(), Some("public.pgbench_tellers"));
    assert!(seeing.is_good() && !seeing.is_reassuring(), "it holds the page as it is now");
    let full = site.backup(Kind::Full);
    assert_same_relations(&site.postgres, &site.pages(&seeing), &site.pages(&full));
}

fn churn_again(postgres: &Postgres) {
    postgres
        .each(&[
            "UPDATE pgbench_accounts SET abalance = abalance - 1 WHERE aid % 89 = 0",
            "INSERT INTO fresh SELECT g, 'y' FROM generate_series(1, 30000) g",
            "VACUUM fresh",
        ])
        .unwrap();
}

/// Changes the first value of the first tuple of a page behind the server's back.
fn forge(path: &std::path::Path, block: u32) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut page = [0; 8192];
    file.read_exact_at(&mut page, u64::from(block) * 8192).unwrap();
    let line_pointer = u32::from_le_bytes(page[24..28].try_into().unwrap());
    page[(line_pointer & 0x7fff) as usize + 24] ^= 1;
    let checksum = pgproof_pg::page::checksum(&page, block);
    page[8..10].copy_from_slice(&checksum.to_le_bytes());
    file.write_all_at(&page, u64::from(block) * 8192).unwrap();
}
