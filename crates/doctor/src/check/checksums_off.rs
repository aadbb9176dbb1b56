//! `checksums-off`: data checksums are off.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "checksums-off",
    area: Area::Data,
    title: "Data checksums are off",
    why: "Damage of the disk is noticed only when a query stumbles over it.",
    mends: "`pg_checksums --enable` on the stopped server; it rewrites every page.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let live =
        case.server().and_then(|server| server.setting("data_checksums")).map(|row| row.value == "off");
    let file = case
        .seen
        .directory
        .ok()
        .and_then(|directory| directory.control.as_ref().ok())
        .map(|control| !control.has_checksums());
    if !live.or(file).unwrap_or(false) {
        return Vec::new();
    }
    let found = CHECK.found(Severity::Info, "", "data checksums are off");
    let Some(place) = case.place() else { return vec![found] };
    let command = case.as_owner(&format!(
        "{} --enable -D {}",
        case.program(place, "pg_checksums"),
        word(&place.data_directory)
    ));
    vec![found.with(Remedy::disruptive("with the server shut down: turn them on", command))]
}
