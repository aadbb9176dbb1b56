//! End-to-end tests of the `pgproof` binary on real servers. One module for each area; [`scene`] is what they share.

mod archive;
mod check;
mod help;
mod init;
mod prefetch;
mod restore;
mod scene;
mod status;
