//! Carries out a remedy as it is printed: SQL through a session with the operator's parameters, a command line by the shell.
//!
//! Asking is the caller's part, and so is looking again afterwards: only a second look shows that something is mended.

use crate::DoctorError;
use pgproof_base::{Remedy, RiskClass};
use pgproof_server::{ConnectOptions, Session};
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

/// What somebody allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// What interrupts nobody.
    Safe,
    /// What interrupts service, too.
    Disruptive,
    /// Everything.
    Destructive,
}

impl Allowed {
    /// Whether a remedy may be carried out.
    #[must_use]
    pub fn covers(self, remedy: &Remedy) -> bool {
        match remedy.risk {
            RiskClass::Safe => true,
            RiskClass::Disruptive => self != Self::Safe,
            RiskClass::Destructive => self == Self::Destructive,
        }
    }
}

/// Keeps what a remedy removes: the rows of its query go to `file`, which must not exist, and is durable on return; a command line keeps
/// its copy itself.
///
/// # Errors
/// [`DoctorError::NothingKept`] where the remedy says nothing of a copy; [`DoctorError::Remedy`] with what went wrong.
pub fn keep_copy(remedy: &Remedy, connect: &ConnectOptions, mut file: File) -> Result<(), DoctorError> {
    let Some(keep) = &remedy.keep else {
        return Err(DoctorError::NothingKept { command: remedy.command.clone() });
    };
    let fail = |why: String| DoctorError::Remedy { why };
    let text = match &remedy.database {
        Some(database) => {
            let mut session =
                Session::open(&connect.with_database(database)).map_err(|error| fail(whole(&error)))?;
            let rows = session.query("keep a copy", keep, &[]).map_err(|error| fail(whole(&error)))?;
            let rows: Vec<String> = rows.iter().filter_map(|row| row.get::<_, Option<String>>(0)).collect();
            if rows.is_empty() {
                return Err(fail("there is nothing to be kept any more: look again".to_owned()));
            }
            rows.join("\n")
        }
        None => shell(keep)?,
    };
    let kept = writeln!(file, "-- before: {}\n{text}", remedy.command.replace('\n', " "));
    kept.and_then(|()| file.sync_all()).map_err(|error| fail(error.to_string()))
}

/// Carries it out.
///
/// # Errors
/// [`DoctorError::Remedy`] with what the server or the command said.
pub fn carry_out(remedy: &Remedy, connect: &ConnectOptions) -> Result<String, DoctorError> {
    let fail = |why: String| DoctorError::Remedy { why };
    match &remedy.database {
        Some(database) => {
            let options = connect.with_database(database);
            let mut session = Session::open(&options).map_err(|error| fail(whole(&error)))?;
            // One at a time: ALTER SYSTEM, VACUUM and CONCURRENTLY refuse to be part of a transaction.
            for statement in statements(&remedy.command) {
                session.execute("carry out the remedy", statement).map_err(|error| fail(whole(&error)))?;
            }
            Ok(String::new())
        }
        None => shell(&remedy.command),
    }
}

fn shell(line: &str) -> Result<String, DoctorError> {
    let fail = |why: String| DoctorError::Remedy { why };
    let mut command = Command::new("sh");
    command.args(["-ec", line]).current_dir("/").stdin(Stdio::null());
    let output = command.output().map_err(|error| fail(error.to_string()))?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(fail(format!("{}: {}", output.status, said.trim()))) }
}

fn whole(error: &dyn std::error::Error) -> String {
    let source = error.source().map_or_else(String::new, |source| format!(": {source}"));
    format!("{error}{source}")
}

/// The statements of a remedy, one a line, as doctor writes them.
pub fn statements(command: &str) -> impl Iterator<Item = &str> {
    command.lines().map(str::trim).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_allowed_is_covered() {
        let (safe, hard) = (Remedy::safe("a", "true"), Remedy::destructive("b", "true"));
        assert!(Allowed::Safe.covers(&safe) && !Allowed::Safe.covers(&hard));
        assert!(!Allowed::Disruptive.covers(&hard) && Allowed::Destructive.covers(&hard));
    }

    #[test]
    fn a_command_that_fails_says_why() {
        let error = carry_out(&Remedy::safe("x", "echo no room >&2; exit 3"), &ConnectOptions::default())
            .unwrap_err();
        assert!(error.to_string().contains("no room"), "{error}");
    }
}
