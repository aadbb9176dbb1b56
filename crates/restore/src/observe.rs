//! Looks at repository and places and leads from question to plan.
//!
//! [`prepare`] asks, in this order: which backups and WAL there are, which of them lead to the target, where things go, what is
//! there. Each answer is judged by a pure function before the next question; the first refusal ends it. It writes nothing,
//! anywhere: this is also what `--dry-run` does.

use crate::choose::{Archive, Candidate, Chosen, Request, Soundness, choose};
use crate::databases::{Selection, Treatment, database_of, select};
use crate::directory::{DirectoryFacts, PlaceFacts, observe_directory, observe_place};
use crate::dispositions::{Disposition, disposition};
use crate::error::{Refusal, RestoreError, Result};
use crate::options::RestoreOptions;
use crate::places::Places;
use crate::plan::{
    Facts, Plan, TablespacePlan, admit_directory, admit_selection, admit_tablespaces, place_tablespaces, plan,
};
use crate::survey::{is_tablespace_link, survey};
use crate::twophase::{self, StartingXid};
use crate::wal::Wal;
use jiff::Timestamp;
use pgproof_pg::{SegmentName, SystemIdentifier};
use pgproof_repo::catalog::{BackupState, CatalogBackup, LineageCatalog, Scope, lineages};
use pgproof_repo::lease::LeaseTimes;
use pgproof_repo::manifest::BackupSummary;
use pgproof_repo::walset::WalSet;
use pgproof_repo::{BackupId, Lineage, Manifest, Repository};
use pgproof_server::Owner;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A plan, and the manifest that it speaks of.
#[derive(Debug)]
pub struct Prepared {
    /// What will be done.
    pub plan: Plan,
    /// Of the chosen backup.
    pub manifest: Manifest,
    /// Which databases are left out.
    pub selection: Selection,
    /// What decides about state files of prepared transactions.
    pub starting: StartingXid,
}

impl Prepared {
    /// Whether the entry is put into its place as the manifest has it, or as a file without content where its database is left out.
    pub fn admits(&self, path: &str) -> bool {
        disposition(path) == Disposition::Place
            && !is_tablespace_link(path)
            && self.selection.treatment(path) != Treatment::Guard
            && self.starting.judge(path).is_placed()
    }
}

/// Makes the plan for a restore. Changes nothing.
///
/// # Errors
/// [`RestoreError::Refused`] when it cannot be done; [`RestoreError::Repository`] and [`RestoreError::File`] when something cannot be
/// looked at.
pub fn prepare(repository: &Repository, options: &RestoreOptions, now: Timestamp) -> Result<Prepared> {
    prepare_with(repository, None, options, now)
}

/// The same for a recovery that is also given what `archive receive` holds in `spool`.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_with(
    repository: &Repository,
    spool: Option<&Path>,
    options: &RestoreOptions,
    now: Timestamp,
) -> Result<Prepared> {
    let lineage = lineage(repository, options.system)?;
    let directory = observe_directory(&options.directory)?;
    admit_directory(&directory, options.onto, lineage.system())?;
    let catalog = LineageCatalog::read(repository, lineage, Scope::BackupsAndWal, LeaseTimes::default())
        .map_err(RestoreError::repository("read the catalog"))?;
    let wal = Wal::observe(repository, &catalog, spool)?;
    let damaged = look_for_damage(&catalog, &options.request)?;
    let mut chosen = choose_from(&catalog, &wal, &options.request, now)?;
    chosen.notes.extend(damaged);
    admit_packs(&catalog, chosen.backup)?;
    // A beginning in the spool must not displace what the data directory may hold whole.
    let first_not_archived = first_not_archived(&wal.complete, &chosen);
    let manifest = Manifest::open(repository, lineage.system(), &chosen.backup)
        .map_err(RestoreError::repository("open the manifest"))?;
    let summary = manifest.summary();
    let selection = select(summary, &present_databases(&manifest, options)?, &options.databases)?;
    admit_selection(&directory, options.onto, &selection)?;
    let tablespaces = place_tablespaces(summary, options, &directory)?;
    let tablespace_places = observe_tablespaces(&tablespaces, summary)?;
    admit_tablespaces(&tablespaces, &tablespace_places, &directory, options.onto)?;
    let external = options.external.as_deref().map(observe_place).transpose()?;
    let places =
        Places::new(&options.directory, tablespaces.iter().map(|t| (t.oid, t.directory.clone())).collect());
    let log_directory = summary.settings.other.get("log_directory").map_or("log", String::as_str);
    let starting = twophase::observe(repository, &manifest, &wal.all, &mut |segment| wal.summary(segment))?;
    let log_directory = options.onto.is_delta().then_some(log_directory);
    let survey = survey(&manifest, &places, &selection, starting, log_directory)?;
    let facts = Facts {
        chosen,
        summary,
        directory: &directory,
        tablespaces,
        tablespace_places: &tablespace_places,
        survey,
        external: external.as_ref(),
        owner: owner(options, &directory),
        first_not_archived,
    };
    let plan = plan(facts, options)?;
    Ok(Prepared { plan, manifest, selection, starting })
}

/// A backup that leads to an instant, for callers that recover elsewhere.
#[derive(Debug)]
pub struct Found {
    /// The backup, the timeline and the WAL to replay.
    pub chosen: Chosen,
    /// Of the chosen backup.
    pub manifest: Manifest,
    /// What the backup lacks, in words. Whoever reads only a part of it may not need it.
    pub lacks: Option<String>,
    /// What decides about state files of prepared transactions.
    pub starting: StartingXid,
}

/// Finds the backup from which a request can be fulfilled. Changes nothing, and looks at nothing but the repository.
///
/// # Errors
/// As [`prepare`]; a missing pack is none here.
pub fn find(
    repository: &Repository,
    system: Option<SystemIdentifier>,
    request: &Request,
    now: Timestamp,
) -> Result<Found> {
    let lineage = lineage(repository, system)?;
    let catalog = LineageCatalog::read(repository, lineage, Scope::BackupsAndWal, LeaseTimes::default())
        .map_err(RestoreError::repository("read the catalog"))?;
    let wal = Wal::observe(repository, &catalog, None)?;
    let damaged = look_for_damage(&catalog, request)?;
    let mut chosen = choose_from(&catalog, &wal, request, now)?;
    chosen.notes.extend(damaged);
    let lacks = match admit_packs(&catalog, chosen.backup) {
        Err(Refusal::NotUsable { why, .. }) => Some(why),
        Err(other) => return Err(other.into()),
        Ok(()) => None,
    };
    let manifest = Manifest::open(repository, lineage.system(), &chosen.backup)
        .map_err(RestoreError::repository("open the manifest"))?;
    let starting = twophase::observe(repository, &manifest, &wal.all, &mut |segment| wal.summary(segment))?;
    Ok(Found { chosen, manifest, lacks, starting })
}

/// The databases that the backup has files of, where it does not list them itself.
fn present_databases(manifest: &Manifest, options: &RestoreOptions) -> Result<BTreeSet<u32>> {
    if options.databases.is_empty() || !manifest.summary().databases.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut present = BTreeSet::new();
    for entry in manifest.files() {
        let entry = entry.map_err(RestoreError::repository("read the manifest"))?;
        present.extend(database_of(&entry.path).map(|(database, _)| database));
    }
    Ok(present)
}

/// The cluster to restore: the one named, or the only one there is.
fn lineage(repository: &Repository, named: Option<SystemIdentifier>) -> Result<Lineage> {
    let lineages = lineages(repository).map_err(RestoreError::repository("list the clusters"))?;
    let systems: Vec<SystemIdentifier> = lineages.iter().map(Lineage::system).collect();
    match (named, lineages.as_slice()) {
        (Some(system), _) if systems.contains(&system) => Ok(Lineage::new(system)),
        (Some(system), _) => Err(Refusal::NoBackup { system }.into()),
        (None, []) => Err(Refusal::NoLineage.into()),
        (None, [only]) => Ok(*only),
        (None, _) => Err(Refusal::SeveralSystems { systems }.into()),
    }
}

fn choose_from(catalog: &LineageCatalog, wal: &Wal<'_>, request: &Request, now: Timestamp) -> Result<Chosen> {
    let candidates: Vec<Candidate> = catalog.published().filter_map(candidate).collect();
    let archive = Archive { system: catalog.system(), backups: &candidates, wal: &wal.all };
    let mut lookup = |segment: SegmentName| wal.instants(segment);
    choose(&archive, request, now, &mut lookup)
}

/// What keeps backups from being considered: refused for the one asked for, told for the others.
fn look_for_damage(catalog: &LineageCatalog, request: &Request) -> Result<Vec<String>, Refusal> {
    let mut notes = Vec::new();
    for backup in &catalog.backups {
        let asked_for = request.backup == Some(backup.id);
        let why = match &backup.state {
            BackupState::Published => continue,
            BackupState::Damaged { what } => what.clone(),
            BackupState::Running => "it is still being taken".to_owned(),
            BackupState::Interrupted { .. } => "it was never finished".to_owned(),
            BackupState::Revoked { why } => format!("it was given up: {why}"),
            BackupState::Removing | BackupState::Remains => "it is being removed".to_owned(),
        };
        if asked_for {
            return Err(Refusal::NotUsable { backup: backup.id, why });
        }
        if matches!(backup.state, BackupState::Damaged { .. }) {
            notes.push(format!("backup {} is damaged and was passed over: {why}", backup.id));
        }
    }
    Ok(notes)
}

/// A backup that lacks an object would fail in the middle: that is said before anything is written, while another repository can still
/// be chosen. What is in the objects is checked as they are read.
fn admit_packs(catalog: &LineageCatalog, chosen: BackupId) -> Result<(), Refusal> {
    let present: BTreeMap<_, _> =
        catalog.packs.iter().map(|pack| ((pack.backup, pack.number), pack.bytes)).collect();
    let needed = catalog.backup(chosen).into_iter().flat_map(|backup| &backup.packs);
    let why = needed.filter_map(|(pack, bytes)| match present.get(pack) {
        None => Some(format!("pack {} of {} is missing", pack.1, pack.0)),
        Some(found) if found != bytes => {
            Some(format!("pack {} of {} has {found} bytes instead of {bytes}", pack.1, pack.0))
        }
        Some(_) => None,
    });
    match why.into_iter().next() {
        Some(why) => Err(Refusal::NotUsable { backup: chosen, why }),
        None => Ok(()),
    }
}

fn candidate(backup: &CatalogBackup) -> Option<Candidate> {
    Some(Candidate {
        span: backup.span()?,
        soundness: if backup.is_good() { Soundness::Sound } else { Soundness::FailedChecks },
        expired: backup.marked.is_some(),
    })
}

fn first_not_archived(wal: &WalSet, chosen: &Chosen) -> SegmentName {
    wal.unbroken(&wal.history(chosen.timeline), chosen.replay_from).missing
}

/// A tablespace's place is looked at where this version's files would go: other major versions may have theirs beside them.
fn observe_tablespaces(
    tablespaces: &[TablespacePlan],
    summary: &BackupSummary,
) -> Result<BTreeMap<u32, PlaceFacts>> {
    let version = format!("PG_{}_{}", summary.server_version / 10_000, summary.catalog_version);
    tablespaces
        .iter()
        .map(|tablespace| {
            let mut place = observe_place(&tablespace.directory)?;
            let inside = observe_place(&tablespace.directory.join(&version))?;
            if place.occupancy == crate::directory::Occupancy::Occupied {
                place.occupancy = inside.occupancy;
            }
            Ok((tablespace.oid, place))
        })
        .collect()
}

/// PostgreSQL does not run as root, so what root restores is given to the account that will run it: the one named, the one that has
/// the directory or the one above it, else `postgres`.
fn owner(options: &RestoreOptions, directory: &DirectoryFacts) -> Option<Owner> {
    if !Owner::current().is_root() {
        return None;
    }
    let by_place = Some(directory.place.owner).filter(|owner| !owner.is_root());
    options.owner.or(by_place).or_else(Owner::of_packages)
}
