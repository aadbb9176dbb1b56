//! Are the stated objectives kept, and what proves it?
//!
//! [`observe`] reads the repository alone, so that a schedule or a server that fell silent shows too; [`judge()`] is pure; what is
//! stated is `[objectives]` of the configuration. Nothing here contacts the server: `archive status` does.

mod judge;
mod observe;

pub(crate) use judge::{Estimate, Line, Status, Verdict, judge};
pub(crate) use observe::{Observation, observe};
