//! `directory-missing`: directories of the cluster are missing.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "directory-missing",
    area: Area::Start,
    title: "Directories of the cluster are missing",
    why: "Copies that leave out empty directories make a cluster that does not start.",
    mends: "Make the empty ones again. `base`, `global`, `pg_wal` and `pg_xact` are never empty: where one of those is missing, restore a backup.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(place), Some(directory)) = (case.stopped(), case.seen.directory.ok()) else {
        return Vec::new();
    };
    if directory.missing.is_empty() {
        return Vec::new();
    }
    let seen = format!("missing in {}: {}", place.data_directory.display(), directory.missing.join(", "));
    let found = CHECK.found(Severity::Critical, place.data_directory.display().to_string(), seen);
    let precious = ["base", "global", "pg_wal", "pg_xact", "pg_multixact", "pg_tblspc"];
    if directory.missing.iter().any(|name| precious.contains(&name.as_str())) {
        let command = format!("pgproof restore --pgdata {} --delta", word(&place.data_directory));
        return vec![
            found.with(
                Remedy::destructive("restore the newest backup over the directory", command)
                    .keeping(super::case::keep_directory(place)),
            ),
        ];
    }
    let paths: Vec<String> =
        directory.missing.iter().map(|name| word(&place.data_directory.join(name))).collect();
    let command =
        format!("{}\n{}", case.as_owner(&format!("mkdir -m 0700 {}", paths.join(" "))), case.start(place));
    vec![
        found.with(
            Remedy::safe("make them again, and start", command).afterwards("`pgproof doctor` connects"),
        ),
    ]
}
