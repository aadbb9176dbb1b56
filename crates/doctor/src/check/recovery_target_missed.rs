//! `recovery-target-missed`: recovery ended before its target.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "recovery-target-missed",
    area: Area::Start,
    title: "Recovery ended before its target",
    why: "The archive ends, or has a gap, before the instant that was asked for: the server refuses to come up with less.",
    mends: "See how far the archive reaches. Fetch what is missing from the old server's pg_wal or another repository, or choose a target that can be reached.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(place) = case.stopped() else { return Vec::new() };
    let Some(entry) = case.logged(&["recovery ended before configured recovery target was reached"]) else {
        return Vec::new();
    };
    let targets =
        ["recovery_target_time", "recovery_target_lsn", "recovery_target_xid", "recovery_target_name"];
    let line = targets.iter().filter_map(|name| case.files()?.line(name)).find(|line| !line.value.is_empty());
    let target =
        line.map_or_else(|| "its target".to_owned(), |line| format!("{} = {}", line.name, line.value));
    let seen = format!("recovery ended before {target}");
    let last = case.last_life().iter().rev().find(|entry| {
        entry.message.contains("redo done") || entry.message.contains("last completed transaction")
    });
    let found = CHECK
        .found(Severity::Critical, line.map_or("", |line| line.name.as_str()), seen)
        .shown_by(case.quote(entry))
        .shown_by_all(last.map(|entry| case.quote(entry)));
    let mut found = found.with(Remedy::safe("see how far the archive reaches", "pgproof list"));
    if let Some(line) = line {
        let edit = format!("sed -i.before-pgproof '{}s/^/#/' {}", line.line, super::case::word(&line.file));
        let all = format!("{}\n{}", case.as_owner(&edit), case.start(place));
        found = found.with(Remedy::disruptive(
            "or take what there is: recover to the end of the archive, and start",
            all,
        ));
    }
    vec![found]
}
