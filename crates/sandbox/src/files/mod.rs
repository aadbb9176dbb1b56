//! The process that serves a sandbox's files, as the server's account: the mounted file system, or a restore, and the desk.
//!
//! It is the only one that reads the repository. Its standard input is the open FUSE device, when there is one; its standard output
//! says when the files are there, or why not.

mod base;
mod bits;
mod compose;
mod layer;
mod serve;
mod tree;

use crate::desk::{self, Answer, Ask};
use crate::place::Place;
use crate::record::{Kind, Statistics};
use crate::spec::Spec;
use crate::{Error, Result};
use base::Base;
pub(crate) use compose::DATA;
use fuser::{Config, Session, SessionACL};
use layer::Layer;
use pgproof_base::NoProgress;
use pgproof_repo::lease::{LeaseTimes, ReaderClaim, ReaderLease, WalNeeded};
use pgproof_repo::walset::Target;
use pgproof_repo::{Lineage, Manifest, Repository};
use pgproof_restore::twophase::StartingXid;
use pgproof_restore::{
    Archiving, Commands, Edge, GapRule, Onto, RecoveryTarget, RestoreOptions, TablespaceMapping,
    TargetAction, TimelineChoice,
};
use pgproof_server::Owner;
use serde::{Deserialize, Serialize};
use serve::{Served, Volume};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tree::{SavedNode, Tree};

/// Threads that answer the kernel: more than processors, because they wait for the repository.
const THREADS: usize = 8;

/// What the process says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Said {
    /// The files are there.
    Ready {
        /// What a person should know.
        notes: Vec<String>,
    },
    /// They will not be.
    Failed(String),
}

/// Where the layer's tree is written down when the sandbox is stopped.
fn saved_tree(place: &Place) -> PathBuf {
    place.layer().join("tree.json")
}

/// Serves until the process is killed. `open` opens the repository, as the account that this process has.
///
/// # Errors
/// What kept the files from being there; it was said on standard output too.
pub fn run(directory: &Path, open: &dyn Fn() -> std::result::Result<Repository, String>) -> Result<()> {
    let place = Place::at(directory);
    raise_file_limit();
    let served = serve(&place, open);
    if let Err(error) = &served {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        say(&Said::Failed(text));
    }
    served
}

fn serve(place: &Place, open: &dyn Fn() -> std::result::Result<Repository, String>) -> Result<()> {
    let spec: Spec = place.read_spec()?;
    let repository = open().map_err(Error::system("open the repository"))?;
    let mut notes = Vec::new();
    let lease = take_lease(&repository, &spec, &mut notes)?;
    let wal_bytes = Arc::new(AtomicU64::new(0));
    let done = match spec.kind {
        Kind::Lazy => serve_lazily(place, &spec, &repository, notes, &wal_bytes),
        Kind::Full => serve_restored(place, &spec, &repository, notes, &wal_bytes),
    };
    drop(lease);
    done
}

/// Announces the reading. A repository that cannot be written is read all the same.
fn take_lease(repository: &Repository, spec: &Spec, notes: &mut Vec<String>) -> Result<Option<ReaderLease>> {
    let wal = WalNeeded { timeline: spec.timeline, from: spec.replay_from };
    let claim = ReaderClaim { kind: "sandbox".to_owned(), backups: vec![spec.backup], wal: Some(wal) };
    match ReaderLease::take(repository, Lineage::new(spec.system), claim, LeaseTimes::default()) {
        Ok(lease) => Ok(Some(lease)),
        Err(error) if error.is_read_only() => {
            notes.push(
                "the repository cannot be written, so this sandbox has no lease: what expires there it loses"
                    .to_owned(),
            );
            Ok(None)
        }
        Err(error) => Err(Error::repository("announce the sandbox")(error)),
    }
}

fn serve_lazily(
    place: &Place,
    spec: &Spec,
    repository: &Repository,
    notes: Vec<String>,
    wal_bytes: &Arc<AtomicU64>,
) -> Result<()> {
    let device = io::stdin().as_fd().try_clone_to_owned().map_err(Error::file("use", "/dev/fuse"))?;
    let manifest = Manifest::open(repository, spec.system, &spec.backup)
        .map_err(Error::repository("open the manifest"))?;
    let base = Base::new(repository, manifest, spec.limits.cache_bytes);
    let layer = Layer::new(&place.layer(), spec.limits.layer_bytes);
    let (tree, pages_total) = tree_of(place, &base, &layer, spec.starting)?;
    let owner = spec.owner.unwrap_or_else(Owner::current);
    let volume = Arc::new(Volume::new(Some(base), layer, tree, owner));
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    let session = Session::from_fd(Served(Arc::clone(&volume)), device, SessionACL::All, config)
        .map_err(Error::file("serve", place.mount()))?;
    let desk = Desk {
        place: place.clone(),
        spec: spec.clone(),
        volume: Some(volume),
        pages_total,
        wal_bytes: Arc::clone(wal_bytes),
    };
    desk.open()?;
    say(&Said::Ready { notes });
    session.run().map_err(Error::file("serve", place.mount()))
}

/// The tree as the backup has it, or as it was when the sandbox was stopped. What was written down is used once: a keeper that is killed
/// afterwards leaves a layer that nobody knows the state of.
fn tree_of(place: &Place, base: &Base, layer: &Layer, starting: StartingXid) -> Result<(Tree, u64)> {
    let saved = saved_tree(place);
    let failed = |operation| Error::file(operation, place.mount());
    if let Ok(text) = fs::read(&saved) {
        let (nodes, pages): (Vec<SavedNode>, u64) =
            serde_json::from_slice(&text).map_err(|error| Error::file("understand", &saved)(error.into()))?;
        fs::remove_file(&saved).map_err(Error::file("remove", &saved))?;
        return Ok((Tree::restored(nodes, layer).map_err(failed("set up"))?, pages));
    }
    // 32 bits of it become a key of shared memory; the lowest are left to the nodes that follow.
    let first =
        u64::from(std::process::id()) << 8 ^ jiff::Timestamp::now().as_nanosecond() as u64 & 0x7fff_ff00;
    compose::compose(base, layer, &place.mount(), &place.wal(), first, starting).map_err(failed("set up"))
}

fn serve_restored(
    place: &Place,
    spec: &Spec,
    repository: &Repository,
    mut notes: Vec<String>,
    wal_bytes: &Arc<AtomicU64>,
) -> Result<()> {
    let data = place.full().join(DATA);
    if !data.exists() {
        let prepared =
            pgproof_restore::prepare(repository, &restore_options(place, spec), jiff::Timestamp::now())?;
        let report = pgproof_restore::run(repository, &prepared, &NoProgress)?;
        notes.extend(report.notes);
    }
    let desk = Desk {
        place: place.clone(),
        spec: spec.clone(),
        volume: None,
        pages_total: 0,
        wal_bytes: Arc::clone(wal_bytes),
    };
    desk.open()?;
    say(&Said::Ready { notes });
    // The keeper holds the other end for as long as it lives, where no namespace takes this process with it.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    crate::create::stop_strays(place);
    Ok(())
}

/// The files alone: where recovery stops is on the server's command line, which wins over what a restore writes.
fn restore_options(place: &Place, spec: &Spec) -> RestoreOptions {
    let target =
        RecoveryTarget { stop: Target::Immediate, edge: Edge::Inclusive, action: TargetAction::Promote };
    RestoreOptions {
        request: pgproof_restore::Request {
            target,
            timeline: TimelineChoice::Current,
            backup: Some(spec.backup),
            gap: GapRule::Refuse,
        },
        system: Some(spec.system),
        directory: place.full().join(DATA),
        onto: Onto::Empty,
        databases: Vec::new(),
        tablespaces: TablespaceMapping { single: Vec::new(), root: Some(place.full().join("tablespaces")) },
        external: None,
        archiving: Archiving::Off,
        commands: Commands { restore: String::new(), archive: String::new() },
        workers: spec.workers,
        owner: None,
    }
}

/// What the desk answers from.
struct Desk {
    place: Place,
    spec: Spec,
    volume: Option<Arc<Volume>>,
    pages_total: u64,
    wal_bytes: Arc<AtomicU64>,
}

impl Desk {
    fn open(self) -> Result<()> {
        let path = self.place.desk();
        // One that an earlier process left.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(Error::file("listen on", &path))?;
        desk::serve(listener, Arc::new(move |ask| self.answer(ask)));
        Ok(())
    }

    fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Get { name, path } => Answer::Got(self.get(&name, &path)),
            Ask::Statistics => Answer::Statistics(Box::new(self.statistics())),
            Ask::Save => match self.save() {
                Ok(()) => Answer::Saved,
                Err(error) => Answer::Failed(error.to_string()),
            },
        }
    }

    /// Runs `archive get` in the data directory, where PostgreSQL would have run it.
    fn get(&self, name: &str, path: &str) -> i32 {
        const COULD_NOT: i32 = 126;
        let data = match self.spec.kind {
            Kind::Lazy => self.place.mount().join(DATA),
            Kind::Full => self.place.full().join(DATA),
        };
        let mut command = Command::new(&self.spec.call.program);
        command
            .args(["archive", "get", name, path])
            .args(&self.spec.call.repository)
            .args(&self.spec.call.get);
        command.current_dir(&data).stdin(Stdio::null()).stdout(Stdio::null());
        let Ok(status) = command.status() else { return COULD_NOT };
        if status.success()
            && let Ok(got) = data.join(path).metadata()
        {
            self.wal_bytes.fetch_add(got.len(), Ordering::Relaxed);
        }
        status.code().unwrap_or(COULD_NOT)
    }

    fn statistics(&self) -> Statistics {
        let mut statistics = Statistics {
            wal_bytes: self.wal_bytes.load(Ordering::Relaxed),
            pages_total: self.pages_total,
            ..Statistics::default()
        };
        if let Some(volume) = &self.volume {
            statistics.pages_written = volume.layer.pages_written();
            volume.base.iter().for_each(|base| base.count(&mut statistics));
        }
        statistics
    }

    fn save(&self) -> io::Result<()> {
        let Some(volume) = &self.volume else { return Ok(()) };
        let saved = saved_tree(&self.place);
        let text = serde_json::to_vec(&(volume.tree().save(), self.pages_total))?;
        fs::write(saved, text)
    }
}

/// Each file that the clone writes to is open here.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // With fewer a large clone sees EMFILE; that is for it to say.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// One line on standard output. Who does not listen does not hear.
fn say(said: &Said) {
    if let Ok(mut line) = serde_json::to_vec(said) {
        line.push(b'\n');
        let mut out: File = match io::stdout().as_fd().try_clone_to_owned() {
            Ok(out) => out.into(),
            Err(_) => return,
        };
        let _ = out.write_all(&line);
    }
}
