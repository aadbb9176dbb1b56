//! Two faults at once are both found, and neither is taken for an effect of the other.

use super::patient::{Patient, server};
use anyhow::{Result, ensure};

/// A code, and what brings it about.
const FAULTS: [(&str, &[&str]); 8] = [
    ("fsync-off", &["ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"]),
    ("damage-hidden", &["ALTER SYSTEM SET zero_damaged_pages = on", "SELECT pg_reload_conf()"]),
    ("restart-pending", &["ALTER SYSTEM SET max_connections = 77", "SELECT pg_reload_conf()"]),
    ("autovacuum-off", &["ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()"]),
    (
        "slot-inactive",
        &[
            "SELECT pg_create_physical_replication_slot('gone', true)",
            "CREATE TABLE filler AS SELECT g, repeat('x', 500) FROM generate_series(1, 8000) g",
        ],
    ),
    (
        "sequence-end",
        &["CREATE TABLE orders (id serial PRIMARY KEY)", "SELECT setval('orders_id_seq', 2140000000)"],
    ),
    (
        "triggers-disabled",
        &[
            "CREATE TABLE parent (id int PRIMARY KEY)",
            "CREATE TABLE child (a int REFERENCES parent)",
            "ALTER TABLE child DISABLE TRIGGER ALL",
        ],
    ),
    (
        "never-analysed",
        &[
            "CREATE TABLE imported (a int) WITH (autovacuum_enabled = off)",
            "INSERT INTO imported SELECT generate_series(1, 20000)",
        ],
    ),
];

#[test]
fn twenty_eight_pairs_of_faults_are_found_as_two() -> Result<()> {
    for (at, (first, one)) in FAULTS.iter().enumerate() {
        for (second, other) in &FAULTS[at + 1..] {
            // Autovacuum off is a cause of missing statistics.
            if (*first, *second) == ("autovacuum-off", "never-analysed") {
                continue;
            }
            let patient = Patient::of(server())?;
            patient.server.each(one)?;
            patient.server.each(other)?;
            patient.suffers_from_both(first, second)?;
        }
    }
    Ok(())
}

#[test]
fn a_stopped_server_has_two_reasons_not_to_start() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.append_settings(&[("shared_bufers", "1GB")])?;
    patient.server.stop(pgproof_testkit::StopMode::Fast)?;
    std::fs::remove_dir_all(patient.server.socket_dir())?;
    patient.suffers_from_both("settings-broken", "socket-directory-missing")?;
    let down = patient.findings()?.into_iter().find(|one| one["code"] == "server-down");
    ensure!(down.is_some_and(|one| one["cause"].to_string().contains("settings-broken")));
    Ok(())
}
