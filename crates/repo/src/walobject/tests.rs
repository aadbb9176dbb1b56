use super::*;
use crate::codec::Codec;
use crate::seal::Suite;
use crate::testing::{self, wal_bytes};
use jiff::Timestamp;
use pgproof_pg::{SegmentName, SegmentNumber, TimelineId};
use pgproof_store::Memory;
use std::path::PathBuf;
use std::sync::Arc;

const MEGABYTE: u64 = 1 << 20;

struct Place {
    dir: tempfile::TempDir,
    repository: Repository,
    size: WalSegmentSize,
}

impl Place {
    fn new(suite: Suite, segment_bytes: u64) -> Self {
        let repository = testing::on(Arc::new(Memory::new()), suite);
        let size = WalSegmentSize::new(segment_bytes).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), repository, size }
    }

    fn name(&self, number: u64) -> ArchiveName {
        let segment = SegmentName::new(TimelineId(1), SegmentNumber(number));
        ArchiveName::Segment(segment.file_name(self.size))
    }

    fn file(&self, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join("source");
        std::fs::write(&path, content).unwrap();
        path
    }

    fn push(&self, number: u64, content: &[u8], host: &str, options: StoreOptions) -> Result<Stored> {
        let path = self.file(content);
        let name = self.name(number);
        let source = PushSource { path: &path, name: &name, segment_size: self.size };
        store_segment(&self.repository, testing::lineage(), source, pushed_by(host), options)
    }

    fn fetch(&self, number: u64) -> Result<Option<Vec<u8>>> {
        let to = self.dir.path().join("fetched");
        let fetched =
            fetch_segment(&self.repository, testing::lineage(), &self.name(number), self.size, &to, 2)?;
        Ok((fetched != Fetched::Absent).then(|| std::fs::read(&to).unwrap()))
    }
}

fn pushed_by(host: &str) -> PushedBy {
    PushedBy { at: Timestamp::UNIX_EPOCH, host: host.into(), pgdata: "/data".into(), epoch: 0 }
}

fn options(codec: Codec, threads: usize) -> StoreOptions {
    StoreOptions { codec, threads }
}

#[test]
fn a_segment_reads_back_whatever_the_size_codec_suite_and_number_of_threads() {
    for (megabytes, threads) in [(1, 1), (16, 1), (16, 3), (128, 2)] {
        for (suite, codec) in [
            (Suite::None, Codec::None),
            (Suite::Aes256Gcm, Codec::Lz4),
            (Suite::Aes256Gcm, Codec::Zstd { level: 1 }),
        ] {
            let place = Place::new(suite, megabytes * MEGABYTE);
            let content = wal_bytes(place.size, 7, 3);
            let stored = place.push(7, &content, "a", options(codec, threads)).unwrap();
            assert!(matches!(stored, Stored::New { .. }));
            assert_eq!(place.fetch(7).unwrap().unwrap(), content, "{megabytes} MB {codec} {threads}");
        }
    }
}

#[test]
fn the_same_segment_is_stored_once() {
    let place = Place::new(Suite::Aes256Gcm, 16 * MEGABYTE);
    let content = wal_bytes(place.size, 7, 3);
    place.push(7, &content, "a", StoreOptions::default()).unwrap();
    let again = place.push(7, &content, "b", options(Codec::Lz4, 2)).unwrap();
    assert_eq!(again, Stored::SameContent);
}

#[test]
fn other_content_under_the_same_name_is_refused_and_names_both_servers() {
    let place = Place::new(Suite::Aes256Gcm, MEGABYTE);
    place.push(7, &wal_bytes(place.size, 7, 3), "alpha", StoreOptions::default()).unwrap();
    let error = place.push(7, &wal_bytes(place.size, 7, 4), "beta", StoreOptions::default()).unwrap_err();
    assert_eq!(error.code(), "wal-conflict");
    let text = error.to_string();
    assert!(text.contains("alpha") && text.contains("beta"), "{text}");
    assert_eq!(place.fetch(7).unwrap().unwrap(), wal_bytes(place.size, 7, 3));
}

#[test]
fn a_file_of_another_length_is_refused() {
    let place = Place::new(Suite::None, MEGABYTE);
    for length in [0, 100, MEGABYTE - 1, MEGABYTE + 1, 2 * MEGABYTE] {
        let error = place.push(7, &vec![0; length as usize], "a", StoreOptions::default()).unwrap_err();
        assert_eq!(error.code(), "repository-file", "{length}");
    }
    assert_eq!(place.fetch(7).unwrap(), None);
}

#[test]
fn an_absent_segment_is_told_from_a_damaged_one() {
    let place = Place::new(Suite::None, MEGABYTE);
    assert_eq!(place.fetch(3).unwrap(), None);
    place.push(3, &wal_bytes(place.size, 3, 1), "a", StoreOptions::default()).unwrap();
    let path = object_path(testing::lineage(), &place.name(3), place.size).unwrap();
    let store = place.repository.store();
    let mut object = store.get(&path).unwrap();
    object[100] ^= 1;
    store.put(&path, &[&object], pgproof_store::PutMode::Overwrite).unwrap();
    assert!(place.fetch(3).unwrap_err().is_damage());
    let left: Vec<_> = std::fs::read_dir(place.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["source"]);
}

#[test]
fn the_end_of_an_object_tells_who_pushed_it_with_one_request() {
    let place = Place::new(Suite::Aes256Gcm, 16 * MEGABYTE);
    place.push(7, &wal_bytes(place.size, 7, 3), "alpha", StoreOptions::default()).unwrap();
    let path = object_path(testing::lineage(), &place.name(7), place.size).unwrap();
    let before = place.repository.store().counters();
    let reader = SegmentReader::open(&place.repository, &path).unwrap();
    assert_eq!(reader.index().pushed.host, "alpha");
    assert!(reader.summary().unwrap().is_some());
    assert_eq!(place.repository.store().counters().gets - before.gets, 1);
}

#[test]
fn a_summary_is_never_a_reason_to_refuse_a_segment() {
    let place = Place::new(Suite::None, MEGABYTE);
    let noise: Vec<u8> = (0..MEGABYTE).map(|at| (at * at % 251) as u8).collect();
    place.push(9, &noise, "a", StoreOptions::default()).unwrap();
    assert_eq!(place.fetch(9).unwrap().unwrap(), noise);
}

#[test]
fn history_files_are_kept_and_conflicts_are_named() {
    let place = Place::new(Suite::Aes256Gcm, MEGABYTE);
    let lineage = testing::lineage();
    let name = ArchiveName::parse("00000002.history").unwrap();
    let store = |content: &[u8]| {
        history::store(&place.repository, lineage, &place.file(content), &name, pushed_by("alpha"))
    };
    assert!(matches!(store(b"1\t0/5000\tno reason \xff\n").unwrap(), Stored::New { .. }));
    assert_eq!(store(b"1\t0/5000\tno reason \xff\n").unwrap(), Stored::SameContent);
    assert_eq!(store(b"1\t0/6000\tno reason\n").unwrap_err().code(), "wal-conflict");
    let to = place.dir.path().join("fetched");
    history::fetch(&place.repository, lineage, &name, &to).unwrap();
    assert_eq!(std::fs::read(to).unwrap(), b"1\t0/5000\tno reason \xff\n");
}

#[test]
fn backup_history_files_are_accepted_again_and_again() {
    let place = Place::new(Suite::None, MEGABYTE);
    let name = ArchiveName::parse("0000000100000000000000B3.00000028.backup").unwrap();
    for (content, new) in [(b"one", true), (b"one", false), (b"two", false)] {
        let file = place.file(content);
        let stored =
            history::store(&place.repository, testing::lineage(), &file, &name, pushed_by("a")).unwrap();
        assert_eq!(matches!(stored, Stored::New { .. }), new);
    }
}

#[test]
fn hostile_ends_are_refused() {
    use proptest::prelude::*;
    let mut runner = proptest::test_runner::TestRunner::default();
    runner
        .run(
            &(prop::collection::vec(any::<u8>(), 0..200), any::<u64>(), any::<u32>()),
            |(raw, offset, chunks)| {
                let _ = decode_index(&raw, chunks, offset);
                let _ = Trailer::parse(&raw, offset);
                Ok(())
            },
        )
        .unwrap();
}
