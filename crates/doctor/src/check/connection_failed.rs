//! `connection-failed`: the connection failed.

use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "connection-failed",
    area: Area::Reach,
    title: "The connection failed",
    why: "Whoever uses these parameters cannot work.",
    mends: "The finding that causes this one says what to do. Where there is none, the server's log tells more than its answer.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(attempt) = case.failed() else {
        let Err(why) = &case.seen.asked else { return Vec::new() };
        return vec![CHECK.found(
            Severity::Critical,
            "parameters",
            format!("the connection parameters make no sense: {why}"),
        )];
    };
    let to = &attempt.to;
    let severity = if case.refused("57P03").is_some() { Severity::Info } else { Severity::Critical };
    let seen = format!(
        "no connection to {}:{} as {} to {}: {}",
        to.host,
        to.port,
        to.user,
        to.database,
        crate::diagnosis::described(attempt)
    );
    vec![CHECK.found(severity, format!("{}:{}", to.host, to.port), seen)]
}
