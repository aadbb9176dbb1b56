//! Which databases a restore brings back, and what becomes of the files of the others. Pure.
//!
//! The databases that were not named become shells: their files get their length and no content, sparse. Length matters, because
//! replay goes on writing into them: `XLogReadBufferExtended` (`src/backend/access/transam/xlogutils.c`) makes a file that is missing and
//! fills one that is short up to the block it wants, in real zeroes, so that nothing at all in their place could fill the disk. Content
//! does not matter: a page of zeroes that a record wants changed is "uninitialized", and [`settings`] lets replay pass over it.
//!
//! A shell must never be connected to: a backend that finds no critical catalog index ends with PANIC and takes all others along
//! (`load_critical_index` in `src/backend/utils/cache/relcache.c`). Its `PG_VERSION` is therefore [`GUARD`], which
//! `ValidatePgVersion` refuses before any catalog is read, and its `pg_filenode.map` is as empty as the rest. `DROP DATABASE` reads neither.
//! The decision record is `docs/decisions/2026-11-23-databases-left-out-are-shells.md`.

use crate::error::Refusal;
use crate::places::TABLESPACES;
use crate::settings::Setting;
use pgproof_repo::manifest::BackupSummary;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What `PG_VERSION` of a shell holds. PostgreSQL reads the number in front (0, which is no version) and shows the first 63 bytes to
/// whoever tries to connect: `The data directory was initialized by PostgreSQL version 0-database-left-out...`.
pub const GUARD: &str = "0-database-left-out-by-pgproof-restore,DROP-it";

/// The file whose content decides whether a database can be connected to.
pub const VERSION_FILE: &str = "PG_VERSION";

/// Databases below this number are made by `initdb` (`FirstNormalObjectId` in `src/include/access/transam.h`).
const FIRST_NORMAL_OID: u32 = 16_384;

/// Databases that every server needs, or that are expected to be there, under whatever number they were made again.
const ALWAYS: [&str; 3] = ["template0", "template1", "postgres"];

/// A database; old backups know numbers only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabaseName {
    /// Its number.
    pub oid: u32,
    /// Its name when the backup began.
    pub name: Option<String>,
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.oid),
            None => write!(f, "{}", self.oid),
        }
    }
}

/// A database that becomes a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Which one.
    #[serde(flatten)]
    pub database: DatabaseName,
    /// Files that get no content.
    pub files: u64,
    /// Their length.
    pub bytes: u64,
    /// The SQL that removes it, where its name is known.
    pub drop: Option<String>,
}

/// What a restore of some databases does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Databases {
    /// Restored.
    pub restored: Vec<DatabaseName>,
    /// Left as shells.
    pub left_out: Vec<LeftOut>,
    /// Bytes of the latter: neither read nor written.
    pub bytes_left_out: u64,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It is restored.
    Whole,
    /// It gets its length and no content; it is of this database.
    Hollow(u32),
    /// It becomes [`GUARD`].
    Guard,
}

/// Which databases are restored, and which are not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    restored: Vec<DatabaseName>,
    left_out: BTreeMap<u32, DatabaseName>,
}

/// Decides what the databases `wanted`, by name or number, leave out. `present` are those that the backup has files of; they are asked only
/// for a backup that does not list its databases. A database that has files and is not listed came after the list was made: it is
/// restored, because nobody could have named it.
///
/// # Errors
/// [`Refusal::UnknownDatabase`].
pub fn select(
    summary: &BackupSummary,
    present: &BTreeSet<u32>,
    wanted: &[String],
) -> Result<Selection, Refusal> {
    if wanted.is_empty() {
        return Ok(Selection::default());
    }
    let listed: Vec<DatabaseName> = match summary.databases.as_slice() {
        [] => present.iter().map(|oid| DatabaseName { oid: *oid, name: None }).collect(),
        databases => {
            databases.iter().map(|d| DatabaseName { oid: d.oid, name: Some(d.name.clone()) }).collect()
        }
    };
    let mut chosen = BTreeSet::new();
    for database in wanted {
        let by_name = listed.iter().find(|known| known.name.as_ref() == Some(database));
        let by_number = || listed.iter().find(|known| known.oid.to_string() == *database);
        let found = by_name.or_else(by_number).ok_or_else(|| Refusal::UnknownDatabase {
            database: database.clone(),
            known: listed.iter().map(ToString::to_string).collect(),
            names_known: !summary.databases.is_empty(),
        })?;
        chosen.insert(found.oid);
    }
    let is_restored = |database: &DatabaseName| {
        let always = database.name.as_deref().is_some_and(|name| ALWAYS.contains(&name));
        always || database.oid < FIRST_NORMAL_OID || chosen.contains(&database.oid)
    };
    let (restored, left_out): (Vec<_>, Vec<_>) = listed.into_iter().partition(is_restored);
    Ok(Selection { restored, left_out: left_out.into_iter().map(|d| (d.oid, d)).collect() })
}

impl Selection {
    /// Whether every database is restored.
    pub fn is_everything(&self) -> bool {
        self.left_out.is_empty()
    }

    /// The numbers of those that are left out.
    pub fn left_out(&self) -> impl Iterator<Item = u32> + '_ {
        self.left_out.keys().copied()
    }

    /// What becomes of the file that a manifest calls `path`.
    pub fn treatment(&self, path: &str) -> Treatment {
        match database_of(path) {
            Some((oid, name)) if self.left_out.contains_key(&oid) => match name {
                VERSION_FILE => Treatment::Guard,
                _ => Treatment::Hollow(oid),
            },
            _ => Treatment::Whole,
        }
    }

    /// What is told of it, once the files were counted; nothing when every database is restored.
    pub fn describe(&self, counted: &BTreeMap<u32, (u64, u64)>) -> Option<Databases> {
        if self.is_everything() {
            return None;
        }
        let left_out = self.left_out.values().map(|database| {
            let (files, bytes) = counted.get(&database.oid).copied().unwrap_or_default();
            let drop = database.name.as_deref().map(drop_statement);
            LeftOut { database: database.clone(), files, bytes, drop }
        });
        Some(Databases {
            restored: self.restored.clone(),
            left_out: left_out.collect(),
            bytes_left_out: counted.values().map(|(_, bytes)| bytes).sum(),
        })
    }
}

impl Databases {
    /// What a person should know before and after.
    pub fn notes(&self) -> Vec<String> {
        let names: Vec<String> = self.left_out.iter().map(|left| left.database.to_string()).collect();
        vec![
            format!(
                "{} left empty: {}; connecting to one fails, and DROP DATABASE removes it",
                if names.len() == 1 { "one database is" } else { "these databases are" },
                names.join(", ")
            ),
            "recovery runs with ignore_invalid_pages = on, because WAL changes pages that were left out; the end of recovery removes it \
             from postgresql.auto.conf, and the server forgets it with its next restart"
                .to_owned(),
        ]
    }
}

/// The SQL that removes a database.
pub fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE {};", quote_identifier(name))
}

/// A name as SQL takes it, whatever is in it.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The settings with which replay passes over pages that were left out.
///
/// A record that changes a page of zeroes, or one behind the end of a file, counts as a reference to an invalid page, and from consistency on
/// that is a PANIC (`log_invalid_page`); not every first change of a page carries a full image (`REGBUF_NO_IMAGE` of hash indexes and of
/// `XLOG_HEAP2_VISIBLE` without checksums, and all of them with `full_page_writes = off`). The setting holds for all databases, so it goes
/// when recovery ends: `recovery_end_command` runs just then, also at the promotion of a server that was paused or stopped at its target.
/// `sed` and not pgproof, because the server may be started where pgproof is not.
pub fn settings() -> Vec<Setting> {
    vec![
        Setting::new("ignore_invalid_pages", "on"),
        Setting::new(
            "recovery_end_command",
            "sed -i -e '/^ignore_invalid_pages = /d' -e '/^recovery_end_command = /d' postgresql.auto.conf",
        ),
    ]
}

/// The database that a path of a manifest belongs to, and the name of the file in its directory.
pub fn database_of(path: &str) -> Option<(u32, &str)> {
    let inside = match path.strip_prefix("base/") {
        Some(inside) => inside,
        // The tablespace's number, and the directory of this version in it.
        None => path.strip_prefix(TABLESPACES)?.strip_prefix('/')?.splitn(3, '/').nth(2)?,
    };
    let (database, name) = inside.split_once('/')?;
    Some((database.parse().ok()?, name))
}

/// A line of a server's log, in English, that tells of a reference to an invalid page (`report_invalid_page`): the database of that page,
/// 0 for shared ones.
pub fn invalid_page_in(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once(" of relation ")?;
    let (path, told) = rest.split_once(' ')?;
    if !told.starts_with("is uninitialized") && !told.starts_with("does not exist") {
        return None;
    }
    if path.starts_with("global/") {
        return Some(0);
    }
    Some(database_of(path)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use pgproof_repo::manifest::summary::Database;

    fn backup_of(names: &[(u32, &str)]) -> BackupSummary {
        let mut summary = crate::testing::summary();
        let database = |(oid, name): &(u32, &str)| Database {
            oid: *oid,
            name: (*name).to_owned(),
            tables: Vec::new(),
            truncated: false,
        };
        summary.databases = names.iter().map(database).collect();
        summary
    }

    const ALL: [(u32, &str); 5] =
        [(1, "template1"), (4, "template0"), (16_500, "postgres"), (16_384, "shop"), (16_385, "16384")];

    fn selected(wanted: &[&str]) -> Result<Selection, Refusal> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        select(&backup_of(&ALL), &BTreeSet::new(), &wanted)
    }

    fn left_out(wanted: &[&str]) -> Vec<u32> {
        selected(wanted).unwrap().left_out().collect()
    }

    #[test]
    fn databases_not_named_are_left_out_but_not_those_every_server_has() {
        assert_eq!(left_out(&["shop"]), [16_385]);
        assert_eq!(left_out(&["16384"]), [16_384], "a name wins over a number");
        assert_eq!(left_out(&["16385"]), [16_384]);
        assert_eq!(left_out(&["postgres"]), [16_384, 16_385]);
        assert!(selected(&[]).unwrap().is_everything());
        assert!(selected(&["shop", "16384"]).unwrap().is_everything());
    }

    #[test]
    fn an_unknown_database_is_refused_with_those_that_are_known() {
        let refusal = selected(&["shpo"]).unwrap_err();
        expect!["the backup has no database `shpo`: it has template1 (1), template0 (4), postgres (16500), shop (16384), 16384 (16385)"]
            .assert_eq(&format!("{refusal}: {}", refusal.hint()));
    }

    #[test]
    fn an_old_backup_without_names_takes_numbers() {
        let (old, present) = (backup_of(&[]), BTreeSet::from([1, 5, 16_384, 16_385]));
        let select = |wanted: &str| select(&old, &present, &[wanted.to_owned()]);
        assert_eq!(select("16385").unwrap().left_out().collect::<Vec<_>>(), [16_384]);
        let refusal = select("shop").unwrap_err();
        assert!(refusal.hint().contains("by its number"), "{}", refusal.hint());
    }

    #[test]
    fn every_file_of_a_database_left_out_is_emptied_wherever_it_lies() {
        let selection = selected(&["shop"]).unwrap();
        for (path, expected) in [
            ("base/16385/2619", Treatment::Hollow(16_385)),
            ("base/16385/2619_vm.1", Treatment::Hollow(16_385)),
            ("base/16385/pg_filenode.map", Treatment::Hollow(16_385)),
            ("pg_tblspc/16400/PG_15_202209061/16385/16401", Treatment::Hollow(16_385)),
            ("base/16385/PG_VERSION", Treatment::Guard),
            ("base/16384/PG_VERSION", Treatment::Whole),
            ("base/16384/2619", Treatment::Whole),
            ("base/1/2619", Treatment::Whole),
            ("base/16999/2619", Treatment::Whole),
            ("global/1262", Treatment::Whole),
            ("PG_VERSION", Treatment::Whole),
            ("pg_tblspc/16385", Treatment::Whole),
        ] {
            assert_eq!(selection.treatment(path), expected, "{path}");
        }
    }

    #[test]
    fn the_guard_is_shown_whole_and_is_no_version() {
        // `fscanf(file, "%63s", ...)` in ValidatePgVersion.
        assert!(GUARD.len() <= 63 && !GUARD.contains(char::is_whitespace) && GUARD.starts_with("0-"));
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(drop_statement("a\"b; DROP"), "DROP DATABASE \"a\"\"b; DROP\";");
    }

    #[test]
    fn references_to_invalid_pages_are_found_in_a_log() {
        let of = |text: &str| invalid_page_in(&format!("2026-11-23 [7] WARNING:  page 3 of relation {text}"));
        assert_eq!(of("base/16385/16401 is uninitialized"), Some(16_385));
        assert_eq!(of("pg_tblspc/16400/PG_15_202209061/16385/16401_vm does not exist"), Some(16_385));
        assert_eq!(of("global/1262 is uninitialized"), Some(0));
        assert_eq!(of("base/16385/16401 was read"), None);
        assert_eq!(invalid_page_in("LOG:  redo starts at 0/3000028"), None);
    }
}
