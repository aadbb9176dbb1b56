//! Adds a repository to a configuration file that is there: the rest of the file stays as it is, comments included.

use crate::config::template::{Entry, value};
use anyhow::Context as _;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::Path;
use toml_edit::{DocumentMut, Item, Table};

/// The text with one more `[repository.NAME]`, behind those that are there.
///
/// # Errors
/// When the text is no TOML, or has this repository already.
pub(super) fn with_repository(text: &str, name: &str, entries: &[Entry]) -> anyhow::Result<String> {
    let mut document: DocumentMut = text.parse()?;
    let repositories = document.entry("repository").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let repositories = repositories.as_table_mut().context("`repository` is no table")?;
    anyhow::ensure!(!repositories.contains_key(name), "repository `{name}` is there already");
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n# Added by `pgproof init --name`. WAL and backups go here too.\n");
    for entry in entries {
        table.insert(entry.name, Item::Value(value(entry)));
    }
    repositories.insert(name, Item::Table(table));
    Ok(document.to_string())
}

/// Puts another text into a file, at once and durably, with the owner and the permissions that it has.
///
/// # Errors
/// What the system says; the file is then as it was.
pub(super) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let fail = || format!("could not write {}", path.display());
    // A link stays one.
    let path = &path.canonicalize().with_context(fail)?;
    let before = fs::metadata(path).with_context(fail)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".pgproof-{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mode = before.mode() & 0o7777;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        chown(&temporary, Some(before.uid()), Some(before.gid()))?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
    };
    let written = write();
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written.with_context(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::definitions::Section;
    use expect_test::expect;

    #[test]
    fn a_repository_is_added_and_every_comment_stays() {
        let text = "# ours\n[repository.main]\n# near\npath = \"/m\" # disk\n#required = true\n\n# how many\n[retention]\nkeep_last = 3\n";
        let entry = |name, text: &str| Entry { section: Section::Repository, name, text: text.to_owned() };
        let entries = [entry("path", "/far away"), entry("key_file", "/etc/far.key")];
        let added = with_repository(text, "far", &entries).unwrap();
        expect![[r#"
            # ours
            [repository.main]
            # near
            path = "/m" # disk

            # Added by `pgproof init --name`. WAL and backups go here too.
            [repository.far]
            path = "/far away"
            key_file = "/etc/far.key"
            #required = true

            # how many
            [retention]
            keep_last = 3
        "#]]
        .assert_eq(&added);
        assert!(with_repository(&added, "far", &entries).is_err());
    }
}
