//! Logical backups: what `pg_dump` writes goes into the repository, what `pg_restore` reads comes out of it.
//!
//! Promises that a published dump loads into the dumped version and every newer one, that content which the earlier dump holds is not
//! stored again, and that a load changes nothing before all that it needs was fetched and checked. `pg_dump`, `pg_dumpall` and
//! `pg_restore` do the work; their SQL is never rewritten. Deliberately not here: how bytes are stored (`pgproof-repo`), how a server is
//! reached (`pgproof-server`).
//!
//! Begin reading at [`run`], the order of events of a dump; [`load`] is the way back.

mod child;
mod chunk;
mod error;
mod known;
pub mod load;
mod options;
mod report;
mod run;
mod sink;
mod source;
mod spool;

pub use error::DumpError;
pub use options::{DumpOptions, selection};
pub use report::{DatabaseReport, DumpReport};
pub use run::run;
pub use source::Source;
