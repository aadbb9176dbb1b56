//! What pgproof keeps around a server: its repositories, its cluster's store, its agent.

use super::patient::{Patient, server};
use crate::scene::Scene;
use anyhow::{Result, ensure};
use pgproof_testkit::free_port;
use std::fs;

/// A server with a repository, and a line in one of the tables of its configuration.
fn configured(table: &str, line: &str) -> Result<(Patient, std::path::PathBuf)> {
    let scene = Scene::initialised_from(server())?;
    let repository = scene.repository();
    let text = fs::read_to_string(scene.config())?;
    let head = format!("\n[{table}]\n");
    ensure!(text.contains(&head), "{text}");
    fs::write(scene.config(), text.replace(&head, &format!("{head}{line}\n")))?;
    Ok((Patient::from_server(scene.server)?, repository))
}

#[test]
fn the_repository_is_away_and_wal_piles_up() -> Result<()> {
    let (patient, repository) = configured("objectives", "")?;
    patient.is_well()?;
    fs::rename(&repository, repository.with_extension("away"))?;
    patient.server.sql("CREATE TABLE t (a int)")?;
    patient.server.switch_wal()?;
    let began = std::time::Instant::now();
    let effect = loop {
        let found = patient.findings()?;
        ensure!(found.first().is_some_and(|one| one["code"] == "repository-unreadable"), "{found:#?}");
        if let Some(effect) = found.into_iter().find(|one| one["code"] == "archiver-failing") {
            break effect;
        }
        ensure!(began.elapsed().as_secs() < 40, "the archiver does not fail");
        std::thread::sleep(std::time::Duration::from_millis(500));
    };
    ensure!(effect["cause"].to_string().contains("repository-unreadable"), "{effect}");
    patient.suffers_from("repository-unreadable")?;
    fs::rename(repository.with_extension("away"), &repository)?;
    patient.is_well()
}

#[test]
fn nothing_was_ever_backed_up() -> Result<()> {
    let (patient, _) = configured("objectives", "backup_max_age = \"1h\"")?;
    let found = patient.suffers_from("objective-broken")?;
    ensure!(found["subject"].to_string().contains("backup_max_age"), "{found}");
    patient.carry_out(&found, 0)?;
    patient.is_well()
}

#[test]
fn the_agent_does_not_run() -> Result<()> {
    let (patient, _) = configured("agent", &format!("listen = \"127.0.0.1:{}\"", free_port()?))?;
    patient.suffers_from("agent-down").map(drop)
}

#[test]
fn the_store_of_the_cluster_is_away() -> Result<()> {
    let patient = Patient::new()?;
    let cluster = format!(
        "[cluster]\nname = \"shop\"\nnode = \"one\"\netcd = \"http://127.0.0.1:{}\"\nhost = \"127.0.0.1\"\n",
        free_port()?
    );
    fs::write(patient.config(), cluster)?;
    patient.suffers_from("cluster-store-down").map(drop)
}

#[test]
fn an_entry_of_the_ledger_was_changed() -> Result<()> {
    let scene = Scene::initialised_from(server())?;
    for _ in 0..2 {
        scene.pgproof(&["backup"])?.succeeded()?;
    }
    // Older ones are copied into newer ones; the last is read by every look.
    let entry = crate::ledger::ledger(&scene.repository())?.pop().expect("an entry");
    let mut bytes = fs::read(&entry)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&entry, bytes)?;
    Patient::from_server(scene.server)?.suffers_from("ledger-flawed").map(drop)
}
