//! Tables, indexes, sequences, and what is in their files.

use super::patient::{Patient, server};
use anyhow::{Result, ensure};
use pgproof_testkit::StopMode;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

#[test]
fn a_unique_index_was_not_finished() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE TABLE \"Members\" AS SELECT 1 AS a FROM generate_series(1, 2)")?;
    let made = patient.server.each(&["CREATE UNIQUE INDEX CONCURRENTLY \"By a\" ON \"Members\" (a)"]);
    ensure!(made.is_err(), "there are duplicates");
    patient.is_cured_of("index-invalid")
}

#[test]
fn a_sequence_is_near_the_end_of_its_column() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql(
        "CREATE TABLE \"Orders\" (\"Id\" serial PRIMARY KEY); SELECT setval('\"Orders_Id_seq\"', 2100000000)",
    )?;
    patient.is_cured_of("sequence-end")
}

#[test]
fn an_identity_column_is_at_its_end() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql(
        "CREATE SCHEMA app; CREATE TABLE app.t (id smallint GENERATED ALWAYS AS IDENTITY); SELECT setval('app.t_id_seq', 32767)",
    )?;
    patient.is_cured_of("sequence-end")
}

#[test]
fn foreign_keys_were_switched_off() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE \"B\" (a int REFERENCES a); ALTER TABLE \"B\" DISABLE TRIGGER ALL",
    )?;
    patient.is_cured_of("triggers-disabled")
}

#[test]
fn a_table_is_never_vacuumed() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.each(&[
        "CREATE TABLE queue (a int) WITH (autovacuum_enabled = off)",
        "INSERT INTO queue SELECT generate_series(1, 5000)",
        "ANALYZE queue",
        "DELETE FROM queue WHERE a > 100",
    ])?;
    patient.is_cured_of("table-autovacuum-off")
}

#[test]
fn a_table_was_never_analysed() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.each(&[
        "CREATE TABLE imported (a int) WITH (autovacuum_enabled = off)",
        "INSERT INTO imported SELECT generate_series(1, 20000)",
    ])?;
    patient.is_cured_of("never-analysed")
}

#[test]
fn dead_rows_pile_up() -> Result<()> {
    let patient = Patient::of(server().setting("autovacuum_naptime", "1d"))?;
    let update = "UPDATE hot SET a = a + 1";
    patient.server.each(&[
        "CREATE TABLE hot (a int)",
        "INSERT INTO hot SELECT generate_series(1, 20000)",
        "ANALYZE hot",
    ])?;
    for _ in 0..3 {
        patient.server.sql(update)?;
    }
    patient.is_cured_of("dead-tuples")
}

#[test]
fn a_page_is_damaged() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 1000) g")?;
    let file = patient.server.value("SELECT pg_relation_filepath('t')")?;
    patient.server.stop(StopMode::Fast)?;
    let file = OpenOptions::new().write(true).open(patient.server.pgdata().join(file))?;
    file.write_all_at(b"\xff\x00\xff", 5000)?;
    patient.server.start()?;
    ensure!(patient.server.sql("SELECT count(*) FROM t").is_err(), "the page is read");
    let found = patient.suffers_from("data-damaged")?;
    ensure!(found["seen"].to_string().contains("invalid page in block 0"), "{found}");
    let counted = patient.findings()?.into_iter().find(|one| one["code"] == "checksum-failures");
    ensure!(counted.is_some_and(|one| one["cause"] == "data-damaged"), "the counter is no cause of its own");
    Ok(())
}

#[test]
fn the_library_sorts_otherwise_than_it_did() -> Result<()> {
    let patient = Patient::new()?;
    let known = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'pg_database'::regclass AND attname = 'datcollversion'";
    let recorded = "UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'postgres' AND pg_database_collation_actual_version(oid) IS NOT NULL";
    if patient.server.value(known)? == "0" || patient.server.client()?.execute(recorded, &[])? == 0 {
        return Ok(());
    }
    patient.is_cured_of("collation-drift")
}

#[test]
fn transactions_grow_old_because_a_prepared_one_was_left() -> Result<()> {
    let often = server().setting("autovacuum_naptime", "1s");
    let patient = Patient::of(often.setting("max_prepared_transactions", "5"))?;
    if !patient.server.bin().join("pg_resetwal").exists() {
        // The tests' build of 14 is a bare server.
        return Ok(());
    }
    patient.server.each(&["BEGIN", "CREATE TABLE t (a int)", "PREPARE TRANSACTION 'forgotten'"])?;
    patient.server.stop(StopMode::Fast)?;
    // Two thirds of the way to the wraparound, with the commit log that belongs there: 1048576 transactions a file.
    let xid = 1_400_000_000_u32;
    let log = patient.server.pgdata().join(format!("pg_xact/{:04X}", xid / 1_048_576));
    std::fs::write(&log, vec![0; 262_144])?;
    patient.server.account().own(&log)?;
    let mut reset = std::process::Command::new(patient.server.bin().join("pg_resetwal"));
    reset.arg("-x").arg(xid.to_string()).arg(patient.server.pgdata());
    patient.server.account().apply(&mut reset);
    ensure!(reset.output()?.status.success(), "pg_resetwal fails");
    patient.server.start()?;
    patient.suffers_from("prepared-old")?;
    let found = patient.findings()?;
    let age = found.iter().find(|one| one["code"] == "xid-age");
    ensure!(age.is_some_and(|one| one["cause"].to_string().contains("prepared-old:forgotten")), "{found:#?}");
    patient.is_cured_of("prepared-old")
}

#[test]
fn a_column_is_narrower_than_the_key_that_it_refers_to() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql(
        "CREATE TABLE \"Users\" (id bigint PRIMARY KEY); CREATE TABLE orders (id bigint PRIMARY KEY, \"User\" int REFERENCES \"Users\")",
    )?;
    patient.is_cured_of("foreign-key-narrower")
}

#[test]
fn a_table_is_mostly_empty() -> Result<()> {
    let patient = Patient::of(server().setting("autovacuum_naptime", "1d"))?;
    patient.limit("table-bloat = [1000000, 1000000000000]")?;
    // Each in a session of its own: what one counts reaches the statistics when it ends.
    for statement in [
        "CREATE TABLE \"Log\" AS SELECT g AS id, md5(g::text) AS line FROM generate_series(1, 50000) g",
        // The last rows stay, so that vacuum cannot cut the file.
        "DELETE FROM \"Log\" WHERE id < 40000",
        "VACUUM (ANALYZE) \"Log\"",
    ] {
        patient.server.sql(statement)?;
    }
    patient.is_cured_of("table-bloat")
}

#[test]
fn a_materialized_view_was_never_filled() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE MATERIALIZED VIEW \"Totals\" AS SELECT 1 AS a WITH NO DATA")?;
    ensure!(patient.server.sql("SELECT * FROM \"Totals\"").is_err());
    patient.is_cured_of("matview-unpopulated")
}

#[test]
fn dropping_a_database_was_interrupted() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.each(&[
        "CREATE DATABASE \"Half\"",
        "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'Half'",
    ])?;
    patient.is_cured_of("database-invalid")
}

#[test]
fn autovacuum_yields_again_and_again() -> Result<()> {
    let often = server().setting("autovacuum_naptime", "1s").setting("deadlock_timeout", "100ms");
    let slow =
        often.setting("autovacuum_vacuum_cost_delay", "100ms").setting("autovacuum_vacuum_cost_limit", "1");
    let patient = Patient::of(slow)?;
    patient.server.each(&[
        "CREATE TABLE busy AS SELECT g AS a FROM generate_series(1, 50000) g",
        "ANALYZE busy",
        "DELETE FROM busy WHERE a % 2 = 0",
    ])?;
    let works = "SELECT count(*) FROM pg_stat_progress_vacuum";
    let began = std::time::Instant::now();
    // A lock that comes between two runs cancels nothing.
    while patient.server.log()?.matches("canceling autovacuum task").count() < 3 {
        ensure!(began.elapsed().as_secs() < 60, "autovacuum does not come, or does not yield");
        if patient.server.value(works)? == "0" {
            std::thread::sleep(std::time::Duration::from_millis(50));
            continue;
        }
        patient.server.each(&["BEGIN", "LOCK TABLE busy", "COMMIT"])?;
    }
    let found = patient.suffers_from("autovacuum-cancelled")?;
    ensure!(found["subject"] == "public.busy", "{found}");
    patient.carry_out(&found, 0)
}

#[test]
fn multixacts_fill_their_space() -> Result<()> {
    let patient = Patient::new()?;
    // The first page of members is there from the beginning on.
    patient.limit("multixact-members = [0.00001, 99]")?;
    let found = patient.suffers_from("multixact-members")?;
    patient.carry_out(&found, 0)
}

#[test]
fn multixacts_grow_old() -> Result<()> {
    let patient = Patient::new()?;
    if !patient.server.bin().join("pg_resetwal").exists() {
        // The tests' build of 14 is a bare server.
        return Ok(());
    }
    patient.server.stop(StopMode::Fast)?;
    // Two thirds of the way, with the offsets that belong there: 65536 multixacts a file.
    let next = 1_400_000_000_u32;
    let offsets = patient.server.pgdata().join(format!("pg_multixact/offsets/{:04X}", next / 65_536));
    std::fs::write(&offsets, vec![0; 262_144])?;
    patient.server.account().own(&offsets)?;
    let mut reset = std::process::Command::new(patient.server.bin().join("pg_resetwal"));
    reset.arg("-m").arg(format!("{next},1")).arg(patient.server.pgdata());
    patient.server.account().apply(&mut reset);
    let output = reset.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    patient.server.start()?;
    patient.suffers_from("mxid-age").map(drop)
}

#[test]
fn what_is_worth_knowing_is_said_and_no_alarm() -> Result<()> {
    let patient = Patient::of(server().checksums(false))?;
    patient.server.each(&[
        "SET password_encryption = 'md5'",
        "CREATE ROLE old LOGIN PASSWORD 'secret'",
        "CREATE TABLE t (a int)",
        "ALTER TABLE t ADD CONSTRAINT later CHECK (a > 0) NOT VALID",
        "CREATE SCHEMA playground",
        "GRANT CREATE ON SCHEMA playground TO PUBLIC",
    ])?;
    let ran = patient.doctor(&["--json"])?.succeeded()?.json()?;
    let all = ran["report"]["findings"].as_array().expect("findings").clone();
    for code in ["password-md5", "constraint-unchecked", "public-create", "checksums-off"] {
        let found = all.iter().find(|one| one["code"] == code);
        ensure!(found.is_some_and(|one| one["severity"] == "info"), "{code}: {all:#?}");
    }
    Ok(())
}

#[test]
fn an_index_is_damaged_and_there_are_no_checksums() -> Result<()> {
    let patient = Patient::of(server().checksums(false).setting("log_line_prefix", "%m [%p] %q%u@%d "))?;
    patient.server.sql(
        "CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 10000) g; CREATE INDEX \"By a\" ON t (a)",
    )?;
    let path = patient.server.value("SELECT pg_relation_filepath('\"By a\"')")?;
    patient.server.stop(StopMode::Fast)?;
    let file = OpenOptions::new().write(true).open(patient.server.pgdata().join(path))?;
    // The start of the special space, `pd_special`, of every page but the first: valid for a page, and not for one of an index.
    let pages = file.metadata()?.len() / 8192;
    for page in 1..pages {
        file.write_all_at(&8184_u16.to_le_bytes(), page * 8192 + 16)?;
    }
    patient.server.start()?;
    let asks = "SET enable_seqscan = off; SELECT * FROM t WHERE a = 5000";
    ensure!(patient.server.sql(asks).is_err(), "the index answers");
    let found = patient.suffers_from("data-damaged")?;
    patient.carry_out(&found, 0)?;
    patient.server.sql(asks)
}

#[test]
fn tables_without_a_key_are_named() -> Result<()> {
    let patient = Patient::new()?;
    patient
        .server
        .sql("CREATE TABLE \"Heap\" AS SELECT g FROM generate_series(1, 2000) g; ANALYZE \"Heap\"")?;
    let ran = patient.doctor(&["--json"])?.succeeded()?.json()?;
    let all = ran["report"]["findings"].as_array().expect("findings").clone();
    let of = |code: &str| all.iter().find(|one| one["code"] == code).map(|one| one["severity"].to_string());
    ensure!(of("primary-key-missing").as_deref() == Some("\"info\""), "{all:#?}");
    ensure!(of("timeouts-missing").as_deref() == Some("\"info\""), "{all:#?}");
    let _ = of("memory-unused");
    Ok(())
}

#[test]
fn a_key_that_the_application_counts_is_near_its_end() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql(
        "CREATE TABLE \"Invoices\" (\"No\" int PRIMARY KEY); INSERT INTO \"Invoices\" SELECT 2000000000 + g FROM generate_series(1, 5000) g; ANALYZE \"Invoices\"",
    )?;
    patient.is_cured_of("integer-key-end")
}

#[test]
fn one_large_table_keeps_the_only_worker_of_autovacuum() -> Result<()> {
    let often = server().setting("autovacuum_naptime", "1s").setting("autovacuum_max_workers", "1");
    let slow =
        often.setting("autovacuum_vacuum_cost_delay", "100ms").setting("autovacuum_vacuum_cost_limit", "1");
    let patient = Patient::of(slow)?;
    patient
        .server
        .each(&["CREATE TABLE large AS SELECT g AS a FROM generate_series(1, 100000) g", "ANALYZE large"])?;
    patient.server.sql("DELETE FROM large WHERE a % 2 = 0")?;
    let began = std::time::Instant::now();
    while patient.server.value("SELECT count(*) FROM pg_stat_progress_vacuum")? == "0" {
        ensure!(began.elapsed().as_secs() < 30, "autovacuum does not come");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    for name in ["one", "two"] {
        patient.server.sql(&format!(
            "CREATE TABLE {name} AS SELECT g AS a FROM generate_series(1, 5000) g; ANALYZE {name}"
        ))?;
        patient.server.sql(&format!("DELETE FROM {name}"))?;
    }
    patient.is_cured_of("autovacuum-starved")
}

#[test]
fn an_index_is_mostly_empty() -> Result<()> {
    let patient = Patient::of(server().setting("autovacuum_naptime", "1d"))?;
    patient.limit("index-bloat = [1000000, 1000000000000]")?;
    // Each in a session of its own: what one counts reaches the statistics when it ends.
    for statement in [
        "CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 200000) g",
        "CREATE INDEX \"By id\" ON t (id)",
        "DELETE FROM t WHERE id % 10 <> 0",
        "VACUUM (ANALYZE) t",
    ] {
        patient.server.sql(statement)?;
    }
    patient.is_cured_of("index-bloat")
}
