//! Fencing: a server that may no longer acknowledge writes is killed, whatever became of its agent.
//!
//! A small process of its own ([`run`]) holds a deadline on `CLOCK_BOOTTIME`, which counts while the machine is suspended. The agent arms it
//! before a server becomes writable and renews it as long as it knows that this server leads ([`Fence`]). A deadline that passes means
//! SIGKILL for the postmaster and then for all its children. Never a smart, fast or immediate stop, never a cancelled query: they release
//! commits that wait for a standby, or tell clients of commits that nobody promised them.
//!
//! It guards a data directory, not a process: whatever serves the directory at the deadline is killed, so a server that was restarted a
//! moment ago is no gap. How the processes are found is in [`kill`](self::kill_server).

mod clock;
mod kill;
mod link;
mod process;
mod wire;

pub use clock::BootTime;
pub use kill::{Killed, kill_server, server_processes};
pub use link::{Fence, FencePlace};
pub use process::run;
pub use wire::{FenceState, FenceStatus};
