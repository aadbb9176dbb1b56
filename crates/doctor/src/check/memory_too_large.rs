//! `memory-too-large`: the server asks for more memory than there is.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Bytes, Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "memory-too-large",
    area: Area::Start,
    title: "The server asks for more memory than there is",
    why: "Shared memory is allocated at the start; where the host or the container does not have it, the server does not start, or is killed.",
    mends: "Lower `shared_buffers`; a quarter of the memory is the usual start. In a container, the limit of its control group counts, not the host's memory.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(place) = case.stopped() else { return Vec::new() };
    let Some(memory) = case.seen.memory.ok() else { return Vec::new() };
    let line = case.files().and_then(|files| files.line("shared_buffers"));
    let wanted = line.and_then(|line| crate::observe::settings::bytes_of(&line.value, 8192));
    let words = [
        "could not map anonymous shared memory",
        "could not create shared memory segment",
        "could not resize shared memory",
    ];
    // For want of an identifier, or of huge pages, are findings of their own.
    let logged = case.logged(&words).filter(|entry| !entry.message.contains("No space left on device"));
    let logged = logged.filter(|_| !super::huge_pages_missing::is_demanded(case.files()));
    let Some((line, wanted)) =
        line.zip(wanted).filter(|(_, wanted)| *wanted >= memory.usable() || logged.is_some())
    else {
        return Vec::new();
    };
    let seen = format!("shared_buffers is {}, and there is {} of memory", line.value, Bytes(memory.usable()));
    let found = CHECK
        .found(Severity::Critical, "shared_buffers", seen)
        .shown_by(format!("{}:{}: shared_buffers = {}", line.file.display(), line.line, line.value))
        .shown_by(format!("{} bytes are asked for", wanted))
        .shown_by_all(logged.map(|entry| case.quote(entry)));
    let good = (memory.usable() / 4).clamp(16 << 20, 8 << 30) >> 20;
    let edit =
        format!("sed -i.before-pgproof '{}s/.*/shared_buffers = {good}MB/' {}", line.line, word(&line.file));
    let command = format!("{}\n{}", case.as_owner(&edit), case.start(place));
    vec![
        found.with(
            Remedy::safe("write a smaller value (a copy of the file stays beside it), and start", command)
                .afterwards("`SHOW shared_buffers`"),
        ),
    ]
}
