//! `restore --start`: how the restored server is started. Starting and waiting are the library's.

use crate::args::low::RestoreArgs;
use crate::config::parse_duration;
use crate::fault::Refused;
use pgproof_restore::{Plan, StartOptions};
use pgproof_server::ConnectOptions;
use pgproof_server::find::{self, Instance};

/// What the arguments ask for.
///
/// # Errors
/// When another server is on the restored configuration's port, or the time-out is none.
pub(crate) fn options(args: &RestoreArgs, plan: &Plan) -> anyhow::Result<StartOptions> {
    let instance = find::at(&plan.directory)?;
    let mut options = StartOptions::default();
    if let Some(text) = args.timeout.as_deref() {
        options.stall_limit = parse_duration("--timeout", text)?;
    }
    if let Some(port) = args.port {
        options.settings.push(("port".to_owned(), port.to_string()));
        options.connect = Some(ConnectOptions {
            user: instance.owner.name(),
            port: Some(port),
            ..instance.connect_options()
        });
    } else if let Some(other) = other_on_port(&instance) {
        return Err(Refused::new(
            "port-in-use",
            format!("port {} is in use by the server of {}", instance.port, other.data_directory.display()),
            "the files are restored; start it on another port: add --port, and --delta to keep what is there",
        )
        .into());
    }
    Ok(options)
}

/// The restored configuration names the origin's port; a copy on the same host needs another one.
fn other_on_port(instance: &Instance) -> Option<Instance> {
    let others = find::find_all().instances;
    others.into_iter().find(|other| {
        other.port == instance.port
            && other.data_directory != instance.data_directory
            && matches!(other.state, find::State::Running { .. })
    })
}
