//! Renders a typed report, once for people and once as JSON.
//!
//! Stdout is data: the report, nothing else, and with `--json` exactly one document whether the command succeeded or not. Stderr is talk:
//! progress, notes, errors. Everything can be read without colour. JSON fields are promises, listed in docs/manual/json.md.

mod findings;
mod page;

pub(crate) use findings::{render_finding, render_findings, worst};
pub(crate) use page::{Align, Page, Table, show_time};

use crate::fault::Fault;
use serde::Serialize;
use std::io::{self, Write};

/// What a command found out or did.
pub(crate) trait Report: Serialize {
    /// Writes it for people.
    fn render(&self, page: &mut Page);
}

/// Where and how reports are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    pub(crate) json: bool,
    /// Colour on stdout.
    pub(crate) color: bool,
    /// Show all there is.
    pub(crate) verbose: bool,
}

/// The one document of `--json`.
#[derive(Serialize)]
struct Document<'a, T> {
    command: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Fault>,
}

impl Printer {
    /// Writes a report to stdout.
    ///
    /// # Errors
    /// When stdout cannot be written; a reader that went away (`| head`) is none.
    pub(crate) fn report<R: Report>(&self, command: &str, report: &R) -> io::Result<()> {
        let text = if self.json {
            to_json(&Document { command, report: Some(report), error: None })?
        } else {
            let mut page = Page::new(self.color, self.verbose);
            report.render(&mut page);
            page.into_text()
        };
        self.raw(text.as_bytes())
    }

    /// Writes an error: always to stderr as text, with `--json` also as the document on stdout.
    pub(crate) fn fault(&self, command: &str, fault: &Fault) {
        // Errors of writing errors have nowhere to go.
        let _ = write!(io::stderr(), "{fault}");
        if self.json {
            let document = Document::<()> { command, report: None, error: Some(fault) };
            let _ = to_json(&document).and_then(|text| self.raw(text.as_bytes()));
        }
    }

    /// Writes an error that is part of a report, too: whoever reads stderr alone must learn of it.
    pub(crate) fn aside(&self, repository: &str, fault: &Fault) {
        let _ = write!(io::stderr(), "repository {repository}: {fault}");
    }

    /// Writes bytes to stdout.
    ///
    /// # Errors
    /// As for [`Printer::report`].
    pub(crate) fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

fn to_json<T: Serialize>(document: &T) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}
