//! End-to-end tests of the `pgproof` binary on real servers. One module for each area; [`scene`] is what they share.

mod archive;
mod backup;
mod bad_input;
mod check;
mod help;
mod init;
mod kills;
mod prefetch;
mod receive;
mod resident;
mod restore;
mod s3;
mod scene;
mod several;
mod status;
mod versions;
