//! `/metrics` in the text format of Prometheus (<https://prometheus.io/docs/instrumenting/exposition_formats/>), and `/health`.

use super::schedule::{Due, Work};
use super::watch::Found;
use crate::objectives::{Status, Verdict};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use jiff::Timestamp;
use pgproof_base::Severity;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The loop turns several times a second; after so long without a turn something holds it.
const HUNG_AFTER: Duration = Duration::from_secs(60);

/// What is shown.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) turned: Instant,
    /// By repository.
    pub(super) statuses: BTreeMap<String, Status>,
    /// Repositories that could not be read when they were looked at last.
    pub(super) unreadable: Vec<String>,
    pub(super) running: Option<(Work, String)>,
    /// What doctor found last, and when.
    pub(super) found: Option<(Timestamp, Vec<Found>)>,
    /// Successes and failures since the agent began, by work and repository.
    pub(super) ended: BTreeMap<(Work, String), (u64, u64)>,
}

impl Shown {
    /// Counts work that has ended.
    pub(super) fn ended(&mut self, due: &Due, good: bool) {
        self.running = None;
        let counts = self.ended.entry((due.work, due.repository.clone())).or_default();
        let count = if good { &mut counts.0 } else { &mut counts.1 };
        *count += 1;
    }
}

/// Shared between the loop and whoever asks.
#[derive(Debug, Clone)]
pub(super) struct Board(Arc<Mutex<Shown>>);

impl Board {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Shown {
            turned: Instant::now(),
            statuses: BTreeMap::new(),
            unreadable: Vec::new(),
            running: None,
            found: None,
            ended: BTreeMap::new(),
        })))
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn look<T>(&self, look: impl FnOnce(&Shown) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers at this address for as long as the process runs.
///
/// # Errors
/// What the system says.
pub(super) fn serve(board: &Board, address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (metrics, health) = (board.clone(), board.clone());
    let answer_metrics = move || {
        let text = metrics.look(text);
        async move { ([("content-type", "text/plain; version=0.0.4")], text) }
    };
    let answer_health = move || {
        let turns = health.look(|shown| shown.turned.elapsed() < HUNG_AFTER);
        async move { if turns { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE } }
    };
    let router = Router::new().route("/metrics", get(answer_metrics)).route("/health", get(answer_health));
    thread::spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            // It never ends by itself; a connection that fails is its own matter.
            let _ = axum::serve(listener, router).await;
        });
    });
    Ok(())
}

/// One metric with its samples: labels and value.
fn metric(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: impl IntoIterator<Item = (String, f64)>,
) {
    let _ = write!(out, "# HELP pgproof_{name} {help}\n# TYPE pgproof_{name} {kind}\n");
    for (labels, value) in samples {
        let _ = writeln!(out, "pgproof_{name}{labels} {value}");
    }
}

fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn text(shown: &Shown) -> String {
    let mut out = String::new();
    let lines = || {
        shown.statuses.iter().flat_map(|(repository, status)| {
            status.objectives.iter().map(move |line| {
                (format!("{{repository=\"{}\",objective=\"{}\"}}", label(repository), line.objective), line)
            })
        })
    };
    let wanted = lines().map(|(labels, line)| (labels, line.wanted_s as f64));
    metric(&mut out, "objective_wanted_seconds", "gauge", "What is promised.", wanted);
    let measured = lines().filter_map(|(labels, line)| Some((labels, line.measured_s?)));
    metric(&mut out, "objective_measured_seconds", "gauge", "What was measured, or is estimated.", measured);
    let kept = lines().map(|(labels, line)| (labels, f64::from(u8::from(line.verdict == Verdict::Kept))));
    metric(&mut out, "objective_kept", "gauge", "1 when the objective is kept and proven.", kept);
    let by_repository = |repository: &str| format!("{{repository=\"{}\"}}", label(repository));
    let readable = shown.statuses.keys().map(|name| (by_repository(name), 1.0));
    let unreadable = shown.unreadable.iter().map(|name| (by_repository(name), 0.0));
    metric(
        &mut out,
        "repository_readable",
        "gauge",
        "1 when the repository was read.",
        readable.chain(unreadable),
    );
    let looked = shown.statuses.iter();
    let looked = looked.map(|(name, status)| (by_repository(name), status.at.as_second() as f64));
    metric(&mut out, "repository_read_timestamp_seconds", "gauge", "When it was read, by its clock.", looked);
    let of = |(work, repository): &(Work, String)| {
        format!("{{work=\"{}\",repository=\"{}\"}}", work.command(), label(repository))
    };
    let done = shown.ended.iter().map(|(key, counts)| (of(key), counts.0 as f64));
    metric(&mut out, "work_done_total", "counter", "Work that ended well since the agent began.", done);
    let failed = shown.ended.iter().map(|(key, counts)| (of(key), counts.1 as f64));
    metric(&mut out, "work_failed_total", "counter", "Work that failed since the agent began.", failed);
    let running = shown.running.iter().map(|key| (of(key), 1.0));
    let (looked, found) = shown.found.as_ref().map_or((None, &[][..]), |(at, found)| (Some(at), found));
    let at = looked.map(|at| (String::new(), at.as_second() as f64));
    metric(&mut out, "doctor_timestamp_seconds", "gauge", "When doctor looked at the server last.", at);
    let above_info = found.iter().filter(|one| one.severity > Severity::Info).map(|one| {
        let severity = if one.severity == Severity::Critical { "critical" } else { "warning" };
        let root = one.cause.is_none();
        let (code, subject) = (label(&one.code), label(&one.subject));
        (format!("{{code=\"{code}\",subject=\"{subject}\",severity=\"{severity}\",root=\"{root}\"}}"), 1.0)
    });
    metric(&mut out, "doctor_finding", "gauge", "1 for each thing that doctor finds wrong.", above_info);
    metric(&mut out, "work_running", "gauge", "1 while the work is done.", running);
    out
}
