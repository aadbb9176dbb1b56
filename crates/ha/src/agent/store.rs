//! The thread that reads the store, and keeps this node's session and the leader's lease.

use super::board::{Board, now, parse};
use crate::{
    ClusterState, HaError, NodeName, Reading, Revision,
    dcs::{Before, Dcs, Keep, Session, Snapshot, Write},
};
use std::{
    sync::{Arc, mpsc},
    thread,
};

/// The key of the cluster's state.
pub const STATE_KEY: &str = "state";

/// The key of the leader's lease: its name, as long as its session.
pub const LEADER_KEY: &str = "leader";

/// The key of the secret that agents show each other.
pub const TOKEN_KEY: &str = "token";

/// The state in a snapshot.
///
/// # Errors
/// [`HaError::NotSeen`] when it cannot be read.
pub fn parse_state(snapshot: &Snapshot) -> Result<Option<ClusterState>, HaError> {
    let state = snapshot.entries.get(STATE_KEY);
    state.map(|entry| parse("read the cluster's state", &entry.value)).transpose()
}

/// The cluster's state as the store has it now.
///
/// # Errors
/// [`HaError::Store`], [`HaError::NotSeen`].
pub fn read_state(dcs: &dyn Dcs) -> Result<(Snapshot, Option<ClusterState>), HaError> {
    let snapshot = dcs.read().map_err(HaError::store("read the cluster's state"))?;
    let state = parse_state(&snapshot)?;
    Ok((snapshot, state))
}

/// Reads once and notes what was found, also that nothing was.
pub(super) fn refresh(board: &Board) {
    let asked = now();
    let read = read_state(&*board.dcs);
    let mut notes = board.notes();
    notes.store_answers = read.is_ok();
    let Ok((snapshot, state)) = read else { return };
    // A slow answer must not replace a later one.
    if notes.reading.as_ref().is_some_and(|reading| reading.asked > asked) {
        return;
    }
    let text = |key: &str| {
        let entry = snapshot.entries.get(key)?;
        String::from_utf8(entry.value.clone()).ok()
    };
    let revision = snapshot.entries.get(STATE_KEY).map_or(0, |entry| entry.revision.0);
    let state = state.map(Arc::new);
    notes.token = text(TOKEN_KEY);
    notes.state.clone_from(&state);
    notes.reading = Some(Reading {
        asked,
        revision: Revision(u64::try_from(revision).unwrap_or(0)),
        state,
        lease: text(LEADER_KEY).and_then(|name| NodeName::new(&name).ok()),
        published: None,
    });
}

/// Keeps reading, at each heartbeat and whenever something changed.
pub(super) fn start(board: &Arc<Board>) {
    let (news, heard) = mpsc::channel();
    board.dcs.watch(Box::new(move || {
        // Nobody listens any more when the agent ends.
        let _ = news.send(());
    }));
    let reading = Arc::clone(board);
    thread::spawn(move || {
        loop {
            refresh(&reading);
            reading.ring();
            // News that came while reading are read at once; several of them once.
            let _ = heard.recv_timeout(reading.heartbeat);
            while heard.try_recv().is_ok() {}
        }
    });
    let keeping = Arc::clone(board);
    thread::spawn(move || {
        loop {
            keep(&keeping);
            thread::sleep(keeping.heartbeat * 2);
        }
    });
}

/// Keeps the session, and the leader's lease under it.
fn keep(board: &Board) {
    let Ok(session) = board.dcs.keep_session() else { return };
    let (leads, held) = {
        let notes = board.notes();
        let lease = notes.reading.as_ref().and_then(|reading| reading.lease.clone());
        (notes.leads, lease.as_ref() == Some(&board.me))
    };
    if leads && (!held || session == Session::New) {
        let value = Some(board.me.as_str().as_bytes().to_vec());
        let lease = Write { key: LEADER_KEY.to_owned(), before: Before::Any, value, keep: Keep::Session };
        // What did not get there is written at the next turn.
        let _ = board.dcs.swap(&[lease]);
    }
}
