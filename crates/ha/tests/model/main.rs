//! `decide` of the shipped crate, checked against everything that can happen to three nodes; see `docs/ha/model.md`.
//!
//! - [`world`]: PostgreSQL, the store and the network, reduced to what failover can get wrong.
//! - [`agent`]: shows the world to `decide` and does what it says.
//! - [`check`]: events and properties, for `stateright`.
//! - [`fair`]: whether failover ends once faults end.
//! - [`walk`]: random walks from printed seeds.
//! - [`mutants`]: rules taken away one at a time; each must be noticed.

#![allow(clippy::unwrap_used, reason = "a broken model is to panic")]

mod agent;
mod check;
mod fair;
mod mutants;
mod walk;
mod world;

use check::Cluster;
use pgproof_ha::decide::TrueRules;
use stateright::{Checker, Model};
use std::time::{Duration, Instant};
use world::Budget;

const BUDGET: Budget = Budget { crashes: 2, delays: 1, commits: 2, elections: 3 };

/// A number from the environment, or what it is in a short run.
fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn every_order_of_events_to_a_depth_keeps_the_promises() {
    let depth = setting("PGPROOF_MODEL_DEPTH", 9);
    let started = Instant::now();
    let model = Cluster::new(TrueRules, BUDGET, 499);
    let checker = model.checker().threads(2).target_max_depth(depth as usize).spawn_bfs().join();
    println!(
        "{} states, {} of them distinct, to depth {} in {:?}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed()
    );
    checker.assert_properties();
}

#[test]
fn random_histories_keep_the_promises() {
    let seconds = setting("PGPROOF_MODEL_SECONDS", 20);
    let first = setting("PGPROOF_MODEL_SEED", 20261123);
    let budget = Budget { crashes: 4, delays: 3, commits: 8, elections: 8 };
    let model = Cluster::new(TrueRules, budget, 0);
    let (started, mut seen, mut seed) = (Instant::now(), 0, first);
    while started.elapsed() < Duration::from_secs(seconds) {
        let (states, violation) = walk::walk(&model, seed, 400);
        seen += states;
        if let Some(violation) = violation {
            panic!("seed {seed}: {}\n{}", violation.property, violation.told(&model));
        }
        seed += 1;
    }
    println!("{} walks from seed {first}, {seen} steps", seed - first);
}
