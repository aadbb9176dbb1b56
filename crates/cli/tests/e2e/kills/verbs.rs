//! Every command that is killed: how it is run, what comes before, and what its next run has to bring about.

use super::{Ground, never_half};
use crate::dump;
use crate::receive::Receiver;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Verbs that share a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Archive,
    Backups,
    Logical,
}

/// How long a verb runs when nobody kills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    ToItsEnd,
    ForEver,
    /// PostgreSQL starts it.
    ByTheServer,
}

/// A command that is killed.
pub(super) struct Verb {
    pub(super) name: &'static str,
    pub(super) group: Group,
    pub(super) way: Way,
    pub(super) before: fn(&Ground) -> Result<()>,
    pub(super) command: fn(&Ground) -> Command,
    /// What the next run has to bring about.
    pub(super) next: fn(&Ground, &Verb) -> Result<()>,
    /// Whether something is damaged until the next run has healed it.
    pub(super) heals: bool,
}

const PLAIN: Verb = Verb {
    name: "",
    group: Group::Backups,
    way: Way::ToItsEnd,
    before: |_| Ok(()),
    command: |ground| ground.scene.command(&[]),
    next: succeeds,
    heals: false,
};

pub(super) const VERBS: [Verb; 13] = [
    Verb {
        name: "push",
        group: Group::Archive,
        way: Way::ByTheServer,
        next: |ground, _| ground.scene.server.archive_everything().map(drop),
        ..PLAIN
    },
    Verb {
        name: "run",
        group: Group::Archive,
        way: Way::ForEver,
        command: |ground| {
            let data = ground.scene.server.pgdata().display().to_string();
            ground.scene.command(&["archive", "run", "--pgdata", &data])
        },
        next: |ground, _| ground.scene.server.archive_everything().map(drop),
        ..PLAIN
    },
    Verb {
        name: "receive",
        group: Group::Archive,
        way: Way::ForEver,
        command: |ground| ground.scene.command(&["archive", "receive", "--spool", &ground.place("spool")]),
        next: received,
        ..PLAIN
    },
    Verb {
        name: "get",
        group: Group::Archive,
        command: |ground| {
            let last = ground
                .scene
                .server
                .value("SELECT last_archived_wal FROM pg_stat_archiver")
                .unwrap_or_default();
            let mut command =
                ground.scene.command(&["archive", "get", "--no-prefetch", &last, &ground.place("wanted")]);
            command.current_dir(ground.scene.server.pgdata());
            command
        },
        before: |ground| {
            ground.scene.server.archive_everything()?;
            drop(fs::remove_file(ground.place("wanted")));
            Ok(())
        },
        next: whole_or_nothing,
        ..PLAIN
    },
    Verb { name: "backup", command: |ground| ground.scene.command(&["backup"]), ..PLAIN },
    Verb {
        name: "restore",
        command: |ground| {
            ground.scene.command(&["restore", "--pgdata", &ground.place("half"), "--delta", "--force"])
        },
        next: |ground, verb| {
            never_half(Path::new(&ground.place("half")))?;
            succeeds(ground, verb)?;
            // Every other one begins with nothing.
            if ground.scene.server.value("SELECT max(a) / 12 % 2 FROM t")? == "0" {
                fs::remove_dir_all(ground.place("half"))?;
            }
            Ok(())
        },
        ..PLAIN
    },
    Verb {
        name: "expire",
        before: |ground| ground.scene.pgproof(&["backup"])?.succeeded().map(drop),
        command: |ground| ground.scene.command(&["expire", "--keep-last", "2", "--sweep-after", "0s"]),
        ..PLAIN
    },
    Verb { name: "copy", command: copy, next: copied, ..PLAIN },
    Verb { name: "repair", before: damage, command: repair, heals: true, ..PLAIN },
    Verb { name: "rotate", command: |ground| ground.scene.command(&["key", "rotate"]), ..PLAIN },
    Verb {
        name: "dump",
        group: Group::Logical,
        command: |ground| dump::command(&ground.scene, &["dump", "--full"]),
        ..PLAIN
    },
    Verb {
        name: "load",
        group: Group::Logical,
        before: without_loaded,
        command: load,
        next: loaded,
        ..PLAIN
    },
    Verb {
        name: "extract",
        group: Group::Logical,
        before: |ground| {
            ground.scene.server.archive_everything()?;
            drop(fs::remove_file(ground.place("orders.dump")));
            Ok(())
        },
        command: |ground| {
            let (scratch, to) = (ground.place("scratch"), ground.place("orders.dump"));
            let arguments = [
                "extract",
                "orders",
                "--from-database",
                "shop",
                "--latest",
                "--scratch",
                &scratch,
                "--to",
                &to,
            ];
            dump::command(&ground.scene, &arguments)
        },
        next: |ground, verb| {
            // A file under its name is a whole one.
            drop(fs::remove_file(ground.place("orders.dump")));
            succeeds(ground, verb)?;
            let left = fs::read_dir(ground.place("scratch"))?.count();
            ensure!(left == 0, "{left} directories of killed runs are left");
            Ok(())
        },
        ..PLAIN
    },
];

/// The same again.
fn succeeds(ground: &Ground, verb: &Verb) -> Result<()> {
    ground.scene.ran((verb.command)(ground))?.succeeded().map(drop)
}

/// What was acknowledged to the server is in the spool or in the repository, and the next receiver streams.
fn received(ground: &Ground, _: &Verb) -> Result<()> {
    let server = &ground.scene.server;
    let name = "SELECT pg_walfile_name(restart_lsn) FROM pg_replication_slots WHERE slot_name = 'pgproof'";
    if let Some(segment) = server.query(name)?.into_iter().flatten().next().flatten() {
        // At the first byte of a segment nothing of it is acknowledged; `pg_walfile_name` then names the one before.
        ground
            .delivers(&segment, &["--spool", &ground.place("spool")])
            .context("acknowledged to the server")?;
    }
    drop(Receiver::start(&ground.scene, &ground.place("spool"))?);
    Ok(())
}

/// What lies under the wanted name is the whole file.
fn whole_or_nothing(ground: &Ground, verb: &Verb) -> Result<()> {
    let wanted = PathBuf::from(ground.place("wanted"));
    if let Ok(metadata) = fs::metadata(&wanted) {
        ensure!(metadata.len() == 1 << 20, "{} bytes were delivered", metadata.len());
    }
    succeeds(ground, verb)
}

pub(super) fn copy(ground: &Ground) -> Command {
    let (second, key) = (ground.place("second"), ground.place("second.key"));
    ground.scene.command(&["copy", "--from", "main", "--to", &second, "--create", "--to-key-file", &key])
}

fn copied(ground: &Ground, verb: &Verb) -> Result<()> {
    succeeds(ground, verb)?;
    let (second, key) = (ground.place("second"), ground.place("second.key"));
    ground.scene.pgproof(&["verify", "--repository", &second, "--key-file", &key])?.succeeded().map(drop)
}

/// A segment that the second repository holds too is gone from the first one.
fn damage(ground: &Ground) -> Result<()> {
    ground.scene.ran(copy(ground))?.succeeded()?;
    let held = newest_segment(&ground.scene.repository())?.context("WAL is archived")?;
    Ok(fs::remove_file(held)?)
}

fn newest_segment(directory: &Path) -> Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let found = match path.is_dir() {
            true => newest_segment(&path)?,
            false => path.to_str().is_some_and(|text| text.contains("/wal/0")).then_some(path),
        };
        newest = newest.max(found);
    }
    Ok(newest)
}

fn repair(ground: &Ground) -> Command {
    let (second, key) = (ground.place("second"), ground.place("second.key"));
    ground.scene.command(&["repair", "--repository", "main", "--from", &second, "--from-key-file", &key])
}

fn without_loaded(ground: &Ground) -> Result<()> {
    ground.scene.server.each(&["DROP DATABASE IF EXISTS loaded WITH (FORCE)"])
}

fn load(ground: &Ground) -> Command {
    let server = &ground.scene.server;
    let (host, port) = (server.socket_dir().display().to_string(), server.port().to_string());
    let from = ["load", "latest", "--database", "shop", "--into", "loaded"];
    dump::command(
        &ground.scene,
        &[&from[..], &["--host", &host, "--port", &port, "--user", "postgres"]].concat(),
    )
}

fn loaded(ground: &Ground, verb: &Verb) -> Result<()> {
    without_loaded(ground)?;
    succeeds(ground, verb)?;
    let rows = |database| {
        ground.scene.server.query_in(database, "SELECT count(*), sum(hashtext(orders::text)) FROM orders")
    };
    ensure!(rows("loaded")? == rows("shop")?, "what was loaded differs");
    without_loaded(ground)
}
