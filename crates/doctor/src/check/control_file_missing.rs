//! `control-file-missing`: the control file is missing or damaged.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "control-file-missing",
    area: Area::Start,
    title: "The control file is missing or damaged",
    why: "Without `global/pg_control` a server does not know where recovery begins, and does not start.",
    mends: "Put the file back where it was moved away; else restore a backup. `pg_resetwal` invents a control file and loses commits: only on a copy, and only when there is no backup.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(place), Some(directory)) = (case.stopped(), case.seen.directory.ok()) else {
        return Vec::new();
    };
    let Err(why) = &directory.control else { return Vec::new() };
    let path = place.data_directory.join("global/pg_control");
    let mut found = CHECK.found(
        Severity::Critical,
        path.display().to_string(),
        format!("the control file cannot be used: {why}"),
    );
    if !directory.control_exists
        && let [one] = directory.control_lookalikes.as_slice()
    {
        let command = format!(
            "{}\n{}",
            case.as_owner(&format!("cp -p {} {}", word(one), word(&path))),
            case.start(place)
        );
        let what = "it seems to have been moved: put a copy back, and start";
        found = found
            .shown_by(format!("{} is there", one.display()))
            .with(Remedy::safe(what, command).afterwards("`pgproof doctor` connects"));
    }
    let restore = format!("pgproof restore --pgdata {} --delta", word(&place.data_directory));
    vec![
        found.with(
            Remedy::destructive("restore the newest backup over it, keeping what is unchanged", restore)
                .keeping(super::case::keep_directory(place)),
        ),
    ]
}
