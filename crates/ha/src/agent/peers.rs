//! The threads that ask the other agents, directly: one for each, so that nobody waits for one that is dead.

use super::board::{Board, PeerAnswer, now};
use crate::{ClusterState, Moment, NodeName, Term};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    thread,
    time::Duration,
};

/// An answer that is longer is none.
const ANSWER_MAX: u64 = 1 << 20;

/// Starts a thread for each member that has none yet.
pub(super) fn start(board: &Arc<Board>, known: &mut BTreeSet<NodeName>) {
    let members = board.notes().state.as_ref().map(|state| state.members.clone()).unwrap_or_default();
    for name in members.into_keys().filter(|name| *name != board.me) {
        if known.insert(name.clone()) {
            let board = Arc::clone(board);
            thread::spawn(move || {
                loop {
                    look(&board, &name);
                    thread::sleep(board.heartbeat);
                }
            });
        }
    }
}

fn look(board: &Board, name: &NodeName) {
    let (address, term, wants_refusal, token) = {
        let notes = board.notes();
        let Some(state) = notes.state.clone() else { return };
        let Some(member) = state.members.get(name) else { return };
        // Asked for before the store is given up: one that hangs, or comes back slowly, would otherwise cost the primary its authority.
        let fresh = notes.reading.as_ref().is_some_and(|r| now().since(r.asked) <= board.heartbeat * 2);
        let wants = state.leader == board.me && !(fresh && notes.store_answers);
        (member.agent_address.clone(), state.term, wants, notes.token.clone())
    };
    let limit = board.heartbeat * 3;
    if let Some(answer) =
        ask(&address, "GET", "/peer", "", limit).and_then(|body| serde_json::from_str(&body).ok())
    {
        let answer: PeerAnswer = answer;
        // Whoever answers at this address under another name is another.
        if answer.node == *name {
            let mut notes = board.notes();
            let served = |answer: &PeerAnswer| answer.report.serving;
            let changed = notes.peers.get(name).is_none_or(|(_, last)| served(last) != served(&answer));
            notes.peers.insert(name.clone(), (now(), answer));
            drop(notes);
            if changed {
                board.ring();
            }
        }
    }
    if let Some(token) = token.filter(|_| wants_refusal) {
        refuse(board, name, &address, term, &token, limit);
    }
}

/// Asks a voter to promise nobody for a while. Counted from when it was asked.
fn refuse(board: &Board, name: &NodeName, address: &str, term: Term, token: &str, limit: Duration) {
    let asked: Moment = now();
    let header = format!("Authorization: Bearer {token}\r\n");
    let answer = ask(address, "POST", &format!("/refuse?term={term}"), &header, limit);
    let Some(span) = answer.and_then(|body| body.trim().parse().ok()) else { return };
    board.notes().refusals.insert(name.clone(), asked.plus(Duration::from_millis(span)));
    board.ring();
}

/// What each agent of a cluster says of itself now; none where it does not answer in time. All are asked at once.
#[must_use]
pub fn ask_members(state: &ClusterState, limit: Duration) -> BTreeMap<NodeName, Option<PeerAnswer>> {
    let asked = state.members.iter().map(|(name, member)| {
        let address = member.agent_address.clone();
        let asking = thread::spawn(move || ask(&address, "GET", "/peer", "", limit));
        (name.clone(), asking)
    });
    let asked: Vec<_> = asked.collect();
    let answer = |text: String| serde_json::from_str(&text).ok();
    asked.into_iter().map(|(name, asking)| (name, asking.join().ok().flatten().and_then(answer))).collect()
}

/// A request without a body; the answer's body if its status is 200.
fn ask(address: &str, method: &str, path: &str, header: &str, limit: Duration) -> Option<String> {
    let place = address.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&place, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.set_write_timeout(Some(limit)).ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut reply = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut reply).ok()?;
    let (head, body) = reply.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}
