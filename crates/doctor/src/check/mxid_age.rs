//! `mxid-age`: multixact numbers come near their end.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};

pub(super) const CHECK: Check = Check {
    code: "mxid-age",
    area: Area::Vacuum,
    title: "Multixact numbers come near their end",
    why: "Rows locked by several transactions at once use them up; before they wrap around the server refuses to write.",
    mends: "As for transaction numbers: end what holds freezing back, then VACUUM FREEZE the oldest tables.",
    limit: Some(Limit { unit: Unit::Percent, warning: 40.0, critical: 80.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    super::xid_age::judge_ages(case, &CHECK, "multixacts", |row| row.mxid_age, |row| row.mxid_age)
}
