//! `huge-pages-missing`: huge pages are demanded, and there are too few.

use super::{Area, Case, Check, Found};
use crate::observe::SettingsFiles;
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "huge-pages-missing",
    area: Area::Start,
    title: "Huge pages are demanded, and there are too few",
    why: "With `huge_pages = on` the server does not start without them.",
    mends: "Reserve them (`vm.nr_hugepages`; from 15 on `postgres -C shared_memory_size_in_huge_pages` says how many), or let the server do without (`huge_pages = try`).",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(place) = case.stopped() else { return Vec::new() };
    if !is_demanded(case.files()) {
        return Vec::new();
    }
    let words = ["could not map anonymous shared memory", "huge pages not supported"];
    let Some(entry) = case.logged(&words) else { return Vec::new() };
    let seen = "huge_pages is on, and the system has too few of them";
    let Some(line) = case.files().and_then(|files| files.line("huge_pages")) else { return Vec::new() };
    let edit = format!(
        "sed -i.before-pgproof '{}s/.*/huge_pages = try/' {}",
        line.line,
        super::case::word(&line.file)
    );
    let remedy = Remedy::safe(
        "do without where there are none (a copy of the file stays beside it), and start",
        format!("{}\n{}", case.as_owner(&edit), case.start(place)),
    );
    let found = CHECK.found(Severity::Critical, "huge_pages", seen).shown_by(case.quote(entry));
    let place = format!("{}:{}: huge_pages = {}", line.file.display(), line.line, line.value);
    vec![found.shown_by(place).with(remedy.afterwards("`pgproof doctor` connects"))]
}

pub(super) fn is_demanded(files: Option<&SettingsFiles>) -> bool {
    let line = files.and_then(|files| files.line("huge_pages"));
    line.is_some_and(|line| line.value.eq_ignore_ascii_case("on"))
}
