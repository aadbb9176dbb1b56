//! What was acknowledged to the server survives power cuts and kills of the receiver, a receiver goes on without a gap after each of them,
//! and every sync of the place is needed for that.
//!
//! A real server streams to a receiver whose place is on a file system that forgets what was not synced. Its replication slot says what
//! was acknowledged: WAL before that position it may remove, and does. After each cut every segment up to there is fetched as a recovery
//! would and compared with the server's own.

use super::place::Place;
use super::sync::{SyncPoint, Syncs};
use super::{ReceiveRequest, receive_with};
use crate::{Ahead, GetOutcome, GetRequest, NamedRepository, get};
use pgproof_pg::{
    Lsn, MajorVersion, SegmentName, SegmentNumber, SystemIdentifier, TimelineId, WalSegmentSize,
};
use pgproof_repo::seal::Suite;
use pgproof_repo::walobject::StoreOptions;
use pgproof_repo::{CreateOptions, Repository};
use pgproof_server::ConnectOptions;
use pgproof_store::Directory;
use pgproof_testkit::powercut::{PowerCutFs, Survivors, cuts};
use pgproof_testkit::{Postgres, Seed, StopMode, wait};
use rand::Rng;
use rand::rngs::StdRng;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Cuts of one disk before it is replaced by an empty one: first names are lost most easily.
const CUTS_OF_A_DISK: u32 = 8;

/// Changes and syncs of one receiver, about: what a cut is drawn from.
const CHANGES: u64 = 70;

/// Disks on which one sync point is missed at the latest.
const DISKS_UNTIL_MISSED: u64 = 60;

type Checked = Result<(), String>;

/// A server, and a repository on a disk that is never cut.
struct Site {
    server: Postgres,
    repository: NamedRepository,
    size: WalSegmentSize,
    /// The timelines, and where each begins.
    timelines: RwLock<Vec<(TimelineId, Lsn)>>,
    _store: TempDir,
}

impl Site {
    fn new() -> Self {
        let builder = Postgres::builder(MajorVersion::V15).wal_segment_size_mb(1).archive_by_copying();
        let server = builder.setting("restore_command", "false").start().unwrap();
        let store = tempfile::tempdir().unwrap();
        let place = store.path().join("repository");
        let options = CreateOptions { suite: Suite::None, recipients: Vec::new() };
        let made = Repository::create(Arc::new(Directory::create(&place).unwrap()), &options).unwrap();
        let repository = NamedRepository::new("main", "here", true, move || Ok(made.clone()));
        let size = server.wal_segment_size().unwrap();
        let timelines = RwLock::new(vec![(TimelineId::FIRST, Lsn(0))]);
        Self { server, repository, size, timelines, _store: store }
    }

    /// Lets the server begin a new timeline, as a recovery does that ends at once.
    fn switch_timeline(&self) {
        self.server.stop(StopMode::Fast).unwrap();
        let signal = self.server.pgdata().join("recovery.signal");
        fs::write(&signal, "").unwrap();
        self.server.account().own(&signal).unwrap();
        self.server.start().unwrap();
        self.server.wait_for_promotion().unwrap();
        let timeline = TimelineId(self.timelines.read().unwrap().last().unwrap().0.0 + 1);
        let history = String::from_utf8(self.own(&timeline.history_file_name())).unwrap();
        let last = history.lines().rfind(|line| line.contains('/')).unwrap();
        let begin = last.split('\t').nth(1).unwrap().parse().unwrap();
        self.timelines.write().unwrap().push((timeline, begin));
    }

    /// The server's own file, archived already or not.
    fn own(&self, name: &str) -> Vec<u8> {
        let archived = self.server.archive_dir().join(name);
        let read =
            || fs::read(&archived).or_else(|_| fs::read(self.server.pgdata().join("pg_wal").join(name)));
        // Between the two looks it may have gone from the one place to the other.
        read().or_else(|_| read()).unwrap_or_else(|error| panic!("the server lacks {name}: {error}"))
    }

    fn own_segment(&self, number: SegmentNumber) -> Vec<u8> {
        let timelines = self.timelines.read().unwrap();
        let (timeline, _) = timelines.iter().rfind(|(_, begin)| begin.segment(self.size) <= number).unwrap();
        self.own(&SegmentName::new(*timeline, number).file_name(self.size))
    }
}

/// One disk, the slot of the receivers that use it, and what they acknowledged.
struct Disk<'a> {
    site: &'a Site,
    slot: String,
    syncs: Syncs,
    begin: Lsn,
    acknowledged: Lsn,
    fs: PowerCutFs,
    dir: TempDir,
}

impl<'a> Disk<'a> {
    fn new(site: &'a Site, slot: &str, syncs: Syncs) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fs = PowerCutFs::mount(dir.path()).unwrap();
        let server = &site.server;
        let made = format!("SELECT lsn FROM pg_create_physical_replication_slot('{slot}', true)");
        let begin = server.value(&made).unwrap().parse().unwrap();
        Self { site, slot: slot.to_owned(), syncs, begin, acknowledged: begin, fs, dir }
    }

    /// Receives until the cut, or until all is received where none comes; then tells how many changes and syncs that took.
    fn receive(&mut self, rng: &mut StdRng, cut: Option<(u64, Survivors)>) -> Result<u64, String> {
        let before = self.fs.operations();
        // What the slot does not keep is removed now, so that who needs it fails.
        self.site.server.checkpoint().unwrap();
        if let Some((after, survivors)) = cut {
            self.fs.cut_after(after, survivors);
        }
        let stop = AtomicBool::new(false);
        let received = thread::scope(|scope| {
            let receiver = scope.spawn(|| self.receiver(&stop));
            self.write(rng, cut.is_none(), &|| self.fs.is_off() || receiver.is_finished());
            if let Some((_, survivors)) = cut {
                self.fs.cut(survivors);
            }
            stop.store(true, Ordering::Relaxed);
            receiver.join().unwrap()
        });
        let was_cut = self.fs.is_off();
        self.fs.restart();
        self.acknowledged = self.acknowledged.max(self.slot_position());
        match received {
            Err(error) if !was_cut => Err(format!("a receiver cannot go on: {error:?}")),
            _ => Ok(self.fs.operations() - before),
        }
    }

    fn receiver(&self, stop: &AtomicBool) -> Result<super::ReceiveReport, crate::WalError> {
        let connect = ConnectOptions {
            connection_string: Some(self.site.server.connection_string()),
            ..ConnectOptions::default()
        };
        let request = ReceiveRequest {
            spool: self.dir.path().to_owned(),
            name: "powercut".to_owned(),
            slot: Some(self.slot.clone()),
            options: StoreOptions::default(),
        };
        let repositories = std::slice::from_ref(&self.site.repository);
        receive_with(repositories, &connect, &request, stop, &|_| (), self.syncs)
    }

    /// Lets the server write until there is enough, or until it `is_over`.
    fn write(&self, rng: &mut StdRng, to_the_end: bool, is_over: &dyn Fn() -> bool) {
        let mut client = self.site.server.client().unwrap();
        for _ in 0..rng.random_range(1..8) {
            let length = rng.random_range(100..400_000);
            let message = format!("SELECT pg_logical_emit_message(true, 'filler', repeat('x', {length}))");
            client.batch_execute(&message).unwrap();
            if rng.random_bool(0.2) {
                client.batch_execute("SELECT pg_switch_wal()").unwrap();
            }
            if rng.random_bool(0.4) {
                self.wait_until(is_over, || self.is_all_acknowledged());
            }
            if is_over() {
                return;
            }
        }
        // Some cuts come when all is quiet: the last segment is complete and handed over, and the next one not begun.
        if to_the_end || rng.random_bool(0.4) {
            client.batch_execute("SELECT pg_switch_wal()").unwrap();
            self.wait_until(is_over, || self.is_all_acknowledged() && self.is_handed_over());
        }
    }

    fn wait_until(&self, is_over: &dyn Fn() -> bool, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_over() && !is_so() {
            assert!(began.elapsed() < wait::PATIENCE, "the receiver does not go on");
            thread::sleep(Duration::from_millis(3));
        }
    }

    fn is_all_acknowledged(&self) -> bool {
        let query = format!(
            "SELECT restart_lsn >= pg_current_wal_flush_lsn() FROM pg_replication_slots WHERE slot_name = '{}'",
            self.slot
        );
        self.site.server.value(&query).unwrap() == "t"
    }

    fn is_handed_over(&self) -> bool {
        let control = pgproof_server::find::control_file(self.site.server.pgdata()).unwrap();
        let folder = pgproof_repo::received::folder(self.dir.path(), control.system_identifier);
        pgproof_repo::received::Holdings::look(&folder, self.site.size)
            .is_ok_and(|held| held.complete.is_empty())
    }

    /// What the receiver acknowledged last, once the server has heard its last word.
    fn slot_position(&self) -> Lsn {
        let query = |what: &str| {
            let query = format!("SELECT {what} FROM pg_replication_slots WHERE slot_name = '{}'", self.slot);
            self.site.server.value(&query)
        };
        wait::until_true("the slot to be free", || Ok(query("active")? == "f")).unwrap();
        query("restart_lsn").unwrap().parse().unwrap()
    }

    /// What a recovery gets of this name, from the repository and the place.
    fn fetched(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let place = self.site.server.ground().join("fetched");
        let request = GetRequest {
            pgdata: self.site.server.pgdata().to_owned(),
            name: name.to_owned(),
            destination: place.clone(),
            received: Some(self.dir.path().to_owned()),
        };
        let repositories = std::slice::from_ref(&self.site.repository);
        let outcome = get(repositories, &request, 1, Ahead::Unused, &mut || (), &mut |_, _| ())
            .map_err(|error| format!("{name}: {error:?}"))?;
        Ok((outcome == GetOutcome::Delivered).then(|| fs::read(&place).unwrap()))
    }

    /// Is everything there that was acknowledged, from this segment on? Looks for files as a recovery does: for the newest timeline whose
    /// history it finds first.
    fn check(&self, from: SegmentNumber) -> Checked {
        if self.acknowledged <= self.begin {
            return Ok(());
        }
        let mut known = Vec::new();
        for &(timeline, begin) in self.site.timelines.read().unwrap().iter() {
            let name = timeline.history_file_name();
            if timeline != TimelineId::FIRST {
                let Some(history) = self.fetched(&name)? else { break };
                if history != self.site.own(&name) {
                    return Err(format!("{name} has {} bytes that are not the server's", history.len()));
                }
            }
            known.push((timeline, begin.segment(self.site.size)));
        }
        let last = self.acknowledged.segment(self.site.size);
        (from.0..=last.0).try_for_each(|number| self.check_segment(&known, SegmentNumber(number)))
    }

    fn check_segment(&self, known: &[(TimelineId, SegmentNumber)], number: SegmentNumber) -> Checked {
        let size = self.site.size;
        let length = self.acknowledged.bytes_since(number.start(size)).min(size.bytes().into());
        let length = usize::try_from(length).unwrap();
        for (timeline, _) in known.iter().rev().filter(|(_, begin)| *begin <= number) {
            let name = SegmentName::new(*timeline, number).file_name(size);
            let Some(found) = self.fetched(&name)? else { continue };
            // PostgreSQL takes a file of another length for an error and ends the recovery.
            if found.len() != size.bytes() as usize {
                return Err(format!("{name} has {} bytes", found.len()));
            }
            return match found[..length] == self.site.own_segment(number)[..length] {
                true => Ok(()),
                false => {
                    Err(format!("{name} lacks some of the first {length} bytes, which are acknowledged"))
                }
            };
        }
        if length == 0 {
            Ok(())
        } else {
            Err(format!("nothing holds segment {number:?}, of which {length} bytes are acknowledged"))
        }
    }

    /// The segment before the one that was acknowledged last: what is before was looked at after earlier cuts.
    fn recent(&self) -> SegmentNumber {
        let last = self.acknowledged.segment(self.site.size);
        last.previous().unwrap_or(last).max(self.begin.segment(self.site.size))
    }
}

/// Cuts the power of one disk again and again, and looks what is left each time; then lets a receiver come to the end.
fn life(site: &Site, seed: u64, slot: &str, syncs: Syncs, has_switch: bool) -> Checked {
    let rng = &mut Seed::fixed(seed).rng(1);
    let mut disk = Disk::new(site, slot, syncs);
    let switch_at = has_switch.then(|| rng.random_range(1..CUTS_OF_A_DISK));
    let mut lived = Ok(());
    for number in 0..CUTS_OF_A_DISK {
        if switch_at == Some(number) {
            site.switch_timeline();
        }
        let survivors = match rng.random_range(0..3) {
            0 => Survivors::Everything,
            1 => Survivors::OnlySynced,
            _ => Survivors::Random(rng.random()),
        };
        let (from, after) = (disk.recent(), rng.random_range(0..CHANGES));
        let received = disk.receive(rng, Some((after, survivors)));
        lived = received
            .and_then(|_| disk.check(from))
            .map_err(|loss| format!("cut {number} after {after} changes, {survivors:?}: {loss}"));
        if lived.is_err() {
            break;
        }
    }
    if lived.is_ok() {
        let received = disk.receive(rng, None);
        let all = disk.begin.segment(site.size);
        lived = received.and_then(|_| disk.check(all)).map_err(|loss| format!("in the end: {loss}"));
    }
    site.server.sql(&format!("SELECT pg_drop_replication_slot('{slot}')")).unwrap();
    lived.map_err(|loss| format!("seed {seed}: {loss}"))
}

#[test]
fn received_wal_that_was_acknowledged_survives_power_cuts() {
    let seed = Seed::from_environment();
    let mut rng = seed.rng(0);
    let site = Site::new();
    for number in 0..cuts().div_ceil(CUTS_OF_A_DISK) {
        life(&site, rng.random(), &format!("disk_{number}"), Syncs::default(), number % 2 == 1).unwrap();
    }
}

/// Uses a place on a disk of its own, up to where a receiver would acknowledge; then looks what a cut leaves.
fn on_a_disk(syncs: Syncs, mut use_place: impl FnMut(&PowerCutFs, &dyn Fn() -> Place) -> Checked) -> Checked {
    let dir = tempfile::tempdir().unwrap();
    let fs = PowerCutFs::mount(dir.path()).unwrap();
    let size = WalSegmentSize::new(1 << 20).unwrap();
    let take = || Place::take(dir.path(), SystemIdentifier(7), size, syncs).unwrap().unwrap();
    use_place(&fs, &take)
}

fn segment(timeline: u32, number: u64) -> SegmentName {
    SegmentName::new(TimelineId(timeline), SegmentNumber(number))
}

/// Receives into a segment up to where it would be acknowledged.
fn received(place: &Place, name: SegmentName) -> std::io::Result<()> {
    let mut open = place.open(name, || place.make_spare())?;
    open.write(name.start(WalSegmentSize::new(1 << 20).unwrap()), b"acknowledged")?;
    open.sync()
}

fn begins_with_it(place: &Place, name: SegmentName) -> bool {
    fs::read(place.partial_path(name)).is_ok_and(|content| content.starts_with(b"acknowledged"))
}

/// A receiver is killed after so many changes, and the next one goes on under the names that it gave.
fn after_a_kill(syncs: Syncs, after: u64) -> Checked {
    on_a_disk(syncs, |fs, take| {
        let first = take();
        fs.cut_after(after, Survivors::Everything);
        drop(received(&first, segment(1, 3)));
        drop(first);
        fs.cut(Survivors::Everything);
        fs.restart();
        received(&take(), segment(1, 3)).unwrap();
        fs.cut(Survivors::OnlySynced);
        fs.restart();
        match begins_with_it(&take(), segment(1, 3)) {
            true => Ok(()),
            false => Err(format!("lost, after a receiver was killed after {after} changes")),
        }
    })
}

fn inherited_by_a_timeline(syncs: Syncs) -> Checked {
    on_a_disk(syncs, |fs, take| {
        let place = take();
        received(&place, segment(1, 3)).unwrap();
        let switch = segment(1, 3).start(WalSegmentSize::new(1 << 20).unwrap()).plus(12);
        place.inherit(segment(1, 3), segment(2, 3), switch, || place.make_spare()).unwrap();
        fs.cut(Survivors::OnlySynced);
        fs.restart();
        match begins_with_it(&place, segment(2, 3)) {
            true => Ok(()),
            false => Err("the new timeline's segment hides what is acknowledged of the old one's".to_owned()),
        }
    })
}

/// PostgreSQL ends a recovery that is given a file of another length.
fn begun_whole(syncs: Syncs) -> Checked {
    on_a_disk(syncs, |fs, take| {
        let place = take();
        place.open(segment(1, 3), || place.make_spare()).unwrap();
        fs.cut(Survivors::OnlySynced);
        fs.restart();
        match std::fs::metadata(place.partial_path(segment(1, 3))).unwrap().len() {
            0x10_0000 => Ok(()),
            length => Err(format!("a segment that was begun has {length} bytes")),
        }
    })
}

fn history_kept(syncs: Syncs) -> Checked {
    on_a_disk(syncs, |fs, take| {
        let place = take();
        place.keep_history(TimelineId(2), b"history").unwrap();
        fs.cut(Survivors::OnlySynced);
        fs.restart();
        match std::fs::read(place.history_path(TimelineId(2))).is_ok_and(|found| found == b"history") {
            true => Ok(()),
            false => Err("the timeline that is acknowledged is not known".to_owned()),
        }
    })
}

/// What is removed in order is gone in order, whatever of it survives.
fn removed_in_order(syncs: Syncs, chance: u64) -> Checked {
    on_a_disk(syncs, |fs, take| {
        let place = take();
        for number in 3..6 {
            let open = place.open(segment(1, number), || place.make_spare()).unwrap();
            place.complete(open).unwrap();
        }
        (3..6).for_each(|number| place.remove(&place.path(segment(1, number))).unwrap());
        fs.cut(Survivors::Random(chance));
        fs.restart();
        match place.holdings().unwrap().complete.last() {
            Some(last) if *last != segment(1, 5) => {
                Err(format!("seed {chance}: {last:?} is back, and what follows is not"))
            }
            _ => Ok(()),
        }
    })
}

/// What finds out that a point is turned off, and why nothing else would: a name that only a kill leaves unsynced, a moment too short
/// for chance.
fn missed(site: &Site, point: SyncPoint) -> Option<String> {
    let syncs = Syncs { without: Some(point) };
    match point {
        SyncPoint::HeldNames => (0..40).find_map(|after| after_a_kill(syncs, after).err()),
        SyncPoint::HistoryData | SyncPoint::HistoryName => history_kept(syncs).err(),
        SyncPoint::SpareData => begun_whole(syncs).err(),
        SyncPoint::InheritedData => inherited_by_a_timeline(syncs).err(),
        SyncPoint::RemovedName => (0..40).find_map(|chance| removed_in_order(syncs, chance).err()),
        _ => (0..DISKS_UNTIL_MISSED).find_map(|seed| {
            let slot = format!("{point:?}_{seed}").to_lowercase();
            life(site, seed, &slot, syncs, false).err()
        }),
    }
}

#[test]
fn every_sync_of_received_wal_is_missed_after_a_power_cut() {
    let site = Site::new();
    for point in SyncPoint::ALL {
        let missed = missed(&site, point);
        assert!(missed.is_some(), "no test notices that {point:?} is turned off");
    }
}

#[test]
fn names_given_or_taken_by_a_killed_receiver_mislead_no_later_one() {
    let all = Syncs::default();
    (0..40).try_for_each(|after| after_a_kill(all, after)).unwrap();
    (0..40).try_for_each(|chance| removed_in_order(all, chance)).unwrap();
    inherited_by_a_timeline(all).unwrap();
    history_kept(all).unwrap();
    begun_whole(all).unwrap();
}
