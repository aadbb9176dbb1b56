//! Which check a failed recovery fails, and whether it says anything about the backups at all. Pure.

use crate::report::CheckName;
use pgproof_base::{Finding, Remedy, Severity};
use pgproof_restore::private::PrivateError;
use pgproof_restore::{Refusal, RestoreError};
use pgproof_server::ServerError;
use std::error::Error;

/// What a failed recovery proves: the check it fails, and the finding.
#[derive(Debug)]
pub(crate) struct Blame {
    pub(crate) check: CheckName,
    pub(crate) finding: Finding,
}

/// None where the error is of this host or of what was asked, and proves nothing about the backups.
pub(crate) fn of_restore(error: &RestoreError) -> Option<Blame> {
    let check = match error {
        RestoreError::Refused(refusal) => of_refusal(refusal)?,
        RestoreError::Repository { source, .. } if source.is_unreadable() => CheckName::Files,
        RestoreError::Repository { .. } => CheckName::Repository,
        RestoreError::Damage { .. } | RestoreError::Incomplete { .. } | RestoreError::NotPostgres { .. } => {
            CheckName::Files
        }
        RestoreError::StoppedEarly { source, .. } => match source.as_deref().is_some_and(archive_failed) {
            true => CheckName::Wal,
            false => CheckName::Consistency,
        },
        RestoreError::NotReachedYet { .. } => CheckName::Consistency,
        RestoreError::Server { source, .. } => match source.as_ref() {
            error if archive_failed(error) => CheckName::Wal,
            ServerError::Control { .. } | ServerError::Timeout { .. } => CheckName::Consistency,
            _ => return None,
        },
        _ => return None,
    };
    Some(Blame { check, finding: finding(check, error, error.hint()) })
}

/// The same for the private server.
pub(crate) fn of_private(error: &PrivateError) -> Option<Blame> {
    match error {
        PrivateError::Recovery { source } => of_restore(source),
        _ => None,
    }
}

/// The same for a repository that does not open.
pub(crate) fn of_repository(error: &pgproof_repo::Error) -> Blame {
    let check = CheckName::Repository;
    Blame { check, finding: finding(check, error, error.hint()) }
}

fn of_refusal(refusal: &Refusal) -> Option<CheckName> {
    Some(match refusal {
        Refusal::Gap { .. } | Refusal::Unreachable { .. } => CheckName::Wal,
        Refusal::NotUsable { .. }
        | Refusal::HostilePath { .. }
        | Refusal::NoBackup { .. }
        | Refusal::NoLineage
        | Refusal::Expired { .. } => CheckName::Files,
        _ => return None,
    })
}

/// Whether the server ended because its `restore_command` failed, and not merely found nothing: `archive get` exits with 126 when WAL is
/// damaged or the repository away, and PostgreSQL then says (`RestoreArchivedFile` in `src/backend/access/transam/xlogarchive.c`):
fn archive_failed(error: &ServerError) -> bool {
    let (ServerError::Control { log_tail, .. } | ServerError::Timeout { log_tail, .. }) = error else {
        return false;
    };
    log_tail.lines().any(|line| line.contains("could not restore file") && line.contains("from archive"))
}

fn finding(check: CheckName, error: &dyn Error, hint: Option<String>) -> Finding {
    let finding = Finding::new(code(check), Severity::Critical, in_one_line(error), why(check));
    match hint {
        Some(hint) => finding.with(Remedy::safe(hint, "")),
        None => finding,
    }
}

fn code(check: CheckName) -> &'static str {
    match check {
        CheckName::Repository => "drill-repository",
        CheckName::Wal => "drill-wal",
        CheckName::Files => "drill-files",
        _ => "drill-consistency",
    }
}

fn why(check: CheckName) -> &'static str {
    match check {
        CheckName::Repository => {
            "a disaster now would find the repository closed: nothing could be restored from it"
        }
        CheckName::Wal => {
            "WAL does not lead to the instant: what was committed behind this place could not be recovered"
        }
        CheckName::Files => "the backup does not come back whole, so that no server could be started on it",
        _ => "the files came back, but PostgreSQL did not recover on them",
    }
}

/// The error and its causes.
pub(crate) fn in_one_line(error: &dyn Error) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    let mut texts: Vec<String> = Vec::new();
    for text in chain.map(|error| error.to_string()) {
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgproof_pg::Lsn;
    use std::path::PathBuf;

    fn check(error: &RestoreError) -> Option<CheckName> {
        of_restore(error).map(|blame| blame.check)
    }

    #[test]
    fn a_failure_is_blamed_on_what_it_proves_and_on_nothing_else() {
        let gap = Refusal::Gap { segment: "000000010000000000000007".into(), reachable: Lsn(7) };
        assert_eq!(check(&gap.into()), Some(CheckName::Wal));
        let full = Refusal::NoSpace { directory: PathBuf::from("/x"), needed: 2, available: 1 };
        assert_eq!(check(&full.into()), None, "a full disk here says nothing about the backups");
        let ended = |log_tail: &str| RestoreError::StoppedEarly {
            target: "the latest instant".into(),
            reached: "0/1".into(),
            source: Some(Box::new(ServerError::Control {
                data: PathBuf::from("/x"),
                action: "recover",
                why: "it ended".into(),
                log_tail: log_tail.into(),
            })),
        };
        assert_eq!(check(&ended("FATAL:  invalid page")), Some(CheckName::Consistency));
        let archive = "FATAL:  could not restore file \"00000001000000000000000A\" from archive: child process exited with exit code 126";
        assert_eq!(check(&ended(archive)), Some(CheckName::Wal));
    }
}
