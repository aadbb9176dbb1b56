//! `timeouts-missing`: nothing ends a session that holds others up.

use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "timeouts-missing",
    area: Area::Configuration,
    title: "Nothing ends a session that holds others up",
    why: "A client that forgets a transaction keeps its locks and holds back vacuum until somebody looks.",
    mends: "`idle_in_transaction_session_timeout` for everybody; `statement_timeout` and `lock_timeout` for each role as it works. Jobs that need longer set their own.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let row = case.server().and_then(|server| server.setting("idle_in_transaction_session_timeout"));
    if row.is_none_or(|row| row.value.trim_end_matches("ms") != "0") {
        return Vec::new();
    }
    let set = "ALTER SYSTEM SET idle_in_transaction_session_timeout = '10min';\nSELECT pg_reload_conf();";
    let found = CHECK.found(
        Severity::Info,
        "idle_in_transaction_session_timeout",
        "idle_in_transaction_session_timeout is 0: an idle transaction stays for ever",
    );
    vec![found.with(case.disruptive_sql("end transactions that are idle for ten minutes", set))]
}
