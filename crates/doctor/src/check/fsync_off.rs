//! `fsync-off`: fsync is off.

use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "fsync-off",
    area: Area::Data,
    title: "fsync is off",
    why: "A power cut or a crash of the host destroys the cluster.",
    mends: "Switch it on, and reload; then run `initdb --sync-only`, so that what was written without it is safe too.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    super::setting_off(case, &CHECK, "fsync", Severity::Critical)
}
