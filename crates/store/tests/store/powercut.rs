//! What was reported durable survives a power cut, and every sync point is needed for it.
//!
//! A workload of all kinds of writes runs on a file system whose power is cut before a given change. After the restart each object must
//! be in the state that was last acknowledged; the write that the cut interrupted may have happened or not. Then the same with each sync
//! point turned off: some cut must lose something, or the point is useless or untested.

use pgproof_store::{Directory, MARKER, ObjectPath, PutMode, Store, StoreError, SyncPoint};
use pgproof_testkit::Seed;
use pgproof_testkit::powercut::{PowerCutFs, Survivors, cuts};
use rand::Rng;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Objects the workload fights over: in shared and in separate directories, near the root and deep.
const NAMES: [&str; 6] = ["wal/a", "wal/b", "packs/00/x", "packs/01/y", "deep/er/and/deeper/z", "lease"];

/// Writes of one workload.
const STEPS: usize = 25;

/// What an object may be after a cut: absent, or one of these contents.
type Possible = Vec<Option<Vec<u8>>>;

/// One kind of write.
#[derive(Debug, Clone, Copy)]
enum Step {
    Overwrite,
    IfAbsent,
    IfMatch,
    Writer,
    Delete,
    /// A writer is killed between naming its object and syncing the name; then the same is put again.
    AfterKilledWriter,
}

const STEP_KINDS: [Step; 6] =
    [Step::Overwrite, Step::IfAbsent, Step::IfMatch, Step::Writer, Step::Delete, Step::AfterKilledWriter];

struct Workload<'a> {
    root: PathBuf,
    disk: &'a PowerCutFs,
    skipped: &'a [SyncPoint],
    possible: BTreeMap<ObjectPath, Possible>,
}

impl Workload<'_> {
    /// Runs until the end or the cut.
    fn run(&mut self, seed: u64) {
        let mut rng = Seed::fixed(seed).rng(1);
        let Ok(store) = Directory::create_without(&self.root, self.skipped) else {
            return assert!(self.disk.is_off());
        };
        if !self.write(&ObjectPath::new(MARKER).unwrap(), Some(b"pgproof"), |path, body| {
            store.put(path, &[body], PutMode::IfAbsent).map(drop)
        }) {
            return;
        }
        for number in 0..STEPS {
            let path = ObjectPath::new(NAMES[rng.random_range(0..NAMES.len())]).unwrap();
            let kind = STEP_KINDS[rng.random_range(0..STEP_KINDS.len())];
            let length = rng.random_range(0..20_000);
            let body: Vec<u8> = format!("{number} {kind:?} {seed} ").bytes().cycle().take(length).collect();
            if !self.step(&store, kind, &path, &body) {
                return;
            }
        }
    }

    /// Makes one write; false when the power is off.
    fn step(&mut self, store: &Directory, kind: Step, path: &ObjectPath, body: &[u8]) -> bool {
        match kind {
            Step::Overwrite => self
                .write(path, Some(body), |path, body| store.put(path, &[body], PutMode::Overwrite).map(drop)),
            Step::IfAbsent => self
                .write(path, Some(body), |path, body| store.put(path, &[body], PutMode::IfAbsent).map(drop)),
            Step::IfMatch => match store.head(path) {
                Ok(Some(meta)) => self.write(path, Some(body), |path, body| {
                    store.put(path, &[body], PutMode::IfMatch(meta.version)).map(drop)
                }),
                Ok(None) => true,
                Err(_) => false,
            },
            Step::Writer => self.write(path, Some(body), |path, body| {
                let mut writer = store.writer(path)?;
                for piece in body.chunks(3_000) {
                    writer.write_all(piece)?;
                }
                writer.finish(PutMode::Overwrite).map(drop)
            }),
            Step::Delete => self.write(path, None, |path, _| store.delete(path)),
            Step::AfterKilledWriter => {
                // The first handle stands for a process that died before these syncs.
                let died = [SyncPoint::ObjectName, SyncPoint::ParentNames, SyncPoint::ExistingName];
                let killed = Directory::open_without(&self.root, &died);
                let named = killed.is_ok_and(|killed| killed.put(path, &[body], PutMode::IfAbsent).is_ok());
                if named || self.disk.is_off() {
                    self.possible.entry(path.clone()).or_insert_with(|| vec![None]).push(Some(body.to_vec()));
                }
                // Now there is an object, whoever made it, and learning that it exists is as good as having written it.
                self.write(path, Some(body), |path, body| {
                    store.put(path, &[body], PutMode::IfAbsent).map(drop)
                })
            }
        }
    }

    /// Makes a write and notes what the object may be afterwards; false when the power is off.
    fn write(
        &mut self,
        path: &ObjectPath,
        body: Option<&[u8]>,
        write: impl FnOnce(&ObjectPath, &[u8]) -> pgproof_store::Result<()>,
    ) -> bool {
        let possible = self.possible.entry(path.clone()).or_insert_with(|| vec![None]);
        match write(path, body.unwrap_or_default()) {
            Ok(()) => *possible = vec![body.map(<[u8]>::to_vec)],
            Err(StoreError::AlreadyExists { .. }) => {
                let found = std::fs::read(self.root.join(path.as_str()));
                assert!(found.is_ok() || self.disk.is_off());
                if let Ok(found) = found {
                    *possible = vec![Some(found)];
                } else {
                    possible.retain(Option::is_some);
                }
            }
            Err(error) => {
                assert!(self.disk.is_off(), "only the cut may fail a write: {error:?}");
                possible.push(body.map(<[u8]>::to_vec));
                return false;
            }
        }
        true
    }

    /// What a restart finds against what was acknowledged.
    fn check(&self) -> Result<(), String> {
        let marker = ObjectPath::new(MARKER).unwrap();
        let store = match Directory::open(&self.root) {
            Ok(store) => store,
            Err(error) if self.possible.get(&marker).is_some_and(|states| !states.contains(&None)) => {
                return Err(format!("the repository is gone: {error:?}"));
            }
            Err(_) => return Ok(()),
        };
        for (path, possible) in &self.possible {
            let found = match store.get(path) {
                Ok(body) => Some(body),
                Err(StoreError::NotFound { .. }) => None,
                Err(error) => return Err(format!("{path}: {error:?}")),
            };
            if !possible.contains(&found) {
                return Err(format!(
                    "{path} is {}, possible: {}",
                    told(&found),
                    possible.iter().map(told).collect::<String>()
                ));
            }
        }
        let listed = store.list(None, None).map_err(|error| format!("{error:?}"))?;
        match listed.iter().find(|meta| !self.possible.contains_key(&meta.path)) {
            Some(stranger) => Err(format!("{} was never written", stranger.path)),
            None => Ok(()),
        }
    }
}

fn told(state: &Option<Vec<u8>>) -> String {
    match state {
        None => "absent; ".to_owned(),
        Some(body) => {
            format!("{} bytes of `{}`; ", body.len(), String::from_utf8_lossy(&body[..body.len().min(20)]))
        }
    }
}

/// How long a whole workload is, in changes and syncs.
fn length_of(seed: u64) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let disk = PowerCutFs::mount(dir.path()).unwrap();
    workload(&disk, dir.path(), &[]).run(seed);
    disk.operations()
}

fn workload<'a>(disk: &'a PowerCutFs, dir: &Path, skipped: &'a [SyncPoint]) -> Workload<'a> {
    Workload { root: dir.join("repository"), disk, skipped, possible: BTreeMap::new() }
}

/// Runs a workload up to a cut, restarts, and checks.
fn cut(seed: u64, after: u64, survivors: Survivors, skipped: &[SyncPoint]) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let disk = PowerCutFs::mount(dir.path()).unwrap();
    disk.cut_after(after, survivors);
    let mut workload = workload(&disk, dir.path(), skipped);
    workload.run(seed);
    disk.cut(survivors);
    disk.restart();
    workload.check().map_err(|loss| format!("seed {seed}, cut after {after}, {survivors:?}: {loss}"))
}

#[test]
fn what_was_reported_durable_survives_power_cuts() {
    let seed = Seed::from_environment();
    let mut rng = seed.rng(0);
    for number in 0..cuts() {
        let workload = rng.random();
        let after = rng.random_range(0..=length_of(workload));
        let survivors = if number % 2 == 0 { Survivors::OnlySynced } else { Survivors::Random(rng.random()) };
        cut(workload, after, survivors, &[]).unwrap();
    }
}

#[test]
fn a_cut_at_every_single_point_of_a_workload_loses_nothing() {
    let workload = 7;
    for after in 0..=length_of(workload) {
        cut(workload, after, Survivors::OnlySynced, &[]).unwrap();
    }
}

#[test]
fn every_sync_point_is_missed_when_it_is_turned_off() {
    for point in SyncPoint::ALL {
        let losses =
            (0..40).filter(|seed| cut(*seed, u64::MAX / 2, Survivors::OnlySynced, &[point]).is_err());
        assert!(losses.take(1).count() == 1, "no test notices that {point:?} is turned off");
    }
}
