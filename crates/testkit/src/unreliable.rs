//! An unreliable network in front of an HTTP service: requests and replies are lost, delayed, cut, replaced and replayed by chance.
//!
//! [`Unreliable`] listens on a loopback port and hands every request to the real server, one connection each, unless a [`Trouble`] strikes.
//! Which request is struck follows from a seed and the order in which requests come; with several threads of a client that order is not
//! the same twice.

use crate::Seed;
use crate::port::free_port;
use anyhow::{Context, Result, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The longest head of a request or reply that is understood.
const HEAD_MAX: usize = 64 << 10;

/// One way to be unreliable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The request is swallowed, and after this time the connection breaks.
    Silence(Duration),
    /// The request takes effect, and the connection breaks before the reply.
    LostReply,
    /// The server says that it cannot, with this status.
    Status(u16),
    /// The reply breaks off in the middle.
    CutReply,
    /// The reply is late by up to this time, so that others overtake it.
    Late(Duration),
    /// A write is answered as done and is not.
    Forget,
    /// A listing shows what it showed the first time.
    StaleList,
}

/// What is wrong, and how often.
#[derive(Debug, Default)]
struct State {
    trouble: Option<(Trouble, f64)>,
    struck: u64,
    listings: BTreeMap<String, Vec<u8>>,
}

/// The network; it ends with the test's process.
#[derive(Debug)]
pub struct Unreliable {
    port: u16,
    state: Arc<Mutex<State>>,
}

/// A request or a reply: head and body, as they came.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Unreliable {
    /// Puts a network that is reliable for now before a server on a loopback port.
    ///
    /// # Errors
    /// Fails when no port can be had.
    pub fn before(upstream: u16, seed: &Seed) -> Result<Self> {
        let port = free_port()?;
        let listener = TcpListener::bind(("127.0.0.1", port)).context("listen for requests")?;
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, rng) = (state.clone(), Arc::new(Mutex::new(seed.rng(99))));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (state, rng) = (shared.clone(), rng.clone());
                // A connection that breaks is what this is for.
                thread::spawn(move || drop(serve(client, upstream, &state, &rng)));
            }
        });
        Ok(Self { port, state })
    }

    /// Where clients find the service.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on each request that it can strike meets this trouble with this probability.
    pub fn suffer(&self, trouble: Trouble, chance: f64) {
        locked(&self.state).trouble = Some((trouble, chance));
    }

    /// All is well again. Gives how many requests were struck since the last time.
    #[must_use]
    pub fn heal(&self) -> u64 {
        let mut state = locked(&self.state);
        state.trouble = None;
        std::mem::take(&mut state.struck)
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request of a client; its next one comes by another connection.
fn serve(mut client: TcpStream, upstream: u16, state: &Mutex<State>, rng: &Mutex<StdRng>) -> Result<()> {
    let request = read_message(&mut BufReader::new(client.try_clone()?))?;
    let first_line = request.head.lines().next().unwrap_or_default().to_owned();
    let trouble = strike(&first_line, state, rng);
    match trouble {
        Some(Trouble::Silence(patience)) => {
            thread::sleep(patience);
            return Ok(());
        }
        Some(Trouble::Status(status)) => {
            let body = "<Error><Code>InternalError</Code><Message>trouble</Message></Error>";
            let head = format!(
                "HTTP/1.1 {status} Trouble\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            return finish(&mut client, &[head.as_bytes(), body.as_bytes()].concat());
        }
        Some(Trouble::Forget) => {
            let reply = "HTTP/1.1 200 OK\r\nETag: \"00000000000000000000000000000000\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            return finish(&mut client, reply.as_bytes());
        }
        Some(Trouble::StaleList) => {
            let stale = locked(state).listings.get(&first_line).cloned();
            if let Some(stale) = stale {
                return finish(&mut client, &stale);
            }
        }
        _ => {}
    }
    let reply = asked(upstream, &request)?;
    if is_listing(&first_line) {
        locked(state).listings.entry(first_line).or_insert_with(|| reply.clone());
    }
    match trouble {
        Some(Trouble::LostReply) => Ok(()),
        Some(Trouble::CutReply) => finish(&mut client, &reply[..reply.len() / 2]),
        Some(Trouble::Late(most)) => {
            let late = most.mul_f64(locked(rng).random::<f64>());
            thread::sleep(late);
            finish(&mut client, &reply)
        }
        _ => finish(&mut client, &reply),
    }
}

/// The trouble that this request meets.
fn strike(first_line: &str, state: &Mutex<State>, rng: &Mutex<StdRng>) -> Option<Trouble> {
    let mut state = locked(state);
    let (trouble, chance) = state.trouble?;
    let possible = match trouble {
        // Uploads in parts are completed by POST, and their reply names what was made.
        Trouble::Forget => first_line.starts_with("PUT") && !first_line.contains("uploadId"),
        Trouble::StaleList => is_listing(first_line) && state.listings.contains_key(first_line),
        _ => true,
    };
    let strikes = possible && locked(rng).random_bool(chance);
    state.struck += u64::from(strikes);
    strikes.then_some(trouble)
}

fn is_listing(first_line: &str) -> bool {
    first_line.starts_with("GET") && first_line.contains("list-type=2")
}

/// What the server replies, whole.
fn asked(upstream: u16, request: &Message) -> Result<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", upstream)).context("reach the server")?;
    let mut lines = request.head.trim_end().lines();
    let mut head = lines.next().unwrap_or_default().to_owned();
    for line in lines.filter(|line| !line.to_ascii_lowercase().starts_with("connection:")) {
        head.push_str("\r\n");
        head.push_str(line);
    }
    head.push_str("\r\nConnection: close\r\n\r\n");
    server.write_all(head.as_bytes())?;
    server.write_all(&request.body)?;
    let mut reply = Vec::new();
    server.read_to_end(&mut reply)?;
    Ok(reply)
}

fn finish(client: &mut TcpStream, reply: &[u8]) -> Result<()> {
    client.write_all(reply)?;
    client.flush()?;
    // The client reads to the end of what it was told would come.
    let ended = client.shutdown(Shutdown::Write);
    ended.or_else(|error| if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) })?;
    Ok(())
}

fn read_message(stream: &mut BufReader<TcpStream>) -> Result<Message> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = stream.read_line(&mut head)?;
        ensure!(read > 0 && head.len() < HEAD_MAX, "the request broke off");
    }
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    ensure!(header("transfer-encoding").is_none(), "a request in chunks is not understood");
    if header("expect").is_some() {
        stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let length = header("content-length").map_or(Ok(0), |text| text.parse())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Message { head, body })
}
