//! What the operator asks of one dump, and the limits that bound it.

use crate::error::DumpError;
use pgproof_repo::Codec;
use pgproof_repo::manifest::summary::DumpSelection;
use std::path::PathBuf;

/// Options of one dump.
#[derive(Debug, Clone)]
pub struct DumpOptions {
    /// What is dumped.
    pub selection: DumpSelection,
    /// Store everything, also what the earlier dump holds: mends damage.
    pub full: bool,
    /// Processes of `pg_dump`, and threads that compress and store.
    pub jobs: usize,
    /// How extents are compressed.
    pub codec: Codec,
    /// A pack is closed when it has grown to this many bytes.
    pub pack_bytes: u64,
    /// Where `pg_dump` writes what is then stored.
    pub temp: PathBuf,
}

/// More processes than this gain nothing on one disk and take a connection each.
pub(crate) const MAX_JOBS: usize = 16;

/// Takes what was typed, and refuses what no name or pattern can be.
///
/// # Errors
/// [`DumpError::Selection`].
pub fn selection(
    databases: &[String],
    schemas: &[String],
    tables: &[String],
) -> Result<DumpSelection, DumpError> {
    Ok(DumpSelection {
        databases: checked("database", databases)?,
        schemas: checked("schema", schemas)?,
        tables: checked("table", tables)?,
    })
}

/// Each becomes one argument, `--schema=TEXT`, so nothing in it can become an option; what remains is what no catalog can hold.
fn checked(kind: &'static str, texts: &[String]) -> Result<Vec<String>, DumpError> {
    let bad = |text: &&String| text.is_empty() || text.chars().any(char::is_control);
    if let Some(text) = texts.iter().find(bad) {
        return Err(DumpError::Selection { kind, text: text.escape_debug().to_string() });
    }
    let mut texts = texts.to_vec();
    texts.sort();
    texts.dedup();
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_has_one_spelling_and_no_control_characters() {
        let typed = ["b".to_owned(), "a".to_owned(), "b".to_owned()];
        assert_eq!(selection(&typed, &[], &[]).unwrap().databases, ["a", "b"]);
        for bad in ["", "a\nb", "a\0"] {
            assert!(selection(&[], &[bad.to_owned()], &[]).is_err(), "{bad:?}");
        }
    }
}
