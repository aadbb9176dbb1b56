//! `pgproof cluster`: shows what the store and the agents say, and writes wishes into the store. Decisions are the agents'.

use super::agent::store;
use crate::args::cluster::{ClusterCommand, FailoverArgs, PauseArgs, SwitchoverArgs};
use crate::args::high::Context;
use crate::config::{ClusterConfig, parse_duration};
use crate::exit::Exit;
use crate::fault::Refused;
use crate::printer::{Align, Page, Report, Table};
use jiff::tz::TimeZone;
use pgproof_base::{Bytes, human_duration};
use pgproof_ha::agent::{PeerAnswer, ask_members, change_state, read_state, timers};
use pgproof_ha::dcs::Dcs;
use pgproof_ha::{
    ClusterState, Election, ElectionReason, HaError, LeaderContact, NodeName, Pause, Serving, Standing,
    SwitchoverRequest,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) fn name(command: &ClusterCommand) -> &'static str {
    match command {
        ClusterCommand::Status(_) => "cluster status",
        ClusterCommand::Explain(_) => "cluster explain",
        ClusterCommand::Switchover(_) => "cluster switchover",
        ClusterCommand::Failover(_) => "cluster failover",
        ClusterCommand::Pause(_) => "cluster pause",
        ClusterCommand::Resume(_) => "cluster resume",
        ClusterCommand::Dsn(_) => "cluster dsn",
    }
}

/// How long the agents have to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Pause between two looks at what comes of a wish.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) fn cluster(command: &ClusterCommand, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let cluster = config.cluster()?;
    let store = store(&cluster)?;
    match command {
        ClusterCommand::Status(_) => status(&store, context),
        ClusterCommand::Explain(_) => explain(&store, &cluster, context),
        ClusterCommand::Switchover(args) => switchover(&store, args, context),
        ClusterCommand::Failover(args) => failover(&store, args, context),
        ClusterCommand::Pause(args) => pause(&store, args, context),
        ClusterCommand::Resume(_) => resume(&store, context),
        ClusterCommand::Dsn(_) => dsn(&store, &config.instance.database, context),
    }
}

/// One member as it is now.
#[derive(Debug, Serialize)]
struct MemberStatus {
    name: NodeName,
    role: &'static str,
    address: String,
    /// Whether its flush counts for commits.
    votes: bool,
    /// Whether its agent answers.
    answers: bool,
    term: Option<u64>,
    position: Option<String>,
    lag_bytes: Option<u64>,
    hears_leader: Option<bool>,
    blocked: Option<String>,
}

/// `cluster status`
#[derive(Debug, Serialize)]
struct StatusReport {
    system: String,
    term: u64,
    timeline: u32,
    leader: NodeName,
    /// Whether the leader serves clients.
    available: bool,
    /// Standbys that must flush a commit.
    synchronous: usize,
    /// Members that may fail one after the other before commits wait.
    survivable: usize,
    election: Option<Election>,
    paused: Option<String>,
    members: Vec<MemberStatus>,
}

fn observed(store: &Arc<dyn Dcs>) -> anyhow::Result<(ClusterState, BTreeMap<NodeName, Option<PeerAnswer>>)> {
    let (_, state) = read_state(&**store)?;
    let state = state.ok_or_else(|| {
        Refused::new(
            "cluster-absent",
            "etcd holds no cluster of this name",
            "does an agent with `founding = true` run? Is cluster.name the same everywhere?",
        )
    })?;
    let answers = ask_members(&state, ANSWER_LIMIT);
    Ok((state, answers))
}

fn judge(state: &ClusterState, answers: &BTreeMap<NodeName, Option<PeerAnswer>>) -> StatusReport {
    let serves = |answer: &PeerAnswer| answer.clients == "primary";
    let available = answers.get(&state.leader).and_then(Option::as_ref).is_some_and(serves);
    let member = |(name, member): (&NodeName, &pgproof_ha::Member)| {
        let answer = answers.get(name).and_then(Option::as_ref);
        let report = answer.map(|answer| &answer.report);
        MemberStatus {
            name: name.clone(),
            role: match report.map(|report| report.serving) {
                Some(Serving::Primary) => "primary",
                Some(Serving::Standby) => "standby",
                Some(Serving::Nothing) => "down",
                None => "unknown",
            },
            address: format!("{}:{}", member.host, member.port),
            votes: state.quorum.voters.contains(name),
            answers: answer.is_some(),
            term: report.map(|report| report.term.0),
            position: report.and_then(|report| report.position).map(|position| position.lsn.to_string()),
            lag_bytes: answer.and_then(|answer| answer.lag_bytes),
            hears_leader: report.map(|report| report.leader == LeaderContact::Heard),
            blocked: answer.and_then(|answer| answer.blocked.clone()),
        }
    };
    StatusReport {
        system: state.system.to_string(),
        term: state.term.0,
        timeline: state.timeline.0,
        leader: state.leader.clone(),
        available,
        synchronous: state.quorum.k,
        survivable: survivable(state),
        election: state.election.clone(),
        paused: state.paused.as_ref().map(|pause| pause.by.clone()),
        members: state.members.iter().map(member).collect(),
    }
}

/// How many voters may be lost, one after the other, while commits go on; the primary itself counts as one that may.
fn survivable(state: &ClusterState) -> usize {
    if state.quorum.can_elect() { state.quorum.voters.len() - state.quorum.k } else { 0 }
}

impl Report for StatusReport {
    fn render(&self, page: &mut Page) {
        page.field("leader", format!("{} in term {}, timeline {}", self.leader, self.term, self.timeline));
        page.field(
            "commits",
            match self.synchronous {
                0 => "wait for nobody: no standby votes yet".to_owned(),
                k => format!("wait for {k} standby{}", if k == 1 { "" } else { "s" }),
            },
        );
        page.field("survivable", format!("{} more failures", self.survivable));
        if let Some(election) = &self.election {
            page.field("election", format!("open, {} promised", election.promises.len()));
        }
        if let Some(by) = &self.paused {
            page.field("paused", format!("by {by}"));
        }
        page.gap();
        let columns =
            ["member", "role", "address", "votes", "position", "lag"].map(|name| (name, Align::Left));
        let mut table = Table::new(&columns);
        for member in &self.members {
            table.row(vec![
                member.name.to_string(),
                member.role.to_owned(),
                member.address.clone(),
                if member.votes { "yes" } else { "no" }.to_owned(),
                member.position.clone().unwrap_or_default(),
                member.lag_bytes.map(|bytes| Bytes(bytes).to_string()).unwrap_or_default(),
            ]);
        }
        page.table(&table);
        for member in &self.members {
            if let Some(why) = &member.blocked {
                page.line(format!("{}: {why}", member.name));
            }
        }
    }
}

fn status(store: &Arc<dyn Dcs>, context: &Context) -> anyhow::Result<Exit> {
    let (state, answers) = observed(store)?;
    let report = judge(&state, &answers);
    let good = report.available;
    context.printer.report("cluster status", &report)?;
    Ok(if good { Exit::Done } else { Exit::BadAnswer })
}

/// `cluster explain`
#[derive(Debug, Serialize)]
struct ExplainReport {
    leader: NodeName,
    /// Who would be promoted if the leader were lost now.
    next: Option<NodeName>,
    /// What keeps anybody from being promoted.
    why_nobody: Option<String>,
    voters: Vec<NodeName>,
    synchronous: usize,
    /// Voters that must promise before one is elected.
    promises_needed: usize,
    /// Acknowledged bytes that would be lost.
    loss_bytes: u64,
    survivable: usize,
    blocked: BTreeMap<NodeName, String>,
    rto_ms: u64,
    suspect_after_ms: u64,
    fence_ms: u64,
}

fn explain(store: &Arc<dyn Dcs>, cluster: &ClusterConfig, context: &Context) -> anyhow::Result<Exit> {
    let (state, answers) = observed(store)?;
    let timers = timers(cluster.rto, state.mode)?;
    let position = |name: &NodeName| answers.get(name).and_then(Option::as_ref)?.report.position;
    let present: Vec<&NodeName> =
        state.quorum.voters.iter().filter(|name| position(name).is_some()).collect();
    let candidate = |name: &&&NodeName| state.standing(name) == Some(Standing::Candidate);
    let needed = state.quorum.promises_needed();
    let enough = state.quorum.can_elect() && present.len() >= needed;
    let next =
        present.iter().filter(candidate).max_by_key(|name| position(name)).map(|name| (**name).clone());
    let why_nobody = match (enough, &next) {
        (false, _) if !state.quorum.can_elect() => Some(
            "fewer standbys vote than a commit waits for: only the leader has what was committed".to_owned(),
        ),
        (false, _) => Some(format!("{} of {needed} voters answer", present.len())),
        (true, None) => Some("no voter can be promoted".to_owned()),
        (true, Some(_)) => None,
    };
    let blocked =
        answers.iter().filter_map(|(name, answer)| Some((name.clone(), answer.as_ref()?.blocked.clone()?)));
    let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let report = ExplainReport {
        leader: state.leader.clone(),
        next: next.filter(|_| why_nobody.is_none()),
        why_nobody,
        voters: state.quorum.voters.iter().cloned().collect(),
        synchronous: state.quorum.k,
        promises_needed: needed,
        loss_bytes: 0,
        survivable: survivable(&state),
        blocked: blocked.collect(),
        rto_ms: milliseconds(cluster.rto),
        suspect_after_ms: milliseconds(timers.suspect_after),
        fence_ms: milliseconds(timers.fence),
    };
    let good = report.next.is_some();
    context.printer.report("cluster explain", &report)?;
    Ok(if good { Exit::Done } else { Exit::BadAnswer })
}

impl Report for ExplainReport {
    fn render(&self, page: &mut Page) {
        page.field("leader", &self.leader);
        match (&self.next, &self.why_nobody) {
            (Some(next), _) => page.field("next", format!("{next}, without loss of an acknowledged commit")),
            (None, Some(why)) => page.field("next", format!("nobody: {why}")),
            (None, None) => page.field("next", "nobody"),
        }
        let voters: Vec<String> = self.voters.iter().map(ToString::to_string).collect();
        page.field("voters", voters.join(", "));
        page.field(
            "rule",
            format!("{} of them flush a commit, {} elect", self.synchronous, self.promises_needed),
        );
        page.field("survivable", format!("{} more failures", self.survivable));
        let span = |ms: u64| human_duration(Duration::from_millis(ms)).to_string();
        page.field(
            "timers",
            format!(
                "a silent leader is suspected after {}, a cut-off one fenced after {} (from rto = {})",
                span(self.suspect_after_ms),
                span(self.fence_ms),
                span(self.rto_ms)
            ),
        );
        for (node, why) in &self.blocked {
            page.line(format!("{node}: {why}"));
        }
    }
}

/// What came of a switchover or failover.
#[derive(Debug, Serialize)]
struct MovedReport {
    from: NodeName,
    to: NodeName,
    term: u64,
    /// From the wish to the new primary's being open to clients.
    took_ms: u64,
}

impl Report for MovedReport {
    fn render(&self, page: &mut Page) {
        let took = human_duration(Duration::from_millis(self.took_ms));
        page.line(format!("{} leads in term {}, after {}; it took {took}", self.to, self.term, self.from));
    }
}

fn switchover(store: &Arc<dyn Dcs>, args: &SwitchoverArgs, context: &Context) -> anyhow::Result<Exit> {
    let to = args.to.as_deref().map(NodeName::new).transpose()?;
    let at_unix_s = match &args.at {
        Some(text) => {
            let at = pgproof_restore::parse_time(text, &TimeZone::system())?;
            Some(u64::try_from(at.at.as_second()).unwrap_or(0))
        }
        None => None,
    };
    let asked = change_state(&**store, |state| {
        if !state.quorum.can_elect() {
            return Err(HaError::Refused {
                why: "fewer standbys vote than a commit waits for: nobody could take over".to_owned(),
                hint: "`pgproof cluster status` shows who is missing".to_owned(),
            });
        }
        let known = to.as_ref().is_none_or(|to| state.members.contains_key(to) && *to != state.leader);
        if !known {
            let others = state.members.keys().filter(|name| **name != state.leader);
            let others: Vec<String> = others.map(ToString::to_string).collect();
            return Err(HaError::Refused {
                why: format!("{} cannot take over", to.as_ref().map_or("", NodeName::as_str)),
                hint: format!("name one of {}", others.join(", ")),
            });
        }
        let switchover = Some(SwitchoverRequest { to: to.clone(), at_unix_s });
        Ok(ClusterState { switchover, ..state.clone() })
    })?;
    if at_unix_s.is_some() {
        context.printer.report("cluster switchover", &Planned { at_unix_s })?;
        return Ok(Exit::Done);
    }
    await_leader(store, &asked, &args.timeout, "cluster switchover", context)
}

/// A switchover that is to come.
#[derive(Debug, Serialize)]
struct Planned {
    at_unix_s: Option<u64>,
}

impl Report for Planned {
    fn render(&self, page: &mut Page) {
        page.line("the leader will hand over at that time; `pgproof cluster status` shows what became of it");
    }
}

fn failover(store: &Arc<dyn Dcs>, args: &FailoverArgs, context: &Context) -> anyhow::Result<Exit> {
    if !args.yes && !std::io::stdin().is_terminal() {
        return Err(Refused::new(
            "cluster-not-confirmed",
            "a failover kills the present primary, and nobody can be asked",
            "repeat it with --yes; `pgproof cluster switchover` is gentler where the primary answers",
        )
        .into());
    }
    let asked = change_state(&**store, |state| {
        if state.election.is_some() {
            return Ok(state.clone());
        }
        let election = Election {
            number: state.elections + 1,
            opened_by: state.leader.clone(),
            reason: ElectionReason::Operator,
            promises: BTreeMap::new(),
            accepted_loss: None,
        };
        Ok(ClusterState { elections: election.number, election: Some(election), ..state.clone() })
    })?;
    await_leader(store, &asked, &args.timeout, "cluster failover", context)
}

/// Waits until somebody else leads and serves.
fn await_leader(
    store: &Arc<dyn Dcs>,
    asked: &ClusterState,
    timeout: &str,
    command: &'static str,
    context: &Context,
) -> anyhow::Result<Exit> {
    let limit = parse_duration("--timeout", timeout)?;
    let began = Instant::now();
    while began.elapsed() < limit {
        thread::sleep(PAUSE);
        // A store that does not answer for a moment is nothing to end upon.
        let Ok((_, Some(state))) = read_state(&**store) else { continue };
        let answers = ask_members(&state, ANSWER_LIMIT);
        if state.term > asked.term && judge(&state, &answers).available {
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let report =
                MovedReport { from: asked.leader.clone(), to: state.leader, term: state.term.0, took_ms };
            context.printer.report(command, &report)?;
            return Ok(Exit::Done);
        }
        // The leader found that it cannot be done, or nobody could win.
        if state.term == asked.term && state.switchover.is_none() && state.election.is_none() {
            break;
        }
    }
    let (state, answers) = observed(store)?;
    context.printer.report("cluster status", &judge(&state, &answers))?;
    Ok(Exit::BadAnswer)
}

/// Whether automation acts.
#[derive(Debug, Serialize)]
struct Automation {
    paused: bool,
}

impl Report for Automation {
    fn render(&self, page: &mut Page) {
        page.line(match self.paused {
            true => "paused: no agent elects, restarts or rejoins until `pgproof cluster resume`",
            false => "the agents act again",
        });
    }
}

fn pause(store: &Arc<dyn Dcs>, args: &PauseArgs, context: &Context) -> anyhow::Result<Exit> {
    let paused = Pause { by: args.reason.clone() };
    change_state(&**store, |state| Ok(ClusterState { paused: Some(paused.clone()), ..state.clone() }))?;
    context.printer.report("cluster pause", &Automation { paused: true })?;
    Ok(Exit::Done)
}

fn resume(store: &Arc<dyn Dcs>, context: &Context) -> anyhow::Result<Exit> {
    change_state(&**store, |state| Ok(ClusterState { paused: None, ..state.clone() }))?;
    context.printer.report("cluster resume", &Automation { paused: false })?;
    Ok(Exit::Done)
}

/// How clients find the primary.
#[derive(Debug, Serialize)]
struct Dsn {
    dsn: String,
}

impl Report for Dsn {
    fn render(&self, page: &mut Page) {
        page.line(&self.dsn);
    }
}

fn dsn(store: &Arc<dyn Dcs>, database: &str, context: &Context) -> anyhow::Result<Exit> {
    let (_, state) = read_state(&**store)?;
    let members: Vec<_> = state.iter().flat_map(|state| state.members.values()).collect();
    let list = |part: &dyn Fn(&pgproof_ha::Member) -> String| {
        members.iter().map(|member| part(member)).collect::<Vec<_>>().join(",")
    };
    let dsn = format!(
        "host={} port={} dbname={database} target_session_attrs=read-write connect_timeout=2",
        list(&|member| member.host.clone()),
        list(&|member| member.port.to_string())
    );
    context.printer.report("cluster dsn", &Dsn { dsn })?;
    Ok(Exit::Done)
}
