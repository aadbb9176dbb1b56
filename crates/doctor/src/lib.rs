//! What can be seen of a server, up or down.
//!
//! [`observe()`] looks at whatever can be reached, within one time budget, and returns plain data ([`Observation`]); what it could not see is part of
//! that. It takes one connection a database, waits in no lock queue, and reads neither rows nor the texts of statements. Nothing is
//! judged here yet.

mod error;
pub mod observe;

pub use error::DoctorError;
pub use observe::{Observation, Target, observe};
