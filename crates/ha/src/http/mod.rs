//! What the agent answers over HTTP: to load balancers by the names that they already use, to people, and to the other agents.
//!
//! `/primary`, `/replica?lag=BYTES`, `/health`, `/liveness`, `/readiness` answer 200 or 503. Nothing here changes anything but `/refuse`,
//! with which a leader asks a voter to promise nobody for a moment; it wants the secret that only the store tells. Everything else that
//! changes a cluster is written into the store.

use crate::{
    Clients, HaError, Term,
    agent::{Board, PeerAnswer},
};
use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::{get, post},
};
use serde::Deserialize;
use std::{net::TcpListener, sync::Arc, thread};

/// Answers on this address for as long as the process runs.
///
/// # Errors
/// [`HaError::Host`] when the system gives no threads or sockets.
pub(crate) fn serve(board: &Arc<Board>, listener: TcpListener) -> Result<(), HaError> {
    let failed = || HaError::host("answer HTTP on", "the agent's address");
    listener.set_nonblocking(true).map_err(failed())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed())?;
    let board = Arc::clone(board);
    thread::spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            // It never ends by itself; a connection that fails is its own matter.
            let _ = axum::serve(listener, router(board)).await;
        });
    });
    Ok(())
}

fn router(board: Arc<Board>) -> Router {
    Router::new()
        .route(
            "/primary",
            get(|State(board): State<Arc<Board>>| async move { answer(board.clients() == Clients::Primary) }),
        )
        .route("/replica", get(replica))
        .route(
            "/health",
            get(|State(board): State<Arc<Board>>| async move { answer(board.clients() != Clients::Nobody) }),
        )
        .route(
            "/readiness",
            get(|State(board): State<Arc<Board>>| async move { answer(board.clients() != Clients::Nobody) }),
        )
        .route("/liveness", get(|| async { answer(true) }))
        .route("/peer", get(peer))
        .route("/metrics", get(metrics))
        .route("/refuse", post(refuse))
        .with_state(board)
}

fn answer(yes: bool) -> StatusCode {
    if yes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[derive(Deserialize)]
struct Lag {
    lag: Option<u64>,
}

/// A standby; with `lag`, one that is at most so many bytes behind.
async fn replica(State(board): State<Arc<Board>>, Query(Lag { lag }): Query<Lag>) -> StatusCode {
    let near = |answer: PeerAnswer| lag.is_none_or(|most| answer.lag_bytes.is_some_and(|lag| lag <= most));
    answer(board.clients() == Clients::Replica && board.answer().is_some_and(near))
}

async fn peer(State(board): State<Arc<Board>>) -> Result<Json<PeerAnswer>, StatusCode> {
    board.answer().map(Json).ok_or(StatusCode::SERVICE_UNAVAILABLE)
}

async fn metrics(State(board): State<Arc<Board>>) -> String {
    let Some(answer) = board.answer() else { return String::new() };
    let clients = board.clients();
    let number = |yes: bool| u8::from(yes);
    format!(
        "# TYPE pgproof_cluster_primary gauge\npgproof_cluster_primary {}\n\
         # TYPE pgproof_cluster_replica gauge\npgproof_cluster_replica {}\n\
         # TYPE pgproof_cluster_term gauge\npgproof_cluster_term {}\n\
         # TYPE pgproof_cluster_position_bytes counter\npgproof_cluster_position_bytes {}\n\
         # TYPE pgproof_cluster_blocked gauge\npgproof_cluster_blocked {}\n",
        number(clients == Clients::Primary),
        number(clients == Clients::Replica),
        answer.report.term,
        answer.report.position.map_or(0, |position| position.lsn.0),
        number(answer.blocked.is_some()),
    )
}

#[derive(Deserialize)]
struct Refuse {
    term: u64,
}

async fn refuse(
    State(board): State<Arc<Board>>,
    Query(Refuse { term }): Query<Refuse>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = token.unwrap_or_default().to_owned();
    // It waits for the loop.
    let refused = tokio::task::spawn_blocking(move || board.refuse(Term(term), &token)).await;
    match refused {
        Ok(Some(span)) => Ok(span.as_millis().to_string()),
        _ => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}
