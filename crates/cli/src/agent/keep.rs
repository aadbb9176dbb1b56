//! The loop: look, tell, do what is due.

use super::alert::{Alert, Levels, Receivers, Teller};
use super::job::{Ended, Job};
use super::metrics::{Board, serve};
use super::schedule::{Due, Failure, Past, When, Work, cron, due_at, first};
use super::watch::Watch;
use crate::config::{AgentConfig, Config, RepositoryConfig, Schedule};
use crate::fault::Fault;
use crate::objectives::{Observation, judge, observe};
use crate::{instance, repository};
use anyhow::Context as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgproof_repo::ledger::{Outcome, Record, RecordKind};
use pgproof_server::Session;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the loop turns.
const TURN: Duration = Duration::from_millis(200);

/// Retention by the day needs no more.
const EXPIRE_WITHIN: Duration = Duration::from_secs(86_400);

/// What is kept, and how this process says what it does.
pub(crate) struct Keeping<'a> {
    pub(crate) config: &'a Config,
    pub(crate) agent: AgentConfig,
    pub(crate) program: PathBuf,
    pub(crate) stop: &'a AtomicBool,
    /// Writes a line of the agent's log; called from several threads.
    pub(crate) note: &'a (dyn Fn(String) + Sync),
}

/// What this process remembers of work, beside what the repository proves.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// When it went well here: a ledger that cannot be written must not have it done again and again.
    good: Option<Timestamp>,
    failures: u32,
    failed: Option<(Timestamp, Failure)>,
}

/// One piece of work of one repository.
struct Wish {
    work: Work,
    repository: String,
    when: When,
}

/// What came of a piece of work.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Done {
    pub(crate) work: Work,
    pub(crate) repository: String,
    pub(crate) took: Duration,
    pub(crate) failure: Option<String>,
}

struct State<'a> {
    keeping: &'a Keeping<'a>,
    repositories: Vec<RepositoryConfig>,
    wishes: Vec<Wish>,
    memory: BTreeMap<(Work, String), Memory>,
    /// By repository, as looked at last.
    seen: BTreeMap<String, Observation>,
}

impl<'a> State<'a> {
    fn new(keeping: &'a Keeping<'a>) -> anyhow::Result<Self> {
        let repositories = keeping.config.all_repositories()?;
        let mut wishes = Vec::new();
        for repository in &repositories {
            for work in Work::ALL {
                let when = when(work, keeping, repository)?;
                wishes.push(Wish { work, repository: repository.name.clone(), when });
            }
        }
        Ok(Self { keeping, repositories, wishes, memory: BTreeMap::new(), seen: BTreeMap::new() })
    }

    /// Reads every repository, and gives those that could not be read, with the reason.
    fn look(&mut self) -> Vec<(String, String)> {
        let mut unreadable = Vec::new();
        for config in &self.repositories {
            match repository::open(config).and_then(|repository| observe(&repository)) {
                Ok(seen) => drop(self.seen.insert(config.name.clone(), seen)),
                Err(error) => {
                    // What was true some time ago is no ground to work upon.
                    self.seen.remove(&config.name);
                    unreadable.push((config.name.clone(), Fault::new(&error).one_line()));
                }
            }
        }
        unreadable
    }

    /// When everything that is ever done is due next.
    fn plan(&self) -> Vec<Due> {
        let (zone, here) = (TimeZone::system(), Timestamp::now());
        let plan = self.wishes.iter().filter_map(|wish| {
            let seen = self.seen.get(&wish.repository)?;
            let key = (wish.work, wish.repository.clone());
            let past = past(wish.work, seen, self.memory.get(&key).copied().unwrap_or_default());
            let at = due_at(&wish.when, &past, here, &zone)?;
            Some(Due { work: wish.work, repository: wish.repository.clone(), at })
        });
        plan.collect()
    }

    /// What is to be done now. Somebody else at the same work does it for us.
    fn due(&self) -> Option<Due> {
        let mut plan = self.plan();
        plan.retain(|due| {
            let seen = self.seen.get(&due.repository);
            let is_done = |seen: &Observation| {
                seen.running.iter().any(|running| running.starts_with(due.work.command()))
            };
            // Without a backup there is nothing to rehearse.
            let is_pointless = |seen: &Observation| due.work == Work::Drill && seen.newest.is_none();
            !seen.is_some_and(|seen| is_done(seen) || is_pointless(seen))
        });
        if self.is_for_the_primary_only()
            && plan.iter().any(|due| due.work == Work::Backup)
            && is_standby(self.keeping)
        {
            plan.retain(|due| due.work != Work::Backup);
        }
        first(plan, Timestamp::now())
    }

    fn is_for_the_primary_only(&self) -> bool {
        self.keeping.config.backup.from == crate::config::BackupFrom::Primary
    }

    fn start(&self, due: &Due) -> std::io::Result<Job> {
        (self.keeping.note)(format!("{} of repository {} begins", due.work.command(), due.repository));
        let mut arguments = vec!["--json".to_owned(), "--quiet".to_owned()];
        if let Some(file) = &self.keeping.config.file {
            arguments.extend(["--config".to_owned(), file.display().to_string()]);
        }
        let command = [due.work.command(), "--repository", &due.repository].map(str::to_owned);
        arguments.extend(command);
        Job::start(&self.keeping.program, &arguments)
    }

    fn ended(&mut self, due: &Due, ended: Ended) -> Done {
        let now = Timestamp::now();
        let memory = self.memory.entry((due.work, due.repository.clone())).or_default();
        let name = format!("{} of repository {}", due.work.command(), due.repository);
        let took = pgproof_base::human_duration(ended.took);
        match &ended.failure {
            None => {
                *memory = Memory { good: Some(now), ..Memory::default() };
                (self.keeping.note)(format!("{name} done in {took}"));
            }
            Some((how, why)) => {
                memory.failures += 1;
                memory.failed = Some((now, *how));
                (self.keeping.note)(format!("{name} failed after {took}: {why}"));
            }
        }
        let failure = ended.failure.map(|(_, why)| why);
        Done { work: due.work, repository: due.repository.clone(), took: ended.took, failure }
    }
}

/// When work of a repository is wanted.
fn when(work: Work, keeping: &Keeping<'_>, repository: &RepositoryConfig) -> anyhow::Result<When> {
    let (agent, stated) = (&keeping.agent, &keeping.config.objectives);
    let expires = repository.retention.keeps_by_rule().then_some(EXPIRE_WITHIN);
    let (schedule, objective) = match work {
        Work::Backup => (&agent.backup, stated.backup_max_age),
        Work::Expire => (&agent.expire, expires),
        Work::Verify => (&agent.verify, stated.verify_every),
        Work::Drill => (&agent.drill, stated.drill_every),
    };
    Ok(match schedule {
        Schedule::Never => When::Never,
        Schedule::Objective => objective.map_or(When::Never, When::Within),
        Schedule::Cron(text) => When::At(cron(text).map_err(anyhow::Error::msg)?),
    })
}

fn kind(work: Work) -> RecordKind {
    match work {
        Work::Backup => RecordKind::Backup,
        Work::Expire => RecordKind::Expire,
        Work::Verify => RecordKind::Verify,
        Work::Drill => RecordKind::Drill,
    }
}

/// What the repository proves of work, and what this process remembers.
fn past(work: Work, seen: &Observation, memory: Memory) -> Past {
    let kind = kind(work);
    let is_it = |record: &Record| record.outcome == Outcome::Good && record.kind == kind;
    let told = seen.told.iter().rev().find(|told| is_it(&told.record));
    let proven = match work {
        // A backup is proven by being there.
        Work::Backup => seen.newest.as_ref().map(|newest| newest.stopped),
        _ => told.map(|told| told.at),
    };
    let took = told.map(|told| told.record.ended.duration_since(told.record.started));
    Past {
        good: proven.max(memory.good),
        took: took.and_then(|took| Duration::try_from(took).ok()).unwrap_or_default(),
        failures: memory.failures,
        failed: memory.failed,
    }
}

/// Whether the server is one. A server that does not answer is none: then the backup says what is wrong.
fn is_standby(keeping: &Keeping<'_>) -> bool {
    let ask = || -> anyhow::Result<bool> {
        let found = instance::find(&keeping.config.instance)?;
        let mut session = Session::open(&instance::connect_options(&keeping.config.instance, &found))?;
        let row = session.query_one("ask whether it is a standby", "SELECT pg_is_in_recovery()", &[])?;
        Ok(row.get(0))
    };
    ask().unwrap_or(false)
}

/// When what is due, without doing it.
///
/// # Errors
/// A repository that cannot be read, a setting that cannot be used.
pub(crate) fn planned(keeping: &Keeping<'_>) -> anyhow::Result<Vec<Due>> {
    let mut state = State::new(keeping)?;
    if let Some((repository, why)) = state.look().into_iter().next() {
        anyhow::bail!("repository {repository} could not be read: {why}");
    }
    let mut plan = state.plan();
    plan.sort_by_key(|due| (due.at, due.work));
    Ok(plan)
}

/// Does what is due now, one after another, and ends.
///
/// # Errors
/// As [`planned`]; what the system says.
pub(crate) fn once(keeping: &Keeping<'_>) -> anyhow::Result<Vec<Done>> {
    let mut state = State::new(keeping)?;
    let mut done = Vec::new();
    loop {
        if let Some((repository, why)) = state.look().into_iter().next() {
            anyhow::bail!("repository {repository} could not be read: {why}");
        }
        let Some(due) = state.due() else { return Ok(done) };
        let mut job = state.start(&due).context("could not start this program")?;
        let ended = loop {
            if keeping.stop.load(Ordering::Relaxed) {
                job.end();
                return Ok(done);
            }
            match job.poll().context("could not wait for a job")? {
                Some(ended) => break ended,
                None => std::thread::sleep(TURN),
            }
        };
        done.push(state.ended(&due, ended));
    }
}

/// Keeps the objectives until told to stop.
///
/// # Errors
/// A setting or an address that cannot be used, at the beginning; later ones are told and tried again.
pub(crate) fn keep(keeping: &Keeping<'_>) -> anyhow::Result<()> {
    let mut state = State::new(keeping)?;
    let agent = &keeping.agent;
    let board = Board::new();
    if let Some(address) = &agent.listen {
        serve(&board, address).with_context(|| format!("could not listen on {address}"))?;
    }
    let receivers = Receivers { command: agent.alert_command.clone(), url: agent.alert_url.clone() };
    let teller = Teller::start(receivers);
    let tell = |alert: Alert| {
        (keeping.note)(format!("{}: {}", alert.repository, alert.message));
        teller.tell(alert);
    };
    let mut levels = Levels::new(pgproof_repo::lease::host_name(), agent.at_risk);
    let mut running: Option<(Due, Job)> = None;
    let mut next_look = Instant::now();
    let mut watch = Watch::new(agent.doctor_every);
    while !keeping.stop.load(Ordering::Relaxed) {
        board.change(|shown| shown.turned = Instant::now());
        teller.complaints().for_each(keeping.note);
        if let Some((due, mut job)) = running.take() {
            match job.poll().context("could not wait for a job")? {
                None => running = Some((due, job)),
                Some(ended) => {
                    let done = state.ended(&due, ended);
                    let now = Timestamp::now();
                    let work = due.work.command();
                    let alert = levels.worked(now, &due.repository, work, done.failure.as_deref());
                    alert.into_iter().for_each(tell);
                    board.change(|shown| shown.ended(&due, done.failure.is_none()));
                    next_look = Instant::now();
                }
            }
        }
        let found = watch.turn(&keeping.program, keeping.config.file.as_deref());
        match found.context("could not look at the server")? {
            Some(Ok(found)) => {
                let now = Timestamp::now();
                levels.watched(now, &found).into_iter().for_each(tell);
                board.change(|shown| shown.found = Some((now, found)));
            }
            Some(Err(why)) => (keeping.note)(format!("doctor could not look at the server: {why}")),
            None => {}
        }
        if running.is_none() && Instant::now() >= next_look {
            let unreadable = state.look();
            for alert in news(&state, &unreadable, &mut levels) {
                tell(alert);
            }
            show(&board, &state, unreadable);
            if let Some(due) = state.due() {
                let job = state.start(&due).context("could not start this program")?;
                board.change(|shown| shown.running = Some((due.work, due.repository.clone())));
                running = Some((due, job));
            }
            next_look = Instant::now() + agent.look_every;
        }
        std::thread::sleep(TURN);
    }
    watch.end();
    if let Some((_, job)) = running {
        job.end();
    }
    Ok(())
}

fn news(state: &State<'_>, unreadable: &[(String, String)], levels: &mut Levels) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for (repository, seen) in &state.seen {
        let status = judge(seen.clone(), &state.keeping.config.objectives);
        alerts.extend(levels.judged(repository, &status));
    }
    let lost = unreadable.iter();
    alerts.extend(lost.filter_map(|(name, why)| levels.unreadable(Timestamp::now(), name, why)));
    alerts
}

fn show(board: &Board, state: &State<'_>, unreadable: Vec<(String, String)>) {
    let stated = &state.keeping.config.objectives;
    let statuses = state.seen.iter().map(|(name, seen)| (name.clone(), judge(seen.clone(), stated)));
    let statuses = statuses.collect();
    board.change(|shown| {
        shown.statuses = statuses;
        shown.unreadable = unreadable.into_iter().map(|(name, _)| name).collect();
    });
}
