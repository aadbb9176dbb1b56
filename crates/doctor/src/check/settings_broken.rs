//! `settings-broken`: the settings files are refused.

use super::{Area, Case, Check, Found};
use crate::observe::StartProbe;
use pgproof_base::{Remedy, Severity, shell_word};

pub(super) const CHECK: Check = Check {
    code: "settings-broken",
    area: Area::Start,
    title: "The settings files are refused",
    why: "A server does not start with an error in its settings files.",
    mends: "Correct the named line. `ALTER SYSTEM` writes `postgresql.auto.conf`; a line there is better removed than edited.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(place), Some(directory)) = (case.stopped(), case.seen.directory.ok()) else {
        return Vec::new();
    };
    let refused = |probe: &&StartProbe| {
        let said = probe.said.join("\n");
        !probe.accepted
            && ["configuration file", "parameter", "syntax error"].iter().any(|word| said.contains(word))
    };
    let probe = directory.probe.as_ref().filter(refused);
    let problems = case.files().map_or(&[][..], |files| files.problems.as_slice());
    if probe.is_none() && problems.is_empty() {
        return Vec::new();
    }
    let said = probe.map_or(&[][..], |probe| probe.said.as_slice());
    let parsed = problems.iter().map(|one| format!("{}:{}: {}", one.file.display(), one.line, one.why));
    let evidence: Vec<String> = said.iter().cloned().chain(parsed).collect();
    let seen = format!("the settings files are refused: {}", evidence.first().map_or("", String::as_str));
    let mut found =
        CHECK.found(Severity::Critical, place.config_file.display().to_string(), seen).shown_by_all(evidence);
    let places = said
        .iter()
        .filter_map(|line| place_of(line))
        .chain(problems.iter().map(|one| (one.file.display().to_string(), one.line)));
    // What is said of a value names the parameter and not its line.
    let named = said.iter().filter_map(|line| {
        let name = line.split_once("parameter \"")?.1.split('"').next()?;
        let line = case.files()?.line(name)?;
        Some((line.file.display().to_string(), line.line))
    });
    let mut lines: Vec<(String, u32)> = places.chain(named).filter(|(_, line)| *line > 0).collect();
    lines.sort();
    lines.dedup();
    let edits: Vec<String> = lines
        .iter()
        .map(|(file, line)| {
            case.as_owner(&format!("sed -i.before-pgproof '{line}s/^/#/' {}", shell_word(file)))
        })
        .collect();
    if !edits.is_empty() {
        let command = [edits.as_slice(), &[case.start(place)]].concat().join("\n");
        let what = "comment the refused lines out (a copy of each file stays beside it), and start";
        found = found.with(Remedy::safe(what, command).afterwards("`pgproof doctor` connects"));
    }
    vec![found]
}

/// `... in file "/x/postgresql.conf" line 12`, and `syntax error in file "..." line 12, near token`.
fn place_of(line: &str) -> Option<(String, u32)> {
    let (_, rest) = line.split_once("file \"")?;
    let (file, rest) = rest.split_once('"')?;
    let number = rest.trim_start().strip_prefix("line ")?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    Some((file.to_owned(), digits.parse().ok()?))
}
