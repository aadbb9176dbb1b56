//! Judges pages whose checksum failed every time they were read.
//!
//! PostgreSQL may write a page at any moment of the copy, so a page can be torn in our copy through no fault of its own, if we were
//! unlucky every time. Replay mends exactly those pages that WAL between the backup's start and stop restores whole: by a full-page
//! image or by initialising them anew. Only that acquits a page; its own LSN is as doubtful as the rest of it
//! (design, section 10.9).

use crate::scan::Entry;
use crate::worker::Suspect;
use pgproof_pg::RelFork;
use std::collections::HashSet;

/// A page by relation fork and block number in the fork.
pub(crate) type Page = (RelFork, u32);

/// The page that a suspect is.
pub(crate) fn page_of(suspect: Suspect, entries: &[Entry]) -> Option<Page> {
    let relation = entries[suspect.file].relation?;
    Some((relation.file, relation.first_block() + suspect.block))
}

/// Splits suspects into those that stay bad, and the number of those that `restored` acquits.
pub(crate) fn judge(
    mut suspects: Vec<Suspect>,
    entries: &[Entry],
    restored: &HashSet<Page>,
) -> (Vec<Suspect>, u64) {
    suspects.sort_unstable();
    suspects.dedup();
    let before = suspects.len();
    suspects.retain(|&suspect| page_of(suspect, entries).is_none_or(|page| !restored.contains(&page)));
    let acquitted = (before - suspects.len()) as u64;
    (suspects, acquitted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::EntryKind;
    use pgproof_pg::RelPath;

    #[test]
    fn only_wal_that_restores_a_page_whole_acquits_it() {
        let path = "base/5/16384.1";
        let entry = Entry {
            path: path.to_owned(),
            kind: EntryKind::File,
            mode: 0o600,
            modified: 0,
            length: 8192 * 10,
            relation: RelPath::parse(path),
        };
        let entries = [entry];
        let restored = HashSet::from([page_of(Suspect { file: 0, block: 3 }, &entries).unwrap()]);
        assert!(restored.iter().all(|(_, block)| *block == 131_072 + 3));
        let suspects =
            vec![Suspect { file: 0, block: 3 }, Suspect { file: 0, block: 4 }, Suspect { file: 0, block: 4 }];
        assert_eq!(judge(suspects, &entries, &restored), (vec![Suspect { file: 0, block: 4 }], 1));
    }
}
