use super::append::append_as;
use super::chain::{ChainId, Entry, PAGE_ENTRIES};
use super::*;
use crate::expire::ExpireOptions;
use crate::layout::Lineage;
use crate::repository::Repository;
use crate::seal::Suite;
use crate::testing::{lineage, memory, on};
use expect_test::{Expect, expect};
use jiff::Timestamp;
use pgproof_store::{Directory, Memory, ObjectPath, PutMode};
use std::sync::Arc;
use std::time::Duration;

fn record(text: &str) -> Record {
    let at: Timestamp = "2026-11-23T04:00:00Z".parse().unwrap();
    Record::new(RecordKind::Verify, at, at)
        .measured(name::OBJECTS, 7.0, Unit::Count)
        .ending(Outcome::Good, text)
}

fn host(repository: &Repository, name: &str) -> ChainId {
    ChainId::of_host(repository.id(), name)
}

fn write(repository: &Repository, who: &str, count: usize) {
    for at in 0..count {
        append_as(repository, lineage(), &host(repository, who), &record(&format!("{who} {at}"))).unwrap();
    }
}

fn path(repository: &Repository, who: &str, number: u64) -> ObjectPath {
    host(repository, who).object(lineage(), number).unwrap()
}

/// What verification says, without the repository's random name.
fn check(repository: &Repository, expected: &Expect) {
    let ledger = verify(repository, lineage(), 4).unwrap();
    let origin = repository.id().to_string();
    let lines = ledger.flaws.iter().map(|flaw| format!("{:?}: {}\n", flaw.kind, flaw.seen));
    let text: String = lines.collect();
    expected.assert_eq(&text.replace(&origin, "ORIGIN").replace(&origin[..8], "origin"));
    // A partial reading meets the same damage where it looks.
    read(repository, lineage(), None).unwrap();
}

fn whole(repository: &Repository) {
    check(repository, &expect![""]);
}

#[test]
fn what_was_appended_is_read_back_in_order() {
    for suite in [Suite::None, Suite::Aes256Gcm] {
        let repository = on(Arc::new(Memory::new()), suite);
        write(&repository, "one", 3);
        write(&repository, "two", 2);
        whole(&repository);
        let ledger = read(&repository, lineage(), None).unwrap();
        let says: Vec<&str> = ledger.entries().iter().map(|entry| entry.record.summary.as_str()).collect();
        assert_eq!(says, ["one 0", "one 1", "one 2", "two 0", "two 1"]);
        let last = ledger.entries()[4];
        assert_eq!(last.record.measurement(name::OBJECTS), Some(7.0));
        assert_eq!(last.heads.len(), 1, "the other chain's head is named");
        assert_eq!(last.heads[0].number, 2);
    }
}

#[test]
fn equal_records_of_one_moment_are_two_entries() {
    let entry = || Entry::encode(Timestamp::UNIX_EPOCH, Vec::new(), record("same")).unwrap();
    assert_ne!(entry(), entry(), "a writer must not take the entry of another one for its own");
}

#[test]
fn writers_at_the_same_moment_lose_nothing() {
    let place = tempfile::tempdir().unwrap();
    let repository = on(Arc::new(Directory::create(place.path()).unwrap()), Suite::None);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let repository = &repository;
            scope.spawn(move || write(repository, if thread < 4 { "same" } else { "other" }, 6));
        }
    });
    whole(&repository);
    let ledger = read(&repository, lineage(), None).unwrap();
    let counts: Vec<usize> = ledger.chains.iter().map(|chain| chain.entries.len()).collect();
    assert_eq!(counts, [12, 24]);
}

#[test]
fn a_year_of_records_is_read_with_few_requests() {
    let repository = memory();
    let year = 20 * PAGE_ENTRIES as usize + 5;
    write(&repository, "one", year);
    let asked = || {
        let counters = repository.store().counters();
        counters.gets + counters.lists
    };
    let before = asked();
    let ledger = read(&repository, lineage(), None).unwrap();
    let requests = asked() - before;
    assert_eq!(ledger.chains[0].entries.len(), year);
    assert!(requests <= 25, "{requests} requests");
    let recent = read(&repository, lineage(), Some(Timestamp::MAX)).unwrap();
    assert_eq!(recent.chains[0].entries.len(), 5, "the newest page is always read");
}

#[test]
fn expiry_removes_repetition_only() {
    let repository = memory();
    write(&repository, "one", 2 * PAGE_ENTRIES as usize + 3);
    let options = ExpireOptions { sweep_after: Duration::ZERO, ..ExpireOptions::default() };
    let locked = ExpireOptions { locked_for: Some(Duration::from_secs(60)), ..options.clone() };
    assert_eq!(trim(&repository, lineage(), &locked).unwrap(), 0);
    assert_eq!(trim(&repository, lineage(), &options).unwrap(), 2 * (PAGE_ENTRIES - 1));
    whole(&repository);
    let ledger = read(&repository, lineage(), None).unwrap();
    assert_eq!(ledger.chains[0].entries.len() as u64, 2 * PAGE_ENTRIES + 3);
    write(&repository, "one", 1);
    whole(&repository);
}

#[test]
fn expiry_keeps_all_of_a_page_whose_last_object_is_damaged() {
    let repository = memory();
    write(&repository, "one", PAGE_ENTRIES as usize + 1);
    let last = path(&repository, "one", PAGE_ENTRIES - 1);
    repository.store().put(&last, &[b"rot"], PutMode::Overwrite).unwrap();
    let options = ExpireOptions { sweep_after: Duration::ZERO, ..ExpireOptions::default() };
    assert_eq!(trim(&repository, lineage(), &options).unwrap(), 0);
}

#[test]
fn removed_entries_are_named() {
    let repository = memory();
    write(&repository, "one", PAGE_ENTRIES as usize + 2);
    for number in 0..PAGE_ENTRIES {
        repository.store().delete(&path(&repository, "one", number)).unwrap();
    }
    check(
        &repository,
        &expect![[r#"
        Missing: entries 0 to 63 of origin/one are missing
    "#]],
    );
}

#[test]
fn a_chain_cut_at_its_end_is_named_when_another_writer_saw_it() {
    let repository = memory();
    write(&repository, "one", 3);
    write(&repository, "two", 1);
    repository.store().delete(&path(&repository, "one", 2)).unwrap();
    check(
        &repository,
        &expect![[r#"
        Cut: origin/one ends with entry 1, and entry 0 of origin/two saw its entry 2
    "#]],
    );
    // Going on hides nothing: the number is taken by another entry.
    write(&repository, "one", 1);
    check(
        &repository,
        &expect![[r#"
        Replaced: entry 2 of origin/one is another one than entry 0 of origin/two saw
    "#]],
    );
}

#[test]
fn a_chain_that_is_gone_is_named() {
    let repository = memory();
    write(&repository, "one", 1);
    write(&repository, "two", 1);
    repository.store().delete(&path(&repository, "one", 0)).unwrap();
    check(
        &repository,
        &expect![[r#"
        Cut: origin/one is gone, and entry 0 of origin/two saw its entry 0
    "#]],
    );
}

#[test]
fn damage_is_named_and_does_not_stop_the_ledger() {
    let repository = memory();
    write(&repository, "one", 2);
    for number in 0..2 {
        let path = path(&repository, "one", number);
        let mut bytes = repository.store().get(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        repository.store().put(&path, &[&bytes], PutMode::Overwrite).unwrap();
    }
    write(&repository, "one", 1);
    check(
        &repository,
        &expect![[r#"
            Damaged: 7400000000000000001/ledger/ORIGIN/one/00000000 cannot be read: a frame is not what was written there
            Damaged: 7400000000000000001/ledger/ORIGIN/one/00000001 cannot be read: a frame is not what was written there
            Missing: entries 0 to 63 of origin/one are missing
        "#]],
    );
}

#[test]
fn a_reordered_entry_is_damage_without_the_key() {
    let repository = memory();
    write(&repository, "one", 2);
    let (a, b) = (path(&repository, "one", 0), path(&repository, "one", 1));
    let (first, second) = (repository.store().get(&a).unwrap(), repository.store().get(&b).unwrap());
    repository.store().put(&a, &[&second], PutMode::Overwrite).unwrap();
    repository.store().put(&b, &[&first], PutMode::Overwrite).unwrap();
    assert!(
        verify(&repository, lineage(), 1).unwrap().flaws.iter().any(|flaw| flaw.kind == FlawKind::Damaged)
    );
}

/// Rewrites an object as somebody who has the key.
fn rewrite(repository: &Repository, number: u64, change: impl FnOnce(&mut chain::Page)) {
    let path = path(repository, "one", number);
    let mut page = crate::record::read::<chain::Page>(repository, &path).unwrap().unwrap().value;
    change(&mut page);
    crate::record::write(repository, &path, &page, PutMode::Overwrite).unwrap();
}

#[test]
fn changes_by_somebody_with_the_key_are_named_as_far_as_chains_show_them() {
    let repository = memory();
    write(&repository, "one", 3);
    rewrite(&repository, 2, |page| page.entries[1].entry = page.entries[1].entry.replace("good", "bad"));
    check(
        &repository,
        &expect![[r#"
            Altered: 7400000000000000001/ledger/ORIGIN/one/00000002 tells entry 1 of origin/one differently than others of its page
            Altered: entry 1 in 7400000000000000001/ledger/ORIGIN/one/00000002 is not what was hashed
        "#]],
    );

    let repository = memory();
    write(&repository, "one", PAGE_ENTRIES as usize);
    rewrite(&repository, PAGE_ENTRIES - 1, |page| page.signature = Digest([1; 32]));
    let chain = host(&repository, "one");
    rewrite(&repository, 1, |page| {
        let link = &page.entries[1];
        page.entries[1] = chain::Link::new(&chain, lineage(), 1, Digest([2; 32]), link.entry.clone());
    });
    let kinds: Vec<FlawKind> =
        verify(&repository, lineage(), 1).unwrap().flaws.into_iter().map(|flaw| flaw.kind).collect();
    assert!(kinds.contains(&FlawKind::Unsigned) && kinds.contains(&FlawKind::Broken), "{kinds:?}");
}

#[test]
fn a_copy_takes_chains_along_and_they_hold_under_other_keys() {
    let (source, target) = (memory(), on(Arc::new(Memory::new()), Suite::Aes256Gcm));
    write(&source, "one", PAGE_ENTRIES as usize + 2);
    write(&target, "one", 1);
    assert_eq!(copy(&source, &target, lineage()).unwrap(), 2);
    assert_eq!(copy(&source, &target, lineage()).unwrap(), 0);
    write(&source, "one", 1);
    assert_eq!(copy(&source, &target, lineage()).unwrap(), 1);
    let copied = verify(&target, lineage(), 1).unwrap();
    assert_eq!(copied.flaws, []);
    let chain = copied.chains.iter().find(|chain| chain.id == host(&source, "one")).unwrap();
    assert_eq!(chain.entries.len() as u64, PAGE_ENTRIES + 3);
    // Back it brings what the target wrote itself, and nothing of what the source holds.
    assert_eq!(copy(&target, &source, lineage()).unwrap(), 1);
}

#[test]
fn words_and_fields_of_newer_programs_are_kept() {
    let newer: Record = serde_json::from_str(
        r#"{"kind": "rewind", "started": "2026-11-23T04:00:00Z", "ended": "2026-11-23T04:00:01Z", "new": 1,
            "by": {"host": "a", "pgproof": "9"}, "outcome": "good",
            "measurements": [{"name": "x", "value": 1.5, "unit": "parsec"}]}"#,
    )
    .unwrap();
    assert_eq!(newer.kind, RecordKind::Other("rewind".into()));
    assert!(serde_json::to_string(&newer).unwrap().contains("parsec"));
}

#[test]
fn names_of_hosts_become_names_of_objects() {
    let repository = memory();
    let name = |text: &str| host(&repository, text).writer;
    assert_eq!(name("db1.example.org"), "db1.example.org");
    assert_eq!(name("DB höst/1"), "DB_h_st_1");
    assert_eq!(name("../up"), "_._up");
    assert_eq!(name(""), "_");
    assert_eq!(name(&"x".repeat(100)).len(), 63);
    let lineage: Lineage = lineage();
    let path = host(&repository, "a").object(lineage, 7).unwrap();
    assert_eq!(ChainId::of_path(lineage, &path), Some((host(&repository, "a"), 7)));
}
