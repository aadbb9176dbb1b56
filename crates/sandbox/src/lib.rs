//! A disposable running clone of any recoverable instant, its pages fetched when they are read.
//!
//! Promises: [`create`] ends with a server that has recovered to the instant asked for and takes writes, or with an error and nothing
//! left; a sandbox never archives, never connects out, and nothing of it outlives its keeper: no mount, no process, no shared memory.
//! What a reader of the repository costs is measured, not guessed. Deliberately not here: what a sandbox is for (drills, people).
//!
//! # For callers
//!
//! ```no_run
//! # use pgproof_sandbox::{create, Call, Mode, Request, Sandbox};
//! # fn drill(repository: &pgproof_repo::Repository, place: &std::path::Path, call: Call) -> pgproof_sandbox::Result<()> {
//! let request = Request::latest(place, call);
//! let sandbox = create(repository, &request, &pgproof_base::NoProgress)?;
//! let connect = sandbox.connect_options("postgres"); // a superuser, through a private socket
//! let measured = sandbox.record().measured;          // seconds until consistent, until the first query; bytes read
//! let statistics = sandbox.statistics()?;            // pages and extents read so far, failures
//! # drop((connect, measured, statistics));
//! sandbox.discard()
//! # }
//! ```
//!
//! [`Request`] says what is wanted ([`Mode::Full`] measures the restore that a disaster would need). The processes of a sandbox are this
//! program, called anew: [`Call`] says how, and what names the repository on its command line. A `Sandbox` value is a handle: dropping
//! it does nothing; [`Sandbox::discard`] removes the sandbox, [`Sandbox::open`] and [`list`] find it again.
//!
//! # For readers
//!
//! [`create`](create::create) chooses a backup and starts the keeper ([`keeper`]), the first process of private namespaces; it mounts the file
//! system, starts the server and waits for it. [`files`] is the process that serves the file system: `tree` (names), `layer` (what was
//! written), `base` (what the repository has). [`settings`] decides, purely, what the server is started with.

mod create;
mod desk;
pub mod error;
pub mod files;
pub mod keeper;
mod place;
pub mod record;
pub mod request;
mod sandbox;
mod settings;
mod spec;

pub use create::create;
pub use desk::fetch;
pub use error::{Error, Result};
pub use record::{Connection, Kind, Measured, Record, Statistics, Status};
pub use request::{Call, Limits, Mask, Mode, Request};
pub use sandbox::{Sandbox, collect, list};
