//! What was reported durable survives a power cut: WAL segments, packs, manifests, leases, publications.
//!
//! That each sync point of the store below is needed for it is tested there (`pgproof-store`, `tests/store/powercut.rs`).

use super::{Spec, archive_one, begin, lineage, on, pages_of, segment_name, wal_bytes, write};
use crate::access::AccessLimits;
use crate::key::Unlock;
use crate::lease::{Outcome, WriterRecord};
use crate::seal::Suite;
use crate::verify::{VerifyOptions, verify};
use crate::walobject::fetch_segment;
use crate::{BackupId, PageReader, Repository, Result, record};
use pgproof_base::{NoProgress, Severity};
use pgproof_store::{Directory, Store};
use pgproof_testkit::Seed;
use pgproof_testkit::powercut::{PowerCutFs, Survivors, cuts};
use rand::Rng;
use std::path::Path;
use std::sync::Arc;

/// What was reported done.
#[derive(Default)]
struct Acknowledged {
    segments: Vec<u64>,
    /// Backups whose lease was taken.
    begun: Vec<BackupId>,
    /// Backups whose packs and manifest were finished.
    written: Vec<(BackupId, Spec)>,
    published: Vec<BackupId>,
}

/// Archives and backs up until the end, or until the power is off.
fn work(repository: &Repository, rng: &mut impl Rng, done: &mut Acknowledged) -> Result<()> {
    for segment in 3..8 {
        archive_one(repository, segment)?;
        done.segments.push(segment);
        if rng.random_bool(0.3) {
            continue;
        }
        let spec = match done.published.last() {
            Some(&base) => Spec::on(base, segment),
            None => Spec::at(segment),
        };
        let lease = begin(repository, &spec)?;
        let id = lease.objects().id();
        done.begun.push(id);
        let info = write(repository, id, &spec)?;
        done.written.push((id, spec));
        lease.publish(info.size, info.identity)?;
        done.published.push(id);
    }
    Ok(())
}

impl Acknowledged {
    fn check(&self, repository: &Repository) {
        let dir = tempfile::tempdir().unwrap();
        let size = Spec::segment_size();
        for &number in &self.segments {
            let to = dir.path().join(number.to_string());
            fetch_segment(repository, lineage(), &segment_name(number), size, &to, 1).unwrap();
            assert!(std::fs::read(to).unwrap() == wal_bytes(size, number, number), "segment {number}");
        }
        for &id in &self.begun {
            let objects = lineage().backup(id);
            let outcome = record::read::<Outcome>(repository, &objects.outcome()).unwrap();
            let lease = record::read::<WriterRecord>(repository, &objects.lease()).unwrap();
            assert!(outcome.is_some() || lease.is_some(), "expiry would take {id} for nobody's");
            let published = matches!(outcome.map(|found| found.value), Some(Outcome::Published { .. }));
            assert!(published || !self.published.contains(&id), "{id} is published no more");
        }
        for (id, spec) in &self.written {
            let system = lineage().system();
            let pages = PageReader::open(repository, system, id, AccessLimits::default()).unwrap();
            let mut page = [0; 8192];
            for block in 0..2 {
                pages.page("base/5/2", block, &mut page).unwrap();
                assert!(page == pages_of(spec, 1)[block as usize * 8192..][..8192], "{id}, block {block}");
            }
        }
        let report = verify(repository, &VerifyOptions::default(), &NoProgress).unwrap();
        let found = report.lineages.iter().flat_map(|lineage| &lineage.findings);
        let hurt: Vec<_> = found
            .filter(|found| found.finding.severity >= Severity::Warning || !found.hurts.is_nothing())
            .collect();
        assert!(hurt.is_empty(), "{hurt:?}");
    }
}

/// Works until a cut, restarts, and checks. Returns how many changes and syncs the work was.
fn cut(seed: u64, after: Option<u64>, survivors: Survivors) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let disk = PowerCutFs::mount(dir.path()).unwrap();
    let place = dir.path().join("repository");
    let repository = on(Arc::new(Directory::create(&place).unwrap()), Suite::None);
    let before = disk.operations();
    if let Some(after) = after {
        disk.cut_after(after, survivors);
    }
    let mut done = Acknowledged::default();
    let worked = work(&repository, &mut Seed::fixed(seed).rng(1), &mut done);
    assert!(worked.is_ok() || disk.is_off(), "only the cut may stop the work: {worked:?}");
    let operations = disk.operations() - before;
    drop(repository);
    disk.cut(survivors);
    disk.restart();
    done.check(&reopened(&place));
    operations
}

fn reopened(place: &Path) -> Repository {
    let store: Arc<dyn Store> = Arc::new(Directory::open(place).unwrap());
    Repository::open(store, &Unlock::Nothing).unwrap()
}

#[test]
fn wal_and_backups_that_were_reported_durable_survive_power_cuts() {
    let seed = Seed::from_environment();
    let mut rng = seed.rng(0);
    for number in 0..cuts() {
        let work = rng.random_range(0..3);
        let survivors = if number % 2 == 0 { Survivors::OnlySynced } else { Survivors::Random(rng.random()) };
        // The whole work takes some 150 changes and syncs; a cut beyond its end tests that all of it is there.
        cut(work, Some(rng.random_range(0..160)), survivors);
    }
    let operations = cut(0, None, Survivors::OnlySynced);
    assert!((60..400).contains(&operations), "{operations}: cuts are drawn from the wrong range");
}
