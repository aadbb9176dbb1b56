//! Control files of every supported version, as `initdb` wrote them, compared with what `pg_controldata` said of them.

use super::*;

/// The first 512 bytes of `global/pg_control` of a fresh cluster (initdb -k), and its identifier, checkpoint and next xid.
const FRESH: [(MajorVersion, &[u8], u64, Lsn, u64, u32); 5] = [
    (
        MajorVersion::V14,
        include_bytes!("../../../../testdata/pg/control/14.bin"),
        7711106974200391314,
        Lsn(0x1943190),
        733,
        202107181,
    ),
    (
        MajorVersion::V15,
        include_bytes!("../../../../testdata/pg/control/15.bin"),
        7711107031806502601,
        Lsn(0x17414d0),
        724,
        202209061,
    ),
    (
        MajorVersion::V16,
        include_bytes!("../../../../testdata/pg/control/16.bin"),
        7711107074013599455,
        Lsn(0x1720fa0),
        730,
        202307071,
    ),
    (
        MajorVersion::V17,
        include_bytes!("../../../../testdata/pg/control/17.bin"),
        7711107113447872245,
        Lsn(0x16c37c0),
        738,
        202406281,
    ),
    (
        MajorVersion::V18,
        include_bytes!("../../../../testdata/pg/control/18.bin"),
        7711107158837364488,
        Lsn(0x16ef418),
        752,
        202506291,
    ),
];

fn with_crc(mut bytes: Vec<u8>, crc_at: usize) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes[..crc_at]);
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn control_files_of_every_version_are_read() {
    for (version, bytes, identifier, checkpoint, next_xid, catalog) in FRESH {
        let control = ControlFile::parse(bytes).unwrap();
        assert_eq!(control.system_identifier, SystemIdentifier(identifier), "{version}");
        assert_eq!((control.checkpoint, control.redo), (checkpoint, checkpoint), "{version}");
        assert_eq!((control.next_xid, control.catalog_version), (next_xid, catalog), "{version}");
        assert_eq!(control.state, ClusterState::ShutDown);
        assert_eq!((control.timeline, control.previous_timeline), (TimelineId(1), TimelineId(1)));
        assert_eq!((control.max_connections, control.max_worker_processes), (100, 8));
        assert_eq!((control.max_wal_senders, control.max_locks_per_transaction), (10, 64));
        assert_eq!(control.wal_level, WalLevel::Replica);
        assert!(control.has_checksums() && control.full_page_writes && !control.wal_log_hints);
        assert_eq!(control.wal_segment_size, WalSegmentSize::DEFAULT);
        assert!(control.possible_versions().contains(&version));
        assert!(control.checkpoint_time > 1_700_000_000 && control.time >= control.checkpoint_time);
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for (version, bytes, ..) in FRESH {
        let crc_at = Layout::of(ControlFile::parse(bytes).unwrap().control_version).unwrap().crc_at;
        for bit in 0..(crc_at + 4) * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(ControlFile::parse(&changed).is_err(), "{version} bit {bit}");
        }
    }
}

#[test]
fn impossible_checkpoint_keeps_the_rest_and_holds_its_crc() {
    for (_, bytes, identifier, ..) in FRESH {
        let control = ControlFile::parse(&impossible(bytes).unwrap()).unwrap();
        assert!(control.is_impossible());
        assert_eq!(control.redo, IMPOSSIBLE_CHECKPOINT);
        assert_eq!(control.system_identifier, SystemIdentifier(identifier));
        assert_eq!(IMPOSSIBLE_CHECKPOINT.offset_in_page(), 0);
    }
}

#[test]
fn other_sizes_and_versions_are_refused_by_name() {
    let (_, bytes, ..) = FRESH[1];
    let change = |at: usize, value: u32| {
        let mut changed = bytes.to_vec();
        changed[at..at + 4].copy_from_slice(&value.to_le_bytes());
        ControlFile::parse(&with_crc(changed, 288))
    };
    assert_eq!(change(8, 1201), Err(PgError::UnsupportedVersion { major: 12 }));
    assert_eq!(change(216, 16384), Err(PgError::UnsupportedBlockSize { what: "block size", bytes: 16384 }));
    assert_eq!(
        change(224, 16384),
        Err(PgError::UnsupportedBlockSize { what: "WAL block size", bytes: 16384 })
    );
    assert_eq!(change(228, 12345), Err(PgError::WalSegmentSize { bytes: 12345 }));
    assert!(matches!(change(220, 1), Err(PgError::Malformed { .. })));
    assert!(matches!(change(16, 9), Err(PgError::Malformed { .. })));
    assert!(matches!(change(172, 3), Err(PgError::Malformed { .. })));
}

#[test]
fn short_files_are_refused() {
    for (_, bytes, ..) in FRESH {
        for length in 0..288 {
            assert!(matches!(ControlFile::parse(&bytes[..length]), Err(PgError::TooShort { .. })));
        }
    }
}
