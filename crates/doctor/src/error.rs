//! What keeps doctor itself from its work. What is wrong with a server is a finding, never an error.

use std::io;

/// Why doctor could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoctorError {
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
            Self::Thread { .. } => "doctor-thread",
        }
    }

    /// What the operator can do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Thread { .. } => "how many processes may this user have (ulimit -u)?".to_owned(),
        }
    }
}
