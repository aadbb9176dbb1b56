//! What is wrong with a server, up or down, and what exactly mends it.
//!
//! [`observe`] looks at whatever can be reached, within one time budget, and returns plain data ([`Observation`]); [`diagnose`] is pure:
//! checks turn what was seen into findings, and [`cause`] links them, so that the root comes first and its effects below it. [`remedy`]
//! carries out what a finding proposes. [`bundle`] is an observation in a file, from which the same diagnosis follows anywhere.
//!
//! Deliberately does not repair on its own account, and reads neither rows nor the texts of statements.

pub mod bundle;
pub mod cause;
mod check;
mod diagnosis;
mod error;
mod explain;
mod limits;
pub mod observe;
pub mod remedy;
mod tested;

pub use check::{Area, Check, checks};
pub use diagnosis::{Diagnosed, Diagnosis, Unseen, diagnose};
pub use error::DoctorError;
pub use explain::{explain, index};
pub use limits::{Config, Limit, Silence, Unit};
pub use observe::{Observation, Target, observe};
