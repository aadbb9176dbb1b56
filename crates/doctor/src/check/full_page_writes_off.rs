//! `full-page-writes-off`: full_page_writes is off.

use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "full-page-writes-off",
    area: Area::Data,
    title: "full_page_writes is off",
    why: "A crash in the middle of a write leaves half a page, which nothing can mend.",
    mends: "Switch it on, and reload. Only a file system that writes pages as a whole can do without.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    super::setting_off(case, &CHECK, "full_page_writes", Severity::Critical)
}
