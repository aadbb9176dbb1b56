//! The files that make the restored server recover: label, signal, settings, and configuration where the backup has none.
//!
//! No `tablespace_map` is written: PostgreSQL would make the links of `pg_tblspc` from it anew (`read_tablespace_map` in
//! `src/backend/access/transam/xlogrecovery.c`), to where the tablespaces were; ours are made already, and lead where the plan says.

use crate::dispositions::{AUTO_CONF, EXTERNAL};
use crate::engine::content;
use crate::error::{RestoreError, Result};
use crate::finish::Site;
use crate::plan::Plan;
use crate::settings::{AutoConf, quote};
use pgproof_repo::manifest::summary::BackupSummary;
use pgproof_repo::manifest::summary::ExternalFile;
use pgproof_repo::{Manifest, Repository};
use std::fmt::Write;
use std::path::Path;

/// Writes everything but the control file; returns what a person should know.
pub(crate) fn write(
    repository: &Repository,
    manifest: &Manifest,
    plan: &Plan,
    site: &Site<'_>,
) -> Result<Vec<String>> {
    let summary = manifest.summary();
    let data = plan.directory.as_path();
    let mut notes = Vec::new();
    let origin = content(repository, manifest, AUTO_CONF)?.unwrap_or_default();
    let (auto_conf, told) = auto_conf(&String::from_utf8_lossy(&origin), plan);
    notes.extend(told);
    site.write(&data.join(AUTO_CONF), auto_conf.as_bytes())?;
    if plan.made_configuration.contains(&"postgresql.conf") {
        site.write(&data.join("postgresql.conf"), minimal_configuration(summary).as_bytes())?;
    } else {
        notes.extend(look_at_configuration(repository, manifest, data)?);
    }
    for name in ["pg_hba.conf", "pg_ident.conf"] {
        if has(manifest, name)? {
            continue;
        }
        match external_copy(repository, manifest, name)? {
            Some(copy) => site.write(&data.join(name), &copy)?,
            None if name == "pg_hba.conf" => site.write(&data.join(name), MINIMAL_HBA.as_bytes())?,
            None => {}
        }
    }
    write_external(repository, manifest, plan, site)?;
    site.write(&data.join("backup_label"), summary.backup_label.as_bytes())?;
    site.write(&data.join("recovery.signal"), b"")?;
    Ok(notes)
}

/// Local users by their system name, and nobody from elsewhere: the least with which the owner gets in.
const MINIMAL_HBA: &str = "# Made by pgproof restore: the backup holds no pg_hba.conf.\nlocal all all peer\n";

fn has(manifest: &Manifest, name: &str) -> Result<bool> {
    let found = manifest.file(name).map_err(RestoreError::repository("read the manifest"))?;
    Ok(found.is_some())
}

/// The settings of the origin without those of its role, and ours behind them.
fn auto_conf(origin: &str, plan: &Plan) -> (String, Vec<String>) {
    let mut notes = Vec::new();
    let (mut conf, strange) = AutoConf::parse(origin);
    for line in strange {
        notes.push(format!("a line of the origin's {AUTO_CONF} was left out: {line}"));
    }
    for dropped in conf.drop_recovery() {
        notes.push(format!("{} of the origin was left out of {AUTO_CONF}", dropped.name));
    }
    for setting in &plan.settings {
        conf.set(setting.clone());
    }
    (conf.render(), notes)
}

/// Settings in `postgresql.conf` that lead the restored server to files of the origin.
fn look_at_configuration(repository: &Repository, manifest: &Manifest, data: &Path) -> Result<Vec<String>> {
    let text = content(repository, manifest, "postgresql.conf")?.unwrap_or_default();
    let (conf, _) = AutoConf::parse(&String::from_utf8_lossy(&text));
    let mut notes = Vec::new();
    for name in ["data_directory", "hba_file", "ident_file", "external_pid_file"] {
        if let Some(value) = conf.get(name).filter(|value| !Path::new(value).starts_with(data)) {
            notes.push(format!(
                "postgresql.conf sets {name} to {value}: is that meant for the restored server?"
            ));
        }
    }
    Ok(notes)
}

/// A `postgresql.conf` with which recovery starts: each setting at least as large as on the origin
/// (`CheckRequiredParameterValues` in `src/backend/access/transam/xlogrecovery.c`), and the libraries that its WAL may need.
pub fn minimal_configuration(summary: &BackupSummary) -> String {
    let settings = &summary.settings;
    let mut text = String::from(
        "# Made by pgproof restore: postgresql.conf of the origin lay outside of its data directory.\n\
         # Recovery needs these settings at least as large as they were there.\n",
    );
    let numbers = [
        ("max_connections", settings.max_connections),
        ("max_worker_processes", settings.max_worker_processes),
        ("max_wal_senders", settings.max_wal_senders),
        ("max_prepared_transactions", settings.max_prepared_transactions),
        ("max_locks_per_transaction", settings.max_locks_per_transaction),
    ];
    for (name, value) in numbers {
        let _ = writeln!(text, "{name} = {value}");
    }
    let level = match settings.wal_level {
        pgproof_pg::WalLevel::Minimal => "minimal",
        pgproof_pg::WalLevel::Replica => "replica",
        pgproof_pg::WalLevel::Logical => "logical",
    };
    let _ = writeln!(text, "wal_level = {level}");
    for name in ["shared_preload_libraries", "unix_socket_directories", "port"] {
        if let Some(value) = settings.other.get(name).filter(|value| !value.is_empty()) {
            let _ = writeln!(text, "{name} = {}", quote(value));
        }
    }
    text
}

/// The stored copy of a configuration file that lay outside of the data directory.
///
/// # Errors
/// As [`crate::engine::content`].
pub fn external_copy(repository: &Repository, manifest: &Manifest, name: &str) -> Result<Option<Vec<u8>>> {
    let files = &manifest.summary().external_files;
    let found = files.iter().find(|file| Path::new(&file.path).file_name().is_some_and(|last| last == name));
    match found {
        Some(file) => external_content(repository, manifest, file),
        None => Ok(None),
    }
}

/// The summary names the entry; it must be one of those that are kept apart.
fn external_content(
    repository: &Repository,
    manifest: &Manifest,
    file: &ExternalFile,
) -> Result<Option<Vec<u8>>> {
    match crate::dispositions::below(&file.entry, EXTERNAL) {
        true => content(repository, manifest, &file.entry),
        false => Ok(None),
    }
}

fn write_external(repository: &Repository, manifest: &Manifest, plan: &Plan, site: &Site<'_>) -> Result<()> {
    for (file, (_, place)) in manifest.summary().external_files.iter().zip(&plan.external) {
        let Some(place) = place else { continue };
        let Some(copy) = external_content(repository, manifest, file)? else { continue };
        if let Some(directory) = place.parent() {
            site.directories(directory)?;
        }
        site.write(place, &copy)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn minimal_configuration_has_what_recovery_compares() {
        let mut summary = crate::testing::summary();
        summary.settings.other.insert("shared_preload_libraries".into(), "pg_stat_statements".into());
        expect![[r"
            # Made by pgproof restore: postgresql.conf of the origin lay outside of its data directory.
            # Recovery needs these settings at least as large as they were there.
            max_connections = 100
            max_worker_processes = 8
            max_wal_senders = 10
            max_prepared_transactions = 0
            max_locks_per_transaction = 64
            wal_level = replica
            shared_preload_libraries = 'pg_stat_statements'
        "]]
        .assert_eq(&minimal_configuration(&summary));
    }
}
