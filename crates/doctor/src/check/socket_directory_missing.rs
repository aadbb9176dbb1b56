//! `socket-directory-missing`: the directory of the server's sockets is missing.

use super::case::word;
use super::{Area, Case, Check, Found};
use crate::observe::FileSeen;
use pgproof_base::{Remedy, Severity, shell_word};

pub(super) const CHECK: Check = Check {
    code: "socket-directory-missing",
    area: Area::Start,
    title: "The directory of the server's sockets is missing",
    why: "The server makes its socket at the start, and does not start where it cannot.",
    mends: "Make the directory for the server's account. Below `/run` it is lost at every boot: let `systemd-tmpfiles` or the unit's `RuntimeDirectory=` make it.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(place), Some(directory)) = (case.stopped(), case.seen.directory.ok()) else {
        return Vec::new();
    };
    let missing: Vec<_> = directory
        .socket_directories
        .iter()
        .filter(|one| one.mode.is_none() && one.path.is_absolute())
        .collect();
    let one = |seen: &&FileSeen| {
        let path = seen.path.display().to_string();
        let text = format!("{path}, named by unix_socket_directories, does not exist");
        let make = format!(
            "install -d -o {} -m 0755 {}\n{}",
            shell_word(&place.owner.name),
            word(&seen.path),
            case.start(place)
        );
        CHECK
            .found(Severity::Critical, path, text)
            .with(Remedy::safe("make it, and start", make).afterwards("`pgproof doctor` connects"))
    };
    missing.iter().map(one).collect()
}
