//! A command that is done in each of several repositories: one report or error for each, together in one document.
//!
//! Where one repository is meant, report and error are its own, in the shape that they have always had. A repository that fails keeps no other
//! from its turn. Shapes are promised in docs/manual/json.md.

use crate::args::high::Context;
use crate::exit::Exit;
use crate::fault::{Fault, Refused};
use crate::printer::{Page, Report};
use crate::repository::Opened;
use pgproof_repo::Repository;
use serde::Serialize;

/// What each repository gave.
#[derive(Debug, Serialize)]
pub(super) struct Several<R> {
    pub(super) repositories: Vec<One<R>>,
}

/// What one repository gave: a report or an error, as the document of a single repository has them.
#[derive(Debug, Serialize)]
pub(super) struct One<R> {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) report: Option<R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Fault>,
}

/// What a failure in one repository means for the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It could not do what was asked.
    Counts,
    /// The same, unless the repository is one that may lag: then it is a warning.
    CountsWhereRequired,
}

/// Does `work` in each repository, one after another, and prints what came of it.
pub(super) fn each<R: Report>(
    context: &Context,
    command: &str,
    opened: Vec<Opened>,
    failure: Failure,
    mut work: impl FnMut(&Opened, &Repository) -> anyhow::Result<(R, Exit)>,
) -> anyhow::Result<Exit> {
    let alone = opened.len() == 1;
    let mut several = Several { repositories: Vec::with_capacity(opened.len()) };
    let (mut exit, mut absent) = (Exit::Done, None);
    for mut one in opened {
        let repository = std::mem::replace(&mut one.repository, Err(anyhow::anyhow!("it is open")));
        let result = repository.and_then(|repository| work(&one, &repository));
        context.talk.clear();
        let (report, error) = match result {
            Ok((report, own)) if alone => {
                context.printer.report(command, &report)?;
                return Ok(own);
            }
            Err(error) if alone => return Err(error),
            Ok((report, own)) => {
                exit = exit.worse(own);
                (Some(report), None)
            }
            // What is in another repository is not looked for here in vain.
            Err(error) if is_absent(&error) => {
                absent = absent.or(Some(error));
                continue;
            }
            Err(error) => {
                let fault = Fault::new(&error);
                let counts = failure == Failure::Counts || one.config.required;
                exit = if counts { exit.worse(Exit::Failed) } else { exit };
                context.printer.aside(&one.config.name, &fault);
                (None, Some(fault))
            }
        };
        several.repositories.push(One { name: one.config.name, report, error });
    }
    match absent {
        Some(error) if several.repositories.is_empty() => Err(error),
        _ => {
            context.printer.report(command, &several)?;
            Ok(exit)
        }
    }
}

fn is_absent(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.code() == "backup-absent")
}

impl<R: Report> Report for Several<R> {
    fn render(&self, page: &mut Page) {
        for one in &self.repositories {
            page.heading(format!("repository {}", one.name));
            match (&one.report, &one.error) {
                (Some(report), _) => report.render(page),
                (None, Some(fault)) => page.line(format!("error: {}", fault.one_line())),
                (None, None) => {}
            }
        }
    }
}
