//! What can happen next, and what must never: the world as a `stateright` model.

use crate::agent::{Clock, Network, settings};
use crate::fair::settles;
use crate::walk::landmarks;
use crate::world::{Budget, NODES, World, index};
use pgproof_ha::decide::Rules;
use pgproof_ha::{Decision, Memory, Settings};
use stateright::{Model, Property};
use std::hash::{Hash, Hasher};

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// The agent reads the store.
    Read(usize),
    /// The agent decides on what it read last and on its PostgreSQL as it is, and takes the step.
    Step(usize, Clock, Network),
    /// The delayed write arrives.
    Arrive,
    Commit(usize),
    Stream(usize),
    Reply(usize, usize),
    /// A walsender reads the configuration.
    Reload(usize, usize),
    Connect(usize),
    /// The startup process reads the configuration.
    Load(usize),
    /// SIGTERM reaches the walreceiver.
    End(usize),
    Promoted(usize),
    /// PostgreSQL is killed, by whomever: a fault, the fencing process.
    Crash(usize),
    /// The host loses power: the agent forgets, too.
    PowerLoss(usize),
}

/// The model of a cluster whose agents follow `rules`.
pub(crate) struct Cluster<R> {
    pub(crate) rules: R,
    pub(crate) budget: Budget,
    /// One in so many states is tried for whether failover ends.
    pub(crate) liveness_every: u64,
    settings: Vec<Settings>,
}

impl<R: Rules> Cluster<R> {
    pub(crate) fn new(rules: R, budget: Budget, liveness_every: u64) -> Self {
        Self { rules, budget, liveness_every, settings: (0..NODES).map(settings).collect() }
    }

    /// Everything that can happen.
    pub(crate) fn events(&self, world: &World) -> Vec<Event> {
        let mut events = Vec::new();
        for node in 0..NODES {
            if world.nodes[node].view.as_ref().map(|view| view.revision) != Some(world.revision) {
                events.push(Event::Read(node));
            }
            for clock in [Clock::Early, Clock::Missing] {
                events.push(Event::Step(node, clock, Network::Prompt));
                if world.left.delays > 0 && world.delayed.is_none() {
                    events.push(Event::Step(node, clock, Network::Delays));
                }
            }
            if world.left.crashes > 0 && world.nodes[node].server.is_some() {
                events.push(Event::Crash(node));
                events.push(Event::PowerLoss(node));
            }
            self.server_events(world, node, &mut events);
        }
        if world.delayed.is_some() {
            events.push(Event::Arrive);
        }
        events
    }

    /// What PostgreSQL does by itself.
    pub(crate) fn server_events(&self, world: &World, node: usize, events: &mut Vec<Event>) {
        let this = &world.nodes[node];
        let Some(server) = &this.server else { return };
        if world.is_primary(node) {
            if world.commits < world.left.commits && server.admission == pgproof_ha::Admission::Clients {
                events.push(Event::Commit(node));
            }
            for (standby, sender) in server.senders.iter().enumerate() {
                let Some(sender) = sender else { continue };
                if sender.mail != sender.flush {
                    events.push(Event::Reply(node, standby));
                }
                if sender.names != this.names {
                    events.push(Event::Reload(node, standby));
                }
            }
            return;
        }
        if server.promoting {
            events.push(Event::Promoted(node));
        }
        if server.loaded != this.upstream {
            events.push(Event::Load(node));
        }
        if server.ending {
            events.push(Event::End(node));
        }
        if world.can_connect(node) {
            events.push(Event::Connect(node));
        }
        if world.can_stream(node) {
            events.push(Event::Stream(node));
        }
    }

    /// What `node` decides.
    pub(crate) fn decide(&self, world: &World, node: usize, clock: Clock) -> Decision {
        world.decide(&self.rules, &self.settings[node], node, clock)
    }

    /// The world after `event`.
    pub(crate) fn after(&self, last: &World, event: Event) -> World {
        let mut world = last.clone();
        match event {
            Event::Read(node) => world.nodes[node].view = Some(world.reading()),
            Event::Step(node, clock, network) => {
                let decision = self.decide(&world, node, clock);
                if network == Network::Delays {
                    world.left.delays -= 1;
                }
                world.perform(node, decision, network);
            }
            Event::Arrive => {
                if let Some((expected, state)) = world.delayed.take() {
                    world.apply(expected, state);
                }
            }
            Event::Commit(node) => world.commit(node),
            Event::Stream(node) => world.stream(node),
            Event::Reply(node, standby) => world.reply(node, standby),
            Event::Reload(node, standby) => {
                let names = world.nodes[node].names.clone();
                world.sender(node, standby).unwrap().names = names;
            }
            Event::Connect(node) => world.connect(node),
            Event::Load(node) => {
                let upstream = world.nodes[node].upstream.clone();
                world.nodes[node].server.as_mut().unwrap().loaded = upstream;
            }
            Event::End(node) => {
                let server = world.nodes[node].server.as_mut().unwrap();
                (server.receiver, server.ending) = (None, false);
            }
            Event::Promoted(node) => world.finish_promotion(node),
            Event::Crash(node) => {
                world.left.crashes -= 1;
                world.crash(node);
            }
            Event::PowerLoss(node) => {
                world.left.crashes -= 1;
                world.crash(node);
                world.nodes[node].view = None;
                world.nodes[node].memory = Memory::fresh(crate::world::EARLY, &self.settings[node].timers);
                world.nodes[node].memory.refuses_until = crate::world::EARLY;
            }
        }
        world
    }
}

/// Whoever the store names leader has everything that was acknowledged.
pub(crate) fn nothing_lost(world: &World) -> bool {
    let leader = index(&world.state.leader);
    world.acknowledged & !world.nodes[leader].commits() == 0
}

fn sampled(world: &World, every: u64) -> bool {
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    world.hash(&mut hasher);
    every > 0 && hasher.finish().is_multiple_of(every)
}

impl<R: Rules + Send + Sync + 'static> Model for Cluster<R> {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        let mut worlds = vec![World::settled(self.budget)];
        worlds.extend(landmarks(self));
        worlds
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        events.extend(self.events(world));
    }

    fn next_state(&self, last: &World, event: Event) -> Option<World> {
        let world = self.after(last, event);
        (world != *last).then_some(world)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.state.elections <= u64::from(world.left.elections)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing acknowledged is lost", |_, world| nothing_lost(world)),
            Property::always("one server acknowledges", |_, world: &World| world.broken.is_none()),
            Property::always("failover ends when faults end", |model: &Self, world| {
                !sampled(world, model.liveness_every) || settles(model, world)
            }),
            Property::sometimes("a commit is acknowledged in the second term", |_, world: &World| {
                world.writer.is_some_and(|(term, _)| term.0 == 2)
            }),
        ]
    }
}
