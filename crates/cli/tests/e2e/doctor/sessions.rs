//! Sessions that keep others from working.

use super::patient::{Patient, server};
use anyhow::{Result, ensure};

#[test]
fn a_session_is_idle_in_a_transaction() -> Result<()> {
    let patient = Patient::new()?;
    let _idle = patient.holds("BEGIN; SELECT 1")?;
    patient.is_cured_of("idle-in-transaction")
}

#[test]
fn one_idle_transaction_holds_up_an_alter_and_everybody_behind_it() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE TABLE \"Order lines\" (a int)")?;
    let _idle = patient.holds("BEGIN; SELECT * FROM \"Order lines\"")?;
    let mut waiting = vec![patient.says("ALTER TABLE \"Order lines\" ADD b int")?];
    std::thread::sleep(std::time::Duration::from_millis(500));
    for _ in 0..2 {
        waiting.push(patient.says("SELECT * FROM \"Order lines\"")?);
    }
    std::thread::sleep(std::time::Duration::from_secs(6));
    let found = patient.findings()?;
    ensure!(found[0]["code"] == "idle-in-transaction", "{found:?}");
    let tree = found.iter().find(|one| one["code"] == "lock-tree").expect("the tree of locks");
    ensure!(tree["cause"].to_string().contains("idle-in-transaction"), "{tree}");
    patient.carry_out(&found[0], 0)?;
    patient.is_well()
}

#[test]
fn one_busy_transaction_holds_the_lock_that_all_want() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE TABLE stock (a int)")?;
    let _busy = patient.says("BEGIN; LOCK TABLE stock; SELECT pg_sleep(300)")?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    for _ in 0..3 {
        patient.says("SELECT * FROM stock")?;
    }
    patient.is_cured_of("lock-tree")
}

#[test]
fn a_prepared_transaction_was_left_behind() -> Result<()> {
    let patient = Patient::of(server().setting("max_prepared_transactions", "5"))?;
    patient.server.each(&["BEGIN", "CREATE TABLE t (a int)", "PREPARE TRANSACTION 'it''s'"])?;
    patient.is_cured_of("prepared-old")
}

#[test]
fn commits_wait_for_a_standby_that_is_not_there() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.each(&["ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (north, south)'"])?;
    patient.server.reload()?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let _waits = patient.says("CREATE TABLE t (a int)")?;
    patient.is_cured_of("sync-standby-missing")
}
