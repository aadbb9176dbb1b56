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
///
/// `first` is a seed that caught it before, so that a short run is short; `PGPROOF_MODEL_MUTANTS=all` walks from 0 instead.
fn caught<R: Rules>(mutant: R, name: &str, first: u64) -> String {
    let first = if std::env::var_os("PGPROOF_MODEL_MUTANTS").is_some() { 0 } else { first };
    let budget = Budget { crashes: 4, delays: 3, commits: 8, elections: 8 };
    let model = Cluster::new(mutant, budget, 0);
    let mut steps = 0;
    for seed in first..first + WALKS_MAX {
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
    ($($(#[doc = $what:literal])+ $mutant:ident from $seed:literal { $($rule:tt)* })+) => {
        $(
            $(#[doc = $what])+
            struct $mutant;
            impl Rules for $mutant { $($rule)* }
        )+

        #[test]
        fn every_rule_is_missed_when_it_is_gone() {
            println!("| mutant | noticed as | steps | seed | events |");
            println!("|---|---|---|---|---|");
            $(println!("{}", caught($mutant, concat!($($what),+).trim(), $seed));)+
        }
    };
}

mutants! {
    /// One promise elects, whatever n and k are.
    OnePromiseElects from 19 {
        fn promises_needed(&self, _quorum: &Quorum) -> usize {
            1
        }
    }
    /// Promises of nodes that do not vote count.
    EveryPromiseCounts from 26 {
        fn counted<'a>(&self, _state: &'a ClusterState, election: &'a Election) -> Vec<&'a Promise> {
            election.promises.values().collect()
        }
    }
    /// PostgreSQL's names are widened before the store knows.
    NamesBeforeStore from 0 {
        fn names(&self, state: &ClusterState, wanted: &Quorum) -> SyncNames {
            match wanted.voters.is_superset(&state.quorum.voters) {
                true => wanted.names(state.term),
                false => state.names(),
            }
        }
    }
    /// Elections get easier once the narrower names are written, though a walsender may not have read them.
    WrittenIsInEffect from 15015 {
        fn narrowed(&self, primary: &Primary, names: &SyncNames) -> bool {
            primary.names == *names
        }
    }
    /// The floor is not raised when elections get easier.
    FloorStays from 825 {
        fn raised_floor(&self, floor: Position, _flushed: Position) -> Position {
            floor
        }
    }
    /// Nobody looks at the floor.
    NoFloor from 19 {
        fn at_or_above_floor(&self, _position: Position, _floor: Position) -> bool {
            true
        }
    }
    /// A new term keeps the old floor.
    OldFloorInNewTerm from 19 {
        fn floor_of_term(&self, before: Position, _winner: Position) -> Position {
            before
        }
    }
    /// A reload of an empty primary_conninfo counts as having stopped.
    ReloadIsStopping from 77 {
        fn stopped_receiving(&self, standby: &Standby) -> bool {
            standby.upstream.is_none()
        }
    }
    /// A receiver that does not stream at the moment counts as stopped.
    SilenceIsStopping from 64 {
        fn stopped_receiving(&self, standby: &Standby) -> bool {
            matches!(standby.receiver, Receiver::Stopped | Receiver::Possible { heard: None })
        }
    }
    /// A standby follows its leader again while the election is open in which it promised.
    FollowsDuringElection from 188 {
        fn may_follow(&self, _state: &ClusterState) -> bool {
            true
        }
        fn stopped_receiving(&self, _standby: &Standby) -> bool {
            true
        }
    }
    /// The first to have enough promises wins, however far it is.
    FirstWins from 65 {
        fn covers(&self, _mine: Position, _other: Position) -> bool {
            true
        }
    }
    /// Positions are compared by LSN alone.
    LsnAlone from 38204 {
        fn covers(&self, mine: Position, other: Position) -> bool {
            mine.lsn >= other.lsn
        }
        fn at_or_above_floor(&self, position: Position, floor: Position) -> bool {
            position.lsn >= floor.lsn
        }
    }
    /// Positions are compared by (term of the timeline, LSN) as they are, not along the present history.
    NoLineage from 340 {
        fn position(&self, _state: &ClusterState, end: Position) -> Option<Position> {
            Some(end)
        }
    }
    /// The winner is promoted at once, with the names and the timeline that come.
    Unprepared from 51 {
        fn prepared(&self, _standby: &Standby, _state: &ClusterState) -> bool {
            true
        }
    }
    /// Standby names carry no term.
    NamesWithoutTerm from 0 {
        fn following_term(&self, _state: &ClusterState) -> Term {
            Term(1)
        }
    }
    /// Clients are admitted as soon as crash recovery is over.
    AdmittedAtOnce from 48 {
        fn recovery_confirmed(&self, _primary: &Primary, _state: &ClusterState) -> bool {
            true
        }
    }
}
