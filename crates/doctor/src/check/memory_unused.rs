//! `memory-unused`: the server uses a small part of its host's memory.

use super::{Area, Case, Check, Found};
use pgproof_base::{Bytes, Severity};

pub(super) const CHECK: Check = Check {
    code: "memory-unused",
    area: Area::Configuration,
    title: "The server uses a small part of its host's memory",
    why: "`shared_buffers` is what the server came with, which suits a laptop.",
    mends: "A quarter of the memory is the usual start for a host that serves nothing else. It needs a restart.",
    limit: None,
    judge,
};

/// On smaller hosts the default is right.
const MEMORY_MIN: u64 = 4 << 30;

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(server), Some(memory)) =
        (case.server().filter(|_| case.place().is_some()), case.seen.memory.ok())
    else {
        return Vec::new();
    };
    let Some(row) = server.setting("shared_buffers") else { return Vec::new() };
    let bytes = crate::observe::settings::bytes_of(&row.value, 8192).unwrap_or(u64::MAX);
    if bytes > 128 << 20 || memory.usable() < MEMORY_MIN {
        return Vec::new();
    }
    let seen = format!("shared_buffers is {}, and there is {} of memory", row.value, Bytes(memory.usable()));
    let good = (memory.usable() / 4).min(16 << 30) >> 20;
    let set = format!("ALTER SYSTEM SET shared_buffers = '{good}MB'");
    vec![
        CHECK
            .found(Severity::Info, "shared_buffers", seen)
            .with(case.disruptive_sql("use a quarter, with the next restart", set)),
    ]
}
