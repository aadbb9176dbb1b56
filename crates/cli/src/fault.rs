//! Errors as the operator sees them: what happened, why, and what to do next.
//!
//! Library errors carry a stable code and a hint; `anyhow` carries them up here, where the chain is searched for the outermost that has
//! one. This is the only place that knows all error types.

use crate::config::ConfigError;
use serde::Serialize;
use std::error::Error;
use std::fmt;

/// An error, ready to be shown.
#[derive(Debug, Serialize)]
pub(crate) struct Fault {
    /// Stable name of the kind of error.
    pub(crate) code: String,
    /// What could not be done.
    pub(crate) message: String,
    /// Why, outermost first.
    pub(crate) causes: Vec<String>,
    /// What to do next: a command or a question.
    pub(crate) hint: Option<String>,
}

/// A refusal by the command line itself.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    code: &'static str,
    message: String,
    hint: String,
}

impl Refused {
    pub(crate) fn new(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into() }
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }
}

impl Fault {
    pub(crate) fn new(error: &anyhow::Error) -> Self {
        Self::of(error.as_ref())
    }

    /// What another process said of its failure.
    pub(crate) fn said(message: String) -> Self {
        Self { code: "failed".to_owned(), message, causes: Vec::new(), hint: None }
    }

    /// The same from an error as a library gave it.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let chain = || std::iter::successors(Some(error), |&error| error.source());
        let mut texts: Vec<String> = Vec::new();
        for cause in chain() {
            let text = cause.to_string();
            // Some libraries repeat their source in their own text.
            if texts.last().is_none_or(|last| !last.contains(&text)) {
                texts.push(text);
            }
        }
        let mut texts = texts.into_iter();
        let known = || chain().filter_map(code_and_hint);
        Self {
            code: known().find_map(|(code, _)| code).unwrap_or_else(|| "failed".to_owned()),
            message: texts.next().unwrap_or_default(),
            causes: texts.collect(),
            hint: known().find_map(|(_, hint)| hint),
        }
    }
}

impl Fault {
    /// What and why, without what to do next.
    pub(crate) fn one_line(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).cloned().collect::<Vec<_>>().join(": ")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        for cause in &self.causes {
            writeln!(f, "cause: {cause}")?;
        }
        match &self.hint {
            Some(hint) => writeln!(f, "hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// What the libraries' errors say of themselves.
fn code_and_hint(error: &(dyn Error + 'static)) -> Option<(Option<String>, Option<String>)> {
    if let Some(error) = error.downcast_ref::<Refused>() {
        return Some((Some(error.code.to_owned()), Some(error.hint.clone())));
    }
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return Some((Some(error.code().to_owned()), error.hint()));
    }
    if let Some(error) = error.downcast_ref::<pgproof_repo::Error>() {
        return Some((Some(error.code().to_owned()), error.hint()));
    }
    if let Some(error) = error.downcast_ref::<pgproof_doctor::DoctorError>() {
        return Some((Some(error.code().to_owned()), Some(error.hint())));
    }
    if let Some(error) = error.downcast_ref::<pgproof_store::StoreError>() {
        return Some((Some(error.code().to_owned()), error.hint()));
    }
    if let Some(error) = error.downcast_ref::<pgproof_sandbox::Error>() {
        return Some((Some(error.code().to_owned()), error.hint()));
    }
    if let Some(error) = error.downcast_ref::<pgproof_restore::RestoreError>() {
        return Some((Some(error.code().to_owned()), error.hint()));
    }
    if let Some(error) = error.downcast_ref::<pgproof_drill::DrillError>() {
        return Some((Some(error.code().to_owned()), error.hint()));
    }
    if let Some(error) = error.downcast_ref::<pgproof_drill::heartbeat::HeartbeatError>() {
        return Some((Some(error.code().to_owned()), error.hint()));
    }
    if let Some(error) = error.downcast_ref::<pgproof_restore::private::PrivateError>() {
        return Some((Some(error.code().to_owned()), error.hint()));
    }
    if let Some(error) = error.downcast_ref::<pgproof_restore::extract::ExtractError>() {
        return Some((Some(error.code().to_owned()), error.hint()));
    }
    if let Some(error) = error.downcast_ref::<pgproof_backup::BackupError>() {
        return Some((None, Some(error.hint())));
    }
    if let Some(error) = error.downcast_ref::<pgproof_dump::DumpError>() {
        return Some((error.code().map(str::to_owned), Some(error.hint())));
    }
    if let Some(error) = error.downcast_ref::<pgproof_ha::HaError>() {
        return Some((Some(error.code().to_owned()), error.hint()));
    }
    if let Some(error) = error.downcast_ref::<pgproof_wal::WalError>() {
        return Some((None, Some(error.hint())));
    }
    let error = error.downcast_ref::<pgproof_server::ServerError>()?;
    Some((None, Some(error.hint())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use expect_test::expect;

    #[test]
    fn an_error_says_what_why_and_what_next() {
        let refused =
            Refused::new("x-y", "archive_command is in use", "run `pgproof init --replace-archive-command`");
        let error = Err::<(), _>(refused).context("could not set up archiving").unwrap_err();
        let fault = Fault::new(&error);
        assert_eq!(fault.code, "x-y");
        expect![[r#"
            error: could not set up archiving
            cause: archive_command is in use
            hint: run `pgproof init --replace-archive-command`
        "#]]
        .assert_eq(&fault.to_string());
    }

    #[test]
    fn causes_that_say_the_same_are_said_once() {
        let error = anyhow::anyhow!("no space left").context("could not store x: no space left");
        assert_eq!(Fault::new(&error).causes, Vec::<String>::new());
    }
}
