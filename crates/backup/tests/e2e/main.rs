//! Everything that needs real servers, in one binary: each more would be linked anew.

#![allow(clippy::unwrap_used, reason = "all of it is tests, helpers included")]

mod incremental;
mod kinds;
mod oracle;
