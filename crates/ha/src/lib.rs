//! One leader, kept by terms: who may acknowledge, who is promoted, and what a node does next.
//!
//! Promises that nothing acknowledged is lost where `rpo = "0s"` was declared, and no more than declared elsewhere. [`decide()`] is the
//! pure judgement: [`Observation`] and [`Memory`] in, [`Decision`] out. Whatever reads clocks, the store, PostgreSQL or the network gathers
//! observations for it ([`observe`], [`dcs`], [`supervise`]) or carries out its [`Action`]s ([`act`], [`fence`]).
//!
//! Nouns: [`Term`], [`NodeName`], [`StandbyName`] (`n2.t8`), [`Position`] (term of the timeline, LSN), [`Quorum`] (n voters, k acknowledge, n - k + 1
//! elect), [`ClusterState`] (what the store holds, changed only by compare-and-set), [`Timers`] (from the RTO). Read [`ClusterState`], then
//! [`Observation`], then `decide`.

pub mod act;
pub mod agent;
pub mod dcs;
pub mod decide;
mod error;
pub mod explain;
pub mod fence;
mod http;
mod observation;
pub mod observe;
mod position;
mod quorum;
mod state;
pub mod supervise;
mod term;
mod timers;

pub use decide::{
    Action, Blocked, Change, Clients, Decision, Founding, KillReason, Memory, Settings, Way, decide,
};
pub use error::HaError;
pub use observation::{
    Admission, Ancestry, LeaderContact, Observation, OnDisk, Peer, Postgres, Prepared, Primary, Promoting,
    Reading, Receiver, Report, Role, Serving, Standby, Store, Upstream, WalSender,
};
pub use position::{Lineage, Position, TimelineOfTerm};
pub use quorum::{Quorum, Step, SyncNames, overlap};
pub use state::{
    AcceptedLoss, ClusterState, Election, ElectionReason, LossBound, Member, Mode, Pause, Promise, Published,
    PublishedPosition, Reign, Revision, STATE_FORMAT, Standing, Strictness, SwitchoverRequest,
};
pub use term::{Moment, NodeName, NodeNameError, StandbyName, Term};
pub use timers::{Budget, RoundTrips, Timers, Unmeetable};
