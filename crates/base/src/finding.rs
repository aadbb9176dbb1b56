//! What was found, why it matters and what mends it: one type for check, verify, drill, doctor, perf and migrate.

use serde::{Deserialize, Serialize};

/// How bad a finding is. Ordered: `Info < Warning < Critical`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing needs doing.
    Info,
    /// Something will go wrong, or an objective is at risk.
    Warning,
    /// Something is wrong now: data, recovery or service is at stake.
    Critical,
}

/// What carrying out a remedy can cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RiskClass {
    /// Changes nothing that cannot be undone and interrupts nobody.
    Safe,
    /// Interrupts service: a restart, a lock, load.
    Disruptive,
    /// Removes or overwrites something.
    Destructive,
}

/// One command or SQL statement that mends a finding, with real names filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// What it does, as a sentence.
    pub what: String,
    /// The exact command line or SQL to run; empty when only a person can do it.
    pub command: String,
    /// What running it can cost.
    pub risk: RiskClass,
    /// The database to run it in, where it is SQL; none where it is a command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// What shows that it worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub afterwards: Option<String>,
    /// What keeps a copy of what it removes, to be run before it: a query of one text column where the remedy is SQL, else a command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
}

impl Remedy {
    /// A remedy that interrupts nobody.
    pub fn safe(what: impl Into<String>, command: impl Into<String>) -> Self {
        Self::of(RiskClass::Safe, what, command)
    }

    /// A remedy that interrupts service.
    pub fn disruptive(what: impl Into<String>, command: impl Into<String>) -> Self {
        Self::of(RiskClass::Disruptive, what, command)
    }

    /// A remedy that removes or overwrites something.
    pub fn destructive(what: impl Into<String>, command: impl Into<String>) -> Self {
        Self::of(RiskClass::Destructive, what, command)
    }

    fn of(risk: RiskClass, what: impl Into<String>, command: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            command: command.into(),
            risk,
            database: None,
            afterwards: None,
            keep: None,
        }
    }

    /// Says that it is SQL, and where it is to be run.
    #[must_use]
    pub fn in_database(mut self, database: impl Into<String>) -> Self {
        self.database = Some(database.into());
        self
    }

    /// Says what keeps a copy of what it removes.
    #[must_use]
    pub fn keeping(mut self, copy: impl Into<String>) -> Self {
        self.keep = Some(copy.into());
        self
    }

    /// Says what shows that it worked.
    #[must_use]
    pub fn afterwards(mut self, look: impl Into<String>) -> Self {
        self.afterwards = Some(look.into());
        self
    }
}

/// One thing found, with its evidence and its remedies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable code, kebab-case, documented in `docs/findings.md`.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen, with the values.
    pub seen: String,
    /// What shows it: values, lines of logs and files with their place, rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Why it matters to the operator.
    pub why: String,
    /// What mends it, best first.
    pub remedies: Vec<Remedy>,
}

impl Finding {
    /// A finding without remedies yet; see [`Finding::with`].
    pub fn new(
        code: impl Into<String>,
        severity: Severity,
        seen: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self {
            code: code.into(),
            severity,
            seen: seen.into(),
            evidence: Vec::new(),
            why: why.into(),
            remedies: Vec::new(),
        }
    }

    /// Adds what shows it.
    #[must_use]
    pub fn shown_by(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    /// Adds a remedy.
    #[must_use]
    pub fn with(mut self, remedy: Remedy) -> Self {
        self.remedies.push(remedy);
        self
    }
}
