//! PostgreSQL's processes, from `/proc`: who is connected can be read there also when no slot is left to ask through.

use serde::{Deserialize, Serialize};
use std::fs;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresProcess {
    /// Its id.
    pub pid: u32,
    /// That of its parent.
    pub parent: u32,
    /// `S`, `D`, `T`... as proc(5) names them.
    pub state: char,
    /// Whom it belongs to.
    pub uid: u32,
    /// What it calls itself: `postgres: app shop [local] idle`.
    pub title: String,
}

impl PostgresProcess {
    /// Of a session: user, database, client, and what it does.
    #[must_use]
    pub fn session(&self) -> Option<(&str, &str, &str, &str)> {
        let rest = self.title.strip_prefix("postgres: ")?;
        // With cluster_name, that comes first, followed by a colon.
        let rest = rest.split_once(": ").map_or(rest, |(_, rest)| rest);
        let mut words = rest.splitn(4, ' ');
        let (user, database, client) = (words.next()?, words.next()?, words.next()?);
        let is_client = client == "[local]" || client.ends_with(')');
        is_client.then(|| (user, database, client, words.next().unwrap_or_default()))
    }
}

/// All that were seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// PostgreSQL's.
    pub postgres: Vec<PostgresProcess>,
    /// Whether there were more.
    pub cut: bool,
}

const PROCESSES_MAX: usize = 2000;

pub(super) fn observe() -> Result<Processes, String> {
    let entries = fs::read_dir("/proc").map_err(|error| format!("could not list /proc: {error}"))?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut postgres: Vec<PostgresProcess> = pids.filter_map(process).take(PROCESSES_MAX + 1).collect();
    let cut = postgres.len() > PROCESSES_MAX;
    postgres.truncate(PROCESSES_MAX);
    Ok(Processes { postgres, cut })
}

fn process(pid: u32) -> Option<PostgresProcess> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold any character.
    let (name, rest) = stat.rsplit_once(')')?;
    let name = name.split_once('(')?.1;
    if !matches!(name, "postgres" | "postmaster") {
        return None;
    }
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let title = String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned();
    Some(PostgresProcess { pid, parent, state, uid: uid.parse().ok()?, title })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titled(title: &str) -> PostgresProcess {
        PostgresProcess { pid: 1, parent: 1, state: 'S', uid: 1, title: title.to_owned() }
    }

    #[test]
    fn sessions_are_told_from_the_server_s_own_processes() {
        let idle = titled("postgres: app shop [local] idle");
        assert_eq!(idle.session(), Some(("app", "shop", "[local]", "idle")));
        let tcp = titled("postgres: main: app shop 10.0.0.7(50112) UPDATE waiting");
        assert_eq!(tcp.session(), Some(("app", "shop", "10.0.0.7(50112)", "UPDATE waiting")));
        for own in ["postgres: checkpointer ", "postgres: walwriter", "/usr/bin/postgres -D /data"] {
            assert_eq!(titled(own).session(), None, "{own}");
        }
        assert_eq!(titled("postgres: startup recovering 000000010000000000000003").session(), None);
    }
}
