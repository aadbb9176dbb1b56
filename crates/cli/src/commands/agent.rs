//! `pgproof agent`: runs until it is interrupted; PostgreSQL goes on without it for as long as the fence was told to wait.

use super::receive::stop_on_signals;
use crate::account;
use crate::args::cluster::AgentArgs;
use crate::args::high::Context;
use crate::config::{ClusterConfig, Config};
use crate::exit::Exit;
use crate::fault::Refused;
use anyhow::Context as _;
use pgproof_base::Progress as _;
use pgproof_ha::act::{Node, make_directories};
use pgproof_ha::agent::{AgentConfig, Event, run};
use pgproof_ha::dcs::{Dcs, EtcdDcs, EtcdOptions};
use pgproof_ha::{Action, Founding, Mode, NodeName, Strictness};
use pgproof_server::{Owner, find};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn agent(_args: &AgentArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let cluster = config.cluster()?;
    let data = config.instance.pgdata.clone().ok_or_else(|| missing("instance.pgdata"))?;
    let owner = owner_of(&data)?;
    let agent = agent_config(&config, &cluster, data, owner)?;
    make_directories(&agent.node, owner)?;
    account::become_owner(owner)?;
    let store = store(&cluster)?;
    let stop = stop_on_signals()?;
    run(&agent, store, &stop, &|event| tell(context, &event))?;
    context.talk.clear();
    Ok(Exit::Done)
}

fn missing(name: &str) -> Refused {
    Refused::new(
        "cluster-setting-missing",
        format!("the setting {name} is needed"),
        "set it in pgproof.toml; docs/manual/cluster.md shows a whole file",
    )
}

/// Whom the server runs as: the owner of what is there, else `postgres` where this is root.
fn owner_of(data: &std::path::Path) -> anyhow::Result<Owner> {
    if data.join("PG_VERSION").exists() {
        return Ok(Owner::of(data)?);
    }
    let current = Owner::current();
    let packages = Owner::of_packages().filter(|_| current.is_root());
    Ok(packages.unwrap_or(current))
}

fn agent_config(
    config: &Config,
    cluster: &ClusterConfig,
    data: PathBuf,
    owner: Owner,
) -> anyhow::Result<AgentConfig> {
    let instance = &config.instance;
    let name = cluster.node.as_deref().ok_or_else(|| missing("cluster.node"))?;
    let host = cluster.host.clone().ok_or_else(|| missing("cluster.host"))?;
    let programs = match &cluster.programs {
        Some(programs) => programs.clone(),
        None => find::at(&data)
            .context("without a data directory, cluster.programs is needed")?
            .programs
            .ok_or_else(|| missing("cluster.programs"))?,
    };
    let user = instance.user.clone().or_else(|| owner.name()).unwrap_or_else(|| "postgres".to_owned());
    let node = Node {
        name: NodeName::new(name)?,
        data,
        programs,
        directory: cluster.directory.clone(),
        listen_addresses: cluster.listen_addresses.clone(),
        port: instance.port.unwrap_or(5432),
        socket_directory: instance.socket_directory.clone().unwrap_or_else(|| cluster.directory.clone()),
        user,
        hba: cluster.hba_file.clone(),
    };
    Ok(AgentConfig {
        node,
        listen: format!("{}:{}", cluster.agent_listen, cluster.agent_port),
        agent_address: format!("{host}:{}", cluster.agent_port),
        host,
        mode: mode(cluster)?,
        rto: cluster.rto,
        founding: if cluster.founding { Founding::Allowed } else { Founding::Forbidden },
        program: crate::program::own_path()?,
    })
}

fn mode(cluster: &ClusterConfig) -> Result<Mode, Refused> {
    if !cluster.rpo.is_zero() {
        return Err(Refused::new(
            "cluster-rpo",
            "a cluster that may lose commits is not supported yet",
            "set cluster.rpo to \"0s\"",
        ));
    }
    let k = usize::try_from(cluster.synchronous).unwrap_or(1);
    Ok(Mode::Quorum { k, strictness: Strictness::Prompt })
}

/// The store of the cluster.
///
/// # Errors
/// A setting that is missing, or a password that cannot be read.
pub(super) fn store(cluster: &ClusterConfig) -> anyhow::Result<Arc<dyn Dcs>> {
    let endpoints = cluster.etcd.as_deref().ok_or_else(|| missing("cluster.etcd"))?;
    let password = |path: &PathBuf| -> anyhow::Result<String> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    };
    let user = match (&cluster.etcd_user, &cluster.etcd_password_file) {
        (Some(user), Some(path)) => Some((user.clone(), password(path)?)),
        _ => None,
    };
    let options = EtcdOptions {
        endpoints: endpoints
            .split(',')
            .map(|url| url.trim().to_owned())
            .filter(|url| !url.is_empty())
            .collect(),
        prefix: format!("/pgproof/{}/", cluster.name),
        user,
        limit: Duration::from_millis(1000),
        session: Duration::from_secs(3),
    };
    Ok(Arc::new(EtcdDcs::new(options).context("could not prepare for etcd")?))
}

fn tell(context: &Context, event: &Event<'_>) {
    let text = match event {
        Event::Step(action) => describe(action),
        Event::Failed(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                text += &format!(": {cause}");
                source = cause.source();
            }
            text
        }
        Event::Blocked(why) => why.clone(),
    };
    let time = jiff::Timestamp::now();
    context.talk.note(&format!("{time:.3} {text}"));
}

fn describe(action: &Action) -> String {
    let upstream = |upstream: &pgproof_ha::Upstream| format!("{} in term {}", upstream.leader, upstream.term);
    match action {
        Action::Write { change, state, .. } => format!("write {change:?}, term {}", state.term),
        Action::Follow(to) => format!("follow {}", upstream(to)),
        Action::StartStandby { upstream: Some(to) } => format!("start as standby of {}", upstream(to)),
        Action::StartStandby { upstream: None } => "start as standby of nobody".to_owned(),
        Action::SetNames(names) => format!("set synchronous_standby_names to {names}"),
        Action::Rejoin { upstream: to, way } => format!("rejoin {} by {way:?}", upstream(to)),
        Action::Kill { why } => format!("kill PostgreSQL: {why:?}"),
        other => format!("{other:?}"),
    }
}
