//! `pgproof doctor`.

mod around;
mod last;

use crate::account;
use crate::args::doctor::{DoctorArgs, DoctorCommand, LookArgs};
use crate::args::high::Context;
use crate::config::{Config, parse_duration};
use crate::exit::Exit;
use crate::fault::Refused;
use crate::printer::{Page, Report, render_finding};
use anyhow::Context as _;
use last::Since;
use pgproof_base::{Remedy, RiskClass, Severity};
use pgproof_doctor::observe::{By, Outcome};
use pgproof_doctor::remedy::{Allowed, carry_out, keep_copy};
use pgproof_doctor::{Diagnosed, Diagnosis, Observation, Target, bundle, diagnose, explain, index, observe};
use pgproof_server::{ConnectOptions, Owner};
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The command's name, as JSON documents carry it.
pub(super) fn name(args: &DoctorArgs) -> &'static str {
    match args.command {
        None => "doctor",
        Some(DoctorCommand::Explain { .. }) => "doctor explain",
        Some(DoctorCommand::Bundle { .. }) => "doctor bundle",
    }
}

/// A page of the documentation.
#[derive(Debug, Serialize)]
struct Explained {
    text: String,
}

/// Where a bundle was written.
#[derive(Debug, Serialize)]
struct Bundled {
    file: PathBuf,
    took_ms: u64,
}

/// What was mended, and what is wrong afterwards.
#[derive(Debug, Serialize)]
struct Fixed {
    finding: String,
    remedy: Remedy,
    /// The file that keeps what was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<PathBuf>,
    /// What the command printed.
    said: String,
    mended: bool,
    #[serde(flatten)]
    diagnosis: Diagnosis,
}

pub(crate) fn doctor(args: &DoctorArgs, context: &Context) -> anyhow::Result<Exit> {
    match &args.command {
        Some(DoctorCommand::Explain { code }) => {
            let text = code.as_deref().map_or_else(|| Ok(index()), explain)?;
            context.printer.report("doctor explain", &Explained { text })?;
            return Ok(Exit::Done);
        }
        Some(DoctorCommand::Bundle { file, look }) => {
            let config = context.config()?;
            let seen = seen(&target(look, &config, context)?, &config, context)?;
            let file = context.absolute(file);
            bundle::write(&file, &bundle::redacted(&seen))?;
            context.printer.report("doctor bundle", &Bundled { file, took_ms: seen.took_ms })?;
            return Ok(Exit::Done);
        }
        None => {}
    }
    let config = context.config()?;
    if let Some(file) = &args.from {
        let diagnosis = diagnose(&bundle::read(&context.absolute(file))?, &config.doctor);
        return show(args, context, diagnosis, None);
    }
    let target = target(&args.look, &config, context)?;
    let seen = seen(&target, &config, context)?;
    let diagnosis = diagnose(&seen, &config.doctor);
    match &args.fix {
        Some(wanted) => fix(args, context, &target, &config, (&seen, &diagnosis), wanted),
        None => {
            let since = last::since(context, &seen, &diagnosis);
            show(args, context, diagnosis, since)
        }
    }
}

/// Looks, at what pgproof keeps around the server and at what it was before too.
fn seen(target: &Target, config: &Config, context: &Context) -> anyhow::Result<Observation> {
    let mut seen = observe(target, around::gather(config))?;
    seen.earlier = last::earlier(context, &seen);
    Ok(seen)
}

/// What is wrong, and what has changed.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    diagnosis: Diagnosis,
    /// Against the last look at the same server from this account.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Since>,
}

fn show(
    args: &DoctorArgs,
    context: &Context,
    diagnosis: Diagnosis,
    since: Option<Since>,
) -> anyhow::Result<Exit> {
    context.talk.clear();
    let shown = Shown { diagnosis, since };
    context.printer.report("doctor", &shown)?;
    Ok(match shown.diagnosis.worst() {
        Some(Severity::Critical) if args.nagios => Exit::Critical,
        Some(Severity::Critical | Severity::Warning) => Exit::BadAnswer,
        Some(Severity::Info) | None => Exit::Done,
    })
}

/// What the arguments name counts whole; without any, what the configuration names.
fn target(args: &LookArgs, config: &Config, context: &Context) -> anyhow::Result<Target> {
    let configured = &config.instance;
    let elsewhere = args.dsn.is_some() || args.host.is_some() || args.port.is_some();
    let named = elsewhere || args.pgdata.is_some();
    let socket = || configured.socket_directory.as_ref().map(|directory| directory.display().to_string());
    let host = (!named).then(|| configured.host.clone().or_else(socket)).flatten();
    let connect = ConnectOptions {
        host: args.host.clone().or(host),
        port: args.port.or_else(|| configured.port.filter(|_| !named)),
        user: args.user.clone().or_else(|| configured.user.clone().filter(|_| !named)),
        database: args.database.clone(),
        connection_string: args.dsn.clone(),
        tls: configured.tls.clone(),
    };
    Ok(Target {
        connect,
        pgdata: args
            .pgdata
            .as_deref()
            .map(|path| context.absolute(path))
            .or_else(|| configured.pgdata.clone().filter(|_| !named)),
        log: args.log.as_deref().map(|path| context.absolute(path)),
        budget: parse_duration("--budget", &args.budget)?,
    })
}

/// How long a remedy may take to show.
const MENDED_WITHIN: Duration = Duration::from_secs(20);

fn fix(
    args: &DoctorArgs,
    context: &Context,
    target: &Target,
    config: &Config,
    (seen, diagnosis): (&Observation, &Diagnosis),
    wanted: &str,
) -> anyhow::Result<Exit> {
    let found = only(diagnosis, wanted)?;
    let remedy = found.finding.remedies.iter().find(|remedy| !remedy.command.is_empty());
    let Some(remedy) = remedy else {
        let hint = format!("`pgproof doctor explain {}` says what a person can do", found.finding.code);
        return Err(Refused::new("doctor-no-remedy", format!("{} has no command", found.id()), hint).into());
    };
    let allowed = match (args.destructive, args.disruptive) {
        (true, _) => Allowed::Destructive,
        (false, true) => Allowed::Disruptive,
        (false, false) => Allowed::Safe,
    };
    if !allowed.covers(remedy) {
        return Err(not_allowed(remedy).into());
    }
    confirm(remedy, args.yes)?;
    let kept = match remedy.risk {
        RiskClass::Destructive => Some(kept_file(context, found)?),
        RiskClass::Disruptive | RiskClass::Safe => None,
    };
    let connect = connection(seen, target)?;
    let kept = match kept {
        Some((path, file)) => keep_copy(remedy, &connect, file).map(|()| Some(path))?,
        None => None,
    };
    let said = carry_out(remedy, &connect)?;
    let began = Instant::now();
    let (mended, diagnosis) = loop {
        let again = diagnose(&self::seen(target, config, context)?, &config.doctor);
        let mended = !again.findings.iter().any(|one| one.id() == found.id());
        if mended || began.elapsed() > MENDED_WITHIN {
            break (mended, again);
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    let report = Fixed { finding: found.id(), remedy: remedy.clone(), kept, said, mended, diagnosis };
    context.talk.clear();
    context.printer.report("doctor", &report)?;
    Ok(if mended { Exit::Done } else { Exit::BadAnswer })
}

/// A new file of the working directory, made while this process still is who called it.
fn kept_file(context: &Context, found: &Diagnosed) -> anyhow::Result<(PathBuf, File)> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    let name: String = found.id().chars().map(plain).collect();
    let at = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let path = context.absolute(&PathBuf::from(format!("pgproof-kept-{name}-{at}.txt")));
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
    Ok((path.clone(), file.with_context(|| format!("could not keep a copy in {}", path.display()))?))
}

/// The one finding that is meant.
fn only<'a>(diagnosis: &'a Diagnosis, wanted: &str) -> Result<&'a Diagnosed, Refused> {
    let fits = |one: &&Diagnosed| one.finding.code == wanted || one.id() == wanted;
    let found: Vec<&Diagnosed> = diagnosis.findings.iter().filter(fits).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(Refused::new(
            "doctor-not-found",
            format!("nothing is wrong that is called `{wanted}`"),
            "`pgproof doctor` shows what is",
        )),
        several => Err(Refused::new(
            "doctor-which",
            format!("`{wanted}` was found {} times", several.len()),
            format!("name one: {}", several.iter().map(|one| one.id()).collect::<Vec<_>>().join(", ")),
        )),
    }
}

fn not_allowed(remedy: &Remedy) -> Refused {
    let message = format!("`{}` was not carried out", remedy.command);
    match remedy.risk {
        RiskClass::Destructive => Refused::new(
            "doctor-destructive",
            message,
            "it removes or overwrites something: add --destructive to allow it; a copy is kept first",
        ),
        RiskClass::Disruptive | RiskClass::Safe => {
            Refused::new("doctor-disruptive", message, "it interrupts service: add --disruptive to allow it")
        }
    }
}

/// Shows the remedy, and asks; `--yes` answers for what interrupts nobody.
fn confirm(remedy: &Remedy, yes: bool) -> anyhow::Result<()> {
    let mut talk = std::io::stderr().lock();
    writeln!(talk, "{}", remedy.what)?;
    for line in remedy.command.lines() {
        writeln!(talk, "    {line}")?;
    }
    if yes {
        return Ok(());
    }
    let hint = "add --yes to do it unasked";
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

/// As the session that could look: the operator's, else the server's own account over its socket.
fn connection(seen: &Observation, target: &Target) -> anyhow::Result<ConnectOptions> {
    let by_owner = seen
        .attempts
        .iter()
        .find(|attempt| attempt.by == By::Owner && matches!(attempt.outcome, Outcome::Connected));
    let Some(attempt) = by_owner else { return Ok(target.connect.clone()) };
    if let Some(place) = seen.place.ok() {
        account::become_owner(Owner { uid: place.owner.uid, gid: place.gid })?;
    }
    Ok(ConnectOptions {
        host: Some(attempt.to.host.clone()),
        port: Some(attempt.to.port),
        user: Some(attempt.to.user.clone()),
        database: Some(attempt.to.database.clone()),
        ..ConnectOptions::default()
    })
}

impl Report for Explained {
    fn render(&self, page: &mut Page) {
        page.line(self.text.trim_end());
    }
}

impl Report for Bundled {
    fn render(&self, page: &mut Page) {
        page.line(format!("wrote {}, after {} ms of looking", self.file.display(), self.took_ms));
    }
}

impl Report for Fixed {
    fn render(&self, page: &mut Page) {
        if !self.said.is_empty() {
            page.line(self.said.trim_end());
        }
        if let Some(kept) = &self.kept {
            page.line(format!("what was removed is kept in {}", kept.display()));
        }
        let ended = if self.mended { "is mended" } else { "is still there" };
        page.line(format!("{} {ended}", self.finding));
        self.diagnosis.render(page);
    }
}

impl Report for Shown {
    fn render(&self, page: &mut Page) {
        self.diagnosis.render(page);
        if let Some(since) = &self.since {
            since.render(page);
        }
    }
}

impl Report for Diagnosis {
    fn render(&self, page: &mut Page) {
        for one in &self.findings {
            match &one.cause {
                None => {
                    render_finding(page, &one.finding);
                    for evidence in &one.finding.evidence {
                        page.line(format!("  seen: {evidence}"));
                    }
                }
                Some(cause) => {
                    page.line(format!(
                        "  leads to [{}] {} (from {cause})",
                        one.finding.code, one.finding.seen
                    ));
                }
            }
        }
        if !self.silenced.is_empty() {
            let ids: Vec<String> = self.silenced.iter().map(Diagnosed::id).collect();
            page.gap();
            page.line(format!("silenced by the configuration: {}", ids.join(", ")));
        }
        if !self.unseen.is_empty() {
            page.gap();
            page.line("not seen:");
            for one in &self.unseen {
                page.line(format!("  {}: {}; that hides {}", one.what, one.why, one.hides));
            }
        }
        page.gap();
        match self
            .findings
            .iter()
            .filter(|one| one.cause.is_none() && one.finding.severity > Severity::Info)
            .count()
        {
            0 => page.line("nothing is wrong that can be seen"),
            1 => page.line("one thing is wrong"),
            many => page.line(format!("{many} things are wrong; mend the first one first")),
        }
    }
}
