//! Settings that are dangerous, refused, or not in force.

use super::patient::Patient;
use anyhow::Result;

fn set(name: &str, value: &str) -> Result<Patient> {
    let patient = Patient::new()?;
    patient.server.each(&[&format!("ALTER SYSTEM SET {name} = {value}"), "SELECT pg_reload_conf()"])?;
    Ok(patient)
}

#[test]
fn fsync_is_off() -> Result<()> {
    set("fsync", "off")?.is_cured_of("fsync-off")
}

#[test]
fn full_page_writes_are_off() -> Result<()> {
    set("full_page_writes", "off")?.is_cured_of("full-page-writes-off")
}

#[test]
fn damaged_pages_are_read_as_zeros() -> Result<()> {
    set("zero_damaged_pages", "on")?.is_cured_of("damage-hidden")
}

#[test]
fn failures_of_checksums_are_ignored() -> Result<()> {
    set("ignore_checksum_failure", "on")?.is_cured_of("damage-hidden")
}

#[test]
fn autovacuum_is_off() -> Result<()> {
    set("autovacuum", "off")?.is_cured_of("autovacuum-off")
}

#[test]
fn counting_is_off_and_autovacuum_blind() -> Result<()> {
    set("track_counts", "off")?.is_cured_of("autovacuum-off")
}

#[test]
fn a_setting_waits_for_a_restart() -> Result<()> {
    set("max_connections", "137")?.is_cured_of("restart-pending")
}

#[test]
fn a_line_of_the_settings_is_refused() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.append_settings(&[("work_mem", "4 bananas")])?;
    patient.server.reload()?;
    patient.is_cured_of("settings-refused")
}

#[test]
fn the_whole_world_is_trusted() -> Result<()> {
    let patient = Patient::new()?;
    patient.hba(&["local all all trust", "host all all 10.0.0.0/8 trust"])?;
    patient.is_cured_of("hba-trust")
}

#[test]
fn nobody_may_write_by_default() -> Result<()> {
    set("default_transaction_read_only", "on")?.is_cured_of("read-only-default")
}

#[test]
fn all_sessions_bypass_foreign_keys() -> Result<()> {
    set("session_replication_role", "replica")?.is_cured_of("triggers-bypassed")
}

#[test]
fn checkpoints_come_one_after_another() -> Result<()> {
    let small = super::patient::server().wal_segment_size_mb(1).setting("min_wal_size", "2MB");
    let patient = Patient::of(small.setting("max_wal_size", "4MB"))?;
    patient.server.sql("CREATE TABLE filler (a int, b text)")?;
    let complained = || -> Result<usize> {
        Ok(patient.server.log()?.matches("checkpoints are occurring too frequently").count())
    };
    let began = std::time::Instant::now();
    while complained()? < 3 {
        anyhow::ensure!(began.elapsed().as_secs() < 60, "the server does not complain");
        patient
            .server
            .sql("INSERT INTO filler SELECT g, repeat('x', 500) FROM generate_series(1, 5000) g")?;
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    patient.is_cured_of("checkpoints-frequent")
}
