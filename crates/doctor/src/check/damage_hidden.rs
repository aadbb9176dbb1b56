//! `damage-hidden`: a setting hides or zeroes damaged pages.

use super::{Area, Case, Check, Found};
use crate::observe::SettingRow;
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "damage-hidden",
    area: Area::Data,
    title: "A setting hides or zeroes damaged pages",
    why: "`zero_damaged_pages` and `ignore_checksum_failure` make damage look like data that was never there.",
    mends: "Switch it off once what could be saved is saved; restore the damaged pages from a backup.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let on = ["zero_damaged_pages", "ignore_checksum_failure"]
        .into_iter()
        .filter_map(|name| case.server()?.setting(name));
    let one = |row: &SettingRow| {
        let set = format!("ALTER SYSTEM SET {} = off;\nSELECT pg_reload_conf();", row.name);
        CHECK
            .found(Severity::Critical, row.name.clone(), format!("{} is on", row.name))
            .shown_by_all(row.place.clone())
            .with(case.safe_sql("switch it off", set))
    };
    on.filter(|row| row.value == "on").map(one).collect()
}
