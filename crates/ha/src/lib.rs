//! Keep one leader: decide, act, fence.
//!
//! Promises that at most one server acknowledges writes in a term, and in the mode for an RPO of zero that no acknowledged commit is
//! lost. What is to be done is decided by a pure function; here it is observed ([`supervise`], [`dcs`]) and done ([`fence`]).

mod error;

pub mod act;
pub mod dcs;
pub mod fence;
pub mod observe;
pub mod supervise;

pub use error::HaError;
