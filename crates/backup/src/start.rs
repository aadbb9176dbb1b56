//! Begins a backup: its name and lease, what it builds on, and PostgreSQL's own start.
//!
//! The lease comes first, then the look at the base: expiry marks first and looks for leases then, so one of the two sees the other.

use crate::base::{self, Chosen, Unfit, Wanted};
use crate::cluster::Cluster;
use crate::earlier::{self, Earlier};
use crate::error::BackupError;
use crate::options::{BackupOptions, Kind};
use jiff::Timestamp;
use pgproof_base::Progress;
use pgproof_pg::TimelineHistory;
use pgproof_repo::lease::{LeaseTimes, WalNeeded, WriterClaim, WriterLease};
use pgproof_repo::{BackupId, BackupSummary, Lineage, Repository};
use pgproof_server::RunningBackup;
use std::hash::{BuildHasher, RandomState};

/// A backup that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Keeps expiry away.
    pub(crate) lease: WriterLease,
    /// An interrupted attempt is continued.
    pub(crate) resumed: bool,
    /// What it builds on.
    pub(crate) base: Option<BackupSummary>,
    /// Why WAL cannot tell what changed since the base, where it cannot.
    pub(crate) distrust: Option<Unfit>,
    /// Newer backups that cannot be built on.
    pub(crate) passed_over: Vec<(BackupId, Unfit)>,
    /// The history of the timeline.
    pub(crate) history: TimelineHistory,
    /// PostgreSQL's running backup.
    pub(crate) running: RunningBackup,
}

/// Takes or takes over a lease, chooses a base, and starts the backup in the server.
pub(crate) fn begin(
    repository: &Repository,
    cluster: &mut Cluster,
    options: &BackupOptions,
    progress: &dyn Progress,
) -> Result<Begun, BackupError> {
    let lineage = Lineage::new(cluster.facts.system_identifier);
    let earlier = earlier::observe(repository, lineage).map_err(repo("list the backups"))?;
    let (lease, resumed) = take_lease(repository, lineage, &earlier, progress)?;
    let running = start(cluster, options)?;
    let history = cluster.history(running.timeline)?;
    let mut begun =
        Begun { lease, resumed, base: None, distrust: None, passed_over: Vec::new(), history, running };
    let candidates = if options.kind == Kind::Full { &[][..] } else { &earlier.published };
    choose_base(&mut begun, candidates, cluster, progress)?;
    Ok(begun)
}

fn start(cluster: &mut Cluster, options: &BackupOptions) -> Result<RunningBackup, BackupError> {
    let (version, label, fast) = (cluster.facts.version_num, &options.label, options.fast_checkpoint);
    let is_standby = cluster.is_standby();
    let session = &mut cluster.session;
    let started = if is_standby {
        RunningBackup::start_on_standby(session, version, label, fast)
    } else {
        RunningBackup::start(session, version, cluster.facts.wal_segment_size, label, fast)
    };
    started.map_err(|source| BackupError::Server { operation: "start the backup", source })
}

/// Goes on with the newest interrupted attempt, else begins anew. The advisory lock says that no other backup of this cluster runs,
/// but only the lease says whether its writer is dead.
pub(crate) fn take_lease(
    repository: &Repository,
    lineage: Lineage,
    earlier: &Earlier,
    progress: &dyn Progress,
) -> Result<(WriterLease, bool), BackupError> {
    for interrupted in earlier.interrupted.iter().copied() {
        let objects = lineage.backup(interrupted);
        match WriterLease::resume(repository, objects, WriterClaim::default(), LeaseTimes::default()) {
            Ok(lease) => {
                progress.note(&format!("continuing the interrupted backup {interrupted}"));
                return Ok((lease, true));
            }
            // Its writer may live, or it came to its end: neither concerns this backup.
            Err(pgproof_repo::Error::LeaseHeld { .. } | pgproof_repo::Error::BackupGone { .. }) => {}
            Err(error) if error.is_conflict() => {}
            Err(source) => {
                return Err(BackupError::Repo { operation: "continue the interrupted backup", source });
            }
        }
    }
    let objects = lineage.backup(new_id());
    let lease = WriterLease::take(repository, objects, WriterClaim::default(), LeaseTimes::default())
        .map_err(repo("begin the backup"))?;
    Ok((lease, false))
}

/// A name by the clock and three random bytes, which the standard library draws for its hash maps.
fn new_id() -> BackupId {
    let random = RandomState::new().hash_one(std::process::id()).to_le_bytes();
    BackupId::new(Timestamp::now(), [random[0], random[1], random[2]])
}

/// Chooses among `published`, and says in the lease what was chosen and which WAL the backup needs.
fn choose_base(
    begun: &mut Begun,
    published: &[BackupSummary],
    cluster: &Cluster,
    progress: &dyn Progress,
) -> Result<(), BackupError> {
    let wanted = Wanted {
        checksums: cluster.facts.checksums,
        catalog_version: cluster.facts.catalog_version,
        history: &begun.history,
        start: begun.running.start,
        origin: &cluster.origin,
        path: &cluster.pgdata.display().to_string(),
    };
    let wal = WalNeeded { timeline: begun.running.timeline, from: begun.running.start };
    let (chosen, passed_over) = build_on(&begun.lease, published, wal, progress, |candidates| {
        base::choose(candidates.iter().copied(), &wanted)
    })?;
    begun.passed_over = passed_over;
    if let Some(chosen) = chosen {
        begun.base = Some(chosen.base.clone());
        begun.distrust = chosen.distrust;
    }
    Ok(())
}

/// A base and why newer backups were passed over.
type Choice<'a> = (Option<Chosen<'a>>, Vec<(&'a BackupSummary, Unfit)>);

/// Says in the lease what `choose` chose. A backup that went away meanwhile is no candidate any more.
pub(crate) fn build_on<'a>(
    lease: &WriterLease,
    published: &'a [BackupSummary],
    wal: WalNeeded,
    progress: &dyn Progress,
    choose: impl Fn(&[&'a BackupSummary]) -> Choice<'a>,
) -> Result<(Option<Chosen<'a>>, Vec<(BackupId, Unfit)>), BackupError> {
    let failed = |source| BackupError::Repo { operation: "say what the backup builds on", source };
    let mut candidates: Vec<&BackupSummary> = published.iter().collect();
    loop {
        let (chosen, passed) = choose(&candidates);
        let passed_over = passed.into_iter().map(|(summary, reason)| (summary.id, reason)).collect();
        let (kind, bases) = match chosen {
            Some(chosen) => ("incremental", vec![chosen.base.id]),
            None => ("full", Vec::new()),
        };
        match lease.build_on(kind, bases, wal) {
            Ok(()) => return Ok((chosen, passed_over)),
            Err(pgproof_repo::Error::BackupGone { backup, why }) if chosen.is_some() => {
                progress.note(&format!("not building on {backup}: {why}"));
                candidates.retain(|candidate| candidate.id != backup);
            }
            Err(source) => return Err(failed(source)),
        }
    }
}

fn repo(operation: &'static str) -> impl FnOnce(pgproof_repo::Error) -> BackupError {
    move |source| BackupError::Repo { operation, source }
}
