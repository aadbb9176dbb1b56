//! The suite that every store passes: [`run`] panics with the sentence that does not hold.
//!
//! It works below a directory of its own with a random name, so it can be pointed at a place that is in use, and it removes what it
//! made. What an emulator is known to lack is named by the caller ([`Lacks`]), so that a store never lacks more than is known.

use crate::{ObjectMeta, ObjectPath, PutMode, Store, StoreError};
use jiff::SignedDuration;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Large enough for several parts of an upload, and not a multiple of any buffer.
const BIG_BYTES: usize = (40 << 20) + 12_345;

/// More than one page of an S3 listing.
const MANY: usize = 1_010;

/// Threads in every race.
const RACERS: usize = 8;

/// Promises that a store is known not to keep. All false for a real one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lacks {
    /// A condition is checked and applied in two steps, so that a race can have two winners.
    pub atomic_conditions: bool,
    /// [`PutMode::IfMatch`] is not supported.
    pub if_match: bool,
    /// An object written in parts ignores [`PutMode::IfMatch`].
    pub if_match_in_parts: bool,
    /// A tail takes two requests, the first of which asks for the size.
    pub tail_in_one_request: bool,
}

/// Holds a store to every promise of [`Store`].
pub fn run(store: &dyn Store) {
    run_lacking(store, Lacks::default());
}

/// Holds a store to every promise that it is not known to lack.
pub fn run_lacking(store: &dyn Store, lacks: Lacks) {
    let dir =
        must(ObjectPath::new(format!("contract-{:016x}", rand::random::<u64>())), "a legal name is legal");
    let suite = Suite { store, dir };
    suite.objects_come_back_as_they_were_put();
    suite.absent_objects_are_proven_absent();
    suite.ranges_are_one_request_and_never_short();
    suite.tails_tell_the_size(lacks);
    suite.if_absent_refuses_to_replace();
    suite.big_objects_are_written_in_pieces();
    suite.an_abandoned_writer_leaves_nothing();
    suite.writers_keep_conditions(lacks);
    suite.replacing_is_atomic_for_readers();
    suite.listings_are_complete_and_in_byte_order();
    suite.directories_are_listed_one_level_deep();
    suite.deleting_is_final_and_repeatable();
    suite.the_clock_is_that_of_the_objects();
    if !lacks.atomic_conditions {
        suite.one_of_many_creators_wins();
    }
    if !lacks.if_match {
        suite.if_match_refuses_other_versions();
        if !lacks.atomic_conditions {
            suite.counting_by_if_match_loses_nothing();
        }
    }
    suite.probing_finds_what_the_store_can_do(lacks);
    suite.clean_up();
}

struct Suite<'a> {
    store: &'a dyn Store,
    dir: ObjectPath,
}

impl Suite<'_> {
    fn path(&self, below: &str) -> ObjectPath {
        must(self.dir.join(below), "a legal name is legal")
    }

    fn put(&self, path: &ObjectPath, body: &[u8]) -> ObjectMeta {
        must(self.store.put(path, &[body], PutMode::Overwrite), "an object can be stored")
    }

    fn get(&self, path: &ObjectPath) -> Vec<u8> {
        must(self.store.get(path), "a stored object can be read")
    }

    fn head(&self, path: &ObjectPath) -> Option<ObjectMeta> {
        must(self.store.head(path), "an object can be looked up")
    }

    fn list(&self, below: &str) -> Vec<ObjectMeta> {
        must(self.store.list(Some(&self.path(below)), None), "a directory can be listed")
    }

    fn objects_come_back_as_they_were_put(&self) {
        let path = self.path("basic/parts");
        let parts: [&[u8]; 4] = [b"one, ", b"", b"two, ", b"three"];
        let meta = must(self.store.put(&path, &parts, PutMode::Overwrite), "an object is stored in parts");
        assert_eq!(meta.size, 15);
        assert_eq!(meta.path, path);
        let (body, read) = must(self.store.get_with_meta(&path), "an object is read with its metadata");
        assert_eq!(body, b"one, two, three");
        assert_eq!((read.size, &read.version, &read.path), (15, &meta.version, &path));
        let seen = self.head(&path);
        assert_eq!(seen.as_ref(), Some(&read), "a look-up and a read tell the same");
        assert_eq!(self.list("basic"), vec![read], "a listing and a read tell the same");
        self.put(&path, b"replaced");
        assert_eq!(self.get(&path), b"replaced");

        let empty = self.path("basic/empty");
        for body in [&[][..], &[&b""[..]][..]] {
            let meta = must(self.store.put(&empty, body, PutMode::Overwrite), "an empty object is stored");
            assert_eq!(meta.size, 0);
            assert_eq!(self.get(&empty), b"");
        }
    }

    fn absent_objects_are_proven_absent(&self) {
        self.put(&self.path("absence/dir/object"), b"x");
        for absent in ["absence/none", "absence/none/deeper", "absence/dir"] {
            let path = self.path(absent);
            assert_eq!(self.head(&path), None, "{absent}");
            let mut byte = [0];
            for outcome in [
                self.store.get(&path).map(drop),
                self.store.get_range(&path, 0, &mut byte),
                self.store.get_tail(&path, 1).map(drop),
            ] {
                assert!(matches!(outcome, Err(StoreError::NotFound { .. })), "{absent}: {outcome:?}");
            }
        }
        assert_eq!(self.list("absence/none"), vec![]);
        assert_eq!(
            must(self.store.list_dirs(Some(&self.path("absence/none"))), "nothing is listed"),
            [""; 0]
        );
    }

    fn ranges_are_one_request_and_never_short(&self) {
        let path = self.path("range/object");
        self.put(&path, b"0123456789");
        let before = self.store.counters();
        let mut buf = [0; 4];
        must(self.store.get_range(&path, 3, &mut buf), "a range is read");
        assert_eq!(&buf, b"3456");
        let after = self.store.counters();
        assert_eq!(
            (after.gets - before.gets, after.bytes_read - before.bytes_read),
            (1, 4),
            "one ranged request"
        );
        must(self.store.get_range(&path, 6, &mut buf), "a range up to the end is read");
        assert_eq!(&buf, b"6789");
        must(self.store.get_range(&path, 99, &mut []), "an empty range needs no object");
        for (offset, got) in [(7, 3), (10, 0), (1_000, 0)] {
            match self.store.get_range(&path, offset, &mut buf) {
                Err(StoreError::Truncated { wanted: 4, got: told, .. }) => {
                    assert_eq!(told, got, "at {offset}")
                }
                other => panic!("a range beyond the end is truncated, at {offset}: {other:?}"),
            }
        }
    }

    fn tails_tell_the_size(&self, lacks: Lacks) {
        let path = self.path("tail/object");
        self.put(&path, b"0123456789");
        let tail = |len| must(self.store.get_tail(&path, len), "a tail is read");
        let before = self.store.counters().gets;
        assert_eq!(tail(3), (b"789".to_vec(), 10));
        let requests = if lacks.tail_in_one_request { 2 } else { 1 };
        assert_eq!(self.store.counters().gets - before, requests, "one suffix request");
        assert_eq!(tail(10), (b"0123456789".to_vec(), 10));
        assert_eq!(tail(4096), (b"0123456789".to_vec(), 10), "a longer tail is the whole object");
        assert_eq!(tail(0), (vec![], 10));
        let empty = self.path("tail/empty");
        self.put(&empty, b"");
        assert_eq!(must(self.store.get_tail(&empty, 5), "the tail of nothing is read"), (vec![], 0));
    }

    fn if_absent_refuses_to_replace(&self) {
        let path = self.path("if-absent/object");
        must(self.store.put(&path, &[b"first"], PutMode::IfAbsent), "an absent object is created");
        for body in [&b"second"[..], &b"first"[..]] {
            let refused = self.store.put(&path, &[body], PutMode::IfAbsent);
            assert!(matches!(refused, Err(StoreError::AlreadyExists { .. })), "{refused:?}");
        }
        assert_eq!(self.get(&path), b"first", "a refused write changes nothing");
        must(self.store.delete(&path), "an object is removed");
        must(self.store.put(&path, &[b"again"], PutMode::IfAbsent), "a removed object is absent");
    }

    fn if_match_refuses_other_versions(&self) {
        let path = self.path("if-match/object");
        let first = self.put(&path, b"first").version;
        let replace = |body: &[u8], version| self.store.put(&path, &[body], PutMode::IfMatch(version));
        let second = must(replace(b"second", first.clone()), "the present version is replaced").version;
        assert_ne!(first, second);
        let refused = replace(b"third", first.clone());
        assert!(matches!(refused, Err(StoreError::VersionMismatch { .. })), "{refused:?}");
        assert_eq!(self.get(&path), b"second", "a refused write changes nothing");
        assert_eq!(self.head(&path).map(|meta| meta.version), Some(second.clone()));
        let listed = self.list("if-match").pop();
        let listed = must(listed.ok_or("nothing"), "the object is listed").version;
        must(replace(b"third", listed), "the version of a listing is good");
        must(self.store.delete(&path), "an object is removed");
        let refused = replace(b"fourth", second);
        assert!(matches!(refused, Err(StoreError::VersionMismatch { .. })), "{refused:?}");
        assert_eq!(self.head(&path), None, "a removed object stays removed");
    }

    fn one_of_many_creators_wins(&self) {
        for round in 0..5 {
            let path = self.path(&format!("race/create-{round}"));
            let winners = AtomicUsize::new(0);
            let bodies: Vec<_> = (0..RACERS).map(|racer| format!("racer {racer}")).collect();
            let won = std::sync::Mutex::new(String::new());
            std::thread::scope(|scope| {
                for body in &bodies {
                    let (path, winners, won) = (&path, &winners, &won);
                    scope.spawn(move || match self.store.put(path, &[body.as_bytes()], PutMode::IfAbsent) {
                        Ok(_) => {
                            winners.fetch_add(1, Ordering::SeqCst);
                            must(won.lock(), "no racer panics").clone_from(body);
                        }
                        Err(StoreError::AlreadyExists { .. }) => {}
                        Err(error) => panic!("a loser is told that the object exists: {error:?}"),
                    });
                }
            });
            assert_eq!(winners.load(Ordering::SeqCst), 1, "exactly one creator wins");
            assert_eq!(self.get(&path), must(won.into_inner(), "no racer panics").as_bytes());
        }
    }

    fn counting_by_if_match_loses_nothing(&self) {
        const STEPS: usize = 5;
        let path = self.path("race/counter");
        self.put(&path, b"0");
        std::thread::scope(|scope| {
            for _ in 0..RACERS {
                scope.spawn(|| {
                    let mut done = 0;
                    while done < STEPS {
                        let (body, meta) = must(self.store.get_with_meta(&path), "the counter is read");
                        let value: usize =
                            must(String::from_utf8_lossy(&body).parse(), "the counter is a number");
                        let next = (value + 1).to_string();
                        match self.store.put(&path, &[next.as_bytes()], PutMode::IfMatch(meta.version)) {
                            Ok(_) => done += 1,
                            Err(StoreError::VersionMismatch { .. }) => {}
                            Err(error) => panic!("a loser is told that the version changed: {error:?}"),
                        }
                    }
                });
            }
        });
        assert_eq!(self.get(&path), (RACERS * STEPS).to_string().as_bytes(), "every step was counted once");
    }

    fn big_objects_are_written_in_pieces(&self) {
        let path = self.path("big/object");
        let body = pattern(BIG_BYTES);
        let mut writer = must(self.store.writer(&path), "a writer begins");
        for piece in body.chunks(300_007) {
            must(writer.write_all(piece), "a piece is written");
        }
        assert_eq!(writer.size(), BIG_BYTES as u64);
        assert_eq!(self.head(&path), None, "an unfinished object is invisible");
        assert_eq!(self.list("big"), vec![], "an unfinished object is not listed");
        let meta = must(writer.finish(PutMode::IfAbsent), "a big object is finished");
        assert_eq!(meta.size, BIG_BYTES as u64);
        assert_eq!(self.head(&path).map(|seen| (seen.size, seen.version)), Some((meta.size, meta.version)));
        let mut range = vec![0; 70_001];
        must(self.store.get_range(&path, 33_000_000, &mut range), "a range of a big object is read");
        assert!(range == body[33_000_000..][..70_001], "a range of a big object is right");
        assert!(self.get(&path) == body, "a big object comes back");
        must(self.store.delete(&path), "a big object is removed");
    }

    fn an_abandoned_writer_leaves_nothing(&self) {
        for size in [10, BIG_BYTES / 2] {
            let path = self.path("abandoned/object");
            let mut writer = must(self.store.writer(&path), "a writer begins");
            must(writer.write_all(&pattern(size)), "a piece is written");
            drop(writer);
            assert_eq!(self.head(&path), None);
            assert_eq!(self.list("abandoned"), vec![]);
        }
    }

    fn writers_keep_conditions(&self, lacks: Lacks) {
        for (name, size) in [("small", 100), ("big", 20 << 20)] {
            let path = self.path(&format!("writer/{name}"));
            let body = pattern(size);
            let write = |body: &[u8], mode| {
                let mut writer = must(self.store.writer(&path), "a writer begins");
                must(writer.write_all(body), "a piece is written");
                writer.finish(mode)
            };
            let first = must(write(&body, PutMode::IfAbsent), "an absent object is created").version;
            let refused = write(&body[1..], PutMode::IfAbsent);
            assert!(matches!(refused, Err(StoreError::AlreadyExists { .. })), "{name}: {refused:?}");
            assert_eq!(self.head(&path).map(|meta| meta.size), Some(size as u64));
            if lacks.if_match || (lacks.if_match_in_parts && name == "big") {
                continue;
            }
            must(write(&body[1..], PutMode::IfMatch(first.clone())), "the present version is replaced");
            let refused = write(&body[2..], PutMode::IfMatch(first));
            assert!(matches!(refused, Err(StoreError::VersionMismatch { .. })), "{name}: {refused:?}");
            assert_eq!(self.head(&path).map(|meta| meta.size), Some(size as u64 - 1));
        }
    }

    fn replacing_is_atomic_for_readers(&self) {
        let path = self.path("atomic/object");
        let body = |round: u8| vec![round; 50_000 + usize::from(round)];
        self.put(&path, &body(0));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let seen = self.get(&path);
                    assert_eq!(seen, body(seen[0]), "a reader sees one whole version");
                }
            });
            for round in 1..20 {
                self.put(&path, &body(round));
            }
            done.store(true, Ordering::SeqCst);
            must(reader.join().map_err(|_| "it panicked"), "the reader saw only whole versions");
        });
    }

    fn listings_are_complete_and_in_byte_order(&self) {
        let mut names: Vec<String> =
            ["b", "a/z", "a-b", "a.b", "A", "a/y/x", "a_b", "a0"].map(String::from).into();
        names.extend((0..MANY).map(|number| format!("many/{}/{number:06}", number % 7)));
        std::thread::scope(|scope| {
            for share in names.chunks(names.len().div_ceil(RACERS)) {
                scope.spawn(move || {
                    for name in share {
                        self.put(&self.path(&format!("list/{name}")), name.as_bytes());
                    }
                });
            }
        });
        names.sort_unstable();
        let strip = |metas: Vec<ObjectMeta>| -> Vec<String> {
            let skipped = self.dir.as_str().len() + "/list/".len();
            metas.iter().map(|meta| meta.path.as_str()[skipped..].to_owned()).collect()
        };
        let all = self.list("list");
        assert!(all.iter().zip(&names).all(|(meta, name)| meta.size == name.len() as u64));
        assert_eq!(strip(all), names, "everything is listed, in byte order of whole paths");
        let listed_after = |start: &str| {
            let start = self.path(&format!("list/{start}"));
            let found = self.store.list(Some(&self.path("list")), Some(start.as_str()));
            strip(must(found, "a listing begins after a name"))
        };
        for start in [&names[0], &names[5], &names[500], &names[names.len() - 2], "many/3", "a", "zzz"] {
            let expected: Vec<_> = names.iter().filter(|name| name.as_str() > start).cloned().collect();
            assert_eq!(listed_after(start), expected, "after {start}");
        }
        let root = must(self.store.list(None, None), "the whole store is listed");
        assert!(root.is_sorted_by_key(|meta| meta.path.clone()));
        let ours = root.iter().filter(|meta| meta.path.is_below(Some(&self.path("list")))).count();
        assert_eq!(ours, names.len(), "a listing of the root goes to any depth");
    }

    fn directories_are_listed_one_level_deep(&self) {
        for name in ["dirs/b/x", "dirs/a/x/y", "dirs/a/z", "dirs/file"] {
            self.put(&self.path(name), b"x");
        }
        let dirs = |dir: &ObjectPath| must(self.store.list_dirs(Some(dir)), "directories are listed");
        assert_eq!(dirs(&self.path("dirs")), ["a", "b"]);
        assert_eq!(dirs(&self.path("dirs/a")), ["x"]);
        let root = must(self.store.list_dirs(None), "directories of the root are listed");
        assert!(root.iter().any(|name| name == self.dir.as_str()) && root.is_sorted());
        must(self.store.delete(&self.path("dirs/b/x")), "an object is removed");
        assert_eq!(dirs(&self.path("dirs")), ["a"], "a directory without objects is not listed");
    }

    fn deleting_is_final_and_repeatable(&self) {
        let paths = ["one", "two", "dir/three"].map(|name| self.path(&format!("delete/{name}")));
        for path in &paths {
            self.put(path, b"x");
        }
        must(self.store.delete(&paths[0]), "an object is removed");
        assert_eq!(self.head(&paths[0]), None);
        must(self.store.delete(&paths[0]), "an absent object is removed");
        must(self.store.delete(&self.path("delete/none/at/all")), "an absent object is removed");
        must(self.store.delete_all(&paths), "many are removed, absent ones among them");
        assert_eq!(self.list("delete"), vec![]);
        must(self.store.delete_all(&[]), "nothing is removed");
    }

    fn the_clock_is_that_of_the_objects(&self) {
        let before = must(self.store.now(), "the clock is read");
        let meta = self.put(&self.path("clock/object"), b"x");
        let seen = must(self.head(&meta.path).ok_or("none"), "a stored object is found").modified;
        let after = must(self.store.now(), "the clock is read");
        // Whole seconds, and a reply may be dated a moment after the object.
        let slack = SignedDuration::from_secs(2);
        for modified in [meta.modified, seen] {
            assert!(modified >= before - slack && modified <= after + slack, "{before} {modified} {after}");
        }
    }

    fn probing_finds_what_the_store_can_do(&self, lacks: Lacks) {
        let seen = must(self.store.probe(), "the store is probed");
        assert!(
            seen.writable && seen.if_absent && seen.read_after_write && seen.list_after_write,
            "{seen:?}"
        );
        assert_eq!(seen.if_match, !lacks.if_match, "{seen:?}");
        assert_eq!(seen.is_complete(), !lacks.if_match);
        let dirs = must(self.store.list_dirs(None), "directories of the root are listed");
        assert!(!dirs.iter().any(|name| name.starts_with("pgproof-probe")), "probing leaves nothing");
    }

    fn clean_up(&self) {
        let listed = must(self.store.list(Some(&self.dir), None), "everything is listed");
        let paths: Vec<_> = listed.into_iter().map(|meta| meta.path).collect();
        must(self.store.delete_all(&paths), "everything is removed");
        assert_eq!(must(self.store.list(Some(&self.dir), None), "nothing is listed"), vec![]);
    }
}

/// The value, or a panic with the promise that was broken.
#[track_caller]
fn must<T, E: std::fmt::Debug>(outcome: Result<T, E>, promise: &str) -> T {
    match outcome {
        Ok(value) => value,
        Err(error) => panic!("{promise}: {error:?}"),
    }
}

/// Bytes that repeat nowhere near a buffer size, made eight at a time: tests run without optimisation.
fn pattern(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 8);
    let mut word = 1_u64;
    while bytes.len() < size {
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
