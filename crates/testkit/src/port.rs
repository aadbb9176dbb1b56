//! Ports for servers that tests start.

use anyhow::{Context, Result};
use std::net::TcpListener;

/// A port that nothing listened on a moment ago. For a server that listens on a socket in a private directory only, being free keeps a
/// test that forgets its environment from talking to a stranger.
///
/// # Errors
/// Fails when the system gives none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr()?.port())
}
