//! Everything that needs real servers, in one binary: each more would be linked anew.

mod incremental;
mod kinds;
mod oracle;
