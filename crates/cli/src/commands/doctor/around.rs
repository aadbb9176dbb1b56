//! What pgproof itself keeps around the server, as doctor looks at it: repositories and their ledger, the cluster's store, the agent.

use crate::commands::agent::store;
use crate::config::{Config, ObjectivesConfig, RepositoryConfig};
use crate::fault::Fault;
use crate::objectives::{Verdict, judge, observe};
use crate::repository;
use pgproof_doctor::observe::{AgentSeen, Around, ClusterSeen, MemberSeen, ObjectiveSeen, RepositorySeen};
use pgproof_ha::Serving;
use pgproof_ha::agent::{ask_members, read_state};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long the agents have to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Looks at what the configuration names; nothing where it names nothing.
pub(super) fn gather(config: &Config) -> Option<impl FnOnce() -> Result<Around, String> + Send + use<>> {
    let repositories = match config.settings.repositories.is_empty() {
        true => Vec::new(),
        false => config.all_repositories().unwrap_or_default(),
    };
    let objectives = config.objectives.clone();
    let cluster = config.cluster().ok().filter(|cluster| cluster.node.is_some());
    let listen = config.agent().ok().and_then(|agent| agent.listen);
    let is_known = !repositories.is_empty() || cluster.is_some() || listen.is_some();
    is_known.then_some(move || {
        Ok(Around {
            repositories: repositories.iter().map(|one| repository_seen(one, &objectives)).collect(),
            cluster: cluster.as_ref().map(cluster_seen),
            agent: listen.map(agent_seen),
        })
    })
}

fn repository_seen(config: &RepositoryConfig, stated: &ObjectivesConfig) -> RepositorySeen {
    let name = config.name.clone();
    let status = repository::open(config).and_then(|repository| observe(&repository));
    let status = match status {
        Ok(seen) => judge(seen, stated),
        Err(error) => {
            let why = Fault::new(&error).one_line();
            return RepositorySeen { name, error: Some(why), ..RepositorySeen::default() };
        }
    };
    let objectives = status.objectives.into_iter().map(|line| ObjectiveSeen {
        name: line.objective.to_owned(),
        wanted_s: line.wanted_s,
        measured_s: line.measured_s,
        kept: line.verdict == Verdict::Kept,
        by: line.by,
        remedies: line.remedies,
    });
    RepositorySeen {
        name,
        error: None,
        objectives: objectives.collect(),
        flaws: status.ledger_flaws.into_iter().map(|flaw| flaw.seen).collect(),
    }
}

fn cluster_seen(cluster: &crate::config::ClusterConfig) -> ClusterSeen {
    let endpoints =
        cluster.etcd.iter().flat_map(|all| all.split(',')).map(|one| one.trim().to_owned()).collect();
    let read = store(cluster).and_then(|store| Ok(read_state(store.as_ref())?.1));
    let state = match read {
        Ok(Some(state)) => state,
        // Nothing was founded yet: there is nothing to be judged.
        Ok(None) => return ClusterSeen { endpoints, available: true, ..ClusterSeen::default() },
        Err(error) => {
            let error = Some(Fault::new(&error).one_line());
            return ClusterSeen { endpoints, error, ..ClusterSeen::default() };
        }
    };
    let answers = ask_members(&state, ANSWER_LIMIT);
    let answer = |name| answers.get(name).and_then(Option::as_ref);
    let member = |name| MemberSeen {
        name: format!("{name}"),
        answers: answer(name).is_some(),
        role: match answer(name).map(|answer| answer.report.serving) {
            Some(Serving::Primary) => "primary",
            Some(Serving::Standby) => "standby",
            Some(Serving::Nothing) => "down",
            None => "unknown",
        }
        .to_owned(),
        blocked: answer(name).and_then(|answer| answer.blocked.clone()),
    };
    let quorum = &state.quorum;
    let survivable = if quorum.can_elect() { quorum.voters.len() - quorum.k } else { 0 };
    ClusterSeen {
        endpoints,
        error: None,
        leader: Some(state.leader.to_string()),
        available: answer(&state.leader).is_some_and(|answer| answer.clients == "primary"),
        survivable: survivable as u64,
        paused: state.paused.as_ref().map(|pause| pause.by.clone()),
        members: state.members.keys().map(member).collect(),
    }
}

fn agent_seen(address: String) -> AgentSeen {
    let connect = || {
        let to =
            address.to_socket_addrs()?.next().ok_or_else(|| std::io::Error::other("it names no address"))?;
        TcpStream::connect_timeout(&to, ANSWER_LIMIT)
    };
    let error = connect().err().map(|error| format!("it does not answer: {error}"));
    AgentSeen { address, error }
}
