//! What pgproof itself keeps around a server: repositories with their ledger, the cluster's store, agents. Plain data, which the caller
//! gathers: doctor knows their troubles, not their formats.

use super::catalog::rows;
use pgproof_base::Remedy;
use serde::{Deserialize, Serialize};

rows! {
    /// One stated objective.
    ObjectiveSeen {
        /// Its name in the configuration.
        name: String,
        /// What is wanted, in seconds.
        wanted_s: u64,
        /// What was measured, in seconds.
        measured_s: Option<f64>,
        /// Whether it is kept and proven.
        kept: bool,
        /// By what it was measured, or why it was not.
        by: String,
        /// What helps.
        remedies: Vec<Remedy>,
    }
    /// A repository.
    RepositorySeen {
        /// Its name.
        name: String,
        /// Why it could not be read.
        error: Option<String>,
        /// The stated objectives.
        objectives: Vec<ObjectiveSeen>,
        /// What does not fit in its ledger.
        flaws: Vec<String>,
    }
    /// A member of a cluster.
    MemberSeen {
        /// Its name.
        name: String,
        /// Whether its agent answers.
        answers: bool,
        /// `primary`, `standby`, `down`, `unknown`
        role: String,
        /// What keeps it from being promoted.
        blocked: Option<String>,
    }
    /// A cluster.
    ClusterSeen {
        /// Its store.
        endpoints: Vec<String>,
        /// Why the store could not be read.
        error: Option<String>,
        /// Who leads.
        leader: Option<String>,
        /// Whether that one takes writes.
        available: bool,
        /// How many more failures commits survive.
        survivable: u64,
        /// Who paused the automation.
        paused: Option<String>,
        /// The members.
        members: Vec<MemberSeen>,
    }
    /// Everything of pgproof's own.
    Around {
        /// Repositories of the configuration.
        repositories: Vec<RepositorySeen>,
        /// The cluster of the configuration.
        cluster: Option<ClusterSeen>,
        /// Where the agent of this host should answer, and whether it does.
        agent: Option<AgentSeen>,
    }
    /// The agent of this host.
    AgentSeen {
        /// Its address.
        address: String,
        /// Why it does not answer.
        error: Option<String>,
    }
}
