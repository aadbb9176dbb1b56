//! `tls-certificate`: the TLS certificate ends soon, or has ended.

use super::case::ago;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "tls-certificate",
    area: Area::Reach,
    title: "The TLS certificate ends soon, or has ended",
    why: "From its end on, every client that verifies the server refuses to connect.",
    mends: "Put a new certificate in its place and reload: the server takes it up for new connections, without a restart. A warning from 30 days before its end on, critical from 7.",
    limit: None,
    judge,
};

/// Days before the end.
const WARNING_D: i64 = 30;
const CRITICAL_D: i64 = 7;

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(directory) = case.seen.directory.ok() else { return Vec::new() };
    let one = |certificate: &crate::observe::CertificateSeen| {
        let left_s = certificate.not_after.as_second() - case.seen.at.as_second();
        let severity = match left_s / 86_400 {
            days if left_s < 0 || days < CRITICAL_D => Severity::Critical,
            days if days < WARNING_D => Severity::Warning,
            _ => return None,
        };
        let path = certificate.path.display().to_string();
        let when = if left_s < 0 {
            format!("ended {} ago", ago(-left_s as f64))
        } else {
            format!("ends in {}", ago(left_s as f64))
        };
        let seen =
            format!("the certificate {path} {when}, on {}", certificate.not_after.strftime("%Y-%m-%d"));
        let mut found =
            CHECK.found(severity, path, seen).shown_by(format!("it is of {}", certificate.subject));
        if let Some(place) = case.place().filter(|place| place.postmaster.is_some()) {
            found = found.with(Remedy::safe("after a new one was put in its place", case.reload(place)));
        }
        Some(found)
    };
    directory.certificates.iter().filter_map(one).collect()
}
