//! Situations as an operator would tell them, and what each node does about them.

use super::*;
use crate::explain::prospect;
use crate::observation::{
    Ancestry, OnDisk, Peer, Prepared, Primary, Promoting, Reading, Receiver, Report, Serving, Standby,
    Upstream,
};
use crate::position::Position;
use crate::quorum::{Quorum, SyncNames};
use crate::state::{
    AcceptedLoss, Election, ElectionReason, LossBound, Member, Pause, Promise, Reign, Strictness,
};
use crate::term::Term;
use crate::{LeaderContact, Published, PublishedPosition};
use expect_test::{Expect, expect};
use pgproof_pg::{Lsn, TimelineId};
use std::collections::BTreeMap;
use std::time::Duration;

const NOW: Moment = Moment(1_000_000);
const LONG_AGO: Moment = Moment(900_000);
const QUORUM: Mode = Mode::Quorum { k: 1, strictness: Strictness::Prompt };

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn at(term: u64, lsn: u64) -> Position {
    Position::new(Term(term), Lsn(lsn))
}

/// `a` leads `b` and `c`, in term 1, floor 100.
fn state(mode: Mode) -> ClusterState {
    let member =
        Member { standing: Standing::Candidate, agent_address: String::new(), host: String::new(), port: 0 };
    let members = ["a", "b", "c"].map(|name| (node(name), member.clone())).into();
    let system = SystemIdentifier(7);
    let mut state = ClusterState::founded(system, mode, node("a"), members, TimelineId(1), at(1, 100));
    state.quorum = Quorum::new([node("b"), node("c")], if mode == QUORUM { 1 } else { 2 });
    state
}

fn election(reason: ElectionReason, promises: &[(&str, u64)]) -> Election {
    let promise = |lsn| Promise { end: at(1, lsn), position: at(1, lsn), standing: Standing::Candidate };
    let promises = promises.iter().map(|&(name, lsn)| (node(name), promise(lsn))).collect();
    Election { number: 1, opened_by: node("b"), reason, promises, accepted_loss: None }
}

/// A standby of `a` that stopped receiving at `lsn`.
fn stopped_at(lsn: u64) -> Postgres {
    Postgres::Standby(Standby { upstream: None, receiver: Receiver::Stopped, ..standby(lsn) })
}

fn standby(lsn: u64) -> Standby {
    Standby {
        system: SystemIdentifier(7),
        timeline: TimelineId(1),
        position: Some(Lsn(lsn)),
        upstream: Some(Upstream { leader: node("a"), term: Term(1) }),
        receiver: Receiver::Possible { heard: Some(NOW) },
        ancestry: Ancestry::Shared,
        prepared: None,
        promoting: Promoting::No,
    }
}

fn crashed(redo_bytes: u64) -> Postgres {
    Postgres::Stopped(OnDisk {
        system: SystemIdentifier(7),
        role: Role::Primary,
        timeline: TimelineId(1),
        position: None,
        names: SyncNames::None,
        upstream: None,
        ancestry: Ancestry::Unknown,
        redo_bytes,
    })
}

/// What `me` does: its PostgreSQL, who of the peers answers, and since when it watches.
struct Scene {
    me: &'static str,
    state: ClusterState,
    postgres: Postgres,
    heard: &'static [&'static str],
    lease: Option<&'static str>,
    published: Option<Published>,
}

impl Scene {
    fn decide(&self) -> Decision {
        let mode = self.state.mode;
        let timers = Timers::derive(Duration::from_secs(5), 3, mode).unwrap();
        let memory = Memory {
            leader_heard: LONG_AGO,
            refuses_until: LONG_AGO,
            last: Some(self.reading()),
            election_seen: self.state.election.as_ref().map(|e| (e.number, NOW)),
            ..Memory::fresh(LONG_AGO, &timers)
        };
        let report = |name: &&str| Report {
            term: Term(1),
            serving: if *name == "a" { Serving::Primary } else { Serving::Standby },
            leader: LeaderContact::Missed,
            position: None,
        };
        let peers =
            self.heard.iter().map(|name| (node(name), Peer { heard: NOW, report: report(name) })).collect();
        let seen = Observation {
            me: node(self.me),
            store: Store::Known(self.reading()),
            postgres: self.postgres.clone(),
            peers,
            refusals: BTreeMap::new(),
            asked_to_refuse: None,
            wall_s: 0,
        };
        let settings = Settings {
            me: node(self.me),
            mode,
            standing: Standing::Candidate,
            timers,
            replay_bytes_s: 100 << 20,
            founding: Founding::Forbidden,
        };
        decide(&settings, &memory, &seen, NOW)
    }

    fn reading(&self) -> Reading {
        Reading {
            asked: NOW,
            revision: Revision(5),
            state: Some(Arc::new(self.state.clone())),
            lease: self.lease.map(node),
            published: self.published.clone(),
        }
    }

    fn check(&self, expected: Expect) {
        let decision = self.decide();
        let blocked = decision.blocked.map_or(String::new(), |reason| format!("\nbecause {reason}"));
        expected.assert_eq(&format!("{}{blocked}", decision.action));
    }
}

fn scene(me: &'static str, state: ClusterState, postgres: Postgres, heard: &'static [&'static str]) -> Scene {
    Scene { me, state, postgres, heard, lease: Some("a"), published: None }
}

fn with_election(mode: Mode, reason: ElectionReason, promises: &[(&str, u64)]) -> ClusterState {
    ClusterState { election: Some(election(reason, promises)), elections: 1, ..state(mode) }
}

#[test]
fn a_leader_cut_from_the_store_alone_is_left_in_place() {
    let alone =
        Scene { lease: None, ..scene("b", state(QUORUM), Postgres::Standby(standby(150)), &["a", "c"]) };
    alone.check(expect!["wait"]);
}

#[test]
fn a_silent_leader_is_challenged_when_enough_voters_miss_it_whatever_its_lease() {
    let silent = Postgres::Standby(Standby { receiver: Receiver::Possible { heard: None }, ..standby(150) });
    scene("b", state(QUORUM), silent.clone(), &["c"]).check(expect!["write to the store: open an election"]);
    scene("b", state(QUORUM), silent, &[]).check(expect![[r#"
        wait
        because misses a, but not enough voters do and its lease is held"#]]);
}

#[test]
fn a_standby_stops_receiving_before_it_promises_and_the_most_advanced_wins() {
    let silent = || with_election(QUORUM, ElectionReason::LeaderSilent, &[]);
    let receiving =
        Postgres::Standby(Standby { receiver: Receiver::Possible { heard: None }, ..standby(150) });
    scene("b", silent(), receiving, &["c"]).check(expect!["stop receiving"]);
    scene("b", silent(), stopped_at(150), &["c"]).check(expect!["write to the store: promise"]);
    let promised = |both: &[(&str, u64)]| with_election(QUORUM, ElectionReason::LeaderSilent, both);
    scene("b", promised(&[("b", 150)]), stopped_at(150), &["c"]).check(expect![[r#"
        wait
        because 1 of 2 voters promised; missing: c. Bring one of them back"#]]);
    scene("b", promised(&[("b", 150), ("c", 160)]), stopped_at(150), &["c"]).check(expect![[r#"
        wait
        because c promised 0/A0 of term 1 and goes first"#]]);
    scene("c", promised(&[("b", 150), ("c", 160)]), stopped_at(160), &["b"])
        .check(expect!["write to the store: win the election"]);
    scene("c", promised(&[("b", 80), ("c", 90)]), stopped_at(90), &["b"]).check(expect![[r#"
        wait
        because the best that promised is at 0/5A of term 1, and acknowledged commits reach to 0/64 of term 1: they are on a node that is missing. Bring it back, or accept the loss with `pgproof cluster failover --accept-loss`"#]]);
}

#[test]
fn an_asynchronous_promotion_waits_for_the_fence_and_asks_what_is_lost() {
    let mode = Mode::Asynchronous { loss: LossBound { bytes: Some(20), time_ms: None } };
    let both: &[(&str, u64)] = &[("b", 150), ("c", 140)];
    let silent = with_election(mode, ElectionReason::LeaderSilent, both);
    scene("b", silent, stopped_at(150), &["c"]).check(expect![[r#"
        wait
        because waits until the old primary is surely fenced"#]]);
    let resigned = with_election(mode, ElectionReason::Resigned, both);
    scene("b", resigned.clone(), stopped_at(150), &["c"]).check(expect![[r#"
        wait
        because the old primary published no position, so nobody knows what would be lost"#]]);
    let published = |lsn| {
        Some(Published {
            term: Term(1),
            trail: vec![PublishedPosition { lsn: Lsn(lsn), at_ms: 0 }],
            valid_ms: 1,
        })
    };
    Scene { published: published(160), ..scene("b", resigned.clone(), stopped_at(150), &["c"]) }
        .check(expect!["write to the store: win the election"]);
    Scene { published: published(190), ..scene("b", resigned, stopped_at(150), &["c"]) }.check(expect![[
        r#"
        wait
        because 40 bytes would be lost, and 20 were declared bearable"#
    ]]);
}

#[test]
fn a_crashed_primary_restarts_in_place_unless_a_failover_is_quicker() {
    scene("a", state(QUORUM), crashed(1 << 20), &["b", "c"])
        .check(expect![[r#"start as primary with `ANY 1 ("b.t1", "c.t1")`"#]]);
    scene("a", state(QUORUM), crashed(1 << 30), &["b", "c"])
        .check(expect!["write to the store: open an election"]);
    scene("a", state(QUORUM), crashed(1 << 30), &["b"])
        .check(expect![[r#"start as primary with `ANY 1 ("b.t1", "c.t1")`"#]]);
}

#[test]
fn the_elected_one_is_prepared_before_it_is_promoted() {
    let mut elected = state(QUORUM);
    (elected.leader, elected.reign, elected.term) = (node("b"), Reign::Elected, Term(2));
    (elected.timeline, elected.quorum) = (TimelineId(2), Quorum::new([node("c")], 1));
    let begins = Some(at(1, 150));
    elected.timelines.push(crate::TimelineOfTerm { timeline: TimelineId(2), term: Term(2), begins });
    elected.floor = at(1, 150);
    scene("b", elected.clone(), stopped_at(150), &["c"])
        .check(expect![[r#"prepare the promotion to timeline 2 with `ANY 1 ("c.t2")`"#]]);
    let prepared = Some(Prepared { names: elected.names(), timeline: TimelineId(2) });
    let ready = Standby { upstream: None, receiver: Receiver::Stopped, prepared, ..standby(150) };
    scene("b", elected.clone(), Postgres::Standby(ready), &["c"]).check(expect!["promote"]);
    scene("b", elected, stopped_at(140), &["c"]).check(expect![[r#"
        write to the store: open an election
        because was elected with WAL up to 0/96 of term 1 and has 0/8C of term 1: its disk lost what it had flushed"#]]);
}

#[test]
fn an_old_primary_is_killed_and_comes_back_by_rewinding() {
    let mut state = state(QUORUM);
    (state.leader, state.term) = (node("b"), Term(2));
    let diverged = match crashed(0) {
        Postgres::Stopped(disk) => Postgres::Stopped(OnDisk { ancestry: Ancestry::Diverged, ..disk }),
        other => other,
    };
    scene("a", state.clone(), Postgres::Primary(primary(150, 100)), &["b"])
        .check(expect!["kill PostgreSQL: another node leads"]);
    scene("a", state, diverged, &["b"]).check(expect!["rejoin b in term 2 by pg_rewind"]);
}

fn primary(position: u64, end_of_recovery: u64) -> Primary {
    let names = state(QUORUM).names();
    Primary {
        system: SystemIdentifier(7),
        timeline: TimelineId(1),
        end_of_recovery: Lsn(end_of_recovery),
        position: Lsn(position),
        names: names.clone(),
        names_in_effect: Some(names),
        standbys: BTreeMap::new(),
        admission: Admission::AgentAndReplication,
    }
}

#[test]
fn clients_wait_until_what_crash_recovery_brought_back_is_flushed_elsewhere() {
    let recovered = scene("a", state(QUORUM), Postgres::Primary(primary(150, 150)), &["b", "c"]);
    assert_eq!(recovered.decide().admission, Admission::AgentAndReplication);
    recovered.check(expect![[r#"
        wait
        because clients wait until enough standbys have flushed what crash recovery brought back"#]]);
    let below_the_floor = scene("a", state(QUORUM), Postgres::Primary(primary(150, 100)), &["b", "c"]);
    assert_eq!(below_the_floor.decide().admission, Admission::Clients);
}

#[test]
fn nothing_is_decided_while_paused() {
    let paused = ClusterState { paused: Some(Pause { by: "an operator".to_owned() }), ..state(QUORUM) };
    let silent = Postgres::Standby(Standby { receiver: Receiver::Possible { heard: None }, ..standby(150) });
    scene("b", paused.clone(), silent, &["c"]).check(expect![[r#"
        wait
        because automation is paused. `pgproof cluster resume` ends that"#]]);
    scene("a", paused, crashed(0), &["b", "c"]).check(expect![[r#"
        wait
        because automation is paused. `pgproof cluster resume` ends that"#]]);
}

#[test]
fn an_accepted_loss_names_its_winner_and_waits_for_the_fence() {
    let mut open = with_election(QUORUM, ElectionReason::Operator, &[("b", 80)]);
    let accepted = Some(AcceptedLoss { winner: node("b"), position: at(1, 80) });
    open.election.as_mut().unwrap().accepted_loss = accepted;
    scene("b", open.clone(), stopped_at(80), &[]).check(expect![[r#"
        wait
        because waits until the old primary is surely fenced"#]]);
    scene("c", open, stopped_at(70), &[]).check(expect!["write to the store: promise"]);
}

#[test]
fn explain_says_who_would_win_what_is_lost_and_how_much_more_can_fail() {
    let check = |ends: &[(&str, u64)], expected: Expect| {
        let ends = ends.iter().map(|&(name, lsn)| (node(name), at(1, lsn))).collect();
        expected.assert_eq(&format!("{:#?}", prospect(&state(QUORUM), &ends)));
    };
    check(
        &[("a", 200), ("b", 150), ("c", 160)],
        expect![[r#"
        Prospect {
            winner: Some(
                c,
            ),
            blocked: None,
            failures_survivable: 1,
            loss: "nothing that was acknowledged",
        }"#]],
    );
    check(
        &[("a", 200), ("b", 150)],
        expect![[r#"
        Prospect {
            winner: None,
            blocked: Some(
                "1 of 2 voters promised; missing: c. Bring one of them back",
            ),
            failures_survivable: 0,
            loss: "nothing: nobody would be promoted",
        }"#]],
    );
    check(
        &[("a", 200), ("b", 90), ("c", 80)],
        expect![[r#"
        Prospect {
            winner: None,
            blocked: Some(
                "the best that promised is at 0/5A of term 1, and acknowledged commits reach to 0/64 of term 1: they are on a node that is missing. Bring it back, or accept the loss with `pgproof cluster failover --accept-loss`",
            ),
            failures_survivable: 0,
            loss: "nothing: nobody would be promoted",
        }"#]],
    );
}
