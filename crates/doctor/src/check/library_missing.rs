//! `library-missing`: a library that is to be preloaded is not there.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "library-missing",
    area: Area::Start,
    title: "A library that is to be preloaded is not there",
    why: "The server does not start without it. After an upgrade, extensions of the old version are often missing.",
    mends: "Install the package that has it, for the server's major version; or take it out of `shared_preload_libraries`: what it did is then not done.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(place) = case.stopped() else { return Vec::new() };
    let Some(entry) = case.logged(&["could not access file", "could not load library"]) else {
        return Vec::new();
    };
    let Some(name) = entry.message.split('"').nth(1) else { return Vec::new() };
    let preload = ["shared_preload_libraries", "session_preload_libraries", "local_preload_libraries"];
    let library = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".so");
    let line = preload.iter().filter_map(|setting| case.files()?.line(setting));
    let Some(line) =
        line.into_iter().find(|line| parts(&line.value).any(|part| part == library || part == name))
    else {
        return Vec::new();
    };
    let seen = format!("{} asks for {library}, which cannot be loaded", line.name);
    let rest: Vec<&str> = parts(&line.value).filter(|part| *part != library && *part != name).collect();
    let edit = format!(
        "sed -i.before-pgproof {} {}",
        pgproof_base::shell_word(&format!("{}s|.*|{} = '{}'|", line.line, line.name, rest.join(","))),
        super::case::word(&line.file)
    );
    let remedy = Remedy::disruptive(
        "start without it (a copy of the file stays beside it)",
        format!("{}\n{}", case.as_owner(&edit), case.start(place)),
    );
    let found = CHECK.found(Severity::Critical, library, seen).shown_by(case.quote(entry));
    let where_ = format!("{}:{}: {} = {}", line.file.display(), line.line, line.name, line.value);
    vec![found.shown_by(where_).with(remedy.afterwards("`pgproof doctor` connects"))]
}

fn parts(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(|part| part.trim().trim_matches('"')).filter(|part| !part.is_empty())
}
