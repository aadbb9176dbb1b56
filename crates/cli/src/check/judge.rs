//! From what was seen to findings: pure, so that each rule is tested from a table of observations.
//!
//! Order of judging is order of cause: the server, its archiving, the repository, the test of the whole chain. The test's failure is
//! reported last and briefly, since a cause found above explains it. Every code is described in docs/findings.md.

use super::observation::{
    ArchiveTest, DirectoryFacts, Observation, RepositoryFacts, Room, Seen, ServerFacts, Trouble,
};
use crate::archive_command::{self, ArchiveCommand};
use pgproof_base::{Bytes, Finding, Remedy, Severity, human_duration};
use pgproof_pg::MajorVersion;
use std::time::Duration;

/// From this many waiting files on the archiver has fallen behind; ten times as many are a pile.
const READY_WARNING: u64 = 10;
const READY_CRITICAL: u64 = 100;
/// A host's clock off by this much makes times in reports hard to compare.
const CLOCK_WARNING_MS: i64 = 60_000;
/// The lease timeout of the repository's format: beyond it a live backup looks dead to whoever compares clocks.
const CLOCK_CRITICAL_MS: i64 = 600_000;
/// A backup older than this makes recovery long, whatever the schedule is meant to be.
const BACKUP_AGE_WARNING_S: u64 = 8 * 86_400;

/// All findings.
pub(crate) fn judge(seen: &Observation) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &seen.files {
        Seen::Yes(files) => judge_files(seen, files, &mut findings),
        Seen::No(trouble) => {
            findings.push(unseen("data-directory-unseen", trouble, "nothing can be backed up from it"))
        }
    }
    match &seen.server {
        Seen::Yes(server) => {
            judge_version(server, &mut findings);
            judge_safety(server, &mut findings);
            judge_archiving(seen, server, &mut findings);
            judge_archiver(seen, server, &mut findings);
        }
        Seen::No(trouble) => {
            findings.push(unseen("server-unreachable", trouble, "backups and archiving need the server"));
        }
    }
    let mut own = Vec::new();
    match &seen.repository {
        Seen::Yes(repository) => judge_repository(seen, repository, &mut own),
        Seen::No(trouble) => own.push(unusable_repository(trouble)),
    }
    judge_test(&seen.archive_test, &mut own);
    if !seen.required {
        // Backup, archive and recovery work without it.
        own.iter_mut().for_each(|finding| finding.severity = finding.severity.min(Severity::Warning));
    }
    findings.append(&mut own);
    findings
}

fn unseen(code: &str, trouble: &Trouble, why: &str) -> Finding {
    let finding = Finding::new(code, Severity::Critical, &trouble.message, why);
    with_hint(finding, trouble.hint.as_deref())
}

fn with_hint(finding: Finding, hint: Option<&str>) -> Finding {
    match hint {
        Some(hint) => finding.with(Remedy::safe(hint, "")),
        None => finding,
    }
}

fn judge_files(seen: &Observation, files: &DirectoryFacts, findings: &mut Vec<Finding>) {
    if files.owner_uid != seen.user.uid {
        let text = format!(
            "check ran as {}, but {} belongs to {}",
            seen.user.name,
            files.path.display(),
            files.owner
        );
        let why = "the server's own access to program, key and repository was not tried";
        findings.push(Finding::new("not-server-user", Severity::Warning, text, why).with(Remedy::safe(
            "run it as the server's user, or as root",
            format!("sudo -u {} pgproof check", files.owner),
        )));
    }
    if let Err(reason) = &seen.user.program_runs {
        let text = format!("{} cannot run {}: {reason}", seen.user.name, seen.program.display());
        findings.push(
            Finding::new("program-not-runnable", Severity::Critical, text, "archive_command would fail")
                .with(Remedy::safe(
                    "install it where everybody can run it",
                    format!("install -m 755 {} /usr/local/bin/", seen.program.display()),
                )),
        );
    }
    if files.unreadable > 0 {
        let first: Vec<_> =
            files.unreadable_first.iter().map(|(path, why)| format!("{} ({why})", path.display())).collect();
        let text =
            format!("{} files of the data directory cannot be read: {}", files.unreadable, first.join(", "));
        let command = format!("chown -R {}: {}", files.owner, files.path.display());
        findings.push(
            Finding::new(
                "files-unreadable",
                Severity::Critical,
                text,
                "a backup would fail at the first of them",
            )
            .with(Remedy::safe("give them to the server's user", command)),
        );
    }
    if !files.in_place_tablespaces.is_empty() {
        let text = format!("in-place tablespaces: {}", files.in_place_tablespaces.join(", "));
        findings.push(Finding::new(
            "tablespace-in-place",
            Severity::Critical,
            text,
            "PostgreSQL made them for its own tests; a backup refuses them",
        ));
    }
    if let Some(room) = files.wal_room.filter(Room::is_tight) {
        let text = format!("{} left for pg_wal ({} %)", Bytes(room.available), room.percent());
        findings.push(Finding::new(
            "wal-disk-full",
            room.severity(),
            text,
            "a full disk stops the server; WAL that cannot be archived stays there",
        ));
    }
}

impl Room {
    fn percent(&self) -> u64 {
        100 * self.available / self.total.max(1)
    }

    /// Under a tenth and under 10 GiB: a tenth of a large disk is plenty, and small disks are small on purpose.
    fn is_tight(&self) -> bool {
        self.percent() < 10 && self.available < 10 << 30
    }

    fn severity(&self) -> Severity {
        if self.percent() < 2 { Severity::Critical } else { Severity::Warning }
    }
}

fn judge_version(server: &ServerFacts, findings: &mut Vec<Finding>) {
    if let Err(error) = MajorVersion::from_server_version_num(server.version_num) {
        let finding = Finding::new(
            "version-unsupported",
            Severity::Critical,
            error.to_string(),
            "pgproof reads the data files of PostgreSQL 14 to 18 only",
        );
        findings.push(finding.with(Remedy::safe(error.hint(), "")));
    }
    if server.block_size != 8192 {
        findings.push(Finding::new(
            "block-size",
            Severity::Critical,
            format!("the server's block size is {} bytes", server.block_size),
            "pgproof knows pages of 8192 bytes only",
        ));
    }
    if server.in_recovery {
        findings.push(Finding::new(
            "standby",
            Severity::Warning,
            "the server is a standby",
            "backups are taken from the primary only, and the archive test cannot run here",
        ));
    }
    if !server.may_back_up {
        let (start, stop) = if server.version_num >= 150_000 {
            ("pg_backup_start(text, boolean)", "pg_backup_stop(boolean)")
        } else {
            ("pg_start_backup(text, boolean, boolean)", "pg_stop_backup(boolean, boolean)")
        };
        let sql = format!("GRANT EXECUTE ON FUNCTION {start}, {stop} TO CURRENT_ROLE;");
        findings.push(
            Finding::new(
                "role-may-not-back-up",
                Severity::Critical,
                "the role may not start a backup",
                "every backup would fail",
            )
            .with(Remedy::safe("grant it, as a superuser and with the role's name", sql)),
        );
    }
}

fn judge_safety(server: &ServerFacts, findings: &mut Vec<Finding>) {
    let set =
        |name: &str, value: &str| format!("ALTER SYSTEM SET {name} = {value}; SELECT pg_reload_conf();");
    if server.setting("fsync") == "off" {
        findings.push(
            Finding::new("fsync-off", Severity::Critical, "fsync is off", "a power cut destroys the cluster")
                .with(Remedy::safe("turn it on", set("fsync", "on"))),
        );
    }
    if server.setting("full_page_writes") == "off" {
        findings.push(
            Finding::new(
                "full-page-writes-off",
                Severity::Warning,
                "full_page_writes is off",
                "a crash can tear pages; during backups the server turns it on by itself",
            )
            .with(Remedy::safe("turn it on", set("full_page_writes", "on"))),
        );
    }
    if server.setting("wal_level") == "minimal" {
        findings.push(
            Finding::new(
                "wal-level-minimal",
                Severity::Critical,
                "wal_level is minimal",
                "WAL does not hold enough to recover from",
            )
            .with(restart_remedy("wal_level", "replica")),
        );
    }
    if !server.checksums {
        findings.push(
            Finding::new(
                "checksums-off",
                Severity::Info,
                "data checksums are off",
                "damage of the disk is noticed only when a query meets it, and backups cannot notice it either",
            )
            .with(Remedy::disruptive(
                "with the server stopped, turn them on; it rewrites every page",
                format!("pg_checksums --enable -D {}", server.data_directory.display()),
            )),
        );
    }
}

fn restart_remedy(name: &str, value: &str) -> Remedy {
    Remedy::disruptive("set it and restart the server", format!("ALTER SYSTEM SET {name} = {value};"))
}

fn judge_archiving(seen: &Observation, server: &ServerFacts, findings: &mut Vec<Finding>) {
    let why = "no WAL is archived: backups cannot be completed";
    let pending = server.pending_restart.iter().any(|name| name == "archive_mode");
    if server.setting("archive_mode") == "off" {
        let finding = if pending {
            Finding::new("restart-needed", Severity::Critical, "archive_mode waits for a restart", why)
                .with(Remedy::disruptive("restart the server", "pgproof init --restart"))
        } else {
            Finding::new("archive-mode-off", Severity::Critical, "archive_mode is off", why)
                .with(Remedy::disruptive("turn it on and restart the server", "pgproof init --restart"))
        };
        findings.push(finding);
        return;
    }
    let library = server.setting("archive_library");
    if !library.is_empty() {
        let text = format!("archive_library is '{library}', so archive_command is not used");
        findings.push(
            Finding::new("archive-library-in-use", Severity::Critical, text, why)
                .with(Remedy::safe("use archive_command instead", "pgproof init --replace-archive-command")),
        );
        return;
    }
    judge_command(seen, server.setting("archive_command"), findings);
}

fn judge_command(seen: &Observation, command: &str, findings: &mut Vec<Finding>) {
    let why = "WAL does not reach this repository: backups cannot be completed";
    match archive_command::parse(command) {
        ArchiveCommand::None => findings.push(
            Finding::new("archive-command-empty", Severity::Critical, "archive_command is empty", why)
                .with(Remedy::safe("set it", "pgproof init")),
        ),
        ArchiveCommand::Foreign => findings.push(
            Finding::new(
                "archive-command-foreign",
                Severity::Critical,
                format!("archive_command is not pgproof's: {command}"),
                why,
            )
            .with(Remedy::safe("replace it, if nothing needs it", "pgproof init --replace-archive-command")),
        ),
        ArchiveCommand::Ours(_) => judge_our_command(seen, command, findings),
    }
}

fn judge_our_command(seen: &Observation, command: &str, findings: &mut Vec<Finding>) {
    let Some(target) = &seen.command_target else { return };
    let anew = || Remedy::safe("write it anew", "pgproof init --replace-archive-command");
    if !target.program_exists {
        let text = format!("archive_command names a program that is not there: {command}");
        let why = "every attempt to archive fails, and WAL piles up";
        findings.push(Finding::new("archive-command-broken", Severity::Critical, text, why).with(anew()));
    }
    if target.config != seen.config_file {
        let text = format!("archive_command reads another configuration than this check: {command}");
        let why = "what is archived may go to another repository than backups do";
        findings.push(Finding::new("archive-command-differs", Severity::Warning, text, why).with(anew()));
    }
}

fn judge_archiver(seen: &Observation, server: &ServerFacts, findings: &mut Vec<Finding>) {
    let archiver = &server.archiver;
    if let (Some(file), Some(failed_s)) = (&archiver.last_failed, archiver.last_failed_age_s) {
        let since = archiver.last_archived_age_s.unwrap_or(f64::INFINITY);
        if failed_s < since {
            let ago = human_duration(Duration::from_secs_f64(failed_s.max(0.0)));
            let text = format!("the archiver failed {ago} ago with {file}, and has archived nothing since");
            let why =
                "WAL piles up on the server's disk, and what is written now cannot be recovered elsewhere";
            findings.push(
                Finding::new("archiver-failing", Severity::Critical, text, why)
                    .with(Remedy::safe("read what pgproof said in the server's log", "")),
            );
        }
    }
    if let Seen::Yes(files) = &seen.files
        && files.ready >= READY_WARNING
    {
        let severity = if files.ready >= READY_CRITICAL { Severity::Critical } else { Severity::Warning };
        let first = files.ready_first.as_deref().unwrap_or("?");
        let text = format!("{} WAL files wait for the archiver, the first is {first}", files.ready);
        let why = "the archive is behind: what they hold would be lost with this host";
        findings.push(
            Finding::new("archive-behind", severity, text, why)
                .with(Remedy::safe("see the lag and its cause", "pgproof archive status")),
        );
    }
}

/// Which finding an error of opening the repository is.
fn unusable_repository(trouble: &Trouble) -> Finding {
    let code = match trouble.code.as_str() {
        "repository-absent" | "store-no-repository" => "repository-absent",
        "repository-key-needed"
        | "repository-wrong-key"
        | "repository-key-file"
        | "repository-key-command"
        | "repository-no-way-in"
        | "repository-not-an-identity"
        | "repository-not-encrypted" => "repository-key",
        code if code.starts_with("config-") => "repository-unconfigured",
        _ => "repository-unreachable",
    };
    unseen(code, trouble, "neither backup nor archive nor restore can work")
}

fn judge_repository(seen: &Observation, repository: &RepositoryFacts, findings: &mut Vec<Finding>) {
    judge_place(seen, repository, findings);
    judge_owner(seen, repository, findings);
    let ahead = repository.clock_ahead_ms;
    if ahead.abs() > CLOCK_WARNING_MS {
        let by = human_duration(Duration::from_millis(ahead.unsigned_abs()));
        let text = format!(
            "the repository's clock is {by} {} this host's",
            if ahead > 0 { "ahead of" } else { "behind" }
        );
        let severity = if ahead.abs() > CLOCK_CRITICAL_MS { Severity::Critical } else { Severity::Warning };
        let why = "times in reports and recovery targets are this host's, expiry goes by the repository's";
        findings.push(
            Finding::new("clock-differs", severity, text, why)
                .with(Remedy::safe("let both follow a time server", "chronyc tracking")),
        );
    }
    match &repository.last_backup {
        None => findings.push(
            Finding::new("no-backup", Severity::Warning, "there is no backup yet", "nothing can be restored")
                .with(Remedy::safe("take one", "pgproof backup")),
        ),
        Some(backup) if backup.age_s > BACKUP_AGE_WARNING_S => {
            let age = human_duration(Duration::from_secs(backup.age_s));
            let text = format!("the newest backup, {}, is {age} old", backup.id);
            let why = "a restore has to replay all WAL since then";
            findings.push(
                Finding::new("backup-old", Severity::Warning, text, why)
                    .with(Remedy::safe("take one, and see why the schedule did not", "pgproof backup")),
            );
        }
        Some(_) => {}
    }
    if repository.recipients == 1 {
        let text = "one key alone opens the repository";
        let why = "whoever loses it loses the backups, unless a copy of it lies elsewhere";
        let remedy = Remedy::safe(
            "add one that is kept offline: docs/manual/keys.md",
            "pgproof key add --recipient \"$(pgproof key generate recovery.key)\"",
        );
        findings.push(Finding::new("key-single", Severity::Info, text, why).with(remedy));
    }
    if !seen.retention {
        let finding = Finding::new(
            "retention-unset",
            Severity::Info,
            "no retention is configured",
            "nothing ever expires",
        );
        findings.push(
            finding.with(Remedy::safe("set one in pgproof.toml", "[retention]\nkeep_within = \"14d\"")),
        );
    }
}

/// Where it lies and what that place can do.
fn judge_place(seen: &Observation, repository: &RepositoryFacts, findings: &mut Vec<Finding>) {
    let place = &repository.place;
    if let Some(inside) = &repository.inside {
        let text = format!("the repository, {place}, lies inside {}", inside.display());
        let why = "whatever destroys the data destroys its backups, and each backup would contain the last";
        findings.push(Finding::new("repository-inside-data", Severity::Critical, text, why));
    }
    let capabilities = &repository.capabilities;
    if !capabilities.writable {
        let text = format!(
            "{place} cannot be written: {}",
            capabilities.refusal.as_deref().unwrap_or("no reason given")
        );
        let why = "backups and archiving fail; restore works";
        findings.push(Finding::new("repository-read-only", Severity::Critical, text, why));
    } else if !capabilities.read_after_write {
        let text = format!("{place} does not give back what was just written");
        let why = "no repository is safe in such a store";
        findings.push(Finding::new("store-inconsistent", Severity::Critical, text, why));
    } else if !capabilities.is_complete() {
        let text = format!("{place}: {}", capabilities.lacking().join("; "));
        let why = "only the age of objects protects what several hosts do at once";
        findings.push(Finding::new("store-lacks", Severity::Warning, text, why));
    }
    let Some(room) = repository.room else { return };
    if room.is_tight() {
        let text = format!("{} left for the repository ({} %)", Bytes(room.available), room.percent());
        let why = "when it is full, archiving stops and WAL piles up on the server";
        findings.push(
            Finding::new("repository-disk-full", room.severity(), text, why)
                .with(Remedy::safe("see what a shorter retention would remove", "pgproof expire --dry-run")),
        );
    }
    let data = seen.files.ok().and_then(|files| files.wal_room);
    if data.is_some_and(|data| data.device == room.device) {
        let text = "the repository is on the same file system as the server".to_owned();
        let why = "one broken disk takes both";
        findings.push(Finding::new("same-disk", Severity::Warning, text, why));
    }
}

/// Whose repository it is.
fn judge_owner(seen: &Observation, repository: &RepositoryFacts, findings: &mut Vec<Finding>) {
    let files = seen.files.ok();
    let system =
        seen.server.ok().map(|server| server.system_identifier).or(files.and_then(|f| f.system_identifier));
    if let (Some(server), Some(found)) = (seen.server.ok(), files.and_then(|files| files.system_identifier))
        && server.system_identifier != found
    {
        let text = format!(
            "the server is system {}, the data directory is of system {found}",
            server.system_identifier
        );
        let why = "pgproof.toml mixes two servers: a backup would be refused";
        findings.push(Finding::new("other-data-directory", Severity::Critical, text, why));
    }
    let foreign =
        !repository.lineages.is_empty() && system.is_some_and(|s| !repository.lineages.contains(&s));
    if foreign {
        let others: Vec<_> = repository.lineages.iter().map(ToString::to_string).collect();
        let text = format!("the repository holds only other systems: {}", others.join(", "));
        let why = "after pg_upgrade or initdb this is right; else this is another cluster's repository";
        findings.push(Finding::new("repository-of-other-system", Severity::Warning, text, why));
    }
    let own = files.map_or(0, |files| files.epoch);
    if let Some(writer) = repository.writer.as_ref().filter(|writer| writer.epoch > own) {
        let text = format!(
            "{} on {} took over archiving (epoch {}, ours is {own})",
            writer.pgdata, writer.host, writer.epoch
        );
        let why = "this server's WAL is refused: it is no longer the one that counts";
        findings.push(Finding::new("archive-superseded", Severity::Critical, text, why));
    }
}

fn judge_test(test: &ArchiveTest, findings: &mut Vec<Finding>) {
    match test {
        ArchiveTest::NotRun { .. } | ArchiveTest::Stored { summary: true, .. } => {}
        ArchiveTest::Stored { segment, summary: false, .. } => {
            let text = format!("segment {segment} was archived without a summary");
            let why = "incremental backups have to compare file contents where summaries are missing";
            findings.push(Finding::new("summary-missing", Severity::Warning, text, why));
        }
        ArchiveTest::Missing { segment, seconds } => {
            let text = format!("segment {segment} did not reach the repository within {seconds:.0} s");
            let why = "WAL is not archived, so a backup would wait for it in vain";
            findings.push(
                Finding::new("archive-test-failed", Severity::Critical, text, why)
                    .with(Remedy::safe("see the archiver's state", "pgproof archive status"))
                    .with(Remedy::safe("read what pgproof said in the server's log", "")),
            );
        }
        ArchiveTest::Failed(trouble) => {
            findings.push(unseen(
                "archive-test-failed",
                trouble,
                "whether WAL reaches the repository is not known",
            ));
        }
    }
}
