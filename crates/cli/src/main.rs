//! The `pgproof` command.
fn main() {}
