//! `tls-off`: the client insists on TLS, and the server has none.

use super::{Area, Case, Check, Found};
use crate::observe::Outcome;
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "tls-off",
    area: Area::Reach,
    title: "The client insists on TLS, and the server has none",
    why: "With `sslmode=require` or stricter no connection is made in the clear.",
    mends: "Give the server a certificate and set `ssl = on`; a weaker sslmode only where the network may be trusted.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(attempt) = case.failed().filter(|attempt| attempt.outcome == Outcome::NoTls) else {
        return Vec::new();
    };
    let seen = format!(
        "{}:{} offers no TLS, and the client's sslmode insists on it",
        attempt.to.host, attempt.to.port
    );
    let ssl =
        case.server().and_then(|server| server.setting("ssl")).map(|row| format!("ssl = {}", row.value));
    let found = CHECK.found(Severity::Critical, attempt.to.host.clone(), seen).shown_by_all(ssl);
    let on = case.safe_sql(
        "with server.crt and server.key in the data directory: turn it on",
        "ALTER SYSTEM SET ssl = on;\nSELECT pg_reload_conf();",
    );
    vec![found.with(on.afterwards("`SHOW ssl` gives on"))]
}
