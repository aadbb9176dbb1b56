//! Any bytes as a history file: what is read keeps its order and is written and read again equal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_pg::{ArchiveName, Lsn, TimelineHistory, TimelineId};

fuzz_target!(|bytes: &[u8]| {
    let timeline = TimelineId(u32::from(bytes.first().copied().unwrap_or(1)) + 1);
    if let Ok(history) = TimelineHistory::parse(timeline, bytes) {
        assert_eq!(TimelineHistory::parse(timeline, history.format().as_bytes()).as_ref(), Ok(&history));
        assert_eq!(history.timeline_at(Lsn::MAX), timeline);
        assert!(history.spans().all(|(_, begin, end)| begin <= end));
    }
    if let Some(name) = std::str::from_utf8(bytes).ok().and_then(|text| ArchiveName::parse(text).ok()) {
        assert_eq!(name.to_string().as_bytes(), bytes);
    }
});
