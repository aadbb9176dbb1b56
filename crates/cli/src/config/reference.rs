//! `docs/manual/configuration.md`, made from the table of settings. Run with `UPDATE_EXPECT=1` to write it anew.

use super::definitions::{KEYS, Otherwise, Section};
use expect_test::expect_file;
use std::fmt::Write;

const HEAD: &str = "<!-- Generated from crates/cli/src/config/definitions.rs. `UPDATE_EXPECT=1 cargo test -p pgproof-cli reference` writes it anew. -->
# Configuration

pgproof reads one file, `pgproof.toml`. It takes the first of these:

1. the file named by `--config`; it must exist
2. the file named by the variable `PGPROOF_CONFIG`; it must exist
3. `./pgproof.toml`
4. `$XDG_CONFIG_HOME/pgproof/pgproof.toml`, which is usually `~/.config/pgproof/pgproof.toml`
5. `/etc/pgproof/pgproof.toml`

`pgproof init` writes a commented file. An unknown name is an error that proposes the nearest known one; every error names its file and line.

For each setting the first of these counts: the flag of the command (`--pgdata`, `--repository`, `--key-file` ...), the variable
`PGPROOF_<TABLE>_<SETTING>` (`PGPROOF_BACKUP_PROCESSES`; for a repository `PGPROOF_REPOSITORY_<NAME>_<SETTING>`, and `PGPROOF_REPOSITORY_<NAME>_RETENTION_<SETTING>`), the file, the variable named
below, the default. `pgproof config explain` shows the values in effect and where each comes from.

Paths are absolute. Sizes are whole numbers with `B`, `kB`, `MB`, `GB` or `TB` (multiples of 1024), durations whole numbers with `ms`, `s`,
`min`, `h` or `d`: PostgreSQL's units.
";

fn reference() -> String {
    let mut page = String::from(HEAD);
    for section in Section::ALL {
        let heading = match section {
            Section::Repository => "[repository.NAME]".to_owned(),
            Section::Retention => "[retention]` and `[repository.NAME.retention]".to_owned(),
            section => format!("[{}]", section.name()),
        };
        let _ = write!(page, "\n## `{heading}`\n\n{}\n", section.doc());
        for key in KEYS.iter().filter(|key| key.section == section) {
            let otherwise = match key.otherwise {
                Otherwise::Value(text) => format!("`{text}`"),
                Otherwise::Found(how) => how.to_owned(),
            };
            let variable = key.variable.map(|name| format!(" Variable: `{name}`.")).unwrap_or_default();
            let kind = capitalised(&key.kind.describe());
            let _ = write!(
                page,
                "\n### `{}`\n\n{}\n\n{kind}. Otherwise: {otherwise}.{variable} Example: `{} = {}`\n",
                key.name, key.doc, key.name, key.example
            );
        }
    }
    page
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

#[test]
fn the_reference_page_says_what_the_program_reads() {
    expect_file!["../../../../docs/manual/configuration.md"].assert_eq(&reference());
}
