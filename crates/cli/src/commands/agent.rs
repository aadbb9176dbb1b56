//! `pgproof agent`: keeps the objectives and, in a cluster, this node, until it is interrupted. PostgreSQL goes on without it for as long
//! as the fence was told to wait.

use super::receive::stop_on_signals;
use crate::agent::{Done, Due, Keeping, Work, keep, once, planned};
use crate::args::cluster::AgentArgs;
use crate::args::high::Context;
use crate::config::{ClusterConfig, Config};
use crate::exit::Exit;
use crate::fault::{Fault, Refused};
use crate::printer::{Page, Report, show_time};
use crate::{account, instance};
use anyhow::Context as _;
use pgproof_base::{Progress as _, human_duration};
use pgproof_drill::heartbeat::{HeartbeatError, beat_until};
use pgproof_ha::act::{Node, make_directories};
use pgproof_ha::agent::{AgentConfig, Event, run};
use pgproof_ha::dcs::{Dcs, EtcdDcs, EtcdOptions};
use pgproof_ha::{Action, Founding, Mode, NodeName, Strictness};
use pgproof_server::{Owner, find};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How soon a server without a heartbeat's table is looked at again.
const HEARTBEAT_AGAIN: Duration = Duration::from_secs(60);

pub(crate) fn agent(args: &AgentArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let cluster = config.cluster()?;
    let is_member = cluster.node.is_some() && !args.once && !args.dry_run;
    if !is_member {
        let _ = config.all_repositories()?;
        return keep_alone(args, &config, context);
    }
    let data = config.instance.pgdata.clone().ok_or_else(|| missing("instance.pgdata"))?;
    let owner = owner_of(&data)?;
    let agent = agent_config(&config, &cluster, data, owner)?;
    make_directories(&agent.node, owner)?;
    account::become_owner(owner)?;
    let store = store(&cluster)?;
    let stop = stop_on_signals()?;
    let has_repositories = !config.settings.repositories.is_empty();
    let note = |text: String| say(context, &text);
    let kept = keeping(&config, &stop, &note)?;
    thread::scope(|scope| {
        let keeper = has_repositories.then(|| scope.spawn(|| keep_with_heartbeat(&kept)));
        let ran = run(&agent, store, &stop, &|event| tell(context, &event));
        // Whatever ended the one ends the other.
        stop.store(true, Ordering::Relaxed);
        if let Some(Err(error)) = keeper.and_then(|keeper| keeper.join().ok()) {
            note(format!("the objectives were not kept: {}", Fault::new(&error).one_line()));
        }
        ran
    })?;
    context.talk.clear();
    Ok(Exit::Done)
}

/// Without a cluster.
fn keep_alone(args: &AgentArgs, config: &Config, context: &Context) -> anyhow::Result<Exit> {
    account::become_owner(account::configured_owner(config))?;
    let stop = stop_on_signals()?;
    let note = |text: String| say(context, &text);
    let kept = keeping(config, &stop, &note)?;
    if args.dry_run {
        let due = planned(&kept)?;
        context.printer.report("agent", &AgentReport { due: Some(due), done: None })?;
        return Ok(Exit::Done);
    }
    if args.once {
        let done: Vec<_> = once(&kept)?.into_iter().map(DoneReport::from).collect();
        let failed = done.iter().any(|done| done.failure.is_some());
        context.printer.report("agent", &AgentReport { due: None, done: Some(done) })?;
        return Ok(if failed { Exit::BadAnswer } else { Exit::Done });
    }
    keep_with_heartbeat(&kept)?;
    context.talk.clear();
    Ok(Exit::Done)
}

fn keeping<'a>(
    config: &'a Config,
    stop: &'a AtomicBool,
    note: &'a (dyn Fn(String) + Sync),
) -> anyhow::Result<Keeping<'a>> {
    Ok(Keeping { config, agent: config.agent()?, program: crate::program::own_path()?, stop, note })
}

/// The objectives, and the heartbeat beside them.
fn keep_with_heartbeat(kept: &Keeping<'_>) -> anyhow::Result<()> {
    thread::scope(|scope| {
        scope.spawn(|| beat(kept));
        let result = keep(kept);
        kept.stop.store(true, Ordering::Relaxed);
        result
    })
}

/// Beats for as long as there is a table to beat in. The server may come later than the agent.
fn beat(kept: &Keeping<'_>) {
    let every = kept.agent.heartbeat_every;
    if every.is_zero() {
        return;
    }
    let mut told = false;
    while !kept.stop.load(Ordering::Relaxed) {
        let found = instance::find(&kept.config.instance);
        let why = match found {
            Ok(found) => {
                let connect = instance::connect_options(&kept.config.instance, &found);
                let tell = |error: &HeartbeatError| {
                    (kept.note)(format!("no heartbeat: {}", Fault::of(error).one_line()));
                };
                match beat_until(&connect, every, kept.stop, &tell) {
                    Ok(_) => return,
                    Err(error) => Fault::of(&error).one_line(),
                }
            }
            Err(error) => Fault::new(&error).one_line(),
        };
        if !std::mem::replace(&mut told, true) {
            (kept.note)(format!("no heartbeat: {why}"));
        }
        let again = Instant::now() + HEARTBEAT_AGAIN;
        while Instant::now() < again && !kept.stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// What was done, or is due.
#[derive(Debug, Serialize)]
struct AgentReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<Vec<Due>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<Vec<DoneReport>>,
}

#[derive(Debug, Serialize)]
struct DoneReport {
    work: Work,
    repository: String,
    took_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

impl From<Done> for DoneReport {
    fn from(done: Done) -> Self {
        let Done { work, repository, took, failure } = done;
        Self { work, repository, took_s: took.as_secs_f64(), failure }
    }
}

impl Report for AgentReport {
    fn render(&self, page: &mut Page) {
        for due in self.due.iter().flatten() {
            page.line(format!(
                "{}  {:<6}  repository {}",
                show_time(due.at),
                due.work.command(),
                due.repository
            ));
        }
        for done in self.done.iter().flatten() {
            let took = human_duration(Duration::try_from_secs_f64(done.took_s).unwrap_or_default());
            let came = done.failure.as_deref().map_or("done".to_owned(), |why| format!("FAILED: {why}"));
            page.line(format!("{:<6}  repository {}, {took}  {came}", done.work.command(), done.repository));
        }
        if self.due.iter().flatten().next().is_none() && self.done.iter().flatten().next().is_none() {
            page.line("nothing is due; what is done when follows from [objectives], [retention] and [agent]");
        }
    }
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
    say(context, &text);
}

/// A line of the agent's log.
fn say(context: &Context, text: &str) {
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
