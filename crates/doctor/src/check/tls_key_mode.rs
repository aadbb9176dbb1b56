//! `tls-key-mode`: the TLS key is missing or readable by others.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "tls-key-mode",
    area: Area::Start,
    title: "The TLS key is missing or readable by others",
    why: "The server does not start with a private key that others can read.",
    mends: "`chmod 600`; a key of root's may be readable by the server's group (640).",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(place), Some(directory)) = (case.stopped(), case.seen.directory.ok()) else {
        return Vec::new();
    };
    let Some(key) = directory.tls_files.first() else { return Vec::new() };
    let path = key.path.display().to_string();
    let Some(mode) = key.mode else {
        let off = "sed -i.before-pgproof -E 's/^[[:space:]]*ssl[[:space:]]*=/#&/' ".to_owned()
            + &word(&place.config_file);
        let command = format!("{}\n{}", case.as_owner(&off), case.start(place));
        let remedy = Remedy::disruptive(
            "start without TLS until there is a key; connections are then in the clear",
            command,
        );
        return vec![
            CHECK
                .found(Severity::Critical, path.clone(), format!("{path} does not exist, and ssl is on"))
                .with(remedy),
        ];
    };
    // `check_ssl_key_file_permissions` in src/backend/libpq/be-secure-common.c.
    let open = if key.uid == Some(0) && place.owner.uid != 0 { mode & 0o037 } else { mode & 0o077 };
    if open == 0 {
        return Vec::new();
    }
    let seen = format!("{path} has mode {mode:04o}; others may read the server's key");
    let command = format!("chmod 0600 {}\n{}", word(&key.path), case.start(place));
    vec![
        CHECK
            .found(Severity::Critical, path, seen)
            .with(Remedy::safe("close it, and start", command).afterwards("`pgproof doctor` connects")),
    ]
}
