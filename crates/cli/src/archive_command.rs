//! The text of `archive_command`: how ours is written, and how it is recognised in a server's settings.
//!
//! PostgreSQL gives the text to `sh -c` after replacing `%p` (the file's path), `%f` (its name) and `%%`
//! (`src/backend/archive/shell_archive.c`). Paths of the program and the configuration are absolute, because the shell runs in the
//! data directory with the server's environment.

use std::path::{Path, PathBuf};

/// Our own command, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OurCommand {
    pub(crate) program: PathBuf,
    pub(crate) config: Option<PathBuf>,
}

/// What a server's `archive_command` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ArchiveCommand {
    /// Empty, or the placeholder `(disabled)` that the server shows while archiving is off.
    None,
    Ours(OurCommand),
    /// Somebody else's, or one that does nothing.
    Foreign,
}

/// Writes our command for this program and configuration.
pub(crate) fn render(program: &Path, config: &Path) -> String {
    format!("{} --config {} archive push \"%p\"", quoted(program), quoted(config))
}

/// Writes our `restore_command` for this program and configuration.
pub(crate) fn render_get(program: &Path, config: &Path) -> String {
    format!("{} --config {} archive get \"%f\" \"%p\"", quoted(program), quoted(config))
}

/// The same for a repository that no configuration names.
pub(crate) fn render_get_from(program: &Path, repository: &str, key: Option<&Path>) -> String {
    format!("{} archive get \"%f\" \"%p\" {}", quoted(program), place_flags(repository, key))
}

/// What makes `restore_command` use received WAL too.
pub(crate) fn spool_flag(spool: &Path) -> String {
    format!(" --spool {}", quoted(spool))
}

/// What keeps `restore_command` from asking a repository.
pub(crate) fn without_flag(repository: &str) -> String {
    format!(" --without {repository}")
}

/// What makes `restore_command` ask one repository only.
pub(crate) fn named_flag(repository: &str) -> String {
    format!(" --repository {repository}")
}

/// What makes `restore_command` use another key than the configuration's.
pub(crate) fn key_flag(key: &Path) -> String {
    format!(" --key-file {}", quoted(key))
}

/// Our `archive_command` for a repository that no configuration names.
pub(crate) fn render_push_to(program: &Path, repository: &str, key: Option<&Path>) -> String {
    format!("{} archive push \"%p\" {}", quoted(program), place_flags(repository, key))
}

fn place_flags(repository: &str, key: Option<&Path>) -> String {
    let key = key.map(key_flag).unwrap_or_default();
    format!("--repository {}{key}", quoted(Path::new(repository)))
}

/// A path for the shell, with PostgreSQL's placeholders out of force.
fn quoted(path: &Path) -> String {
    let mut out = String::from("\"");
    for c in path.to_string_lossy().chars() {
        match c {
            '"' | '\\' | '$' | '`' => {
                out.push('\\');
                out.push(c);
            }
            '%' => out.push_str("%%"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Takes a server's `archive_command` apart.
pub(crate) fn parse(text: &str) -> ArchiveCommand {
    let text = text.trim();
    // `show_archive_command` in src/backend/access/transam/xlog.c gives this while archive_mode is off.
    if text.is_empty() || text == "(disabled)" {
        return ArchiveCommand::None;
    }
    words(text).and_then(ours).map_or(ArchiveCommand::Foreign, ArchiveCommand::Ours)
}

fn ours(words: Vec<String>) -> Option<OurCommand> {
    let (program, rest) = words.split_first()?;
    // Several versions may lie side by side, as `pgproof-1.2`.
    let name = Path::new(program).file_name()?.to_str()?;
    if name != "pgproof" && !name.starts_with("pgproof-") {
        return None;
    }
    let mut config = None;
    let mut verbs = Vec::new();
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        if word == "--repository" || word == "--key-file" {
            rest.next()?;
            continue;
        }
        match word.strip_prefix("--config") {
            Some("") => config = Some(PathBuf::from(rest.next()?)),
            Some(joined) => config = Some(PathBuf::from(joined.strip_prefix('=')?)),
            None => verbs.push(word.as_str()),
        }
    }
    (verbs == ["archive", "push", "%p"]).then(|| OurCommand { program: program.into(), config })
}

/// The words of a simple shell command; none where the shell would do more than run one program.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.peek() {
        if first.is_whitespace() {
            chars.next();
            continue;
        }
        words.push(word(&mut chars)?);
    }
    Some(words)
}

fn word(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut word = String::new();
    let mut quote = None;
    while let Some(c) = chars.next_if(|c| quote.is_some() || !c.is_whitespace()) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (Some('"') | None, '\\') => word.push(chars.next()?),
            (None, ';' | '&' | '|' | '<' | '>' | '(' | ')' | '$' | '`' | '\n') => return None,
            (Some('"'), '$' | '`') => return None,
            // `%%` is one percent sign after PostgreSQL's own replacement; `%p` stays as it is.
            (_, '%') if chars.next_if_eq(&'%').is_some() => word.push('%'),
            (_, c) => word.push(c),
        }
    }
    quote.is_none().then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(program: &str, config: Option<&str>) -> ArchiveCommand {
        ArchiveCommand::Ours(OurCommand { program: program.into(), config: config.map(PathBuf::from) })
    }

    #[test]
    fn our_command_is_recognised_as_it_was_written() {
        for (program, config) in [
            ("/usr/bin/pgproof", "/etc/pgproof/pgproof.toml"),
            ("/opt/my tools/pgproof", "/etc/100%/a \"b\" $c `d` \\e.toml"),
        ] {
            let text = render(Path::new(program), Path::new(config));
            assert_eq!(parse(&text), ours(program, Some(config)), "{text}");
        }
        let text = render(Path::new("/usr/bin/pgproof"), Path::new("/etc/pgproof/pgproof.toml"));
        assert_eq!(text, r#""/usr/bin/pgproof" --config "/etc/pgproof/pgproof.toml" archive push "%p""#);
    }

    #[test]
    fn other_spellings_of_our_command_are_ours() {
        assert_eq!(parse("pgproof archive push %p"), ours("pgproof", None));
        assert_eq!(parse("/x/pgproof-1.2 archive push %p"), ours("/x/pgproof-1.2", None));
        assert_eq!(parse("'/x/pgproof' --config=/c archive push '%p'"), ours("/x/pgproof", Some("/c")));
        let text = render_push_to(Path::new("/x/pgproof"), "s3://b/p", Some(Path::new("/k")));
        assert_eq!(parse(&text), ours("/x/pgproof", None), "{text}");
    }

    #[test]
    fn what_does_nothing_or_something_else_is_foreign() {
        assert_eq!(parse(""), ArchiveCommand::None);
        assert_eq!(parse("(disabled)"), ArchiveCommand::None);
        for foreign in [
            "/bin/true",
            "cp %p /archive/%f",
            "pgbackrest --stanza=x archive-push %p",
            "pgproof archive push %p || true",
            "pgproof archive push %p; cp %p /x",
            "pgproof archive push $(echo %p)",
            "pgproof archive push %f",
            "pgproof archive push '%p",
        ] {
            assert_eq!(parse(foreign), ArchiveCommand::Foreign, "{foreign}");
        }
    }
}
