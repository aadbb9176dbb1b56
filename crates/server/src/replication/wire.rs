//! Messages of the frontend/backend protocol over a socket, and the part of a connection that comes before any command.
//!
//! Framing, authentication exchanges and parsing are the `postgres-protocol` crate's, as in every other session. That crate has no
//! `CopyBothResponse`, the one message that only replication uses; it is told apart here.

use crate::error::Cause;
use crate::tls::Security;
use crate::tls::socket::{TlsSocket, is_readable};
use bytes::{Buf, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres::Config;
use postgres::config::{self, Host, SslNegotiation};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{Header, Message};
use postgres_protocol::message::frontend;
use rustix::fd::{AsFd, BorrowedFd};
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
    Tls(Box<TlsSocket>),
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

impl Socket {
    /// Asks the server for TLS and begins with it, as far as `security` wants that.
    fn secured(self, config: &Config, security: &Security, deadline: Instant) -> Result<Self, Cause> {
        let Security::Tls(secure) = security else { return Ok(self) };
        let mut stream = match self {
            Self::Tcp(stream) => stream,
            other => return Ok(other),
        };
        if config.get_ssl_negotiation() == SslNegotiation::Postgres {
            let mut request = BytesMut::new();
            frontend::ssl_request(&mut request);
            stream.write_all(&request)?;
            if !is_readable(&stream, deadline)? {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer").into());
            }
            // One byte and no more: what follows in the clear is not to be taken for what came through TLS.
            let mut answer = [0];
            stream.read_exact(&mut answer)?;
            match (answer[0], secure.required) {
                (b'S', _) => {}
                (_, true) => return Err(Cause::no_tls()),
                (_, false) => return Ok(Self::Tcp(stream)),
            }
        }
        Ok(Self::Tls(Box::new(TlsSocket::shake_hands(stream, secure, deadline)?)))
    }

    /// What binds a password's proof to this connection.
    fn end_point(&self) -> Option<Vec<u8>> {
        match self {
            Self::Tls(socket) => socket.end_point(),
            Self::Unix(_) | Self::Tcp(_) => None,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(socket) => socket.as_fd(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
            Self::Tls(socket) => socket.read(buffer),
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
    pub(super) fn open(config: &Config, security: &Security, limit: Duration) -> Result<Self, Cause> {
        let deadline = Instant::now() + limit;
        let socket = Socket::open(config, limit)?.secured(config, security, deadline)?;
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
        let password = config.get_password().unwrap_or_default();
        wire.authenticate(user, password, config.get_channel_binding(), deadline)?;
        loop {
            match wire.expect(deadline)? {
                Message::ReadyForQuery(_) => return Ok(wire),
                Message::ParameterStatus(_) | Message::BackendKeyData(_) | Message::NoticeResponse(_) => {}
                _ => return Err(unexpected("a message that does not belong to the start of a session")),
            }
        }
    }

    fn authenticate(
        &mut self,
        user: &str,
        password: &[u8],
        binding: config::ChannelBinding,
        deadline: Instant,
    ) -> Result<(), Cause> {
        let mut bound = false;
        loop {
            let message = self.expect(deadline)?;
            let is_proof = matches!(
                message,
                Message::AuthenticationOk
                    | Message::AuthenticationCleartextPassword
                    | Message::AuthenticationMd5Password(_)
            );
            // A server in the middle would ask for just these.
            if is_proof && !bound && binding == config::ChannelBinding::Require {
                return Err(unbound());
            }
            match message {
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
                    bound = self.sasl(password, &mechanisms, binding, deadline)?;
                }
                _ => return Err(unexpected("an authentication method that pgproof does not know")),
            }
        }
    }

    /// Proves the password, for this very connection if both sides can; tells whether they could.
    fn sasl(
        &mut self,
        password: &[u8],
        mechanisms: &[String],
        wanted: config::ChannelBinding,
        deadline: Instant,
    ) -> Result<bool, Cause> {
        let offers = |mechanism: &str| mechanisms.iter().any(|name| name == mechanism);
        let end_point = self.socket.end_point().filter(|_| wanted != config::ChannelBinding::Disable);
        let (mechanism, binding, bound) = match (end_point, offers(SCRAM_SHA_256_PLUS)) {
            (Some(hash), true) => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash), true),
            // Said to the server, which notices if somebody took its offer away on the way.
            (Some(_), false) => (SCRAM_SHA_256, ChannelBinding::unrequested(), false),
            (None, _) => (SCRAM_SHA_256, ChannelBinding::unsupported(), false),
        };
        if !offers(mechanism) {
            return Err(unexpected("only authentication methods that pgproof does not know"));
        }
        if !bound && wanted == config::ChannelBinding::Require {
            return Err(unbound());
        }
        self.scram(mechanism, ScramSha256::new(password, binding), deadline)?;
        Ok(bound)
    }

    fn scram(&mut self, mechanism: &str, mut scram: ScramSha256, deadline: Instant) -> Result<(), Cause> {
        self.send(|out| frontend::sasl_initial_response(mechanism, scram.message(), out))?;
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
            Socket::Tls(socket) => socket.write_all(&self.outbox),
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
            let waits = match &mut self.socket {
                Socket::Tls(socket) => socket.has_waiting(),
                Socket::Unix(_) | Socket::Tcp(_) => false,
            };
            if !waits && !is_readable(&self.socket, deadline)? {
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

    fn read(&mut self) -> Result<(), Cause> {
        let read = loop {
            match self.socket.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Through TLS: the record has not come whole.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
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

/// The server wants a proof that somebody between could hand on.
fn unbound() -> Cause {
    io::Error::other("the server did not use channel binding, which channel_binding=require demands").into()
}

/// The server said what does not fit here.
pub(super) fn unexpected(what: &str) -> Cause {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}")).into()
}
