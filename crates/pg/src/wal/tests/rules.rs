//! Each rule of section 10.4: what it names, and that its absence is noticed.

use super::*;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A transaction's end with relation lists and all that may surround them.
fn transaction_end(version: MajorVersion, relnumber: u32, prepared: Option<u32>) -> Vec<u8> {
    let has_stats = version != MajorVersion::V14;
    let flags = 0x0F | if has_stats { 1 << 8 } else { 0 } | if prepared.is_some() { 1 << 4 } else { 0 };
    let mut main = 777_i64.to_le_bytes().to_vec();
    main.extend(words(&[flags, 5, 1663, 2, 901, 902, 1, 1663, 5, relnumber]));
    match version {
        MajorVersion::V14 => {}
        MajorVersion::V18 => main.extend(words(&[1, 1, 5, relnumber, 0])),
        _ => main.extend(words(&[1, 1, 5, relnumber])),
    }
    main.extend(words(&[1, 0, 0, 0, 0]));
    prepared.into_iter().for_each(|xid| main.extend(xid.to_le_bytes()));
    main
}

/// One record of each kind that changes something, each on its own relation or database.
fn everything(version: MajorVersion) -> Forge {
    let mut forge = Forge::new(version);
    let vm = Block { relation: relation(2), fork: Fork::Vm, block: 3, image: false };
    forge.record(HEAP, 0, 3, &[main_block(1, 40_000)], &[1]);
    forge.record(HEAP, 0, 3, &[vm], &[1]);
    forge.record(2, 0x11, 3, &[], &words(&[1663, 5, 10, 0]));
    forge.record(2, 0x11, 3, &[], &words(&[1663, 5, 11, 2]));
    forge.record(2, 0x21, 3, &[], &words(&[70_000, 1663, 5, 20, 7]));
    forge.record(1, 0x80, 30, &[], &transaction_end(version, 30, None));
    // Aborts have no invalidation messages.
    let mut abort = 778_i64.to_le_bytes().to_vec();
    abort.extend(words(&[4, 1, 1663, 5, 31]));
    forge.record(1, 0xA0, 31, &[], &abort);
    forge.record(1, 0xB0, 0, &[], &transaction_end(version, 32, Some(320)));
    abort.truncate(20);
    abort.extend(words(&[5, 33]));
    forge.record(1, 0xC0, 0, &[], &abort);
    forge.record(4, 0x01, 3, &[], &words(&[100, 1663, 1, 1663]));
    let drop_kind = if version == MajorVersion::V14 { 0x11 } else { 0x21 };
    forge.record(4, drop_kind, 3, &[], &words(&[101, 2, 1663, 16400]));
    if version != MajorVersion::V14 {
        forge.record(4, 0x10, 3, &[], &words(&[102, 1663]));
        forge.record(200, 0, 3, &[main_block(50, 7)], &[1]);
    }
    forge
}

fn changes(forge: &Forge, rules: Rules) -> Changes {
    let (name, bytes) = forge.segments().remove(0);
    let mut summarizer = Summarizer::with_rules(name, forge.size, Lsn::MAX, rules);
    summarizer.push(&bytes);
    let summary = summarizer.finish();
    assert_eq!(summary.problems, []);
    assert_eq!(summary.last_record, forge.records.last().copied());
    summary.changes
}

fn blocks(blocks: &[u32]) -> BlockSet {
    blocks.iter().copied().collect()
}

#[test]
fn every_rule_names_what_it_must_on_every_version() {
    for version in MajorVersion::ALL {
        let changes = changes(&everything(version), Rules::ALL);
        let of = |relnumber: u32, fork: Fork| changes.of(&relation(relnumber).fork(fork));
        let check = |relnumber: u32, fork: Fork, named: &[u32], limit: Option<u32>| {
            let expected = blocks(named);
            assert_eq!(
                of(relnumber, fork),
                Change::Blocks { blocks: &expected, limit },
                "{version} {relnumber} {fork}"
            );
        };
        check(1, Fork::Main, &[40_000], None);
        check(1, Fork::Vm, &[1], None);
        assert_eq!(of(1, Fork::Fsm), Change::Whole);
        check(2, Fork::Vm, &[3], None);
        assert_eq!((of(2, Fork::Main), of(2, Fork::Fsm)), (Change::None, Change::Whole));
        assert_eq!((of(10, Fork::Main), of(10, Fork::Vm)), (Change::Whole, Change::Whole));
        assert_eq!((of(11, Fork::Main), of(11, Fork::Vm)), (Change::None, Change::Whole));
        check(20, Fork::Main, &[], Some(70_000));
        check(20, Fork::Vm, &[], Some(2));
        assert_eq!(of(20, Fork::Fsm), Change::Whole);
        for relnumber in 30..=33 {
            for fork in Fork::ALL {
                assert_eq!(of(relnumber, fork), Change::Whole, "{version} {relnumber} {fork}");
            }
        }
        assert!(changes.database_rewritten(1663, 100));
        assert!(changes.database_rewritten(1663, 101) && changes.database_rewritten(16400, 101));
        assert!(!changes.database_rewritten(1663, 5));
        if version != MajorVersion::V14 {
            assert!(changes.database_rewritten(1663, 102));
            assert_eq!((of(50, Fork::Main), of(50, Fork::Init)), (Change::Whole, Change::Whole));
        }
    }
}

#[test]
fn the_lack_of_any_rule_is_noticed() {
    for version in MajorVersion::ALL {
        let forge = everything(version);
        let complete = changes(&forge, Rules::ALL);
        for (name, rules) in Rules::mutations() {
            // 14 has no resource managers of extensions.
            if version == MajorVersion::V14 && name == "custom_managers" {
                continue;
            }
            assert_ne!(changes(&forge, rules), complete, "{version} without {name}");
        }
    }
}

#[test]
fn file_changes_of_unknown_kind_are_problems() {
    for (manager, info) in [(HEAP, 0x01), (2, 0x31), (4, 0x31), (1, 0x70), (200, 0x01)] {
        let mut forge = Forge::new(MajorVersion::V16);
        let at = forge.record(manager, info, 3, &[main_block(1, 1)], &[0; 40]);
        let (name, bytes) = forge.segments().remove(0);
        let summary = summarize(name, &bytes, forge.size);
        let defect = Defect::FileChange { manager, kind: info & 0xF0 };
        assert_eq!(summary.problems, [Problem { at, defect }]);
        assert!(summary.changes.of(&relation(1).fork(Fork::Main)).names(1));
    }
}

#[test]
fn commits_restore_points_and_checkpoints_are_told() {
    let version = MajorVersion::V18;
    let mut forge = everything(version);
    let mut named = 900_i64.to_le_bytes().to_vec();
    named.extend(b"before upgrade\0");
    named.resize(72, 0);
    let point = forge.record(0, 0x70, 0, &[], &named);
    let mut checkpoint = 0x30_0028_u64.to_le_bytes().to_vec();
    checkpoint.extend(words(&[2, 1, 1, 0]));
    checkpoint.extend(4_000_000_123_u64.to_le_bytes());
    checkpoint.resize(88, 0);
    checkpoint[64..72].copy_from_slice(&1_700_000_000_i64.to_le_bytes());
    let at = forge.record(0, 0x00, 0, &[], &checkpoint);
    let (name, bytes) = forge.segments().remove(0);
    let marks = summarize(name, &bytes, forge.size).marks;
    let first = marks.first_commit.unwrap();
    assert_eq!((first.xid, first.time, first.committed), (30, PgTime(777), true));
    let last = marks.last_commit.unwrap();
    assert_eq!((last.xid, last.time), (320, PgTime(777)));
    assert_eq!((marks.newest_end.unwrap().time, marks.newest_end.unwrap().committed), (PgTime(778), false));
    assert_eq!(marks.highest_xid, Some(320));
    assert_eq!((marks.restore_points[0].lsn, &*marks.restore_points[0].name), (point, "before upgrade"));
    let found = marks.checkpoints[0];
    assert_eq!((found.lsn, found.redo, found.is_shutdown), (at, Lsn(0x30_0028), true));
    assert_eq!((found.next_xid, found.time.unix_micros()), (4_000_000_123, 1_700_000_000_000_000));
    assert_eq!((marks.switches[0].timeline, marks.switches[0].previous), (TimelineId(2), TimelineId(1)));
    assert_eq!(marks.levels, [LevelMark { lsn: at, level: crate::WalLevel::Minimal }]);
}

#[test]
fn transaction_numbers_are_compared_in_a_circle() {
    let mut marks = Marks::default();
    [4_294_967_290, 5, 1, 4_294_967_295].into_iter().for_each(|xid| marks.note_xid(xid));
    assert_eq!(marks.highest_xid, Some(5));
}
