//! A cluster that pgproof and pgBackRest both archive, and the commands of every contestant.

use crate::measure::{self, Sample};
use anyhow::{Context, Result};
use pgproof_pg::MajorVersion;
use pgproof_server::find;
use pgproof_testkit::{Pgproof, Postgres};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Worker processes of every contestant that knows such.
pub(crate) const PROCESSES: &str = "2";

/// Whether repositories are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    On,
    Off,
}

pub(crate) struct Site {
    pub(crate) server: Postgres,
    program: PathBuf,
    system_identifier: String,
    pub(crate) encryption: Encryption,
    /// pgproof's own, as `init` has set it.
    pub(crate) archive_command: String,
}

impl Site {
    /// A server with `fsync` on, archived by both.
    pub(crate) fn new(encryption: Encryption) -> Result<Self> {
        let builder = Postgres::builder(MajorVersion::V15);
        let settings = [
            ("fsync", "on"),
            ("shared_buffers", "512MB"),
            ("max_wal_size", "4GB"),
            ("autovacuum", "off"),
            ("max_locks_per_transaction", "512"),
        ];
        let server =
            settings.iter().fold(builder, |builder, (name, value)| builder.setting(name, value)).start()?;
        // SQL shows it as a signed number.
        let system_identifier = find::control_file(server.pgdata())?.system_identifier.to_string();
        let program = Pgproof::new()?.binary().to_owned();
        let mut site =
            Self { server, program, system_identifier, encryption, archive_command: String::new() };
        let (data, repository) =
            (site.server.pgdata().display().to_string(), site.repository().display().to_string());
        let mut init =
            site.pgproof(&["init", "--yes", "--restart", "--pgdata", &data, "--repository", &repository]);
        if encryption == Encryption::Off {
            init.arg("--no-encryption");
        }
        measure::run(init, None)?;
        site.archive_command = site.server.value("SHOW archive_command")?;
        site.set_up_pgbackrest(encryption)?;
        site.archive_to_both()?;
        measure::run(site.pgbackrest(&["stanza-create"]), None)?;
        Ok(site)
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.server.ground().join("repository")
    }

    /// Where backups are stored, without the WAL that `archive_command` stores meanwhile.
    fn backups(&self) -> PathBuf {
        self.repository().join(&self.system_identifier).join("backup")
    }

    pub(crate) fn pgbackrest_repository(&self) -> PathBuf {
        self.server.ground().join("pgbackrest")
    }

    fn pgbackrest_backups(&self) -> PathBuf {
        self.pgbackrest_repository().join("backup")
    }

    fn set_up_pgbackrest(&self, encryption: Encryption) -> Result<()> {
        let ground = self.server.ground().display().to_string();
        let cipher = match encryption {
            Encryption::On => "repo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=bench\n",
            Encryption::Off => "",
        };
        for name in ["pgbackrest", "pgbackrest-lock", "pgbackrest-spool", "pgbackrest-log"] {
            self.server.dir(name)?;
        }
        let text = format!(
            "[global]\nrepo1-path={ground}/pgbackrest\nlock-path={ground}/pgbackrest-lock\nspool-path={ground}/pgbackrest-spool\n\
             log-path={ground}/pgbackrest-log\nlog-level-file=off\nlog-level-console=warn\nprocess-max={PROCESSES}\ncompress-type=zst\n\
             compress-level=3\nstart-fast=y\nrepo1-retention-full=99\n{cipher}[main]\npg1-path={}\npg1-socket-path={}\npg1-port={}\npg1-user=postgres\n",
            self.server.pgdata().display(),
            self.server.socket_dir().display(),
            self.server.port(),
        );
        fs::write(self.pgbackrest_config(), text).context("write pgbackrest.conf")
    }

    /// One archive command for two archives. pgBackRest's gets WAL, and first, only while it is measured; pgproof's always, because
    /// what it lacked would make its next backup slower than it is. pgBackRest looks for its own name in the command.
    fn archive_to_both(&self) -> Result<()> {
        let script = self.server.ground().join("archive-to-pgproof-and-pgbackrest");
        let ours = self.archive_command.replace("%p", "$1");
        let theirs = self.pgbackrest_call();
        let marker = self.pgbackrest_is_measured();
        let text = format!(
            "#!/bin/sh\nset -e\nif [ -e {} ]; then {theirs} archive-push \"$1\"; fi\n{ours}\n",
            marker.display()
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        self.server.sql(&format!("ALTER SYSTEM SET archive_command = '{} \"%p\"'", script.display()))?;
        self.server.reload()
    }

    fn pgbackrest_is_measured(&self) -> PathBuf {
        self.server.ground().join("pgbackrest-is-measured")
    }

    fn config(&self) -> PathBuf {
        self.server.ground().join("etc/pgproof.toml")
    }

    fn pgbackrest_config(&self) -> PathBuf {
        self.server.ground().join("pgbackrest.conf")
    }

    /// Empties both archives, and ends who works ahead of PostgreSQL's archiver.
    pub(crate) fn forget_archived(&self) -> Result<()> {
        let ground = self.server.ground().display().to_string();
        // Fails where there is none.
        Command::new("pkill")
            .args(["-f", &format!("(archive run|archive-push:async).*{ground}")])
            .status()?;
        for stored in [
            self.repository().join(&self.system_identifier).join("wal"),
            self.pgbackrest_repository().join("archive/main/15-1"),
            self.server.ground().join("pgbackrest-spool/archive"),
        ] {
            for entry in fs::read_dir(stored).into_iter().flatten() {
                let path = entry?.path();
                if path.is_dir() {
                    fs::remove_dir_all(path)?;
                }
            }
        }
        Ok(())
    }

    /// A data directory in which both take it that a server recovers, and neither has anything fetched.
    pub(crate) fn recovering(&self, name: &str) -> Result<PathBuf> {
        let place = self.empty(name)?;
        let script = "mkdir global pg_wal && touch recovery.signal postmaster.pid && chmod 700 . && \
                      cp \"$FROM/global/pg_control\" global && cp \"$FROM/PG_VERSION\" . && rm -rf \"$SPOOL\"";
        let mut command = self.shell(script);
        command.current_dir(&place).env("FROM", self.server.pgdata());
        command.env("SPOOL", self.server.ground().join("pgbackrest-spool/archive"));
        measure::run(command, None)?;
        Ok(place)
    }

    pub(crate) fn pgbackrest_call(&self) -> String {
        format!("pgbackrest --config={} --stanza=main", self.pgbackrest_config().display())
    }

    pub(crate) fn pgproof(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).envs(self.server.environment()).current_dir("/");
        // Every backup is to be of the kind that is measured.
        command.env("PGPROOF_CONFIG", self.config()).env("PGPROOF_BACKUP_READ_ALL_AFTER", "0");
        command
    }

    /// As the server's account, in its data directory, where `archive_command` runs.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        self.server.account().apply(&mut command);
        command.envs(self.server.environment()).current_dir(self.server.pgdata());
        // One process a segment is measured; what works ahead of it has a contest of its own.
        command.env("PGPROOF_CONFIG", self.config()).env("PGPROOF_ARCHIVE_PUSH_AHEAD", "0");
        command.env("PGPROOF", &self.program);
        command.env("PGBACKREST", self.pgbackrest_call());
        command
    }

    pub(crate) fn pgbackrest(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("pgbackrest");
        command.arg(format!("--config={}", self.pgbackrest_config().display())).arg("--stanza=main");
        command.args(arguments).current_dir("/");
        self.server.account().apply(&mut command);
        command
    }

    pub(crate) fn backup(&self, more: &[&str]) -> Result<(Sample, Value)> {
        let command = self.pgproof(&[&["backup", "--json", "-p", PROCESSES], more].concat());
        let (sample, done) = measure::run(command, Some(&self.backups()))?;
        let report = serde_json::from_str(&done.stdout).context("the report of backup is no JSON")?;
        Ok((sample, report))
    }

    pub(crate) fn pgbackrest_backup(&self, kind: &str) -> Result<Sample> {
        let command = self.pgbackrest(&[&format!("--type={kind}"), "backup"]);
        fs::write(self.pgbackrest_is_measured(), "")?;
        let measured = measure::run(command, Some(&self.pgbackrest_backups()));
        fs::remove_file(self.pgbackrest_is_measured())?;
        Ok(measured?.0)
    }

    /// What no backup can do without: `pg_backup_start` and `pg_backup_stop`, with nothing between them and no wait for the archive.
    pub(crate) fn start_and_stop(&self) -> Result<Sample> {
        let mut command = self.server.client_program("psql")?;
        command.args([
            "--no-psqlrc",
            "--quiet",
            "--output=/dev/null",
            "--command=SELECT pg_backup_start('bench', fast => true)",
            "--command=SELECT pg_backup_stop(wait_for_archive => false)",
        ]);
        Ok(measure::run(command, None)?.0)
    }

    /// What no backup can do without that notices grown and new files: one look at each, by a program that does nothing else.
    pub(crate) fn look_at_every_file(&self) -> Result<Sample> {
        Ok(measure::run(self.shell("find . -printf '%s %T@\\n' > /dev/null"), None)?.0)
    }

    /// Compressed tar files by the server's own means.
    pub(crate) fn pg_basebackup(&self, into: &Path) -> Result<Sample> {
        // The server's own: not every build of newer ones knows zstd.
        let mut command =
            self.server.own_program("pg_basebackup").context("the server has no pg_basebackup")?;
        command.args([
            "--format=tar",
            "--compress=client-zstd:level=3,workers=2",
            "--checkpoint=fast",
            "--wal-method=none",
            "--pgdata",
        ]);
        command.arg(into);
        Ok(measure::run(command, Some(into))?.0)
    }

    /// What the disk, the codec and a pipe allow, without any safety: no page is verified and no server asked.
    pub(crate) fn tar_zstd(&self, into: &Path) -> Result<Sample> {
        let script = format!(
            "tar -c --exclude=./pg_wal -C . . | zstd -q -3 -T2 -o {0}/base.tar.zst && sync {0}/base.tar.zst",
            into.display()
        );
        Ok(measure::run(self.shell(&script), Some(into))?.0)
    }

    pub(crate) fn restore(&self, backup: Option<&str>, into: &Path) -> Result<Sample> {
        let mut command = self.pgproof(&["restore", "-p", PROCESSES, "--immediate", "--pgdata"]);
        command.arg(into);
        if let Some(backup) = backup {
            command.args(["--backup", backup]);
        }
        Ok(measure::run(command, None)?.0)
    }

    pub(crate) fn pgbackrest_restore(&self, into: &Path) -> Result<Sample> {
        let into = into.display();
        let command = self.pgbackrest(&[&format!("--pg1-path={into}"), "--type=immediate", "restore"]);
        Ok(measure::run(command, None)?.0)
    }

    /// An empty directory of the server's account; what was in it is gone.
    pub(crate) fn empty(&self, name: &str) -> Result<PathBuf> {
        let path = self.server.ground().join(name);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("empty {}", path.display()))?;
        }
        self.server.dir(name)
    }
}
