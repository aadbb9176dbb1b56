//! Whether failover ends once faults end: everything that can happen is made to happen, in turn, for a bounded number of rounds.

use crate::agent::{Clock, Network};
use crate::check::{Cluster, Event};
use crate::world::{NODES, World, index, name};
use pgproof_ha::decide::Rules;
use pgproof_ha::{Admission, Reign};

/// More rounds than any way back from three lost nodes takes; each is a reading and a step of every agent.
const ROUNDS_MAX: usize = 120;

/// So many steps show a circle.
const STORY_STEPS: usize = 24;

/// Whether failover ends: with all nodes back, and with any one of them lost for good.
pub(crate) fn settles<R: Rules>(model: &Cluster<R>, from: &World) -> bool {
    std::iter::once(None).chain((0..NODES).map(Some)).all(|dead| settles_without(model, from, dead, None))
}

/// What happened last where failover did not end.
pub(crate) fn story<R: Rules>(model: &Cluster<R>, from: &World) -> String {
    let mut said = String::new();
    for dead in std::iter::once(None).chain((0..NODES).map(Some)) {
        let mut steps = Vec::new();
        if !settles_without(model, from, dead, Some(&mut steps)) {
            let last = steps.len().saturating_sub(STORY_STEPS);
            said += &format!("then, without node {dead:?}:\n{}\n", steps[last..].join("\n"));
        }
    }
    said
}

/// Whether a leader is there in the end, followed by all that live, and a new commit is acknowledged. With a node lost for good, another
/// end will do: everyone that lives says why nothing goes on.
fn settles_without<R: Rules>(
    model: &Cluster<R>,
    from: &World,
    dead: Option<usize>,
    mut steps: Option<&mut Vec<String>>,
) -> bool {
    let mut world = from.clone();
    (world.left.crashes, world.left.delays) = (0, 0);
    world.left.commits = world.commits;
    if let Some((expected, state)) = world.delayed.take() {
        world.apply(expected, state);
    }
    world.dead = dead;
    if let Some(dead) = dead {
        world.crash(dead);
    }
    let mut told = [false; NODES];
    for round in 0..ROUNDS_MAX {
        for node in (0..NODES).filter(|node| Some(*node) != dead) {
            world = model.after(&world, Event::Read(node));
            let leader_lost = dead == Some(index(&world.state.leader));
            let clock = match (round % 3, leader_lost) {
                (0, true) => Clock::Missing,
                (0, false) => Clock::Hearing,
                _ => Clock::Early,
            };
            let decision = model.decide(&world, node, clock);
            if round % 3 == 0 {
                told[node] = decision.blocked.is_some();
            }
            if let Some(steps) = &mut steps {
                steps.push(format!("{} {clock:?}: {} ({:?})", name(node), decision.action, decision.blocked));
            }
            world = model.after(&world, Event::Step(node, clock, Network::Prompt));
            world = run_servers(model, world);
        }
        if settled(&world) && acknowledges(model, world.clone()) {
            return true;
        }
    }
    (0..NODES).all(|node| dead.is_some() && (told[node] || dead == Some(node)))
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
        && (0..NODES).filter(|node| Some(*node) != world.dead).all(follows)
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
