//! The ledger: what was done, measured and checked, kept in the repository as evidence.
//!
//! Promises that what was appended is found again as it was, or that its absence or change is named: every host has a chain of its own in
//! which each entry carries the hash of the one before, names the heads of the other chains, and is sealed and signed with the
//! repository's keys. What that shows and what it cannot is in `docs/manual/ledger.md`; the bytes are in section 10 of
//! `docs/formats/repository.md`. Appending is one conditional write: several writers and a kill in the middle leave whole entries only.
//!
//! Any capability appends what it has finished, and only then:
//!
//! ```no_run
//! # use pgproof_repo::{Lineage, Repository, ledger::{self, Check, Outcome, Record, RecordKind, Subject, Unit, Verdict, name}};
//! # fn f(repository: &Repository, lineage: Lineage, began: jiff::Timestamp) -> pgproof_repo::Result<()> {
//! let record = Record::new(RecordKind::Drill, began, jiff::Timestamp::now())
//!     .about(Subject { instant: Some(began), ..Subject::default() })
//!     .measured(name::FIRST_QUERY, 2.4, Unit::Seconds)
//!     .checked(Check::new("accepts-connections", Verdict::Passed, 120))
//!     .ending(Outcome::Good, "recovered to the end of the archive");
//! ledger::append(repository, lineage, &record)?;
//! # Ok(()) }
//! ```
//!
//! Whoever appends treats an error as a warning: a backup without evidence is still a backup.
//!
//! [`record`] has the nouns, `chain` hashes and signs, `append` writes, `read` gathers, `judge` (pure) says what does not fit, `trim` removes
//! repetition, `copy` takes chains along to another repository.

mod append;
mod chain;
mod copy;
mod judge;
mod read;
pub mod record;
#[cfg(test)]
mod tests;
mod trim;

pub use append::append;
pub use chain::{ChainId, Digest, Entry, Head};
pub(crate) use copy::copy;
pub use judge::{Flaw, FlawKind};
pub use read::{Chain, Ledger, read, verify};
pub use record::{Author, Check, Measurement, Outcome, Record, RecordKind, Subject, Unit, Verdict, name};
pub(crate) use trim::trim;
