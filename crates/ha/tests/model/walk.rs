//! Random walks, beyond what a search can exhaust: each from a printed seed, which replays it.

use crate::check::{Cluster, Event, nothing_lost};
use crate::fair::settles;
use crate::world::World;
use pgproof_ha::decide::Rules;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What a walk found.
#[derive(Debug)]
#[allow(dead_code, reason = "printed when a test fails")]
pub(crate) struct Violation {
    pub(crate) property: &'static str,
    pub(crate) events: Vec<Event>,
}

/// Walks from the settled cluster. Returns how many states it saw, and what was wrong with the last.
pub(crate) fn walk<R: Rules>(model: &Cluster<R>, seed: u64, steps: usize) -> (usize, Option<Violation>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::settled(model.budget);
    let mut events = Vec::new();
    for step in 0..steps {
        let possible = model.events(&world);
        let event = choose(&possible, &mut random);
        let next = model.after(&world, event);
        if next == world {
            continue;
        }
        world = next;
        events.push(event);
        let property = match world.broken {
            Some(broken) => Some(broken),
            None if !nothing_lost(&world) => Some("nothing acknowledged is lost"),
            None => None,
        };
        if let Some(property) = property {
            return (step, Some(Violation { property, events }));
        }
        if world.state.elections > u64::from(world.left.elections) {
            break;
        }
    }
    let ended = settles(model, &world);
    let violation = (!ended).then_some(Violation { property: "failover ends when faults end", events });
    (steps, violation)
}

/// Faults and lost patience are rare, or nothing else would happen.
fn choose(possible: &[Event], random: &mut StdRng) -> Event {
    use crate::agent::{Clock, Network};
    loop {
        let event = possible[random.random_range(0..possible.len())];
        let one_in = match event {
            Event::Crash(_) | Event::PowerLoss(_) => 12,
            Event::Step(_, Clock::Missing, Network::Prompt) => 3,
            Event::Step(_, _, Network::Delays) => 6,
            Event::Arrive => 5,
            _ => 1,
        };
        if random.random_range(0..one_in) == 0 {
            return event;
        }
    }
}
