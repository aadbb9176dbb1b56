//! `descriptors-out`: the server may open too few files.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "descriptors-out",
    area: Area::Sessions,
    title: "The server may open too few files",
    why: "Sessions fail, or nobody new can connect, when the limit of open files is reached.",
    mends: "Raise the limit where the server is started (`ulimit -n`, `LimitNOFILE`), or `fs.file-max` for the whole system.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let all =
        case.logged_all(&["Too many open files", "out of file descriptors", "insufficient file descriptors"]);
    let all: Vec<_> = all.filter(|entry| case.since_load(entry)).collect();
    let Some(newest) = all.first() else { return Vec::new() };
    let seen = format!("the system refused open files {} times within the last hour", all.len());
    let limits = case.place().and_then(|place| place.open_files.clone());
    let found = CHECK.found(Severity::Critical, "", seen).shown_by(case.quote(newest));
    let found = found
        .shown_by_all(limits.as_ref().map(|(soft, hard)| format!("open files: soft {soft}, hard {hard}")));
    let raise = limits.and_then(|(soft, hard)| {
        let pid = case.place()?.postmaster?;
        let (low, high) = (soft.parse::<u64>().ok()?, hard.parse::<u64>().unwrap_or(u64::MAX));
        (high > low).then(|| case.as_owner(&format!("prlimit --pid {pid} --nofile={}:", high.min(65_536))))
    });
    let Some(command) = raise else { return vec![found] };
    vec![found.with(Remedy::safe(
        "raise the limit of the running server, for sessions that begin from now on; and raise it where the server is started",
        command,
    ))]
}
