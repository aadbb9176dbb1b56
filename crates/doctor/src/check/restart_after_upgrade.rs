//! `restart-after-upgrade`: the server runs an older program than is installed.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "restart-after-upgrade",
    area: Area::Configuration,
    title: "The server runs an older program than is installed",
    why: "A minor upgrade counts from the next restart on; until then its fixes, of security and of lost data among them, do not.",
    mends: "Restart it when that suits; a standby first, then switch over.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(server), Some(place)) =
        (case.server(), case.place().filter(|place| place.postmaster.is_some()))
    else {
        return Vec::new();
    };
    let installed = case.seen.directory.ok().and_then(|directory| directory.program_version.clone());
    let running = server.about.version.split_whitespace().next().unwrap_or_default();
    let Some(installed) = installed.filter(|installed| is_newer(installed, running)) else {
        return Vec::new();
    };
    let seen = format!("{running} runs, and {installed} is installed");
    let restart = Remedy::disruptive("restart it", case.restart(place));
    vec![
        CHECK
            .found(Severity::Warning, "", seen)
            .with(restart.afterwards(format!("`SHOW server_version` gives {installed}"))),
    ]
}

/// Of the same major version.
fn is_newer(installed: &str, running: &str) -> bool {
    let parts = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    matches!((parts(installed), parts(running)), (Some(new), Some(old)) if new.0 == old.0 && new.1 > old.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_minor_version_of_the_same_major_counts() {
        assert!(is_newer("15.20", "15.9"));
        assert!(!is_newer("15.9", "15.20") && !is_newer("16.1", "15.9") && !is_newer("15.20", "15.20"));
        assert!(!is_newer("18beta1", "18beta1"));
    }
}
