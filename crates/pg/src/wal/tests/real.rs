//! WAL that PostgreSQL wrote: one segment of each version, with an access method of every kind, prepared transactions, truncation, databases
//! made and dropped, plain and compressed images. The lists are `pg_waldump`'s of 15, 17 and 18; the bare servers of 14 and 16 come without it.

use super::*;
use crate::{SegmentName, WalSegmentSize};

struct Real {
    version: MajorVersion,
    file: &'static str,
    segment: &'static [u8],
    /// What `pg_waldump` lists of it.
    list: Option<&'static [u8]>,
}

macro_rules! real {
    ($version:ident, $number:literal, $file:literal, $list:expr) => {
        Real {
            version: MajorVersion::$version,
            file: $file,
            segment: include_bytes!(concat!("../../../../../testdata/pg/wal/", $number, "-", $file, ".zst")),
            list: $list,
        }
    };
    ($version:ident, $number:literal, $file:literal) => {
        real!(
            $version,
            $number,
            $file,
            Some(include_bytes!(concat!("../../../../../testdata/pg/wal/", $number, ".list.zst")))
        )
    };
}

const REAL: [Real; 5] = [
    real!(V14, "14", "00000001000000000000000B", None),
    real!(V15, "15", "000000010000000000000009"),
    real!(V16, "16", "000000010000000000000009", None),
    real!(V17, "17", "000000010000000000000008"),
    real!(V18, "18", "000000010000000000000008"),
];

fn size() -> WalSegmentSize {
    WalSegmentSize::new(1 << 20).unwrap()
}

fn unpack(bytes: &[u8]) -> Vec<u8> {
    zstd::decode_all(bytes).unwrap()
}

fn summary(real: &Real) -> SegmentSummary {
    summarize(SegmentName::parse(real.file, size()).unwrap(), &unpack(real.segment), size())
}

#[test]
fn records_are_those_that_pg_waldump_lists() {
    for real in &REAL {
        let name = SegmentName::parse(real.file, size()).unwrap();
        let mut reader = WalReader::new(size(), name.start(size()), Lsn::MAX);
        let mut list = Vec::new();
        reader.push(&unpack(real.segment), &mut |version, record, defect| {
            assert_eq!((version, defect), (real.version, None), "{record}");
            list.push(record.to_string());
        });
        assert!(list.len() > 1000, "{}: {} records", real.version, list.len());
        let Some(expected) = real.list else { continue };
        let expected = String::from_utf8(unpack(expected)).unwrap();
        let expected: Vec<_> = expected.lines().collect();
        assert_eq!(list.len(), expected.len(), "{}", real.version);
        for (found, expected) in list.iter().zip(expected) {
            assert_eq!(found, expected, "{}", real.version);
        }
    }
}

#[test]
fn summaries_of_real_segments_tell_what_was_done() {
    for real in &REAL {
        let summary = summary(real);
        let version = real.version;
        assert_eq!((summary.version, &summary.problems[..]), (Some(version), &[][..]));
        assert_eq!(summary.ending, Ending::EndOfData, "{version}");
        let marks = &summary.marks;
        assert_eq!(
            marks.restore_points.iter().map(|point| &*point.name).collect::<Vec<_>>(),
            ["named point"]
        );
        assert!(marks.checkpoints.last().unwrap().is_shutdown);
        assert_eq!(marks.checkpoints.last().map(|checkpoint| checkpoint.lsn), summary.last_record);
        let next_xid = marks.checkpoints.last().unwrap().next_xid;
        assert_eq!(marks.highest_xid.map(u64::from), Some(next_xid - 1), "{version}");
        assert!(marks.first_commit.unwrap().time < marks.last_commit.unwrap().time);
        assert_eq!(summary.changes.rewritten_databases().count(), 1, "{version}");
        assert_eq!(SegmentSummary::decode(&summary.encode()), Ok(summary));
    }
}

#[test]
fn the_summary_of_a_segment_is_a_hundredth_of_it() {
    for real in &REAL {
        let encoded = summary(real).encode().len();
        assert!(encoded < 10_000, "{}: {encoded}", real.version);
    }
}

#[test]
fn a_flipped_bit_in_a_record_is_always_noticed() {
    let real = &REAL[1];
    let bytes = unpack(real.segment);
    let whole = summary(real);
    let name = whole.name;
    let end = whole.valid_end.offset_in_segment(size()) as usize;
    for at in (40..end).step_by(977) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let damaged = summarize(name, &changed, size());
        // Alignment between records and padding in page headers carry nothing.
        assert!(damaged.valid_end < whole.valid_end || damaged == whole, "byte {at}");
    }
}
