//! TLS over a blocking socket, for the replication connection.
//!
//! Not `rustls::StreamOwned`: its reads wait until a whole TLS record has come, and no limit would end that. Here each read takes what the
//! socket has, and says when that was not yet enough.

use super::{Secure, end_point};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustls::ClientConnection;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

/// An encrypted connection.
pub(crate) struct TlsSocket {
    tls: ClientConnection,
    socket: TcpStream,
}

impl TlsSocket {
    /// Shakes hands, which must be done by the deadline.
    pub(crate) fn shake_hands(socket: TcpStream, secure: &Secure, deadline: Instant) -> io::Result<Self> {
        let mut tls = ClientConnection::new(Arc::clone(&secure.client), secure.name.clone())
            .map_err(io::Error::other)?;
        // What is sent is written out at once, so this bounds nothing but the size of one message.
        tls.set_buffer_limit(None);
        let mut shaken = Self { tls, socket };
        while shaken.tls.is_handshaking() {
            shaken.write_out()?;
            if shaken.tls.is_handshaking() {
                if !is_readable(&shaken.socket, deadline)? {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer to TLS"));
                }
                shaken.take_in()?;
            }
        }
        shaken.write_out()?;
        Ok(shaken)
    }

    /// What binds a password's proof to this connection, where the certificate allows it.
    pub(crate) fn end_point(&self) -> Option<Vec<u8>> {
        end_point(self.tls.peer_certificates())
    }

    /// Sends all of it.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(bytes)?;
        self.write_out()
    }

    fn write_out(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Takes what the socket has; it must be readable.
    fn take_in(&mut self) -> io::Result<()> {
        if self.tls.read_tls(&mut self.socket)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
        }
        match self.tls.process_new_packets() {
            Ok(_) => self.write_out(),
            Err(error) => {
                // The server is told why; whether it hears that changes nothing.
                let _ = self.write_out();
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Whether something was decrypted and not read yet: then the socket need not be waited for.
    pub(crate) fn has_waiting(&mut self) -> bool {
        self.tls.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
    }
}

impl Read for TlsSocket {
    /// `WouldBlock` when what came was no whole record yet; 0 when the server has said goodbye.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.has_waiting() {
            self.take_in()?;
        }
        self.tls.reader().read(buffer)
    }
}

impl AsFd for TlsSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until something can be read; false when nothing has come by the deadline.
pub(crate) fn is_readable(socket: &impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
