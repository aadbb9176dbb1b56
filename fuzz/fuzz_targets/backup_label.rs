//! Any text as backup_label, tablespace_map and path of a relation file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_pg::{
    RelPath,
    label::{BackupLabel, format_tablespace_map, parse_tablespace_map},
};

fuzz_target!(|text: &str| {
    if let Ok(label) = BackupLabel::parse(text) {
        assert_eq!(BackupLabel::parse(&label.to_string()).as_ref(), Ok(&label));
    }
    if let Ok(map) = parse_tablespace_map(text) {
        assert_eq!(parse_tablespace_map(&format_tablespace_map(&map)).as_ref(), Ok(&map));
    }
    if let Some(path) = RelPath::parse(text) {
        let directory = text.split('/').nth(2).unwrap_or_default();
        assert_eq!(path.format(directory), text);
    }
});
