//! The server that a command is about: from the configuration, else the only one that runs on this host.

use crate::config::InstanceConfig;
use crate::fault::Refused;
use anyhow::Context as _;
use pgproof_server::find::{self, Found};
use pgproof_server::{ConnectOptions, Instance, State};

/// Finds the instance.
///
/// # Errors
/// A configured directory that is none; none or several servers where nothing is configured.
pub(crate) fn find(config: &InstanceConfig) -> anyhow::Result<Instance> {
    match &config.pgdata {
        Some(path) => {
            find::at(path).with_context(|| format!("could not look at the instance in {}", path.display()))
        }
        None => Ok(only_running(find::find_all())?),
    }
}

fn only_running(found: Found) -> Result<Instance, Refused> {
    let is_running = |instance: &Instance| matches!(instance.state, State::Running { .. });
    let (mut running, stopped): (Vec<_>, Vec<_>) = found.instances.into_iter().partition(is_running);
    let names = |instances: &[Instance]| {
        let names: Vec<_> = instances.iter().map(|i| i.data_directory.display().to_string()).collect();
        names.join(", ")
    };
    match (running.len(), stopped.is_empty()) {
        (1, _) => Ok(running.remove(0)),
        (0, true) => Err(Refused::new(
            "instance-absent",
            "no PostgreSQL server was found on this host",
            "does one run? Name its data directory with --pgdata",
        )),
        (0, false) => Err(Refused::new(
            "instance-stopped",
            format!("no PostgreSQL server runs here; stopped: {}", names(&stopped)),
            "start it, or name a data directory with --pgdata",
        )),
        _ => Err(Refused::new(
            "instance-ambiguous",
            format!("several PostgreSQL servers run here: {}", names(&running)),
            "name one with --pgdata",
        )),
    }
}

/// How to connect: what is configured, else what the instance's own files say.
pub(crate) fn connect_options(config: &InstanceConfig, instance: &Instance) -> ConnectOptions {
    let found = instance.connect_options();
    let socket = config.socket_directory.as_ref().map(|directory| directory.display().to_string());
    ConnectOptions {
        host: config.host.clone().or(socket).or(found.host),
        port: config.port.or(found.port),
        user: config.user.clone().or_else(|| instance.owner.name()),
        database: Some(config.database.clone()),
        tls: config.tls.clone(),
        ..ConnectOptions::default()
    }
}
