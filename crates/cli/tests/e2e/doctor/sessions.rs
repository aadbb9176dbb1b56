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

/// Two sessions that update two rows in opposite order, as often as this.
fn deadlock(patient: &Patient, times: usize) -> Result<()> {
    patient
        .server
        .sql("CREATE TABLE \"Accounts\" AS SELECT g AS id, 0 AS balance FROM generate_series(1, 2) g")?;
    for _ in 0..times {
        let update = |id: u8| format!("UPDATE \"Accounts\" SET balance = balance + 4711 WHERE id = {id}");
        let (mut one, mut other) = (patient.holds("BEGIN")?, patient.holds("BEGIN")?);
        one.batch_execute(&update(1))?;
        other.batch_execute(&update(2))?;
        let waits = std::thread::spawn({
            let next = update(2);
            move || one.batch_execute(&next)
        });
        std::thread::sleep(std::time::Duration::from_millis(200));
        let ended = other.batch_execute(&update(1));
        let waited = waits.join().expect("no panic");
        ensure!(ended.is_err() != waited.is_err(), "one of them is ended");
    }
    Ok(())
}

#[test]
fn transactions_deadlock() -> Result<()> {
    let patient = Patient::of(server().setting("deadlock_timeout", "100ms"))?;
    deadlock(&patient, 3)?;
    let found = patient.suffers_from("deadlocks")?;
    ensure!(found["seen"].to_string().contains("3 deadlocks"), "{found}");
    // The log quotes both statements under DETAIL.
    ensure!(!found.to_string().contains("4711"), "a statement is shown: {found}");
    Ok(())
}

#[test]
fn one_session_holds_thousands_of_locks() -> Result<()> {
    let patient = Patient::new()?;
    let _hoards = patient.holds("SELECT count(pg_advisory_lock(g)) FROM generate_series(1, 6000) g")?;
    patient.is_cured_of("lock-table-full")
}

#[test]
fn the_system_refuses_memory() -> Result<()> {
    let patient = Patient::of(
        server().setting("shared_buffers", "16MB").setting("max_parallel_workers_per_gather", "0"),
    )?;
    let pid = patient.server.pid().expect("it runs").as_raw_nonzero().to_string();
    // Who may lower it is its owner.
    let mut limit = std::process::Command::new("prlimit");
    limit.args(["--pid", &pid, "--as=400000000:"]);
    patient.server.account().apply(&mut limit);
    ensure!(limit.status()?.success(), "prlimit fails");
    let hungry = "SELECT length(repeat('x', 900000000))";
    ensure!(patient.server.sql(hungry).is_err(), "the memory is there");
    let found = patient.suffers_from("out-of-memory")?;
    ensure!(found["evidence"].to_string().contains("ulimit -v"), "{found}");
    patient.carry_out(&found, 0)?;
    patient.server.sql(hungry)
}

#[test]
fn a_report_runs_for_hours() -> Result<()> {
    let patient = Patient::new()?;
    patient.limit("long-transaction = [2, 36000]")?;
    let _report = patient.says("SELECT pg_sleep(300)")?;
    patient.is_cured_of("long-transaction")
}

#[test]
fn a_snapshot_holds_back_vacuum() -> Result<()> {
    let patient = Patient::new()?;
    patient.limit("xmin-holder = [1000, 1000000000]")?;
    patient.server.sql("CREATE PROCEDURE burn() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..1500 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$")?;
    let _reads = patient.says(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*), pg_sleep(300) FROM pg_class GROUP BY oid",
    )?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    patient.server.sql("CALL burn()")?;
    patient.is_cured_of("xmin-holder")
}

#[test]
fn clients_connect_anew_all_the_time() -> Result<()> {
    let patient = Patient::new()?;
    patient.limit("connection-churn = [0.5, 100000]")?;
    for _ in 0..60 {
        patient.server.sql("SELECT 1")?;
    }
    patient.suffers_from("connection-churn").map(drop)
}

#[test]
fn the_server_may_open_too_few_files() -> Result<()> {
    let patient = Patient::new()?;
    let pid = patient.server.pid().expect("it runs").as_raw_nonzero().to_string();
    let mut limit = std::process::Command::new("prlimit");
    limit.args(["--pid", &pid, "--nofile=14:"]);
    patient.server.account().apply(&mut limit);
    ensure!(limit.status()?.success(), "prlimit fails");
    let _ = patient.server.sql("SELECT count(*) FROM pg_class, pg_attribute WHERE relname = attname::text");
    let found = patient.suffers_from("descriptors-out")?;
    patient.carry_out(&found, 0)?;
    patient.server.sql("SELECT count(*) FROM pg_class")
}

#[test]
fn many_wait_for_the_same_thing_inside_the_server() -> Result<()> {
    let patient = Patient::new()?;
    // Who reads in a way that can never fail waits for a transaction that writes to end.
    let _writes =
        patient.says("BEGIN ISOLATION LEVEL SERIALIZABLE; CREATE TABLE t (a int); SELECT pg_sleep(300)")?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    for _ in 0..6 {
        patient.says("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; SELECT 1; COMMIT")?;
    }
    let found = patient.suffers_from("wait-pileup")?;
    ensure!(found["subject"] == "IPC:SafeSnapshot", "{found}");
    patient
        .server
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")?;
    patient.is_well()
}
