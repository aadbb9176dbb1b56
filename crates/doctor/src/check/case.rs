//! What checks ask of an observation, and how they name commands.

use super::Check;
use crate::limits::Config;
use crate::observe::{
    Account, Attempt, By, ClusterSeen, Disk, LogEntry, Observation, Outcome, Place, PostgresProcess,
    RepositorySeen, ServerSeen, SettingsFiles,
};
use pgproof_base::{Finding, Remedy, Severity, shell_word};
use pgproof_server::START_LOG;
use std::path::Path;

/// A finding, and what it is about: two of one code are told apart by that.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) finding: Finding,
    pub(crate) subject: String,
}

impl Found {
    pub(crate) fn with(mut self, remedy: Remedy) -> Self {
        self.finding.remedies.push(remedy);
        self
    }

    pub(crate) fn shown_by(mut self, evidence: impl Into<String>) -> Self {
        self.finding.evidence.push(evidence.into());
        self
    }

    pub(crate) fn shown_by_all(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.finding.evidence.extend(evidence);
        self
    }
}

/// The observation, as checks look at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) seen: &'a Observation,
    pub(crate) config: &'a Config,
}

/// How far back a line of the log tells of now, while the server runs.
const RECENT_S: i64 = 3600;

impl<'a> Case<'a> {
    /// How bad a value is by the check's limit; none below it.
    pub(crate) fn level(&self, check: &Check, value: f64) -> Option<Severity> {
        let limit = self.config.limit(check.code, check.limit?);
        if value >= limit.critical {
            Some(Severity::Critical)
        } else {
            (value >= limit.warning).then_some(Severity::Warning)
        }
    }

    pub(crate) fn server(&self) -> Option<&'a ServerSeen> {
        self.seen.server.ok()
    }

    /// A primary that was seen from inside.
    pub(crate) fn primary(&self) -> Option<&'a ServerSeen> {
        self.server().filter(|server| !server.about.in_recovery)
    }

    pub(crate) fn place(&self) -> Option<&'a Place> {
        self.seen.place.ok()
    }

    pub(crate) fn files(&self) -> Option<&'a SettingsFiles> {
        self.seen.settings.ok()
    }

    /// The instance of this host, where no postmaster of it runs.
    pub(crate) fn stopped(&self) -> Option<&'a Place> {
        self.place().filter(|place| place.postmaster.is_none() && self.server().is_none())
    }

    /// The operator's own attempt, where it failed.
    pub(crate) fn failed(&self) -> Option<&'a Attempt> {
        let own = self.seen.attempts.iter().find(|attempt| attempt.by == By::Operator);
        own.filter(|attempt| attempt.outcome != Outcome::Connected)
    }

    /// The same, refused by the server with this code; with its message.
    pub(crate) fn refused(&self, code: &str) -> Option<(&'a Attempt, &'a str)> {
        let attempt = self.failed()?;
        match &attempt.outcome {
            Outcome::Refused { sqlstate, message, .. } if sqlstate == code => Some((attempt, message)),
            _ => None,
        }
    }

    /// The newest line of the log that holds one of these texts: recent where the server runs, of its last life where it does not.
    pub(crate) fn logged(&self, texts: &[&str]) -> Option<&'a LogEntry> {
        self.logged_all(texts).next()
    }

    /// All of them, newest first.
    pub(crate) fn logged_all(&self, texts: &[&str]) -> impl Iterator<Item = &'a LogEntry> {
        let is_stopped = self.stopped().is_some();
        let entries = match is_stopped {
            true => self.last_life(),
            false => self.seen.log.ok().map_or(&[][..], |log| log.entries.as_slice()),
        };
        let holds = move |entry: &&LogEntry| {
            let all = [Some(&entry.message), entry.detail.as_ref()];
            texts.iter().any(|text| all.iter().flatten().any(|part| part.contains(text)))
        };
        let recent = move |entry: &&LogEntry| is_stopped || entry.age_s.is_some_and(|age| age < RECENT_S);
        entries.iter().rev().filter(recent).filter(holds)
    }

    /// Whether something was logged after the server last read its settings: what is older may have been mended by them.
    pub(crate) fn since_load(&self, entry: &LogEntry) -> bool {
        let loaded_s = self.server().map_or(f64::MAX, |server| server.about.loaded_s);
        entry.age_s.is_some_and(|age| (age as f64) < loaded_s)
    }

    /// The file system that something of the server lies on.
    pub(crate) fn volume(&self, role: &str) -> Option<&'a Disk> {
        self.seen.disks.ok()?.iter().find(|disk| disk.roles.iter().any(|one| one == role))
    }

    /// Repositories of the configuration.
    pub(crate) fn repositories(&self) -> &'a [RepositorySeen] {
        self.seen.around.ok().map_or(&[], |around| around.repositories.as_slice())
    }

    /// The cluster of the configuration.
    pub(crate) fn cluster(&self) -> Option<&'a ClusterSeen> {
        self.seen.around.ok()?.cluster.as_ref()
    }

    /// The archiver, while it runs.
    pub(crate) fn archiver_process(&self) -> Option<&'a PostgresProcess> {
        let postmaster = self.place()?.postmaster?;
        let all = &self.seen.processes.ok()?.postgres;
        all.iter().find(|one| one.parent == postmaster && one.title.contains("archiver"))
    }

    /// What was logged since the server was last ready: the story of its end and of every start that failed after it.
    pub(crate) fn last_life(&self) -> &'a [LogEntry] {
        let entries = self.seen.log.ok().map_or(&[][..], |log| log.entries.as_slice());
        let ready = |entry: &LogEntry| entry.message.contains("ready to accept");
        // The start that came to that belongs to it: what failed then is logged by another process, and may stand before.
        let ready = entries.iter().rposition(ready).unwrap_or(0);
        let starts = |entry: &LogEntry| entry.message.starts_with("starting PostgreSQL");
        let from = entries[..ready].iter().rposition(starts).unwrap_or(ready);
        &entries[from..]
    }

    /// A line of the log with its place.
    pub(crate) fn quote(&self, entry: &LogEntry) -> String {
        let file = self.seen.log.ok().map_or_else(String::new, |log| log.file.display().to_string());
        let detail = entry.detail.as_ref().map_or_else(String::new, |detail| format!(" DETAIL: {detail}"));
        format!("{file} at byte {}: {}: {}{detail}", entry.offset, entry.severity, entry.message)
    }

    /// A command as the account that the server runs as.
    pub(crate) fn as_owner(&self, command: &str) -> String {
        self.place().map_or_else(|| command.to_owned(), |place| self.as_account(&place.owner, command))
    }

    /// A command as somebody.
    pub(crate) fn as_account(&self, account: &Account, command: &str) -> String {
        let name = shell_word(&account.name);
        match self.seen.user.uid {
            uid if uid == account.uid => command.to_owned(),
            0 => format!("runuser -u {name} -- {command}"),
            _ => format!("sudo -u {name} {command}"),
        }
    }

    /// The command that starts the server.
    pub(crate) fn start(&self, place: &Place) -> String {
        if let Some((version, name)) = &place.debian {
            return format!("pg_ctlcluster {version} {} start", shell_word(name));
        }
        let log = word(&place.data_directory.join(START_LOG));
        self.as_owner(&format!(
            "{} -D {} -l {log} -w start",
            self.program(place, "pg_ctl"),
            word(&place.data_directory)
        ))
    }

    /// The remedy that starts the server.
    pub(crate) fn start_remedy(&self, place: &Place) -> Remedy {
        Remedy::safe("start the server", self.start(place)).afterwards(
            "`pgproof doctor` connects; the log ends with \"database system is ready to accept connections\"",
        )
    }

    /// The command that restarts the server.
    pub(crate) fn restart(&self, place: &Place) -> String {
        if let Some((version, name)) = &place.debian {
            return format!("pg_ctlcluster {version} {} restart", shell_word(name));
        }
        let log = word(&place.data_directory.join(START_LOG));
        let program = self.program(place, "pg_ctl");
        self.as_owner(&format!("{program} -D {} -l {log} -w -m fast restart", word(&place.data_directory)))
    }

    /// The command that lets the server read its files again.
    pub(crate) fn reload(&self, place: &Place) -> String {
        self.as_owner(&format!("{} -D {} reload", self.program(place, "pg_ctl"), word(&place.data_directory)))
    }

    /// A program of the server, by its path where that is known.
    pub(crate) fn program(&self, place: &Place, name: &str) -> String {
        place.programs.as_ref().map_or_else(|| name.to_owned(), |folder| word(&folder.join(name)))
    }

    /// SQL to be run in the database that the server was looked at through.
    pub(crate) fn sql(&self, statement: impl Into<String>) -> (String, String) {
        let database = self.server().map_or("postgres", |server| server.about.database.as_str());
        (statement.into(), database.to_owned())
    }

    /// A remedy in SQL that interrupts nobody.
    pub(crate) fn safe_sql(&self, what: &str, statement: impl Into<String>) -> Remedy {
        let (statement, database) = self.sql(statement);
        Remedy::safe(what, statement).in_database(database)
    }

    /// A remedy in SQL that ends or blocks somebody's work.
    pub(crate) fn disruptive_sql(&self, what: &str, statement: impl Into<String>) -> Remedy {
        let (statement, database) = self.sql(statement);
        Remedy::disruptive(what, statement).in_database(database)
    }

    /// A remedy in SQL that removes something.
    pub(crate) fn destructive_sql(&self, what: &str, statement: impl Into<String>) -> Remedy {
        let (statement, database) = self.sql(statement);
        Remedy::destructive(what, statement).in_database(database)
    }
}

/// Keeps the row of a slot that is dropped.
pub(crate) fn keep_slot(name: &str) -> String {
    format!("SELECT to_json(s)::text FROM pg_replication_slots s WHERE slot_name = {}", literal(name))
}

/// Keeps a data directory that is written over.
pub(crate) fn keep_directory(place: &Place) -> String {
    let data = word(&place.data_directory);
    format!("cp -a --reflink=auto {data} {data}.before-pgproof")
}

/// A path as one word of a shell.
pub(crate) fn word(path: &Path) -> String {
    shell_word(&path.display().to_string())
}

/// A name as SQL takes it.
pub(crate) fn identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    // Whether a plain name is a keyword only the server knows; quotes never hurt.
    if plain && !KEYWORDS.contains(&name) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Reserved words that people name roles and databases by.
const KEYWORDS: [&str; 14] = [
    "all",
    "analyse",
    "analyze",
    "any",
    "check",
    "default",
    "end",
    "group",
    "order",
    "primary",
    "references",
    "table",
    "user",
    "when",
];

/// A text as SQL takes it.
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// Seconds as a person says them.
pub(crate) fn ago(seconds: f64) -> String {
    pgproof_base::human_duration(std::time::Duration::from_secs_f64(seconds.max(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted_where_sql_needs_it() {
        assert_eq!(identifier("shop"), "shop");
        assert_eq!(identifier("Shop \"1\""), "\"Shop \"\"1\"\"\"");
        assert_eq!(identifier("user"), "\"user\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\b"), r"E'a\\b'");
    }
}
