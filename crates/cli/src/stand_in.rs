//! A command whose threads may hang in the kernel is done by a process of its own, and this one ends when the answer is there.
//!
//! A system call on a disk that hangs cannot be interrupted, not even by the end of the process that made it: whoever waits for that
//! process waits for the disk. So the work is done by a child with the same arguments, streams and terminal, which says its exit code
//! through a pipe when it has printed its answer; then this process ends with that code, whether the child can end or not.

use crate::program::own_path;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::process::Command;

/// Lets a child do it, and gives its exit code.
///
/// # Errors
/// What the system says; a child that died tells nothing.
pub(crate) fn run(arguments: &[OsString]) -> io::Result<u8> {
    // Not closed by exec: the child finds it by its number.
    let (reader, writer) = rustix::pipe::pipe()?;
    rustix::io::fcntl_setfd(&reader, rustix::io::FdFlags::CLOEXEC)?;
    let mut command = Command::new(own_path()?);
    command.arg("--child-of").arg(std::process::id().to_string());
    command.arg("--tell").arg(writer.as_raw_fd().to_string()).args(arguments.iter().skip(1));
    let mut child = command.spawn()?;
    drop(writer);
    let mut code = [0];
    match File::from(reader).read_exact(&mut code) {
        Ok(()) => Ok(code[0]),
        Err(_) => {
            let status = child.wait()?;
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            code.ok_or_else(|| io::Error::other(format!("the process that looked ended with {status}")))
        }
    }
}

/// The end of the pipe that the child was given.
///
/// # Errors
/// What the system says: nobody gave it one of this number.
pub(crate) fn teller(fd: RawFd) -> io::Result<File> {
    // By its name and not by its number, which would be taken on trust; and what this process starts must not keep it open.
    let file = File::options().write(true).open(format!("/proc/self/fd/{fd}"))?;
    nix::unistd::close(fd)?;
    Ok(file)
}

/// Says the exit code.
pub(crate) fn tell(mut teller: File, code: u8) {
    // Whoever started this process may be gone, and then nobody wants to know.
    let _ = io::stdout().flush();
    // A process that cannot end holds its files: who reads its output to the end must not wait for it.
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    let _ = teller.write_all(&[code]);
}
