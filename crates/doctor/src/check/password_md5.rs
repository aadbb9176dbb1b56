//! `password-md5`: passwords are kept as MD5.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "password-md5",
    area: Area::Schema,
    title: "Passwords are kept as MD5",
    why: "Whoever reads such a hash can log in with it, and PostgreSQL 18 warns that it will go.",
    mends: "Set each password anew with `password_encryption = 'scram-sha-256'`.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let rows = case.server().map_or(&[][..], |server| server.roles.rows());
    let names: Vec<&str> =
        rows.iter().filter(|row| row.secret.as_deref() == Some("md5")).map(|row| row.name.as_str()).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let set: Vec<String> = names.iter().map(|name| format!("\\password {}", identifier(name))).collect();
    vec![
        CHECK
            .found(Severity::Info, "", format!("the passwords of {} are kept as MD5", names.join(", ")))
            .with(Remedy::safe("set them anew, in psql", set.join("\n"))),
    ]
}
