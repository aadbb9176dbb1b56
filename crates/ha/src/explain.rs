//! What is so and why, in sentences: why nothing goes on, and who would be promoted now and at what cost.
//!
//! Pure, like the decisions it explains; `cluster explain` and the log print it.

use crate::decide::Blocked;
use crate::position::Position;
use crate::state::{ClusterState, Mode, Standing};
use crate::term::NodeName;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The reason as a sentence an operator can act on.
pub fn blocked(reason: &Blocked) -> String {
    match reason {
        Blocked::PromisesMissing { have, need, missing } => {
            format!("{have} of {need} voters promised; missing: {}. Bring one of them back", list(missing))
        }
        Blocked::BelowFloor { best, floor } => {
            let best = best.map_or("nobody has promised".to_owned(), |best| {
                format!("the best that promised is at {best}")
            });
            format!(
                "{best}, and acknowledged commits reach to {floor}: they are on a node that is missing. Bring it back, or accept the loss with `pgproof cluster failover --accept-loss`"
            )
        }
        Blocked::Outranked { by, position } => format!("{by} promised {position} and goes first"),
        Blocked::OnlyWitness { node, position } => {
            format!("{node} holds WAL up to {position} but cannot be promoted; its WAL is fetched first")
        }
        Blocked::LossTooGreat { bytes, bound } => {
            format!("{bytes} bytes would be lost, and {bound} were declared bearable")
        }
        Blocked::LossTooOld { lost: Some(lost), bound } => {
            format!("{} would be lost, and {} were declared bearable", seconds(*lost), seconds(*bound))
        }
        Blocked::LossTooOld { lost: None, bound } => {
            format!(
                "more would be lost than the old primary's published positions reach back; {} were declared bearable",
                seconds(*bound)
            )
        }
        Blocked::LossUnknown => {
            "the old primary published no position, so nobody knows what would be lost".to_owned()
        }
        Blocked::NotProtectedYet { voters, k } => {
            format!(
                "only {voters} voters protect commits so far and {k} must: what was committed may be on the leader alone"
            )
        }
        Blocked::AwaitingFence { .. } => "waits until the old primary is surely fenced".to_owned(),
        Blocked::PositionUnknown => "replays all its WAL to learn where it ends".to_owned(),
        Blocked::WalLost { promised, position } => {
            let has = position.map_or("an unknown position".to_owned(), |position| position.to_string());
            format!("was elected with WAL up to {promised} and has {has}: its disk lost what it had flushed")
        }
        Blocked::CrashLoop { crashes } => {
            format!(
                "{crashes} crashes or failovers in a short time: nothing is restarted until somebody has looked at the server's log"
            )
        }
        Blocked::Paused => "automation is paused. `pgproof cluster resume` ends that".to_owned(),
        Blocked::StoreUnknown => "the store does not answer, and nothing may begin without it".to_owned(),
        Blocked::OtherCluster => {
            "the data directory belongs to another cluster (system identifier)".to_owned()
        }
        Blocked::StrayTimeline { timeline } => {
            format!("timeline {} was never allotted: somebody promoted this server by hand", timeline.0)
        }
        Blocked::NothingToClone => "there is no data directory, and no leader to clone".to_owned(),
        Blocked::AwaitingLeader { leader } => format!("waits for {leader} to come up as primary"),
        Blocked::LeaderHeard { leader } => format!("an election is open, but {leader} is heard and serves"),
        Blocked::MissedAlone { leader } => {
            format!("misses {leader}, but not enough voters do and its lease is held")
        }
        Blocked::NoCandidate => "is excluded from being promoted".to_owned(),
        Blocked::CatchingUp { bytes: u64::MAX } => {
            "the switchover waits for its standby to stream".to_owned()
        }
        Blocked::CatchingUp { bytes } => {
            format!("the switchover waits for its standby, {bytes} bytes behind")
        }
        Blocked::Refused { .. } => {
            "refused the old primary's rivals for a while, because it serves without the store".to_owned()
        }
        Blocked::NewerFormat { format } => {
            format!("the store was written by a newer pgproof (format {format})")
        }
        Blocked::NotAMember => "this node is not a member of the cluster".to_owned(),
        Blocked::NamesNotInEffect => {
            "waits until every walsender has read the narrower synchronous_standby_names".to_owned()
        }
        Blocked::RecoveryNotConfirmed { .. } => {
            "clients wait until enough standbys have flushed what crash recovery brought back".to_owned()
        }
    }
}

fn list(nodes: &[NodeName]) -> String {
    nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}

fn seconds(span: Duration) -> String {
    format!("{} s", (span.as_millis() as f64) / 1000.0)
}

/// What would come of losing the leader now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prospect {
    /// Who would be promoted.
    pub winner: Option<NodeName>,
    /// What keeps everyone from being promoted.
    pub blocked: Option<String>,
    /// How many nodes, the leader first, can be lost one after another, before the others are made voters, with a promotion still
    /// possible.
    pub failures_survivable: usize,
    /// What would be lost of acknowledged commits, in words.
    pub loss: String,
}

/// Who would win an election in which everyone who answers promises where its WAL ends now.
pub fn prospect(state: &ClusterState, ends: &BTreeMap<NodeName, Position>) -> Prospect {
    let reachable = |node: &&NodeName| **node != state.leader && ends.contains_key(*node);
    let voters = state.quorum.voters.iter().filter(reachable).count();
    let needed = state.quorum.promises_needed();
    let position = |node: &NodeName| ends.get(node).and_then(|end| state.shared(*end));
    let candidates = state.members.keys().filter(reachable);
    let candidates = candidates.filter(|node| state.standing(node) == Some(Standing::Candidate));
    let best =
        candidates.filter_map(|node| Some((position(node)?, node))).max_by_key(|(position, _)| *position);
    let missing = || state.quorum.voters.iter().filter(|node| !reachable(node)).cloned().collect();
    let reason = match best {
        _ if !state.quorum.can_elect() => {
            Some(Blocked::NotProtectedYet { voters: state.quorum.voters.len(), k: state.quorum.k.max(1) })
        }
        _ if voters < needed => {
            Some(Blocked::PromisesMissing { have: voters, need: needed, missing: missing() })
        }
        Some((position, _)) if position >= state.floor => None,
        best => Some(Blocked::BelowFloor { best: best.map(|(position, _)| position), floor: state.floor }),
    };
    let loss = match (&reason, state.mode) {
        (Some(_), _) => "nothing: nobody would be promoted",
        (None, Mode::Quorum { .. }) => "nothing that was acknowledged",
        (None, Mode::Asynchronous { .. }) => {
            "what the standby has not received yet, within the declared bound"
        }
    };
    Prospect {
        winner: best.filter(|_| reason.is_none()).map(|(_, node)| node.clone()),
        failures_survivable: if reason.is_none() { 1 + voters - needed } else { 0 },
        blocked: reason.as_ref().map(blocked),
        loss: loss.to_owned(),
    }
}
