//! `standby-settings`: a setting of the standby is lower than on its primary.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "standby-settings",
    area: Area::Start,
    title: "A setting of the standby is lower than on its primary",
    why: "A standby must have room for every transaction and lock of its primary: with less, it does not start, or stops to replay.",
    mends: "Raise the setting on the standby to the primary's value, and start it. Raise such settings on standbys first, lower them there last.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(place) = case.place() else { return Vec::new() };
    let words = [
        "recovery aborted because of insufficient parameter settings",
        "hot standby is not possible because of insufficient parameter settings",
        "recovery has paused",
    ];
    let tells = |entry: &&crate::observe::LogEntry| entry.detail.as_deref().and_then(lower).is_some();
    let Some(entry) = case.logged_all(&words).find(tells) else { return Vec::new() };
    let Some((name, here, there)) = entry.detail.as_deref().and_then(lower) else { return Vec::new() };
    // History, once it is in force.
    if case.server().and_then(|server| server.setting(name)).is_some_and(|row| row.value == there) {
        return Vec::new();
    }
    let seen = format!("{name} is {here} here and {there} on the primary");
    let file = word(&place.data_directory.join("postgresql.auto.conf"));
    let set = case.as_owner(&format!(
        "sh -c {}",
        pgproof_base::shell_word(&format!("echo \"{name} = {there}\" >> {file}"))
    ));
    let (begin, remedy) = match place.postmaster {
        None => (case.start(place), Remedy::safe as fn(String, String) -> Remedy),
        Some(_) => (case.restart(place), Remedy::disruptive as fn(String, String) -> Remedy),
    };
    let remedy = remedy("set what the primary has, and start".to_owned(), format!("{set}\n{begin}"));
    let found = CHECK.found(Severity::Critical, name, seen).shown_by(case.quote(entry));
    vec![found.with(remedy.afterwards(format!("`SHOW {name}` gives {there}")))]
}

/// `max_connections = 50 is a lower setting than on the primary server, where its value was 100.`
/// (`RecoveryRequiresIntParameter` in `src/backend/access/transam/xlogrecovery.c`)
fn lower(detail: &str) -> Option<(&str, &str, &str)> {
    let (own, rest) =
        detail.split_once(" is a lower setting than on the primary server, where its value was ")?;
    let (name, here) = own.rsplit('\n').next()?.split_once(" = ")?;
    let there = rest.split('.').next()?;
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    (plain(name) && plain(here) && plain(there)).then_some((name, here, there))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_s_value_is_read_from_the_log() {
        let detail =
            "max_connections = 50 is a lower setting than on the primary server, where its value was 100.";
        assert_eq!(lower(detail), Some(("max_connections", "50", "100")));
        assert_eq!(
            lower("a = 1; x is a lower setting than on the primary server, where its value was 2."),
            None
        );
    }
}
