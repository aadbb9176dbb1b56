//! `restore --start`: the restored server is started, and its recovery awaited.

use crate::args::high::Context;
use crate::args::low::RestoreArgs;
use crate::config::parse_duration;
use crate::fault::Refused;
use anyhow::Context as _;
use jiff::Timestamp;
use pgproof_base::{Progress, Stage};
use pgproof_restore::Report;
use pgproof_restore::report::{RecoveredState, RecoveryReport};
use pgproof_server::find::{self, Instance};
use pgproof_server::{ConnectOptions, Control, RecoveryEnd, RecoveryProgress};
use std::time::{Duration, Instant};

/// A recovery that does not come forward for so long is stuck: a segment takes seconds even from a slow store.
const STALL_LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn start(args: &RestoreArgs, report: &Report, context: &Context) -> anyhow::Result<RecoveryReport> {
    let stall_limit = args.timeout.as_deref().map_or(Ok(STALL_LIMIT), |text| parse_duration("--timeout", text))?;
    let instance = find::at(&report.plan.directory)?;
    let (control, connect) = control(args, &instance)?;
    context.talk.stage(Stage::Recovering, Some(report.plan.chosen.replay_bytes));
    let began = Instant::now();
    let _postmaster = control.launch()?;
    let mut seen = RecoveryProgress::default();
    let end = control.wait_for_recovery(&connect, stall_limit, &mut |progress| seen = progress.clone());
    let end = end.context("the restored server did not reach its target")?;
    let (state, reached, timeline) = match end {
        RecoveryEnd::Promoted { timeline, at } => (RecoveredState::Promoted, Some(at), Some(timeline)),
        RecoveryEnd::Paused { at } => (RecoveredState::Paused, Some(at), None),
        RecoveryEnd::ShutDown => (RecoveredState::ShutDown, seen.replayed, None),
    };
    Ok(RecoveryReport {
        state,
        replay_s: began.elapsed().as_secs_f64(),
        reached,
        last_commit: seen.last_commit.as_deref().and_then(parse_commit),
        timeline,
    })
}

/// The restored configuration names the origin's port; a copy on the same host needs another one, and says so.
fn control(args: &RestoreArgs, instance: &Instance) -> anyhow::Result<(Control, ConnectOptions)> {
    let mut control = instance.control()?;
    let mut connect = instance.connect_options();
    connect.user = instance.owner.name();
    if let Some(port) = args.port {
        control = control.with_setting("port", &port.to_string());
        connect.port = Some(port);
    } else if let Some(other) = other_on_port(instance) {
        return Err(Refused::new(
            "port-in-use",
            format!("port {} is in use by the server of {}", instance.port, other.data_directory.display()),
            "the files are restored; start it on another port: add --port, and --delta to keep what is there",
        )
        .into());
    }
    Ok((control, connect))
}

fn other_on_port(instance: &Instance) -> Option<Instance> {
    let others = find::find_all().instances;
    others.into_iter().find(|other| {
        other.port == instance.port
            && other.data_directory != instance.data_directory
            && matches!(other.state, find::State::Running { .. })
    })
}

/// PostgreSQL prints `2026-11-22 14:05:00.123456+00`.
fn parse_commit(text: &str) -> Option<Timestamp> {
    pgproof_restore::parse_time(text, &jiff::tz::TimeZone::UTC).ok().map(|requested| requested.at)
}
