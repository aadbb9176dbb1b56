//! `pgproof.toml`: where it is, what it may say, and which value of each setting counts.
//!
//! Promises that every setting in effect has an origin that can be shown, that a misspelt one is an error with its line, and that all of
//! the configuration is checked when any command starts. Knows nothing of servers and stores: values that are found out at
//! run time (`pgdata`, `port`) stay empty here.
//!
//! [`definitions`] is the table of all settings; [`find`] looks for the file, [`read`] reads it, [`effective`] puts flags,
//! variables and file together, [`template`] writes a new file, [`reference`] writes the manual's page.

mod agent;
mod cluster;
pub(crate) mod definitions;
mod effective;
mod error;
mod find;
mod read;
#[cfg(test)]
mod reference;
mod settings;
pub(crate) mod template;
mod value;

pub(crate) use agent::{AgentConfig, Schedule};
pub(crate) use cluster::ClusterConfig;
pub(crate) use effective::{FlagValue, NAMED, Origin, Setting};
pub(crate) use error::ConfigError;
pub(crate) use find::{Places, SYSTEM_FILE};
pub(crate) use read::is_name;
pub(crate) use settings::{
    BackupConfig, BackupFrom, Config, InstanceConfig, ObjectivesConfig, RepositoryConfig, RetentionConfig,
};
pub(crate) use value::parse_duration;
