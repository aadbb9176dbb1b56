//! `pgproof archive receive`: runs until it is interrupted.

use crate::account;
use crate::args::high::Context;
use crate::args::low::ReceiveArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::printer::{Page, Report};
use crate::{instance, repository};
use anyhow::Context as _;
use pgproof_base::{Bytes, Progress, human_duration};
use pgproof_repo::walobject::StoreOptions;
use pgproof_server::{ConnectOptions, Owner};
use pgproof_wal::receive::{ReceiveEvent, ReceiveReport, ReceiveRequest, receive};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(crate) fn archive_receive(args: &ReceiveArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let spool = context.absolute(&args.spool);
    let connect = connect_options(args, &config)?;
    // What lies in the directory must be readable by whoever restores from it.
    account::become_owner(Owner::of(&spool)?)?;
    let repositories = repository::named(&config)?;
    let request = ReceiveRequest {
        spool,
        name: args.name.clone(),
        slot: (!args.no_slot).then(|| args.slot.clone()),
        options: StoreOptions { codec: config.archive.compression, ..StoreOptions::default() },
    };
    let stop = stop_on_signals()?;
    let report = receive(&repositories, &connect, &request, &stop, &|event| tell(context, &event))?;
    context.talk.clear();
    context.printer.report("archive receive", &report)?;
    Ok(Exit::Done)
}

/// The server that is named, else the configured one, which may be on another host, else the only one on this host.
fn connect_options(args: &ReceiveArgs, config: &Config) -> anyhow::Result<ConnectOptions> {
    if args.dbname.is_some() {
        return Ok(ConnectOptions { connection_string: args.dbname.clone(), ..ConnectOptions::default() });
    }
    let instance = &config.instance;
    if args.pgdata.is_none() && instance.host.is_some() {
        return Ok(ConnectOptions {
            host: instance.host.clone(),
            port: instance.port,
            user: instance.user.clone(),
            tls: instance.tls.clone(),
            ..ConnectOptions::default()
        });
    }
    let found = instance::find(instance)?;
    Ok(instance::connect_options(instance, &found))
}

/// The first signal asks for an end, which leaves everything durable; the second one ends at once, which loses nothing either.
pub(super) fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("could not prepare for being interrupted")?;
    }
    Ok(stop)
}

fn tell(context: &Context, event: &ReceiveEvent<'_>) {
    let text = match event {
        ReceiveEvent::Receiving { server, begin } => {
            format!("receiving from {server}, timeline {}, from {} on", begin.timeline, begin.lsn)
        }
        ReceiveEvent::Lost { why, again_in } => {
            format!("the server is lost, tried again in {}: {why}", human_duration(*again_in))
        }
        ReceiveEvent::Timeline { timeline, begin } => {
            format!("the server goes on with timeline {timeline} at {begin}")
        }
        ReceiveEvent::Stored { name } if context.printer.verbose => format!("{name} is in the repository"),
        ReceiveEvent::Stored { .. } => return,
        ReceiveEvent::Behind { repository, name, why, again_in } => {
            format!(
                "repository {repository} lacks {name}, and rests for {}: {why}",
                human_duration(*again_in)
            )
        }
        ReceiveEvent::NotStored { name, why, again_in } => {
            format!("{name} waits for the repository, tried again in {}: {why}", human_duration(*again_in))
        }
    };
    context.talk.note(&text);
}

impl Report for ReceiveReport {
    fn render(&self, page: &mut Page) {
        page.line(format!(
            "received {} up to {} on timeline {}, all of it durable",
            Bytes(self.bytes_received),
            self.durable,
            self.timeline
        ));
        page.line(format!(
            "the repository took {} files; {} wait for the next receiver",
            self.stored, self.waiting
        ));
    }
}
