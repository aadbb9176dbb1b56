//! `pgproof init`.

use super::check::{Checks, look};
use crate::account;
use crate::args::high::Context;
use crate::args::low::InitArgs;
use crate::exit::Exit;
use crate::fault::Refused;
use crate::init::{InitPlan, Step, as_owner, as_root, observe, place, plan};
use crate::printer::{Page, Report};
use serde::Serialize;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

/// How long the check at the end waits for the first segment.
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);

/// What was set up, and whether it works.
#[derive(Debug, Serialize)]
struct InitReport {
    dry_run: bool,
    config_file: PathBuf,
    repository: String,
    key_file: Option<PathBuf>,
    plan: InitPlan,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<Checks>,
}

pub(crate) fn init(args: &InitArgs, context: &Context) -> anyhow::Result<Exit> {
    let place = place(args, context)?;
    let (facts, options) = observe(args, &place)?;
    account::refuse_unrunnable(&facts.program, place.instance.owner)?;
    let plan = plan(&facts, &options)?;
    let mut report = InitReport {
        dry_run: args.dry_run,
        config_file: place.config_file.clone(),
        repository: place.repository_text.clone(),
        key_file: place.repository.key_file.clone(),
        plan,
        check: None,
    };
    if args.dry_run {
        context.printer.report("init", &report)?;
        return Ok(Exit::Done);
    }
    if !args.yes && !report.plan.steps.is_empty() {
        confirm(&report.plan)?;
    }
    as_root(args, &place, &report.plan)?;
    account::become_owner(place.instance.owner)?;
    as_owner(&place, &report.plan, &context.talk)?;
    let checked = look(context, &context.config_from(&place.config_file)?, Some(CHECK_TIMEOUT))?;
    let exit = checked.exit();
    report.check = Some(checked);
    context.talk.clear();
    context.printer.report("init", &report)?;
    Ok(exit)
}

/// Asks on a terminal; a script has to say `--yes`.
fn confirm(plan: &InitPlan) -> anyhow::Result<()> {
    let mut talk = std::io::stderr().lock();
    for step in &plan.steps {
        writeln!(talk, "  {}", describe(step, Tense::Future))?;
    }
    let hint = "add --yes to do it, or --dry-run to see all of it";
    if !std::io::stdin().is_terminal() {
        return Err(Refused::new("not-confirmed", "nobody is there to confirm this", hint).into());
    }
    write!(talk, "Do this? [y/N] ")?;
    talk.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case("y") || answer.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    Err(Refused::new("not-confirmed", "nothing was changed", hint).into())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tense {
    Past,
    Future,
}

fn describe(step: &Step, tense: Tense) -> String {
    let verb = |past: &'static str, future: &'static str| if tense == Tense::Past { past } else { future };
    match step {
        Step::MakeKey { path } => format!("{} the key {}", verb("made", "make"), path.display()),
        Step::CreateRepository { place, encrypted, recipients } => {
            let sealed = if *encrypted { "encrypted" } else { "not encrypted" };
            let others = match recipients.as_slice() {
                [] => String::new(),
                others => format!(", also for {}", others.join(" and ")),
            };
            format!("{} the repository {place}, {sealed}{others}", verb("created", "create"))
        }
        Step::WriteConfig { path } => format!("{} {}", verb("wrote", "write"), path.display()),
        Step::AddRepository { path, name } => {
            format!("{} repository {name} to {}", verb("added", "add"), path.display())
        }
        Step::Set { name, value, before } => {
            format!("{} {name} = '{value}' (it was '{before}')", verb("set", "set"))
        }
        Step::Restart { because } => {
            format!("{} the server, for {}", verb("restarted", "restart"), because.join(" and "))
        }
    }
}

impl Report for InitReport {
    fn render(&self, page: &mut Page) {
        let tense = if self.dry_run { Tense::Future } else { Tense::Past };
        for step in &self.plan.steps {
            page.line(describe(step, tense));
        }
        for what in &self.plan.already {
            page.line(what);
        }
        self.render_key(page);
        if !self.plan.restart_needed.is_empty() {
            page.gap();
            let settings = self.plan.restart_needed.join(" and ");
            page.line(format!(
                "The server must be restarted for {settings}: `pgproof init --restart` does it."
            ));
        }
        match &self.check {
            Some(check) => {
                page.gap();
                check.render(page);
            }
            None => {
                page.gap();
                page.line("nothing was changed (--dry-run)");
            }
        }
    }
}

impl InitReport {
    /// Who can open a new repository besides this host.
    fn recipients(&self) -> &[String] {
        let created = self.plan.steps.iter().find_map(|step| match step {
            Step::CreateRepository { recipients, .. } => Some(recipients.as_slice()),
            _ => None,
        });
        created.unwrap_or_default()
    }

    fn render_key(&self, page: &mut Page) {
        let made = self.plan.steps.iter().any(|step| matches!(step, Step::MakeKey { .. }));
        if let (true, Some(path)) = (made, &self.key_file) {
            page.gap();
            page.line(format!(
                "KEEP A COPY OF {} SOMEWHERE ELSE, and not in the repository.",
                path.display()
            ));
            match self.recipients() {
                [] => {
                    page.line("Everything in the repository is encrypted with it. If this host is lost and the only copy with it,");
                    page.line("the backups cannot be read by anybody, you included. `pgproof key add` lets a second key open it:");
                }
                others => page.line(format!(
                    "It opens the repository, and so do the identities of {}:",
                    others.join(" and ")
                )),
            }
            page.line(
                "docs/manual/keys.md says how to keep one offline, and how to rehearse the loss of this one.",
            );
        }
    }
}
