//! Decides what a restore will do. Pure: facts, options and the time go in, a [`Plan`] or a [`Refusal`] comes out.
//!
//! It comes in steps, because some facts can only be had once others are decided: which backup ([`crate::choose`]), where its
//! tablespaces go ([`place`]), and what that means for the disk and the settings ([`plan`]). `run.rs` performs the plan without a
//! choice of its own; `--dry-run` prints it.

use crate::choose::{Chosen, Request, describe_target};
use crate::databases::{self, Databases, Selection};
use crate::directory::{DirectoryFacts, Occupancy, PlaceFacts};
use crate::error::Refusal;
use crate::options::{Archiving, Onto, RestoreOptions};
use crate::places::Places;
use crate::settings::{Setting, recovery_settings};
use crate::survey::{Kind, LocalWal, Removal, Survey};
use jiff::Timestamp;
use pgproof_base::{Bytes, human_duration};
use pgproof_pg::{Lsn, SegmentName, SystemIdentifier, TimelineId, WalSegmentSize};
use pgproof_repo::manifest::BackupSummary;
use pgproof_server::Owner;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes a second that one worker decodes and writes, measured on one 2026 core with zstd 3. A disk that is slower
/// shows; the estimate says what it rests on.
const PLACE_BYTES_PER_WORKER_S: u64 = 300 << 20;

/// No common disk takes more, however many workers there are.
const PLACE_BYTES_S_MAX: u64 = 1200 << 20;

/// Bytes a second of WAL that one PostgreSQL startup process replays, where pages have to be read first: 3 segments of 16 MB.
const REPLAY_BYTES_S: u64 = 48 << 20;

/// Left free on each file system, for the first WAL segments and files that the server makes at start.
const SPARE_BYTES: u64 = 64 << 20;

/// A tablespace and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TablespacePlan {
    /// Its oid.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Where it was.
    pub origin: String,
    /// Where it goes.
    pub directory: PathBuf,
}

/// How long it should take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// Seconds to place the files.
    pub place_s: u64,
    /// Seconds to replay WAL up to the target.
    pub replay_s: u64,
    /// What the estimate rests on.
    pub how: String,
}

/// What a restore will do, with nothing left to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The cluster.
    pub system: SystemIdentifier,
    /// The backup, the timeline and the WAL to replay.
    pub chosen: Chosen,
    /// Where the backup becomes consistent.
    pub consistent_at: Lsn,
    /// When the backup was finished.
    pub backup_stopped: Timestamp,
    /// `server_version_num` of the backup.
    pub server_version: u32,
    /// The target, in words.
    pub target: String,
    /// What was asked for.
    pub request: Request,
    /// The data directory to be.
    pub directory: PathBuf,
    /// Its permission bits.
    pub directory_mode: u32,
    /// What may be in it.
    pub onto: Onto,
    /// Tablespaces.
    pub tablespaces: Vec<TablespacePlan>,
    /// To whom files are given.
    pub owner: Option<Owner>,
    /// Files to restore.
    pub files: u64,
    /// Their length in bytes, holes included.
    pub bytes: u64,
    /// What is left out, when not all databases are restored; not counted in `files` and `bytes`.
    pub databases: Option<Databases>,
    /// Files that are there and will be compared.
    pub files_to_compare: u64,
    /// Bytes of them.
    pub bytes_to_compare: u64,
    /// What is there and goes.
    pub removals: Vec<Removal>,
    /// Segments in `pg_wal` that were never archived and stay.
    pub kept_wal: Vec<String>,
    /// Settings to be written.
    pub settings: Vec<Setting>,
    /// Configuration files that have to be made because the backup's data directory had none.
    pub made_configuration: Vec<&'static str>,
    /// Configuration from outside of the data directory: where it was, and where it goes, if anywhere.
    pub external: Vec<(String, Option<PathBuf>)>,
    /// Whether the server archives afterwards.
    pub archiving: Archiving,
    /// How long it should take.
    pub expected: Expected,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Threads.
    pub workers: usize,
}

impl Plan {
    /// Where paths of the backup go.
    pub fn places(&self) -> Places {
        let tablespaces = self.tablespaces.iter().map(|t| (t.oid, t.directory.clone())).collect();
        Places::new(&self.directory, tablespaces)
    }
}

/// Whether the directory may be restored into at all.
///
/// # Errors
/// The reason why not.
pub fn admit_directory(facts: &DirectoryFacts, onto: Onto, system: SystemIdentifier) -> Result<(), Refusal> {
    let directory = facts.place.path.clone();
    if !directory.is_absolute() {
        return Err(Refusal::NotAbsolute { path: directory });
    }
    match facts.place.occupancy {
        Occupancy::Absent | Occupancy::Empty => return Ok(()),
        Occupancy::NotADirectory => return Err(Refusal::NotADirectory { directory }),
        Occupancy::Occupied => {}
    }
    if let Some(pid) = facts.running {
        return Err(Refusal::Running { directory, pid });
    }
    match (onto, facts.system) {
        (Onto::Empty, _) => Err(Refusal::NotEmpty { directory }),
        (Onto::Anything, _) => Ok(()),
        (Onto::Delta, None) => Err(Refusal::NotADataDirectory { directory }),
        (Onto::Delta, Some(found)) if found != system => {
            Err(Refusal::OtherSystem { directory, found, expected: system })
        }
        (Onto::Delta, Some(_)) => Ok(()),
    }
}

/// Whether databases may be left out here. A delta is easily taken for a way to bring one database back in place and leave the others alone,
/// which no physical restore can do: recovery is of the whole cluster.
///
/// # Errors
/// [`Refusal::WouldEmpty`].
pub fn admit_selection(facts: &DirectoryFacts, onto: Onto, selection: &Selection) -> Result<(), Refusal> {
    let occupied = facts.place.occupancy == Occupancy::Occupied;
    if onto == Onto::Delta && occupied && !selection.is_everything() {
        let directory = facts.place.path.clone();
        return Err(Refusal::WouldEmpty { directory, others: selection.left_out().count() });
    }
    Ok(())
}

/// Decides where each tablespace goes: where it was told to, else below the root given, else where the directory's own link leads
/// (delta), else where it was.
///
/// # Errors
/// [`Refusal::UnknownTablespace`], [`Refusal::NotAbsolute`], and [`Refusal::Overlap`] for places inside one another.
pub fn place_tablespaces(
    summary: &BackupSummary,
    options: &RestoreOptions,
    facts: &DirectoryFacts,
) -> Result<Vec<TablespacePlan>, Refusal> {
    let known = |tablespace: &str| {
        summary.tablespaces.iter().find(|t| t.name == tablespace || t.oid.to_string() == tablespace)
    };
    let mut single = BTreeMap::new();
    for (tablespace, directory) in &options.tablespaces.single {
        let found = known(tablespace).ok_or_else(|| Refusal::UnknownTablespace {
            tablespace: tablespace.clone(),
            known: summary.tablespaces.iter().map(|t| format!("{} ({})", t.oid, t.name)).collect(),
        })?;
        single.insert(found.oid, directory.clone());
    }
    let mut plans = Vec::new();
    for tablespace in &summary.tablespaces {
        let own_link = facts.tablespaces.get(&tablespace.oid).filter(|_| options.onto.is_delta());
        let below_root = options.tablespaces.root.as_ref().map(|root| root.join(tablespace.oid.to_string()));
        let directory = single
            .get(&tablespace.oid)
            .cloned()
            .or(below_root)
            .or_else(|| own_link.cloned())
            .unwrap_or_else(|| PathBuf::from(&tablespace.location));
        if !directory.is_absolute() {
            return Err(Refusal::NotAbsolute { path: directory });
        }
        plans.push(TablespacePlan {
            oid: tablespace.oid,
            name: tablespace.name.clone(),
            origin: tablespace.location.clone(),
            directory,
        });
    }
    check_overlap(&options.directory, &plans)?;
    Ok(plans)
}

fn check_overlap(data: &Path, tablespaces: &[TablespacePlan]) -> Result<(), Refusal> {
    let name = |plan: &TablespacePlan| format!("tablespace {} ({})", plan.oid, plan.name);
    for (at, plan) in tablespaces.iter().enumerate() {
        if plan.directory.starts_with(data) || data.starts_with(&plan.directory) {
            let directory = plan.directory.clone();
            return Err(Refusal::Overlap {
                directory,
                first: "the data directory".to_owned(),
                second: name(plan),
            });
        }
        for other in &tablespaces[..at] {
            if plan.directory.starts_with(&other.directory) || other.directory.starts_with(&plan.directory) {
                let directory = plan.directory.clone();
                return Err(Refusal::Overlap { directory, first: name(other), second: name(plan) });
            }
        }
    }
    Ok(())
}

/// Whether the places of tablespaces may be written to. A place in use is only taken by a delta whose data directory already
/// leads there: else the tablespace belongs to somebody else, most likely to the origin on the same host.
///
/// # Errors
/// [`Refusal::TablespaceNotEmpty`], [`Refusal::NotADirectory`].
pub fn admit_tablespaces(
    tablespaces: &[TablespacePlan],
    places: &BTreeMap<u32, PlaceFacts>,
    facts: &DirectoryFacts,
    onto: Onto,
) -> Result<(), Refusal> {
    for tablespace in tablespaces {
        let directory = tablespace.directory.clone();
        match places.get(&tablespace.oid).map(|place| place.occupancy) {
            None | Some(Occupancy::Absent | Occupancy::Empty) => {}
            Some(Occupancy::NotADirectory) => return Err(Refusal::NotADirectory { directory }),
            Some(Occupancy::Occupied) => {
                let own = facts.tablespaces.get(&tablespace.oid) == Some(&directory);
                if !(onto.is_delta() && own) {
                    return Err(Refusal::TablespaceNotEmpty { oid: tablespace.oid, directory });
                }
            }
        }
    }
    Ok(())
}

/// All that is known once backup and places are decided.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What was chosen.
    pub chosen: Chosen,
    /// The chosen backup.
    pub summary: &'a BackupSummary,
    /// The directory.
    pub directory: &'a DirectoryFacts,
    /// Where tablespaces go.
    pub tablespaces: Vec<TablespacePlan>,
    /// What is at those places.
    pub tablespace_places: &'a BTreeMap<u32, PlaceFacts>,
    /// What the backup brings and what goes.
    pub survey: Survey,
    /// What the external directory is, where one was given.
    pub external: Option<&'a PlaceFacts>,
    /// To whom files are given.
    pub owner: Option<Owner>,
    /// The segment after the last that recovery finds in the archive.
    pub first_not_archived: SegmentName,
}

/// Makes the plan.
///
/// # Errors
/// [`Refusal::NoSpace`], [`Refusal::NotEmpty`] for the place of external configuration.
pub fn plan(facts: Facts<'_>, options: &RestoreOptions) -> Result<Plan, Refusal> {
    check_space(&facts)?;
    let summary = facts.summary;
    if let Some(place) = facts.external
        && !options.onto.is_delta()
        && !matches!(place.occupancy, Occupancy::Absent | Occupancy::Empty)
    {
        return Err(Refusal::NotEmpty { directory: place.path.clone() });
    }
    let size = WalSegmentSize::new(summary.wal_segment_size.into()).unwrap_or(WalSegmentSize::DEFAULT);
    let kept_wal = kept_wal(&facts.survey.local_wal, facts.first_not_archived, size);
    let mut notes = facts.chosen.notes.clone();
    notes.extend(tell(&facts, options, &kept_wal));
    let mut survey = facts.survey;
    let stale: Vec<Removal> = stale_wal(&survey.local_wal, &kept_wal, &options.directory, size).collect();
    survey.removals.extend(stale);
    let made_configuration = ["postgresql.conf", "pg_hba.conf"]
        .into_iter()
        .filter(|name| !survey.configuration.contains(*name))
        .collect();
    Ok(Plan {
        system: summary.system,
        consistent_at: summary.stop_lsn,
        backup_stopped: summary.stopped,
        server_version: summary.server_version,
        target: describe_target(&options.request.target),
        request: options.request.clone(),
        directory: options.directory.clone(),
        directory_mode: summary.data_directory.mode & 0o750 | 0o700,
        onto: options.onto,
        tablespaces: facts.tablespaces,
        owner: facts.owner,
        files: survey.files,
        bytes: survey.bytes,
        settings: settings(options, facts.chosen.timeline, survey.databases.is_some()),
        databases: survey.databases,
        files_to_compare: survey.files_to_compare,
        bytes_to_compare: survey.bytes_to_compare,
        removals: survey.removals,
        kept_wal,
        made_configuration,
        external: external(summary, options.external.as_deref()),
        archiving: options.archiving.clone(),
        expected: expected(
            survey.needs.values().map(|need| need.bytes).sum(),
            facts.chosen.replay_bytes,
            options.workers,
        ),
        notes,
        workers: options.workers,
        chosen: facts.chosen,
    })
}

/// Sums up needs by file system, and compares.
fn check_space(facts: &Facts<'_>) -> Result<(), Refusal> {
    let mut by_device: BTreeMap<u64, (u64, &PlaceFacts)> = BTreeMap::new();
    let removed: u64 = facts.survey.removals.iter().map(|removal| removal.bytes).sum();
    for (root, need) in &facts.survey.needs {
        let place = match root {
            None => &facts.directory.place,
            Some(oid) => facts.tablespace_places.get(oid).unwrap_or(&facts.directory.place),
        };
        let (needed, _) = by_device.entry(place.room.device).or_insert((SPARE_BYTES, place));
        *needed += need.bytes.saturating_sub(need.present);
    }
    for (needed, place) in by_device.into_values() {
        let available = place.room.available.saturating_add(removed);
        if needed > available {
            return Err(Refusal::NoSpace { directory: place.path.clone(), needed, available });
        }
    }
    Ok(())
}

fn settings(options: &RestoreOptions, timeline: TimelineId, leaves_out: bool) -> Vec<Setting> {
    let mut settings = recovery_settings(&options.request.target, timeline, &options.commands.restore);
    if leaves_out {
        settings.extend(databases::settings());
    }
    match &options.archiving {
        Archiving::Off => settings.push(Setting::new("archive_mode", "off")),
        Archiving::TakeOver { .. } => {
            settings.push(Setting::new("archive_mode", "on"));
            settings.push(Setting::new("archive_command", options.commands.archive.clone()));
        }
    }
    settings
}

/// Segments in `pg_wal` that go on where the archive ends: the only copy of what was committed last. PostgreSQL replays them after the
/// archive's. A later one is of no use without those before it, and one whose first page says something else is an old file kept
/// for its space.
fn kept_wal(local: &[LocalWal], first: SegmentName, size: WalSegmentSize) -> Vec<String> {
    let mut kept = Vec::new();
    let mut next = first;
    loop {
        let name = next.file_name(size);
        let claimed = (next.timeline.0, next.start(size).0);
        if !local.iter().any(|segment| segment.name == name && segment.page == Some(claimed)) {
            return kept;
        }
        kept.push(name);
        next = next.next();
    }
}

/// All other segments: of another history, archived already, or old files kept for their space.
fn stale_wal<'a>(
    local: &'a [LocalWal],
    kept: &'a [String],
    directory: &'a Path,
    size: WalSegmentSize,
) -> impl Iterator<Item = Removal> + 'a {
    let stale = local.iter().filter(|segment| !kept.contains(&segment.name));
    stale.map(move |segment| Removal {
        path: directory.join("pg_wal").join(&segment.name),
        kind: Kind::File,
        bytes: size.bytes().into(),
    })
}

fn external(summary: &BackupSummary, directory: Option<&Path>) -> Vec<(String, Option<PathBuf>)> {
    let origins: Vec<&Path> = summary.external_files.iter().map(|file| Path::new(&file.path)).collect();
    let common = common_directory(&origins);
    origins
        .iter()
        .map(|origin| {
            let relative = origin.strip_prefix(&common).unwrap_or(origin);
            let place = directory.map(|directory| directory.join(relative));
            (origin.display().to_string(), place)
        })
        .collect()
}

/// The deepest directory above all of these files.
fn common_directory(files: &[&Path]) -> PathBuf {
    let mut files = files.iter();
    let Some(mut common) = files.next().and_then(|first| first.parent()).map(Path::to_owned) else {
        return PathBuf::new();
    };
    for file in files {
        while !file.starts_with(&common) && common.pop() {}
    }
    common
}

fn expected(place_bytes: u64, replay_bytes: u64, workers: usize) -> Expected {
    let rate = (PLACE_BYTES_PER_WORKER_S * workers.max(1) as u64).min(PLACE_BYTES_S_MAX);
    Expected {
        place_s: place_bytes.div_ceil(rate),
        replay_s: replay_bytes.div_ceil(REPLAY_BYTES_S),
        how: format!(
            "{} at {}/s with {workers} workers, and at most {} of WAL at {}/s; this machine was not measured",
            Bytes(place_bytes),
            Bytes(rate),
            Bytes(replay_bytes),
            Bytes(REPLAY_BYTES_S)
        ),
    }
}

impl Expected {
    /// Both together.
    pub fn total(&self) -> Duration {
        Duration::from_secs(self.place_s + self.replay_s)
    }

    /// In words.
    pub fn show(&self) -> String {
        format!("about {} ({})", human_duration(self.total()), self.how)
    }
}

/// What a person should know beforehand.
fn tell(facts: &Facts<'_>, options: &RestoreOptions, kept_wal: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(facts.survey.databases.iter().flat_map(Databases::notes));
    notes.extend(tell_of_state_files(&facts.survey));
    if options.onto.is_delta() && options.directory != Path::new(&facts.summary.data_directory.path) {
        notes.push(format!("the backup was taken of {}", facts.summary.data_directory.path));
    }
    if let (Some(first), Some(last)) = (kept_wal.first(), kept_wal.last()) {
        notes.push(format!(
            "{} segments in pg_wal were never archived ({first} to {last}) and stay: PostgreSQL replays them after the archive",
            kept_wal.len()
        ));
    }
    if !facts.survey.configuration.contains("postgresql.conf") {
        notes.push(
            "postgresql.conf lay outside of the data directory: one with the settings that recovery needs is made".to_owned(),
        );
    }
    if !facts.survey.configuration.contains("pg_hba.conf") {
        notes.push("pg_hba.conf lay outside of the data directory: its stored copy is used, or one that admits local users by name".to_owned());
    }
    if !facts.summary.external_files.is_empty() && options.external.is_none() {
        notes.push(format!(
            "{} configuration files outside of the data directory are not restored; --external DIRECTORY restores them",
            facts.summary.external_files.len()
        ));
    }
    if matches!(options.archiving, Archiving::Off) {
        notes.push("archiving will be off (archive_mode in postgresql.auto.conf); --take-over lets the restored server archive".to_owned());
    }
    notes
}

fn tell_of_state_files(survey: &Survey) -> Vec<String> {
    let mut notes = Vec::new();
    if survey.left_to_wal > 0 {
        notes.push(format!(
            "{} prepared transactions began after the backup's start: WAL prepares them again, and their files in pg_twophase stay out",
            survey.left_to_wal
        ));
    }
    if survey.doubtful_state_files > 0 {
        notes.push(format!(
            "neither the backup nor its WAL tells which of {} files in pg_twophase recovery takes; compare pg_prepared_xacts afterwards",
            survey.doubtful_state_files
        ));
    }
    notes
}

#[cfg(test)]
mod tests;
