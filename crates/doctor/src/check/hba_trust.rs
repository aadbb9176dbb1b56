//! `hba-trust`: somebody from elsewhere gets in without a password.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "hba-trust",
    area: Area::Schema,
    title: "Somebody from elsewhere gets in without a password",
    why: "`trust` for an address that is not this host's lets anybody there be anybody, superusers included.",
    mends: "scram-sha-256 instead, then reload.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(place), Some(hba)) = (case.place(), case.seen.hba.ok()) else { return Vec::new() };
    let far = |line: &&crate::observe::hba::HbaLine| {
        use crate::observe::hba::Address;
        let elsewhere = match &line.address {
            Some(Address::Net { address, .. }) => !address.is_loopback(),
            Some(Address::All | Address::SameNet | Address::Name(_)) => true,
            Some(Address::SameHost) | None => false,
        };
        line.method == "trust" && elsewhere
    };
    let one = |line: &crate::observe::hba::HbaLine| {
        let at = format!("{}:{}", line.file.display(), line.line);
        let edit =
            format!("sed -i.before-pgproof '{}s/trust/scram-sha-256/' {}", line.line, word(&line.file));
        let remedy = Remedy::disruptive(
            "ask for a password, and reload",
            format!("{}\n{}", case.as_owner(&edit), case.reload(place)),
        );
        CHECK
            .found(Severity::Warning, at.clone(), format!("{at} lets anybody in: {}", line.text()))
            .with(remedy)
    };
    hba.lines.iter().filter(far).map(one).collect()
}
