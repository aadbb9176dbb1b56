//! Nobody gets in.

use super::patient::{Patient, run, server};
use anyhow::{Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{StopMode, free_port};
use std::process::Command;

#[test]
fn the_server_is_stopped() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.stop(StopMode::Fast)?;
    patient.is_cured_of("server-down")
}

#[test]
fn the_server_was_killed() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.kill9()?;
    patient.is_cured_of("server-down")
}

#[test]
fn the_port_is_another_one() -> Result<()> {
    let port = free_port()?.to_string();
    let patient = Patient::new()?.asking(&["--port", &port]);
    let found = patient.suffers_from("port-wrong")?;
    patient.carry_out(&found, 0)
}

#[test]
fn nobody_listens_on_the_address() -> Result<()> {
    let patient = Patient::of(server().setting("listen_addresses", "127.0.0.1"))?;
    patient.asking(&["--host", "127.0.0.2"]).is_cured_of("address-not-listened")
}

#[test]
fn no_line_of_pg_hba_lets_it_in() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE ROLE \"App one\" LOGIN PASSWORD 'secret'")?;
    patient.hba(&["local all postgres trust"])?;
    patient.asking(&["--user", "App one"]).given("PGPASSWORD", "secret").is_cured_of("hba-no-line")
}

#[test]
fn pg_hba_rejects() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE ROLE reporting LOGIN")?;
    patient.hba(&["# who may", "local all reporting reject", "local all all trust"])?;
    patient.asking(&["--user", "reporting"]).is_cured_of("hba-rejects")
}

#[test]
fn pg_hba_has_a_typo_and_the_old_rules_stay() -> Result<()> {
    let patient = Patient::new()?;
    patient.hba(&["local all all trust", "local all all trusty"])?;
    patient.is_cured_of("hba-broken")
}

#[test]
fn pg_hba_has_a_typo_and_the_server_does_not_start() -> Result<()> {
    let patient = Patient::new()?;
    patient.hba(&["local all all trust", "locale all all trust"])?;
    patient.server.stop(StopMode::Fast)?;
    patient.is_cured_of("hba-broken")
}

#[test]
fn the_systems_user_is_not_the_role() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE ROLE billing LOGIN")?;
    patient.hba(&["local all postgres trust", "local all all peer"])?;
    let found = patient.asking(&["--user", "billing"]).suffers_from("peer-mismatch")?;
    ensure!(found["remedies"][0]["command"].to_string().contains("sudo -u billing"), "{found}");
    Ok(())
}

#[test]
fn there_is_no_such_role() -> Result<()> {
    Patient::new()?.asking(&["--user", "Äpp"]).is_cured_of("role-missing")
}

#[test]
fn there_is_no_such_database() -> Result<()> {
    Patient::new()?.asking(&["--database", "shop 1"]).is_cured_of("database-missing")
}

#[test]
fn the_role_may_not_log_in() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE ROLE \"user\" NOLOGIN")?;
    patient.asking(&["--user", "user"]).is_cured_of("role-nologin")
}

#[test]
fn the_database_takes_no_connections() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.each(&["CREATE DATABASE \"Shop\"", "ALTER DATABASE \"Shop\" ALLOW_CONNECTIONS false"])?;
    patient.asking(&["--database", "Shop"]).is_cured_of("database-closed")
}

#[test]
fn the_role_has_all_the_connections_it_may_have() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE ROLE app LOGIN CONNECTION LIMIT 0")?;
    patient.asking(&["--user", "app"]).is_cured_of("connection-limit")
}

#[test]
fn the_database_has_all_the_connections_it_may_have() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.each(&["CREATE ROLE app LOGIN", "CREATE DATABASE shop CONNECTION LIMIT 0"])?;
    patient.asking(&["--user", "app", "--database", "shop"]).is_cured_of("connection-limit")
}

#[test]
fn the_password_is_wrong() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE ROLE app LOGIN PASSWORD 'right'")?;
    patient.hba(&["local all postgres trust", "local all all scram-sha-256"])?;
    let patient = patient.asking(&["--user", "app"]).given("PGPASSWORD", "wrong");
    let found = patient.suffers_from("password-wrong")?;
    ensure!(found["seen"].to_string().contains("is wrong"), "{found}");
    Ok(())
}

#[test]
fn there_is_no_password() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE ROLE app LOGIN")?;
    patient.hba(&["local all postgres trust", "local all all scram-sha-256"])?;
    let patient = patient.asking(&["--user", "app"]).given("PGPASSWORD", "any");
    let found = patient.suffers_from("password-wrong")?;
    ensure!(found["seen"].to_string().contains("no password at all"), "{found}");
    Ok(())
}

#[test]
fn the_password_has_expired() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE ROLE app LOGIN PASSWORD 'right' VALID UNTIL '2020-01-01'")?;
    patient.hba(&["local all postgres trust", "local all all scram-sha-256"])?;
    patient.asking(&["--user", "app"]).given("PGPASSWORD", "right").is_cured_of("password-wrong")
}

#[test]
fn the_client_insists_on_tls() -> Result<()> {
    let patient = Patient::of(server().setting("listen_addresses", "127.0.0.1"))?;
    let dsn = format!("host=127.0.0.1 port={} user=postgres sslmode=require", patient.server.port());
    let patient = patient.asking(&[&dsn]);
    if patient.version() == MajorVersion::V18 {
        // The tests' build of 18 has no TLS, so its remedy cannot be carried out.
        return patient.suffers_from("tls-off").map(drop);
    }
    make_certificate(&patient, 400)?;
    patient.is_cured_of("tls-off")
}

pub(super) fn make_certificate(patient: &Patient, days: u32) -> Result<()> {
    let data = patient.server.pgdata();
    let (key, certificate) = (data.join("server.key"), data.join("server.crt"));
    let (key, certificate) = (key.display().to_string(), certificate.display().to_string());
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            &days.to_string(),
            "-subj",
            "/CN=localhost",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ],
    )?;
    let owner = format!("--reference={}", data.display());
    run("chown", &[&owner, &key, &certificate])?;
    run("chmod", &["0600", &key])
}

#[test]
fn every_slot_is_taken() -> Result<()> {
    let patient = Patient::of(server().setting("max_connections", "10"))?;
    let mut sessions = Vec::new();
    while let Ok(session) = patient.holds("SELECT 1") {
        sessions.push(session);
    }
    ensure!(sessions.len() == 10, "{} sessions", sessions.len());
    let found = patient.suffers_from("slots-used")?;
    patient.carry_out(&found, 0)?;
    // Some were ended so that somebody gets in; that the rest still takes most of the slots is true.
    patient.is_cured_of("connections-near")
}

#[test]
fn the_postmaster_is_stopped_by_a_signal() -> Result<()> {
    let patient = Patient::new()?;
    let pid = patient.server.pid().expect("it runs");
    Command::new("kill").args(["-STOP", &pid.to_string()]).status()?;
    patient.is_cured_of("server-hung")
}
