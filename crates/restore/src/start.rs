//! Starts the restored server and waits until it has reached its target.
//!
//! PostgreSQL tells a target that was missed by ending ("recovery ended before configured recovery target was reached"), and so
//! does this: a recovery that stopped earlier than asked is a failure, with the end of the server's log. What the server is in the
//! end it says itself; where it lets nobody in, its control file tells.

use crate::choose::describe_target;
use crate::error::{RestoreError, Result};
use crate::plan::Plan;
use crate::report::{RecoveredState, RecoveryReport};
use crate::settings::TargetAction;
use crate::shells::{self, Aftermath, Start};
use jiff::Timestamp;
use pgproof_base::{Progress, Stage, human_duration};
use pgproof_pg::{ClusterState, TimelineId};
use pgproof_repo::walset::Target;
use pgproof_server::privilege::act_as;
use pgproof_server::{ConnectOptions, Control, RecoveryEnd, RecoveryProgress, ServerError, find};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// How to start.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// How to reach the server, where its own configuration does not say it.
    pub connect: Option<ConnectOptions>,
    /// How long recovery may not come forward before it is given up waiting for; the server goes on.
    pub stall_limit: Duration,
    /// Settings on the command line, above every file: another port for a trial beside the origin.
    pub settings: Vec<(String, String)>,
}

impl Default for StartOptions {
    /// Ten minutes: a segment of 1 GB that comes from far away.
    fn default() -> Self {
        Self { connect: None, stall_limit: Duration::from_secs(600), settings: Vec::new() }
    }
}

/// How often the control file is looked at while the server lets nobody in.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Starts the server of a restored directory and waits for its target.
///
/// # Errors
/// [`RestoreError::StoppedEarly`] when recovery ended before the target; [`RestoreError::Server`] when the server cannot be started or
/// watched; [`RestoreError::NotReachedYet`] when it does not come forward.
pub fn start(plan: &Plan, options: &StartOptions, progress: &dyn Progress) -> Result<RecoveryReport> {
    let failed = |operation| {
        let directory = plan.directory.clone();
        move |source: ServerError| RestoreError::Server { directory, operation, source: Box::new(source) }
    };
    progress.stage(Stage::Recovering, Some(plan.chosen.replay_bytes));
    let instance = find::at(&plan.directory).map_err(failed("be found"))?;
    // All files were synced just now: the server need not open each of them to do it again (`SyncDataDirectory`).
    let mut control =
        instance.control().map_err(failed("be started"))?.with_setting("recovery_init_sync_method", "syncfs");
    if plan.databases.is_some() {
        // The log is read for pages that replay passed over.
        control = control.with_setting("lc_messages", "C");
    }
    for (name, value) in &options.settings {
        control = control.with_setting(name, value);
    }
    let connect = options
        .connect
        .clone()
        .unwrap_or_else(|| ConnectOptions { user: instance.owner.name(), ..instance.connect_options() });
    let began = Instant::now();
    let start =
        Start { time: SystemTime::now(), log: control.log().to_owned(), log_bytes: length(control.log()) };
    control.launch().map_err(failed("be started"))?;
    let end = wait(plan, &control, &connect, options.stall_limit, progress)?;
    let took = began.elapsed();
    let look = || shells::observe(plan, &connect, &start);
    let aftermath = act_as(control.owner(), look).map_err(failed("be looked at"))??;
    Ok(report(plan, end, aftermath, took))
}

fn length(log: &Path) -> u64 {
    log.metadata().map_or(0, |file| file.len())
}

/// How a recovery ended, and what was seen last.
struct End {
    end: RecoveryEnd,
    seen: RecoveryProgress,
}

fn wait(
    plan: &Plan,
    control: &Control,
    connect: &ConnectOptions,
    stall_limit: Duration,
    progress: &dyn Progress,
) -> Result<End> {
    let mut seen = RecoveryProgress::default();
    let mut moved = Instant::now();
    loop {
        let before = seen.clone();
        let mut show = |now: &RecoveryProgress| {
            if let (Some(from), Some(to)) = (seen.replayed, now.replayed) {
                progress.advance(to.bytes_since(from));
            }
            seen = now.clone();
        };
        // As its owner: a server whose files were just restored admits its owner by peer authentication, if anybody.
        let ended =
            act_as(control.owner(), || control.wait_for_recovery(connect, LOOK_EVERY, &mut show)).flatten();
        if seen != before {
            moved = Instant::now();
        }
        match ended {
            Ok(end) => return judge(plan, End { end, seen }),
            Err(ServerError::Timeout { .. }) => {
                if let Some(end) = promoted_by_control_file(control) {
                    return Ok(End { end, seen });
                }
                if moved.elapsed() >= stall_limit {
                    return Err(RestoreError::NotReachedYet {
                        directory: plan.directory.clone(),
                        target: plan.target.clone(),
                        waited: human_duration(stall_limit),
                    });
                }
            }
            Err(source) => return Err(ended_early(plan, &seen, source)),
        }
    }
}

/// A server that shut down has reached its target only if that was asked for.
fn judge(plan: &Plan, end: End) -> Result<End> {
    let asked =
        plan.request.target.action == TargetAction::Shutdown && plan.request.target.stop != Target::Latest;
    match end.end {
        RecoveryEnd::ShutDown if !asked => Err(RestoreError::StoppedEarly {
            target: plan.target.clone(),
            reached: reached(&end.seen),
            source: None,
        }),
        _ => Ok(end),
    }
}

/// The state that PostgreSQL writes at the end of recovery, a moment before it lets anybody in.
fn promoted_by_control_file(control: &Control) -> Option<RecoveryEnd> {
    let file = find::control_file(control.data_directory()).ok()?;
    (file.state == ClusterState::InProduction && control.accepts_connections().ok()?)
        .then_some(RecoveryEnd::Promoted { timeline: file.timeline, at: file.checkpoint })
}

fn ended_early(plan: &Plan, seen: &RecoveryProgress, source: ServerError) -> RestoreError {
    match source {
        ServerError::Control { .. } => RestoreError::StoppedEarly {
            target: describe_target(&plan.request.target),
            reached: reached(seen),
            source: Some(Box::new(source)),
        },
        source => RestoreError::Server {
            directory: plan.directory.clone(),
            operation: "be watched",
            source: Box::new(source),
        },
    }
}

fn reached(seen: &RecoveryProgress) -> String {
    match (&seen.replayed, &seen.segment) {
        (Some(lsn), _) => lsn.to_string(),
        (None, Some(segment)) => format!("segment {segment}"),
        (None, None) => "an unknown position".to_owned(),
    }
}

fn report(plan: &Plan, End { end, seen }: End, aftermath: Aftermath, took: Duration) -> RecoveryReport {
    let (state, reached, timeline) = match end {
        RecoveryEnd::Promoted { timeline, at } => (RecoveredState::Promoted, Some(at), Some(timeline)),
        RecoveryEnd::Paused { at } => (RecoveredState::Paused, Some(at), None::<TimelineId>),
        RecoveryEnd::ShutDown => (RecoveredState::ShutDown, seen.replayed, None),
    };
    let last_commit = seen.last_commit.as_deref().and_then(parse_commit);
    RecoveryReport {
        state,
        replay_s: took.as_secs_f64(),
        reached,
        last_commit,
        timeline: timeline.or(Some(plan.chosen.timeline)),
        shells: aftermath.shells,
        invalid_pages: aftermath.invalid_pages,
    }
}

/// A time as the server prints it with its offset.
fn parse_commit(text: &str) -> Option<Timestamp> {
    crate::time::parse_time(text, &jiff::tz::TimeZone::UTC).ok().map(|time| time.at)
}
