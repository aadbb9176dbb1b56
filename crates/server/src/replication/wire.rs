//! Messages of the frontend/backend protocol over a socket, and the part of a connection that comes before any command.
//!
//! Framing, authentication exchanges and parsing are the `postgres-protocol` crate's, as in every other session. That crate has no
//! `CopyBothResponse`, the one message that only replication uses; it is told apart here.

use crate::error::Cause;
use bytes::{Buf, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres::Config;
use postgres::config::Host;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{Header, Message};
use postgres_protocol::message::frontend;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// `CopyBothResponse` (manual, "Message Formats").
const COPY_BOTH_TAG: u8 = b'W';

/// A tag and a length that counts itself.
const HEADER: usize = 5;

/// Read at once at most. A walsender sends up to 128 KiB in a message (`MAX_SEND_SIZE` in `src/backend/replication/walsender.c`).
const READ_BYTES: usize = 128 << 10;

/// A server that takes nothing for so long is hung.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    /// Connects to the first host of `config`, which is all that a session of pgproof ever has.
    fn open(config: &Config, limit: Duration) -> io::Result<Self> {
        let port = config.get_ports().first().copied().unwrap_or(5432);
        match config.get_hosts().first() {
            Some(Host::Unix(directory)) => {
                let stream = UnixStream::connect(directory.join(format!(".s.PGSQL.{port}")))?;
                stream.set_write_timeout(Some(SEND_TIMEOUT))?;
                Ok(Self::Unix(stream))
            }
            Some(Host::Tcp(name)) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address"));
                for address in (name.as_str(), port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, limit) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            stream.set_write_timeout(Some(SEND_TIMEOUT))?;
                            return Ok(Self::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "no host is given")),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

/// What came from the server.
pub(super) enum Incoming {
    Message(Message),
    /// From now on both sides send copy data.
    CopyBoth,
    /// Nothing within the time.
    Nothing,
}

pub(super) struct Wire {
    socket: Socket,
    /// Read into, always the same: memory that is new each time costs more than the copy.
    buffer: Box<[u8]>,
    inbox: BytesMut,
    outbox: BytesMut,
}

impl Wire {
    /// Connects and authenticates; what the server then says of itself is read up to its first `ReadyForQuery`.
    pub(super) fn open(config: &Config, limit: Duration) -> Result<Self, Cause> {
        let socket = Socket::open(config, limit)?;
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        let mut wire = Self { socket, buffer, inbox: BytesMut::new(), outbox: BytesMut::new() };
        let user = config.get_user().unwrap_or_default();
        let parameters = [
            ("user", user),
            ("replication", "true"),
            ("client_encoding", "UTF8"),
            ("application_name", config.get_application_name().unwrap_or("pgproof")),
        ];
        wire.send(|out| frontend::startup_message(parameters, out))?;
        let deadline = Instant::now() + limit;
        wire.authenticate(user, config.get_password().unwrap_or_default(), deadline)?;
        loop {
            match wire.expect(deadline)? {
                Message::ReadyForQuery(_) => return Ok(wire),
                Message::ParameterStatus(_) | Message::BackendKeyData(_) | Message::NoticeResponse(_) => {}
                _ => return Err(unexpected("a message that does not belong to the start of a session")),
            }
        }
    }

    fn authenticate(&mut self, user: &str, password: &[u8], deadline: Instant) -> Result<(), Cause> {
        loop {
            match self.expect(deadline)? {
                Message::AuthenticationOk => return Ok(()),
                Message::AuthenticationCleartextPassword => {
                    self.send(|out| frontend::password_message(password, out))?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(user.as_bytes(), password, body.salt());
                    self.send(|out| frontend::password_message(hash.as_bytes(), out))?;
                }
                Message::AuthenticationSasl(body) => {
                    let mechanisms: Vec<String> =
                        body.mechanisms().map(|name| Ok(name.to_owned())).collect()?;
                    if !mechanisms.iter().any(|name| name == SCRAM_SHA_256) {
                        return Err(unexpected("only authentication methods that pgproof does not know"));
                    }
                    self.scram(password, deadline)?;
                }
                _ => return Err(unexpected("an authentication method that pgproof does not know")),
            }
        }
    }

    fn scram(&mut self, password: &[u8], deadline: Instant) -> Result<(), Cause> {
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        self.send(|out| frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), out))?;
        let Message::AuthenticationSaslContinue(body) = self.expect(deadline)? else {
            return Err(unexpected("no challenge for the password"));
        };
        scram.update(body.data())?;
        self.send(|out| frontend::sasl_response(scram.message(), out))?;
        let Message::AuthenticationSaslFinal(body) = self.expect(deadline)? else {
            return Err(unexpected("no proof that it knows the password"));
        };
        Ok(scram.finish(body.data())?)
    }

    /// Sends what `write` puts together.
    pub(super) fn send(&mut self, write: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<(), Cause> {
        self.outbox.clear();
        write(&mut self.outbox)?;
        let sent = match &mut self.socket {
            Socket::Unix(stream) => stream.write_all(&self.outbox),
            Socket::Tcp(stream) => stream.write_all(&self.outbox),
        };
        Ok(sent?)
    }

    /// The next message, which must come before the deadline; an error that the server reports is one here too.
    pub(super) fn expect(&mut self, deadline: Instant) -> Result<Message, Cause> {
        match self.next(deadline.saturating_duration_since(Instant::now()))? {
            Incoming::Message(message) => Ok(message),
            Incoming::CopyBoth => Err(unexpected("a stream that was not asked for")),
            Incoming::Nothing => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer").into()),
        }
    }

    /// The next message, or none when there is none for `wait`; with no time to wait only what has already come.
    pub(super) fn next(&mut self, wait: Duration) -> Result<Incoming, Cause> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(incoming) = self.parse()? {
                return Ok(incoming);
            }
            if !self.is_readable(deadline)? {
                return Ok(Incoming::Nothing);
            }
            self.read()?;
        }
    }

    fn parse(&mut self) -> Result<Option<Incoming>, Cause> {
        if let Some(header) = Header::parse(&self.inbox)?
            && header.tag() == COPY_BOTH_TAG
        {
            // The length counts itself, but not the tag.
            let length = 1 + usize::try_from(header.len()).unwrap_or(HEADER);
            if self.inbox.len() < length {
                return Ok(None);
            }
            self.inbox.advance(length);
            return Ok(Some(Incoming::CopyBoth));
        }
        match Message::parse(&mut self.inbox)? {
            Some(Message::ErrorResponse(body)) => Err(Cause::said(&mut body.fields())?),
            Some(message) => Ok(Some(Incoming::Message(message))),
            None => Ok(None),
        }
    }

    fn is_readable(&self, deadline: Instant) -> Result<bool, Cause> {
        loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut fds, Some(&left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    fn read(&mut self) -> Result<(), Cause> {
        let read = loop {
            match self.socket.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection").into());
        }
        self.inbox.extend_from_slice(&self.buffer[..read]);
        Ok(())
    }
}

/// The server said what does not fit here.
pub(super) fn unexpected(what: &str) -> Cause {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}")).into()
}
