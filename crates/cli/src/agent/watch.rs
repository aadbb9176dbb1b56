//! Looks at the server with `pgproof doctor` again and again, as a process of its own: what hangs there does not hang the agent.

use super::job::Job;
use pgproof_base::Severity;
use serde::Deserialize;
use serde_json::Value;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// A finding, as far as metrics and alerts need it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Found {
    pub(super) code: String,
    pub(super) subject: String,
    pub(super) severity: Severity,
    pub(super) seen: String,
    #[serde(default)]
    pub(super) cause: Option<String>,
    remedies: Vec<Command>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Command {
    command: String,
}

impl Found {
    /// Whether somebody is to be told: a root that is critical. The objectives tell of themselves.
    pub(super) fn is_alarming(&self) -> bool {
        let told = ["objective-broken", "ledger-flawed", "repository-unreadable"];
        self.severity == Severity::Critical && self.cause.is_none() && !told.contains(&self.code.as_str())
    }

    pub(super) fn id(&self) -> String {
        if self.subject.is_empty() { self.code.clone() } else { format!("{}:{}", self.code, self.subject) }
    }

    pub(super) fn commands(&self) -> Vec<String> {
        self.remedies.iter().map(|one| one.command.clone()).collect()
    }
}

/// The looks.
#[derive(Debug)]
pub(super) struct Watch {
    every: Duration,
    next: Instant,
    looks: Option<Job>,
}

impl Watch {
    /// With the first look at once; never where `every` is zero.
    pub(super) fn new(every: Duration) -> Self {
        Self { every, next: Instant::now(), looks: None }
    }

    /// Begins a look when it is time. Gives what one has found that has ended, or why it found nothing.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn turn(
        &mut self,
        program: &Path,
        config: Option<&Path>,
    ) -> io::Result<Option<Result<Vec<Found>, String>>> {
        if let Some(mut job) = self.looks.take() {
            let Some(ended) = job.poll()? else {
                self.looks = Some(job);
                return Ok(None);
            };
            return Ok(Some(
                findings(&ended.output).ok_or_else(|| {
                    ended.failure.map_or_else(|| "it said nothing".to_owned(), |(_, why)| why)
                }),
            ));
        }
        if !self.every.is_zero() && Instant::now() >= self.next {
            self.next = Instant::now() + self.every;
            let mut arguments = vec!["--json".to_owned(), "--quiet".to_owned()];
            if let Some(file) = config {
                arguments.extend(["--config".to_owned(), file.display().to_string()]);
            }
            arguments.push("doctor".to_owned());
            self.looks = Some(Job::start(program, &arguments)?);
        }
        Ok(None)
    }

    /// Ends a look that is under way.
    pub(super) fn end(self) {
        if let Some(job) = self.looks {
            job.end();
        }
    }
}

fn findings(output: &str) -> Option<Vec<Found>> {
    let mut document: Value = serde_json::from_str(output).ok()?;
    serde_json::from_value(document.pointer_mut("/report/findings")?.take()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_doctor_is_read_and_only_critical_roots_alarm() {
        let one = |code: &str, severity: &str, cause: &str| {
            format!(
                "{{\"code\":\"{code}\",\"severity\":\"{severity}\",\"seen\":\"s\",\"why\":\"w\",\"remedies\":[{{\"command\":\"c\",\"what\":\"x\"}}],\"subject\":\"t\"{cause}}}"
            )
        };
        let all = [
            one("fsync-off", "critical", ""),
            one("server-down", "critical", ",\"cause\":\"disk-space:/x\""),
            one("hba-trust", "warning", ""),
            one("objective-broken", "critical", ""),
        ];
        let found = findings(&format!("{{\"report\":{{\"findings\":[{}]}}}}", all.join(","))).unwrap();
        let alarming: Vec<String> = found.iter().filter(|one| one.is_alarming()).map(Found::id).collect();
        assert_eq!(alarming, ["fsync-off:t"]);
        assert_eq!(found[0].commands(), ["c"]);
        assert!(findings("{\"error\":{}}").is_none());
    }
}
