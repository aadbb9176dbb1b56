use super::*;
use expect_test::{Expect, expect};
use pgproof_repo::ledger::{Record, Unit};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn told(kind: RecordKind, when: &str) -> Told {
    Told { at: at(when), record: Record::new(kind, at(when), at(when)) }
}

fn healthy() -> Observation {
    let mut restore = told(RecordKind::Restore, "2026-11-22T12:00:00Z");
    restore.record = restore
        .record
        .measured(name::RESTORE_BYTES, 1e9, Unit::Bytes)
        .measured(name::RESTORE_SECONDS, 10.0, Unit::Seconds)
        .measured(name::REPLAY_BYTES, 1e8, Unit::Bytes)
        .measured(name::REPLAY_SECONDS, 5.0, Unit::Seconds)
        .measured(name::RECOVERY_SECONDS, 15.0, Unit::Seconds);
    let mut records = vec![
        told(RecordKind::Verify, "2026-11-22T10:00:00Z"),
        told(RecordKind::Drill, "2026-11-22T11:00:00Z"),
    ];
    for told in &mut records {
        told.record.by.host = "db1".to_owned();
    }
    records.push(restore);
    Observation {
        now: at("2026-11-23T00:00:00Z"),
        repository: "directory /r".to_owned(),
        system: None,
        newest: Some(NewestBackup {
            id: "20261122T203500Z-0a1b2c".parse().unwrap(),
            stopped: at("2026-11-22T20:36:00Z"),
            logical_bytes: 2_000_000_000,
            wal_bytes: 200_000_000,
        }),
        last_wal: Some(at("2026-11-22T23:59:00Z")),
        windows: Vec::new(),
        running: Vec::new(),
        told: records,
        flaws: Vec::new(),
    }
}

fn stated() -> ObjectivesConfig {
    let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
    ObjectivesConfig {
        rpo: Some(Duration::from_secs(300)),
        rto: Some(Duration::from_secs(60)),
        restore_rto: Some(Duration::from_secs(60)),
        backup_max_age: hours(24),
        verify_every: hours(24),
        drill_every: hours(24),
    }
}

fn check(seen: Observation, expected: &Expect) {
    let status = judge(seen, &stated());
    let lines = status.objectives.iter().map(|line| {
        let measured = line.measured_s.map_or("-".to_owned(), |seconds| format!("{seconds:.0}"));
        let remedy =
            line.remedies.first().map(|remedy| format!(" -> {}", remedy.command)).unwrap_or_default();
        format!("{} {:?} {measured}/{} {}{remedy}\n", line.objective, line.verdict, line.wanted_s, line.by)
    });
    expected.assert_eq(&lines.collect::<String>());
}

#[test]
fn each_objective_is_compared_with_what_was_measured() {
    check(
        healthy(),
        &expect![[r#"
        rpo Kept 60/300 at most: since the archive last grew
        rto Kept 30/60 estimate for today from measured rates
        restore_rto Kept 20/60 estimate for today from measured rates
        backup_max_age Kept 12240/86400 backup 20261122T203500Z-0a1b2c
        verify_every Kept 50400/86400 verify by db1
        drill_every Kept 46800/86400 drill by db1
    "#]],
    );
    assert!(judge(healthy(), &stated()).is_kept());
}

#[test]
fn silence_breaks_objectives() {
    let later = Observation { now: at("2026-11-25T00:00:00Z"), ..healthy() };
    check(
        later,
        &expect![[r#"
        rpo Broken 172860/300 at most: since the archive last grew -> pgproof archive status
        rto Kept 30/60 estimate for today from measured rates
        restore_rto Kept 20/60 estimate for today from measured rates
        backup_max_age Broken 185040/86400 backup 20261122T203500Z-0a1b2c -> pgproof backup
        verify_every Broken 223200/86400 verify by db1 -> pgproof verify
        drill_every Broken 219600/86400 drill by db1 -> pgproof drill
    "#]],
    );
}

#[test]
fn without_evidence_nothing_is_proven() {
    let bare = Observation { told: Vec::new(), newest: None, last_wal: None, ..healthy() };
    check(
        bare,
        &expect![[r#"
        rpo Unproven -/300 no WAL is archived -> pgproof archive status
        rto Unproven -/60 no recovery was measured -> pgproof drill --full
        restore_rto Unproven -/60 no recovery was measured -> pgproof drill --full
        backup_max_age Unproven -/86400 there is no good backup -> pgproof backup
        verify_every Unproven -/86400 no verify is on record -> pgproof verify
        drill_every Unproven -/86400 no drill is on record -> pgproof drill
    "#]],
    );
}

#[test]
fn growth_and_wal_make_the_recovery_time_unreachable() {
    let mut seen = healthy();
    seen.newest.as_mut().unwrap().wal_bytes = 900_000_000;
    let status = judge(seen, &stated());
    assert_eq!(status.objectives[1].verdict, Verdict::Broken);
    let estimate = status.estimate.unwrap();
    assert_eq!(estimate.total_s, Some(65.0));
    assert_eq!(estimate.wal_bytes_max, Some(800_000_000));
    assert_eq!(estimate.logical_bytes_max, Some(6_000_000_000));
}

#[test]
fn a_bad_answer_and_a_measured_loss_break_what_age_would_keep() {
    let mut seen = healthy();
    let mut verify = told(RecordKind::Verify, "2026-11-22T23:00:00Z");
    verify.record = verify.record.ending(Outcome::Bad, "1 thing wrong");
    verify.record.by.host = "db1".to_owned();
    seen.told.push(verify);
    let mut drill = told(RecordKind::Drill, "2026-11-22T23:30:00Z");
    drill.record = drill.record.measured(name::DATA_LOSS, 900.0, Unit::Seconds);
    seen.told.push(drill);
    let status = judge(seen, &stated());
    assert_eq!(
        (status.objectives[0].verdict, status.objectives[0].measured_s),
        (Verdict::Broken, Some(900.0))
    );
    assert_eq!(status.objectives[4].verdict, Verdict::Broken);
    assert!(status.objectives[4].by.contains("ended badly: 1 thing wrong"));
}
