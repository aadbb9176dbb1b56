//! End-to-end tests of the `pgproof` binary on real servers. One module for each area; [`scene`] is what they share.

mod archive;
mod backup;
mod bad_input;
mod campaign;
mod check;
mod cloud;
mod databases;
mod drill;
mod dump;
mod extract;
mod help;
mod init;
mod keys;
mod kills;
mod prefetch;
mod receive;
mod remote;
mod resident;
mod restore;
mod s3;
mod scene;
mod several;
mod standby;
mod status;
mod transfer;
mod versions;
