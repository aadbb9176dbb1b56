//! What the process's exit code says, to people's scripts and to PostgreSQL.
//!
//! PostgreSQL reads its hooks' codes in its own way (`src/backend/access/transam/xlogarchive.c`, `RestoreArchivedFile`, and
//! `src/backend/postmaster/pgarch.c`, `pgarch_archiveXlog` or `basic shell archive`): a `restore_command` that exits with 1 to 125 means "the archive ends
//! here", and the server promotes with what it has; above 125, or by a signal, it stops instead. An `archive_command` that
//! exits above 125 makes the archiver process exit, below it tries again. So the default of `archive get` is 126: whatever goes
//! wrong, a wrong flag and a panic included, must never look like the end of the archive.

use std::ffi::OsString;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked.
    Done,
    /// It did what was asked, and the answer is bad: findings, damage, a gap; for `archive get`: proven absent.
    BadAnswer,
    /// The same for monitoring that tells a warning from something critical.
    Critical,
    /// It was asked wrongly.
    Usage,
    /// It could not do it.
    Failed,
}

impl Exit {
    /// The one that matters more, where several things were done.
    pub(crate) fn worse(self, other: Self) -> Self {
        let rank = |exit: Self| match exit {
            Self::Done => 0,
            Self::BadAnswer => 1,
            Self::Critical => 2,
            Self::Usage => 3,
            Self::Failed => 4,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

/// Whose rules the exit code follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// 0 done, 1 bad answer, 2 usage, 3 failed.
    Ordinary,
    /// 0 delivered, 1 proven absent, 126 everything else.
    ArchiveGet,
}

/// The code that stops recovery instead of ending it.
const STOP_RECOVERY: u8 = 126;

impl Rules {
    /// From the raw arguments, because they count even when these cannot be parsed.
    pub(crate) fn of(arguments: &[OsString]) -> Self {
        let mut after_archive =
            arguments.iter().skip(1).skip_while(|argument| *argument != "archive").skip(1);
        let verb = after_archive.find(|a| *a == "get" || *a == "push" || *a == "status" || *a == "prefetch");
        match verb {
            Some(verb) if verb == "get" => Self::ArchiveGet,
            _ => Self::Ordinary,
        }
    }

    /// The exit code of an ending.
    pub(crate) fn code(self, exit: Exit) -> u8 {
        match (self, exit) {
            (_, Exit::Done) => 0,
            (_, Exit::BadAnswer) => 1,
            (_, Exit::Critical) => 2,
            (Self::ArchiveGet, Exit::Usage | Exit::Failed) => STOP_RECOVERY,
            (Self::Ordinary, Exit::Usage) => 2,
            (Self::Ordinary, Exit::Failed) => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(arguments: &[&str]) -> Rules {
        Rules::of(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn archive_get_is_recognised_wherever_flags_stand() {
        assert_eq!(rules(&["pgproof", "archive", "get", "x", "y"]), Rules::ArchiveGet);
        assert_eq!(
            rules(&["pgproof", "--config", "/c", "archive", "--json", "get", "--nonsense"]),
            Rules::ArchiveGet
        );
        assert_eq!(rules(&["pgproof", "archive", "push", "get"]), Rules::Ordinary);
        assert_eq!(rules(&["pgproof", "show", "get"]), Rules::Ordinary);
        assert_eq!(rules(&["archive", "get"]), Rules::Ordinary);
    }

    #[test]
    fn archive_get_says_absent_only_for_absent() {
        assert_eq!(Rules::ArchiveGet.code(Exit::BadAnswer), 1);
        assert_eq!(Rules::ArchiveGet.code(Exit::Usage), 126);
        assert_eq!(Rules::ArchiveGet.code(Exit::Failed), 126);
    }

    #[test]
    fn ordinary_codes_stay_below_126_so_that_the_archiver_tries_again() {
        for exit in [Exit::Done, Exit::BadAnswer, Exit::Usage, Exit::Failed] {
            assert!(Rules::Ordinary.code(exit) < 126);
        }
    }
}
