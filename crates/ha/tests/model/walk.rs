//! Random walks, beyond what a search can exhaust: each from a printed seed, which replays it.

use crate::check::{Cluster, Event, nothing_lost};
use crate::fair::{settles, story};
use crate::world::{NODES, World};
use pgproof_ha::Reign;
use pgproof_ha::decide::Rules;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What a walk found.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) property: &'static str,
    pub(crate) events: Vec<Event>,
}

impl Violation {
    /// The history, an event a line, with what each step did and what came of it.
    pub(crate) fn told<R: Rules>(&self, model: &Cluster<R>) -> String {
        let mut world = World::settled(model.budget);
        let mut said = String::new();
        for &event in &self.events {
            let what = match event {
                Event::Step(node, clock, _) => model.decide(&world, node, clock).action.to_string(),
                _ => String::new(),
            };
            world = model.after(&world, event);
            let state = &world.state;
            let ends: Vec<String> =
                world.nodes.iter().map(|n| format!("{}/{}", n.timeline(), n.log.len())).collect();
            said += &format!(
                "{event:?} {what}\n      -> term {} {} {:?} quorum {} floor {} ends {} acknowledged {:b}\n",
                state.term,
                state.leader,
                state.reign,
                state.quorum,
                state.floor,
                ends.join(" "),
                world.acknowledged
            );
        }
        said + &story(model, &world)
    }
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
        if let Some(property) = broken(&world) {
            return (step, Some(Violation { property, events: shortened(model, &events, property) }));
        }
        if world.state.elections > u64::from(world.left.elections) {
            break;
        }
    }
    let ended = settles(model, &world);
    let violation = (!ended).then(|| Violation { property: ENDS, events: shortened(model, &events, ENDS) });
    (steps, violation)
}

/// Where a search begins besides the settled cluster, because from there it would not come so far: an election with one promise, a winner
/// not yet promoted, a second term with clients, elections being made easier in it. Each as the first random walk comes by.
pub(crate) fn landmarks<R: Rules>(model: &Cluster<R>) -> Vec<World> {
    let open = |world: &World| world.state.election.as_ref().is_some_and(|e| e.promises.len() == 1);
    let second = |world: &World, reign| world.state.term.0 == 2 && world.state.reign == reign;
    let places: [&dyn Fn(&World) -> bool; 4] = [
        &|world| open(world) && world.commits > 0 && world.acknowledged > 0,
        &|world| second(world, Reign::Elected) && world.acknowledged > 0,
        &|world| {
            second(world, Reign::Leading)
                && (0..NODES).any(|n| world.receiver(n).is_some_and(|u| u.term.0 == 2))
        },
        &|world| second(world, Reign::Leading) && world.state.narrowing.is_some(),
    ];
    places
        .iter()
        .filter_map(|place| (0..LANDMARK_WALKS_MAX).find_map(|seed| first(model, seed, place)))
        .collect()
}

/// More walks than any landmark needed so far.
const LANDMARK_WALKS_MAX: u64 = 500;

/// The first world of a walk that is as asked, with its faults still to come.
fn first<R: Rules>(model: &Cluster<R>, seed: u64, place: &dyn Fn(&World) -> bool) -> Option<World> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::settled(model.budget);
    for _ in 0..120 {
        let event = choose(&model.events(&world), &mut random);
        world = model.after(&world, event);
        if place(&world) {
            (world.left.crashes, world.left.delays) = (model.budget.crashes, model.budget.delays);
            return Some(world);
        }
    }
    None
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

/// The shortest part of a history that still breaks something: events that are not needed are left out, one after another.
fn shortened<R: Rules>(model: &Cluster<R>, events: &[Event], property: &str) -> Vec<Event> {
    let mut kept = events.to_vec();
    let mut index = kept.len();
    while index > 0 {
        index -= 1;
        let mut fewer = kept.clone();
        fewer.remove(index);
        if replay(model, &fewer) == Some(property) {
            kept = fewer;
            index = index.min(kept.len());
        }
    }
    kept
}

/// What these events break, if anything; impossible ones are passed over.
fn replay<R: Rules>(model: &Cluster<R>, events: &[Event]) -> Option<&'static str> {
    let mut world = World::settled(model.budget);
    for event in events {
        if model.events(&world).contains(event) {
            world = model.after(&world, *event);
        }
        if let Some(broken) = broken(&world) {
            return Some(broken);
        }
    }
    (!settles(model, &world)).then_some(ENDS)
}

const ENDS: &str = "failover ends when faults end";

fn broken(world: &World) -> Option<&'static str> {
    world.broken.or_else(|| (!nothing_lost(world)).then_some("nothing acknowledged is lost"))
}
