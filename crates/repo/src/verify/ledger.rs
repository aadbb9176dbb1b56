//! The ledger under verification: every object of it is read, and what does not fit becomes a finding.

use super::report::{Hurts, VerifyFinding};
use crate::ledger::{Flaw, FlawKind};
use pgproof_base::{Finding, Severity};

/// The finding that tells a flaw.
pub(super) fn finding(flaw: Flaw) -> VerifyFinding {
    let (code, severity, why) = match flaw.kind {
        FlawKind::Stray => ("verify-object-unknown", Severity::Warning, "nothing reads it"),
        FlawKind::Damaged => (
            "verify-ledger-damaged",
            Severity::Warning,
            "evidence in it may be lost; backups and WAL are not touched by this",
        ),
        FlawKind::Missing => (
            "verify-ledger-missing",
            Severity::Warning,
            "evidence is lost: nothing of pgproof removes entries of a ledger",
        ),
        FlawKind::Altered | FlawKind::Broken | FlawKind::Unsigned | FlawKind::Replaced => (
            "verify-ledger-altered",
            Severity::Critical,
            "evidence was changed by somebody who has the repository's key",
        ),
        FlawKind::Cut => (
            "verify-ledger-cut",
            Severity::Critical,
            "the newest evidence of a host was removed, or an old state of the store was brought back",
        ),
    };
    VerifyFinding {
        finding: Finding::new(code, severity, flaw.seen, why),
        object: flaw.object,
        hurts: Hurts::default(),
    }
}
