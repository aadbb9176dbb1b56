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
