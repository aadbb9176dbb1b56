//! Rules taken away, one at a time: each loss must be noticed, or the model would prove nothing.
//!
//! A mutant is an implementation of `Rules` with one method replaced by what somebody in a hurry would write. They exist here only; what
//! ships is `decide` compiled for the provided methods.

use crate::check::Cluster;
use crate::walk::walk;
use crate::world::Budget;
use pgproof_ha::decide::Rules;
use pgproof_ha::{
    ClusterState, Election, Position, Primary, Promise, Quorum, Receiver, Standby, SyncNames, Term,
};

/// Walks a mutant may take before it counts as not noticed.
const WALKS_MAX: u64 = 40_000;

/// Walks until the mutant is caught; says by which property, and after how many steps in all.
fn caught<R: Rules>(mutant: R, name: &str) -> String {
    let budget = Budget { crashes: 4, delays: 3, commits: 8, elections: 8 };
    let model = Cluster::new(mutant, budget, 0);
    let mut steps = 0;
    for seed in 0..WALKS_MAX {
        let (seen, violation) = walk(&model, seed, 400);
        steps += seen;
        if let Some(violation) = violation {
            let events = violation.events.len();
            return format!("| {name} | {} | {steps} | {seed} | {events} |", violation.property);
        }
    }
    panic!("{name}: not noticed in {steps} steps")
}

macro_rules! mutants {
    ($($(#[doc = $what:literal])+ $mutant:ident { $($rule:tt)* })+) => {
        $(
            $(#[doc = $what])+
            struct $mutant;
            impl Rules for $mutant { $($rule)* }
        )+

        #[test]
        fn every_rule_is_missed_when_it_is_gone() {
            println!("| mutant | noticed as | steps | seed | events |");
            println!("|---|---|---|---|---|");
            $(println!("{}", caught($mutant, concat!($($what),+).trim()));)+
        }
    };
}

mutants! {
    /// One promise elects, whatever n and k are.
    OnePromiseElects {
        fn promises_needed(&self, _quorum: &Quorum) -> usize {
            1
        }
    }
    /// Promises of nodes that do not vote count.
    EveryPromiseCounts {
        fn counted<'a>(&self, _state: &'a ClusterState, election: &'a Election) -> Vec<&'a Promise> {
            election.promises.values().collect()
        }
    }
    /// PostgreSQL's names are widened before the store knows.
    NamesBeforeStore {
        fn names(&self, state: &ClusterState, wanted: &Quorum) -> SyncNames {
            match wanted.voters.is_superset(&state.quorum.voters) {
                true => wanted.names(state.term),
                false => state.names(),
            }
        }
    }
    /// Elections get easier once the narrower names are written, though a walsender may not have read them.
    WrittenIsInEffect {
        fn narrowed(&self, primary: &Primary, names: &SyncNames) -> bool {
            primary.names == *names
        }
    }
    /// The floor is not raised when elections get easier.
    FloorStays {
        fn raised_floor(&self, floor: Position, _flushed: Position) -> Position {
            floor
        }
    }
    /// Nobody looks at the floor.
    NoFloor {
        fn at_or_above_floor(&self, _position: Position, _floor: Position) -> bool {
            true
        }
    }
    /// A new term keeps the old floor.
    OldFloorInNewTerm {
        fn floor_of_term(&self, before: Position, _winner: Position) -> Position {
            before
        }
    }
    /// A reload of an empty primary_conninfo counts as having stopped.
    ReloadIsStopping {
        fn stopped_receiving(&self, standby: &Standby) -> bool {
            standby.upstream.is_none()
        }
    }
    /// A receiver that does not stream at the moment counts as stopped.
    SilenceIsStopping {
        fn stopped_receiving(&self, standby: &Standby) -> bool {
            matches!(standby.receiver, Receiver::Stopped | Receiver::Possible { heard: None })
        }
    }
    /// A standby follows its leader again while the election is open in which it promised.
    FollowsDuringElection {
        fn may_follow(&self, _state: &ClusterState) -> bool {
            true
        }
        fn stopped_receiving(&self, _standby: &Standby) -> bool {
            true
        }
    }
    /// The first to have enough promises wins, however far it is.
    FirstWins {
        fn covers(&self, _mine: Position, _other: Position) -> bool {
            true
        }
    }
    /// Positions are compared by LSN alone.
    LsnAlone {
        fn covers(&self, mine: Position, other: Position) -> bool {
            mine.lsn >= other.lsn
        }
        fn at_or_above_floor(&self, position: Position, floor: Position) -> bool {
            position.lsn >= floor.lsn
        }
    }
    /// Positions are compared by (term of the timeline, LSN) as they are, not along the present history.
    NoLineage {
        fn position(&self, _state: &ClusterState, end: Position) -> Option<Position> {
            Some(end)
        }
    }
    /// The winner is promoted at once, with the names and the timeline that come.
    Unprepared {
        fn prepared(&self, _standby: &Standby, _state: &ClusterState) -> bool {
            true
        }
    }
    /// Standby names carry no term.
    NamesWithoutTerm {
        fn following_term(&self, _state: &ClusterState) -> Term {
            Term(1)
        }
    }
    /// Clients are admitted as soon as crash recovery is over.
    AdmittedAtOnce {
        fn recovery_confirmed(&self, _primary: &Primary, _state: &ClusterState) -> bool {
            true
        }
    }
}
