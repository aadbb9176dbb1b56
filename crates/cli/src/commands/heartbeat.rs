//! `pgproof heartbeat`.

use super::dump::server;
use super::receive::stop_on_signals;
use crate::args::drill::HeartbeatArgs;
use crate::args::high::Context;
use crate::config::parse_duration;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::printer::{Page, Report};
use pgproof_base::Progress;
use pgproof_drill::heartbeat::{BeatReport, beat, beat_until, create, creation};
use serde::Serialize;

/// What was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum HeartbeatReport {
    /// The SQL that would make table and role.
    Sql(String),
    /// The last beat; none when it was interrupted before one.
    Beat(Option<BeatReport>),
}

pub(crate) fn heartbeat(args: &HeartbeatArgs, context: &Context) -> anyhow::Result<Exit> {
    if args.show_sql {
        context.printer.report("heartbeat", &HeartbeatReport::Sql(creation()))?;
        return Ok(Exit::Done);
    }
    let config = context.config()?;
    let (mut connect, _) = server(&args.server, &config)?;
    if let Some(database) = &args.database {
        connect = connect.with_database(database);
    }
    let Some(every) = &args.every else {
        if args.create {
            create(&connect)?;
        }
        let report = beat(&connect)?;
        context.printer.report("heartbeat", &HeartbeatReport::Beat(Some(report)))?;
        return Ok(Exit::Done);
    };
    let every = parse_duration("--every", every)?;
    let stop = stop_on_signals()?;
    let tell = |error: &pgproof_drill::heartbeat::HeartbeatError| {
        context.talk.note(&format!("no heartbeat: {}", Fault::of(error).one_line()));
    };
    let last = beat_until(&connect, every, &stop, &tell)?;
    context.printer.report("heartbeat", &HeartbeatReport::Beat(last))?;
    Ok(Exit::Done)
}

impl Report for HeartbeatReport {
    fn render(&self, page: &mut Page) {
        match self {
            Self::Sql(sql) => page.line(sql.trim_end()),
            Self::Beat(Some(beat)) => page.line(format!("beat {} at {}", beat.beats, beat.beat)),
            Self::Beat(None) => page.line("no heartbeat was written"),
        }
    }
}
