//! `checksum-failures`: checksums of pages have failed.

use super::{Area, Case, Check, Found};
use crate::observe::DatabaseRow;
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "checksum-failures",
    area: Area::Data,
    title: "Checksums of pages have failed",
    why: "The disk, its controller or the memory gives back other bytes than were written.",
    mends: "Find out which relation by the log; restore its pages from a backup; replace the hardware. The counter is reset with the database's statistics.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let rows = case.server().map_or(&[][..], |server| server.databases.rows());
    let one = |row: &DatabaseRow| {
        let count = row.checksum_failures.filter(|count| *count > 0)?;
        let seen = format!("{count} pages of database {} failed their checksum", row.name);
        let remedy = Remedy::safe(
            "see which backups are sound, and which was taken before",
            "pgproof verify\npgproof list",
        );
        Some(CHECK.found(Severity::Critical, row.name.clone(), seen).with(remedy))
    };
    rows.iter().filter_map(one).collect()
}
