//! `pgproof doctor` on servers to which something was done that it is not told. Each test states the root cause that must come first; the
//! remedy is carried out as it is printed, and a second look must find nothing. `PGPROOF_VERSION` chooses the major version.

mod around;
mod command;
mod configuration;
mod healthy;
mod pairs;
mod patient;
mod reach;
mod replication;
mod schema;
mod sessions;
mod start;
mod storage;
