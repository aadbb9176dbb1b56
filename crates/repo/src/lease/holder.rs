//! Who holds a lease: a process of a host, told apart from a later one with the same number.

use serde::{Deserialize, Serialize};
use std::{fs, io, process};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The host's name.
    pub host: String,
    /// The host's present run (`/proc/sys/kernel/random/boot_id`); process numbers and start times mean nothing after a reboot.
    pub boot: String,
    /// The process number.
    pub pid: u32,
    /// When it was started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub started: u64,
}

/// What this host knows of a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It runs on this host.
    Alive,
    /// It ran on this host, and does not any more.
    Dead,
    /// It belongs to another host, or to another process namespace: nothing is known.
    Elsewhere,
}

impl Holder {
    /// This process.
    pub fn this_process() -> Self {
        let pid = process::id();
        Self { host: host_name(), boot: boot_id(), pid, started: started(pid).ok().flatten().unwrap_or(0) }
    }

    /// Stands in where a record cannot be read.
    pub(crate) fn unknown() -> Self {
        Self { host: "unknown".to_owned(), boot: String::new(), pid: 0, started: 0 }
    }

    /// What this host knows of it. Only a process that is provably gone is `Dead`.
    pub fn seen_from_here(&self) -> Seen {
        let here = Self::this_process();
        if self.host != here.host || self.host.is_empty() || self.boot.is_empty() {
            return Seen::Elsewhere;
        }
        if self.boot != here.boot {
            return Seen::Dead;
        }
        match started(self.pid) {
            Ok(Some(started)) if started == self.started => Seen::Alive,
            Ok(_) => Seen::Dead,
            Err(_) => Seen::Elsewhere,
        }
    }
}

/// The name of this host.
pub fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned()
}

/// When a process was started; `None` when there is none of this number, or one that has ended and waits for its parent to notice: in
/// containers there may be nobody who does.
fn started(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // The second field is the command in parentheses and may hold anything, so fields are counted from its end.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let mut fields = after.split_ascii_whitespace();
    // proc_pid_stat(5): `Z` is a zombie, `X` is dead.
    if fields.next().is_some_and(|state| matches!(state, "Z" | "X")) {
        return Ok(None);
    }
    Ok(fields.nth(18).and_then(|field| field.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_its_successor_is_not_it() {
        let here = Holder::this_process();
        assert!(here.started > 0);
        assert_eq!(here.seen_from_here(), Seen::Alive);
        assert_eq!(Holder { started: here.started + 1, ..here.clone() }.seen_from_here(), Seen::Dead);
        assert_eq!(Holder { boot: "other".into(), ..here.clone() }.seen_from_here(), Seen::Dead);
        assert_eq!(Holder { host: "other".into(), ..here }.seen_from_here(), Seen::Elsewhere);
    }

    #[test]
    fn an_ended_process_is_dead() {
        let mut child = process::Command::new("true").spawn().unwrap();
        let holder = Holder { pid: child.id(), ..Holder::this_process() };
        let holder = Holder { started: started(holder.pid).unwrap().unwrap_or(0), ..holder };
        // Nobody has waited for it yet, and nothing of it works any more.
        for _ in 0..500 {
            if holder.seen_from_here() == Seen::Dead {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(holder.seen_from_here(), Seen::Dead);
        child.wait().unwrap();
        assert_eq!(holder.seen_from_here(), Seen::Dead);
    }
}
