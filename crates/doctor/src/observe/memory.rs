//! Memory of the host, and what the control group allows of it.

use serde::{Deserialize, Serialize};
use std::fs;

/// Bytes, and counts of the control group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Of the host.
    pub total: u64,
    /// That could be had without swapping.
    pub available: u64,
    /// Limit of the control group that this process is in; none where there is none.
    pub limit: Option<u64>,
    /// How often something of that group was killed for want of memory.
    pub oom_kills: Option<u64>,
    /// `vm.overcommit_memory`
    pub overcommit: Option<u8>,
    /// Processors.
    pub processors: u32,
}

impl Memory {
    /// What the server may have at most.
    #[must_use]
    pub fn usable(&self) -> u64 {
        self.limit.map_or(self.total, |limit| limit.min(self.total))
    }
}

pub(super) fn observe() -> Result<Memory, String> {
    let text = fs::read_to_string("/proc/meminfo")
        .map_err(|error| format!("could not read /proc/meminfo: {error}"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    let group = group();
    let number = |file: &str| {
        let folder = group.as_deref()?;
        fs::read_to_string(format!("{folder}/{file}")).ok()
    };
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"));
    let kills = number("memory.events")
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok());
    let overcommit = fs::read_to_string("/proc/sys/vm/overcommit_memory").ok();
    Ok(Memory {
        total: field("MemTotal").unwrap_or(0) * 1024,
        available: field("MemAvailable").unwrap_or(0) * 1024,
        // "max", and in the first version a number near 2^63, mean none.
        limit: limit.and_then(|text| text.trim().parse().ok()).filter(|limit| *limit < 1 << 60),
        oom_kills: kills,
        overcommit: overcommit.and_then(|text| text.trim().parse().ok()),
        processors: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
    })
}

/// The directory of this process's control group: version 2, else the memory controller of version 1.
fn group() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path =
        |prefix: &str| text.lines().find_map(|line| line.split_once(prefix)).map(|(_, path)| path.trim());
    let candidates = [
        path("0::").map(|path| format!("/sys/fs/cgroup{path}")),
        // In a container the group's own path is not visible, its files are at the root.
        Some("/sys/fs/cgroup".to_owned()),
        path(":memory:").map(|path| format!("/sys/fs/cgroup/memory{path}")),
        Some("/sys/fs/cgroup/memory".to_owned()),
    ];
    let has_limit = |folder: &String| {
        ["memory.max", "memory.limit_in_bytes"]
            .iter()
            .any(|file| fs::metadata(format!("{folder}/{file}")).is_ok())
    };
    candidates.into_iter().flatten().find(has_limit)
}
