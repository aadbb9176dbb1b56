//! The settings of `[agent]`; see [`super::definitions`].

use super::ConfigError;
use super::definitions::{Key, Kind, Otherwise, Section};
use super::settings::Config;
use super::value::CommandWords;
use std::time::Duration;

const SCHEDULE: Otherwise = Otherwise::Value("objective");

/// All of them.
pub(super) const AGENT: &[Key] = &[
    Key {
        section: Section::Agent,
        name: "backup",
        kind: Kind::Schedule,
        otherwise: SCHEDULE,
        variable: None,
        example: "\"0 3 * * *\"",
        doc: "When backups are taken: `objective`, in time for `backup_max_age` of `[objectives]`; `never`; or the five fields of crontab, in local time. What was missed is caught up once.",
    },
    Key {
        section: Section::Agent,
        name: "expire",
        kind: Kind::Schedule,
        otherwise: SCHEDULE,
        variable: None,
        example: "\"30 5 * * *\"",
        doc: "When `expire` runs: `objective`, once a day if `[retention]` says what to keep; `never`; or as for `backup`.",
    },
    Key {
        section: Section::Agent,
        name: "verify",
        kind: Kind::Schedule,
        otherwise: SCHEDULE,
        variable: None,
        example: "\"0 6 * * 6\"",
        doc: "When the repository is verified: `objective`, in time for `verify_every`; `never`; or as for `backup`.",
    },
    Key {
        section: Section::Agent,
        name: "drill",
        kind: Kind::Schedule,
        otherwise: SCHEDULE,
        variable: None,
        example: "\"0 6 * * 0\"",
        doc: "When a recovery is rehearsed: `objective`, in time for `drill_every`; `never`; or as for `backup`.",
    },
    Key {
        section: Section::Agent,
        name: "heartbeat_every",
        kind: Kind::Duration { min_ms: 0 },
        otherwise: Otherwise::Value("10s"),
        variable: None,
        example: "\"5s\"",
        doc: "How often the heartbeat is written by which drills measure the loss of data. `pgproof heartbeat --create` makes its table; without one none is written. `0s`: never.",
    },
    Key {
        section: Section::Agent,
        name: "look_every",
        kind: Kind::Duration { min_ms: 1000 },
        otherwise: Otherwise::Value("60s"),
        variable: None,
        example: "\"5min\"",
        doc: "How often the repositories are read to see what is due and whether the objectives are kept.",
    },
    Key {
        section: Section::Agent,
        name: "doctor_every",
        kind: Kind::Duration { min_ms: 0 },
        otherwise: Otherwise::Value("60s"),
        variable: None,
        example: "\"5min\"",
        doc: "How often the server is looked at with doctor, for metrics and alerts; 0s for never.",
    },
    Key {
        section: Section::Agent,
        name: "at_risk",
        kind: Kind::Integer { min: 50, max: 100 },
        otherwise: Otherwise::Value("90"),
        variable: None,
        example: "80",
        doc: "Percentage of an objective from which on it is at risk, which is told before it breaks.",
    },
    Key {
        section: Section::Agent,
        name: "alert_command",
        kind: Kind::Command,
        otherwise: Otherwise::Found("none"),
        variable: None,
        example: "\"/usr/local/bin/page-somebody\"",
        doc: "Program that gets each alert as JSON on its standard input: an objective that is at risk, broken or kept again, work that failed, a repository that cannot be read.",
    },
    Key {
        section: Section::Agent,
        name: "alert_url",
        kind: Kind::Text,
        otherwise: Otherwise::Found("none"),
        variable: None,
        example: "\"https://alerts.example.com/pgproof\"",
        doc: "Address that gets each alert as JSON in a POST request.",
    },
    Key {
        section: Section::Agent,
        name: "listen",
        kind: Kind::Text,
        otherwise: Otherwise::Found("none"),
        variable: None,
        example: "\"127.0.0.1:8009\"",
        doc: "Where `/metrics` (Prometheus) and `/health` answer over HTTP.",
    },
];

/// When work is to be done, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// As the objectives need it.
    Objective,
    Never,
    /// Fields of crontab.
    Cron(String),
}

/// `[agent]`
#[derive(Debug, Clone)]
pub(crate) struct AgentConfig {
    pub(crate) backup: Schedule,
    pub(crate) expire: Schedule,
    pub(crate) verify: Schedule,
    pub(crate) drill: Schedule,
    pub(crate) heartbeat_every: Duration,
    pub(crate) look_every: Duration,
    pub(crate) doctor_every: Duration,
    pub(crate) at_risk: i64,
    pub(crate) alert_command: Option<Vec<String>>,
    pub(crate) alert_url: Option<String>,
    pub(crate) listen: Option<String>,
}

impl Config {
    /// The table of the agent.
    ///
    /// # Errors
    /// A value that cannot be used.
    pub(crate) fn agent(&self) -> Result<AgentConfig, ConfigError> {
        let settings = &self.settings;
        let section = Section::Agent;
        let schedule = |name: &str| {
            settings.get::<Schedule>(section, None, name).map(|found| found.unwrap_or(Schedule::Objective))
        };
        let span = |name: &str| settings.get::<Duration>(section, None, name).map(Option::unwrap_or_default);
        let command = settings.get(section, None, "alert_command")?;
        Ok(AgentConfig {
            backup: schedule("backup")?,
            expire: schedule("expire")?,
            verify: schedule("verify")?,
            drill: schedule("drill")?,
            heartbeat_every: span("heartbeat_every")?,
            look_every: span("look_every")?,
            doctor_every: span("doctor_every")?,
            at_risk: settings.get(section, None, "at_risk")?.unwrap_or(90),
            alert_command: command.map(|CommandWords(words)| words),
            alert_url: settings.get(section, None, "alert_url")?,
            listen: settings.get(section, None, "listen")?,
        })
    }
}
