//! What keeps doctor itself from its work. What is wrong with a server is a finding, never an error.

use std::io;
use std::path::PathBuf;

/// Why doctor could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoctorError {
    /// The configuration's `[doctor]` table cannot be used.
    #[error("{message}")]
    Config {
        /// What is wrong, and where.
        message: String,
    },
    /// A bundle could not be read or written.
    #[error("could not {operation} the bundle {}", path.display())]
    Bundle {
        /// `read` or `write`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is no bundle.
    #[error("{} is not a bundle of pgproof: {why}", path.display())]
    NotABundle {
        /// The file.
        path: PathBuf,
        /// What is strange.
        why: String,
    },
    /// No check has such a code.
    #[error("there is no check `{code}`")]
    UnknownCode {
        /// What was asked for.
        code: String,
        /// The nearest known ones.
        near: Vec<&'static str>,
    },
    /// A remedy failed.
    #[error("the remedy failed: {why}")]
    Remedy {
        /// What the program or server said.
        why: String,
    },
    /// A remedy removes something, and nothing says how to keep a copy of that.
    #[error("`{command}` was not carried out: nothing keeps a copy of what it removes")]
    NothingKept {
        /// The remedy.
        command: String,
    },
    /// A thread could not be started.
    #[error("could not start looking")]
    Thread {
        /// Why not.
        source: io::Error,
    },
}

impl DoctorError {
    /// Stable code of the kind of failure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "doctor-config",
            Self::Bundle { .. } => "doctor-bundle",
            Self::NotABundle { .. } => "doctor-not-a-bundle",
            Self::UnknownCode { .. } => "doctor-unknown-code",
            Self::Remedy { .. } => "doctor-remedy",
            Self::NothingKept { .. } => "doctor-nothing-kept",
            Self::Thread { .. } => "doctor-thread",
        }
    }

    /// What the operator can do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Config { .. } => "docs/manual/doctor.md tells what `[doctor]` may hold".to_owned(),
            Self::Bundle { .. } => "may this user read and write there?".to_owned(),
            Self::NotABundle { .. } => "`pgproof doctor bundle` writes one".to_owned(),
            Self::UnknownCode { near, .. } if near.is_empty() => {
                "`pgproof doctor explain` lists all".to_owned()
            }
            Self::UnknownCode { near, .. } => format!("is it one of {}?", near.join(", ")),
            Self::Remedy { .. } => "run `pgproof doctor` again: it looks at what there is now".to_owned(),
            Self::NothingKept { .. } => "keep a copy by hand, then run it by hand".to_owned(),
            Self::Thread { .. } => "how many processes may this user have (ulimit -u)?".to_owned(),
        }
    }
}
