//! What has changed since this server was last looked at from this account: findings that are new, and those that are gone.
//!
//! Only ids are kept, one small file a server. A file that cannot be read or written costs the comparison and nothing else.

use crate::args::high::Context;
use crate::printer::{Page, show_time};
use jiff::{SignedDuration, Timestamp};
use pgproof_base::Severity;
use pgproof_doctor::observe::EarlierDisk;
use pgproof_doctor::{Diagnosed, Diagnosis, Observation};
use pgproof_server::Owner;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Look {
    at: Timestamp,
    /// Codes and subjects above info.
    findings: BTreeSet<String>,
    /// What was left on the disks, oldest first.
    #[serde(default)]
    disks: Vec<EarlierDisk>,
}

/// How far apart looks at a disk are kept, and for how long: often enough for a trend, few enough for a small file.
const DISK_EVERY: SignedDuration = SignedDuration::from_mins(10);
const DISK_FOR: SignedDuration = SignedDuration::from_hours(6);

/// What has changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Since {
    /// When it was looked at before.
    at: Timestamp,
    new: Vec<String>,
    gone: Vec<String>,
}

impl Since {
    fn between(before: &Look, now: &Look) -> Self {
        let only = |these: &Look, those: &Look| these.findings.difference(&those.findings).cloned().collect();
        Self { at: before.at, new: only(now, before), gone: only(before, now) }
    }

    pub(super) fn render(&self, page: &mut Page) {
        if self.new.is_empty() && self.gone.is_empty() {
            return;
        }
        page.gap();
        page.line(format!("since the last look, at {}:", show_time(self.at)));
        for id in &self.new {
            page.line(format!("  new:  {id}"));
        }
        for id in &self.gone {
            page.line(format!("  gone: {id}"));
        }
    }
}

/// What was left on the disks at earlier looks.
pub(super) fn earlier(context: &Context, seen: &Observation) -> Vec<EarlierDisk> {
    path(context, seen).and_then(|path| read(&path)).map(|look| look.disks).unwrap_or_default()
}

/// Those that are kept from this look on.
fn disks(seen: &Observation) -> Vec<EarlierDisk> {
    let recent = |one: &&EarlierDisk| seen.at.duration_since(one.at) < DISK_FOR;
    let mut kept: Vec<EarlierDisk> = seen.earlier.iter().filter(recent).cloned().collect();
    let is_time = kept.iter().all(|one| seen.at.duration_since(one.at) >= DISK_EVERY);
    if is_time {
        let now = seen.disks.ok().into_iter().flatten();
        kept.extend(now.map(|disk| EarlierDisk {
            at: seen.at,
            path: disk.path.clone(),
            available: disk.available,
        }));
    }
    kept
}

fn path(context: &Context, seen: &Observation) -> Option<PathBuf> {
    Some(directory(context)?.join(format!("{}.json", name(seen)?)))
}

fn read(path: &Path) -> Option<Look> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Compares with the last look, and keeps this one.
pub(super) fn since(context: &Context, seen: &Observation, diagnosis: &Diagnosis) -> Option<Since> {
    let path = path(context, seen)?;
    let above_info = diagnosis.findings.iter().filter(|one| one.finding.severity > Severity::Info);
    let now =
        Look { at: diagnosis.at, findings: above_info.map(Diagnosed::id).collect(), disks: disks(seen) };
    let before = read(&path);
    // Monitoring looks often and as several: the newest look of any of them is what counts.
    let _ = write(&path, &now);
    before.map(|before| Since::between(&before, &now))
}

fn directory(context: &Context) -> Option<PathBuf> {
    let variable = |name: &str| context.surroundings.environment.get(name).filter(|value| !value.is_empty());
    let state = match (variable("XDG_STATE_HOME"), Owner::current().is_root()) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, true) => PathBuf::from("/var/lib"),
        (None, false) => PathBuf::from(variable("HOME")?).join(".local/state"),
    };
    Some(state.join("pgproof/doctor"))
}

/// By the data directory where that is known, else by host and port.
fn name(seen: &Observation) -> Option<String> {
    let whole = match (seen.place.ok(), &seen.asked) {
        (Some(place), _) => place.data_directory.display().to_string(),
        (None, Ok(reached)) => format!("{}-{}", reached.host, reached.port),
        (None, Err(_)) => return None,
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
    Some(whole.chars().map(plain).collect())
}

fn write(path: &Path, look: &Look) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let aside = path.with_extension(format!("json.{}", std::process::id()));
    fs::write(&aside, serde_json::to_vec(look)?)?;
    fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(ids: &[&str]) -> Look {
        Look {
            at: Timestamp::UNIX_EPOCH,
            findings: ids.iter().map(|&id| id.to_owned()).collect(),
            disks: Vec::new(),
        }
    }

    #[test]
    fn what_came_and_what_went_is_told_apart_from_what_stayed() {
        let since = Since::between(&look(&["stays", "goes"]), &look(&["stays", "comes"]));
        assert_eq!((since.new, since.gone), (vec!["comes".to_owned()], vec!["goes".to_owned()]));
    }

    #[test]
    fn a_look_comes_back_as_it_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.json");
        write(&path, &look(&["x:y"])).unwrap();
        assert_eq!(serde_json::from_slice::<Look>(&fs::read(path).unwrap()).unwrap(), look(&["x:y"]));
    }
}
