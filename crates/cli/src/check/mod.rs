//! `pgproof check`: everything that would make a backup, the archive or a restore fail, found beforehand.
//!
//! [`observe`] looks and gives plain data ([`observation`]); [`judge`] turns it into findings, purely; the command shows both.

mod archive_test;
mod files;
mod judge;
#[cfg(test)]
mod judge_tests;
pub(crate) mod observation;
mod observe;

pub(crate) use judge::judge;
pub(crate) use observe::{CheckOptions, observe};
