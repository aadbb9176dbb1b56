//! `restore --start`: which port the restored server gets, and how it is reached; starting and waiting is the restore's business.

use crate::args::high::Context;
use crate::args::low::RestoreArgs;
use crate::config::parse_duration;
use crate::fault::Refused;
use anyhow::Context as _;
use pgproof_restore::report::RecoveryReport;
use pgproof_restore::{Report, StartOptions};
use pgproof_server::ConnectOptions;
use pgproof_server::find::{self, Instance};

pub(crate) fn start(
    args: &RestoreArgs,
    report: &Report,
    context: &Context,
) -> anyhow::Result<RecoveryReport> {
    let mut options = StartOptions::default();
    if let Some(text) = args.timeout.as_deref() {
        options.stall_limit = parse_duration("--timeout", text)?;
    }
    let instance = find::at(&report.plan.directory)?;
    if let Some(port) = args.port {
        let of_instance = instance.connect_options();
        let user = instance.owner.name();
        options.connect = Some(ConnectOptions { port: Some(port), user, ..of_instance });
        options.settings.push(("port".to_owned(), port.to_string()));
    } else {
        refuse_taken_port(&instance)?;
    }
    pgproof_restore::start(&report.plan, &options, &context.talk)
        .context("the files are restored, but the server is not")
}

/// The restored configuration names the origin's port; a copy on the same host needs another one, and says so.
fn refuse_taken_port(instance: &Instance) -> Result<(), Refused> {
    let others = find::find_all().instances;
    let other = others.into_iter().find(|other| {
        other.port == instance.port
            && other.data_directory != instance.data_directory
            && matches!(other.state, find::State::Running { .. })
    });
    let Some(other) = other else { return Ok(()) };
    Err(Refused::new(
        "port-in-use",
        format!("port {} is in use by the server of {}", instance.port, other.data_directory.display()),
        "the files are restored; start it on another port: add --port, and --delta to keep what is there",
    ))
}
