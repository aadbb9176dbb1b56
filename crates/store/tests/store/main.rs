//! What stores promise, seen from outside.
//!
//! - `contract`: every store passes one suite, also where file systems or emulators lack something.
//! - `directory`: what only a directory can suffer: a vanished disk, no space, read-only, foreign files, leftovers.
//! - `lock`: S3 object lock: what cannot be removed, what is rewritten all the same, and how a hidden object comes back.
//! - `powercut`: what was reported durable survives power cuts, and each sync point is needed.
//! - `s3`: lost replies, missing buckets, unreachable services; against real server processes and a scripted one.

#![allow(clippy::unwrap_used, reason = "all of it is tests, helpers included")]

mod contract;
mod directory;
mod lock;
mod powercut;
mod s3;
