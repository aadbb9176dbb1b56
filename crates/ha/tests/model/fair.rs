//! Whether failover ends once faults end: everything that can happen is made to happen, in turn, for a bounded number of rounds.

use crate::agent::{Clock, Network};
use crate::check::{Cluster, Event};
use crate::world::{NODES, World, index};
use pgproof_ha::decide::Rules;
use pgproof_ha::{Admission, Reign};

/// More rounds than any way back from three lost nodes takes; each is a reading and a step of every agent.
const ROUNDS_MAX: usize = 120;

/// Whether a leader is there in the end, followed by all, and a new commit is acknowledged.
pub(crate) fn settles<R: Rules>(model: &Cluster<R>, from: &World) -> bool {
    let mut world = from.clone();
    (world.left.crashes, world.left.delays) = (0, 0);
    world.left.commits = world.commits;
    for round in 0..ROUNDS_MAX {
        if let Some((expected, state)) = world.delayed.take() {
            world.apply(expected, state);
        }
        for node in 0..NODES {
            world = model.after(&world, Event::Read(node));
            let serves = serving(&world);
            let clock = match (round % 3, serves) {
                (0, true) => Clock::Hearing,
                (0, false) => Clock::Missing,
                _ => Clock::Early,
            };
            world = model.after(&world, Event::Step(node, clock, Network::Prompt));
            world = run_servers(model, world);
        }
        if settled(&world) {
            return acknowledges(model, world);
        }
    }
    false
}

/// Lets PostgreSQL finish what it is about.
fn run_servers<R: Rules>(model: &Cluster<R>, mut world: World) -> World {
    for _ in 0..200 {
        let mut events = Vec::new();
        for node in 0..NODES {
            model.server_events(&world, node, &mut events);
        }
        let Some(&event) = events.first() else { break };
        world = model.after(&world, event);
    }
    world
}

fn serving(world: &World) -> bool {
    let leader = index(&world.state.leader);
    world.is_primary(leader) && world.state.reign == Reign::Leading && world.state.election.is_none()
}

fn settled(world: &World) -> bool {
    let leader = index(&world.state.leader);
    let open = |node: usize| {
        world.nodes[node].server.as_ref().is_some_and(|server| server.admission == Admission::Clients)
    };
    let follows = |node: usize| {
        node == leader
            || world.receiver(node).is_some_and(|u| u.term == world.state.term && index(&u.leader) == leader)
    };
    serving(world)
        && open(leader)
        && (0..NODES).all(follows)
        && world.state.narrowing.is_none()
        && world.nodes[leader].names == world.state.names()
}

fn acknowledges<R: Rules>(model: &Cluster<R>, mut world: World) -> bool {
    let leader = index(&world.state.leader);
    world.commit(leader);
    let commit = 1 << world.commits;
    let world = run_servers(model, world);
    world.acknowledged & commit != 0 && world.broken.is_none() && crate::check::nothing_lost(&world)
}
