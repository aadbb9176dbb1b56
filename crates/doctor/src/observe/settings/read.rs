//! One settings file, line by line, as `guc-file.l` reads it: names, values, includes, and what is a syntax error.

use super::{Line, Problem, SettingsFiles};
use std::fs;
use std::path::{Path, PathBuf};

/// `CONF_FILE_MAX_DEPTH`
const DEPTH_MAX: usize = 10;
/// No configuration is longer; a wrong file might be.
const BYTES_MAX: u64 = 4 << 20;

/// What a missing file means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    IsWrong,
    IsFine,
}

/// Adds a file with all that it includes.
pub(super) fn add(files: &mut SettingsFiles, file: &Path, depth: usize, missing: Missing) {
    let problem = |line, why: String| Problem { file: file.to_owned(), line, why };
    let content = match read(file) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && missing == Missing::IsFine => return,
        Err(error) => {
            files.problems.push(problem(0, format!("could not open configuration file: {error}")));
            return;
        }
    };
    let folder = file.parent().unwrap_or(Path::new("/"));
    for (line, parsed) in parse(&content) {
        match parsed {
            Err(near) => files.problems.push(problem(line, format!("syntax error near {near}"))),
            Ok((name, value)) => {
                let target = folder.join(&value);
                let included = match name.as_str() {
                    "include" => vec![(target, Missing::IsWrong)],
                    "include_if_exists" => vec![(target, Missing::IsFine)],
                    "include_dir" => match files_of(&target) {
                        Ok(paths) => paths.into_iter().map(|path| (path, Missing::IsWrong)).collect(),
                        Err(error) => {
                            let why = format!(
                                "could not open configuration directory {}: {error}",
                                target.display()
                            );
                            files.problems.push(problem(line, why));
                            continue;
                        }
                    },
                    _ => {
                        files.lines.push(Line { name, value, file: file.to_owned(), line });
                        continue;
                    }
                };
                for (path, missing) in included {
                    include(files, &path, depth, missing, &problem(line, String::new()));
                }
            }
        }
    }
}

fn include(files: &mut SettingsFiles, path: &Path, depth: usize, missing: Missing, at: &Problem) {
    if depth + 1 > DEPTH_MAX {
        files.problems.push(Problem { why: "maximum nesting depth exceeded".to_owned(), ..at.clone() });
        return;
    }
    if !path.exists() && missing == Missing::IsWrong {
        let why = format!("could not open configuration file {}: it does not exist", path.display());
        files.problems.push(Problem { why, ..at.clone() });
        return;
    }
    add(files, path, depth + 1, missing);
}

fn read(file: &Path) -> std::io::Result<String> {
    if fs::metadata(file)?.len() > BYTES_MAX {
        return Err(std::io::Error::other("it is too large for a configuration file"));
    }
    Ok(String::from_utf8_lossy(&fs::read(file)?).into_owned())
}

/// What `include_dir` takes: `*.conf` that does not begin with a dot, in the order of the C locale.
fn files_of(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".conf") && !name.starts_with('.') && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A name in lower case and its value, or the token at which the line makes no sense.
pub type Parsed = Result<(String, String), String>;

/// The lines of a settings file that say something, with their numbers.
pub fn parse(text: &str) -> impl Iterator<Item = (u32, Parsed)> + '_ {
    text.lines().zip(1..).filter_map(|(line, number)| Some((number, parse_line(line)?)))
}

fn parse_line(line: &str) -> Option<Parsed> {
    let line = line.trim_start();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$') || !c.is_ascii();
    let end = line.find(|c: char| !is_name(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()) {
        return Some(Err(token(line)));
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let (value, after) = match value(rest) {
        Some(found) => found,
        None => return Some(Err(token(rest))),
    };
    let after = after.trim_start();
    if !after.is_empty() && !after.starts_with('#') {
        return Some(Err(token(after)));
    }
    Some(Ok((name.to_ascii_lowercase(), value)))
}

/// What the server shows of the place where it stumbled.
fn token(text: &str) -> String {
    match text.split_whitespace().next() {
        Some(word) if !word.starts_with('#') => format!("token \"{word}\""),
        _ => "end of line".to_owned(),
    }
}

fn value(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('\'') {
        return unquote(quoted);
    }
    // Numbers with units, names, and paths: what the scanner takes as one unquoted word.
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_.$-:/+".contains(c) || !c.is_ascii();
    let end = text.find(|c: char| !is_word(c)).unwrap_or(text.len());
    (end > 0).then(|| (text[..end].to_owned(), &text[end..]))
}

/// A quoted value from after its first quote, and what follows it (`DeescapeQuotedString`).
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    loop {
        match characters.next()? {
            (_, '\'') if characters.peek().is_some_and(|(_, next)| *next == '\'') => {
                characters.next();
                value.push('\'');
            }
            (at, '\'') => return Some((value, &text[at + 1..])),
            (_, '\\') => match characters.next()?.1 {
                'b' => value.push('\u{8}'),
                'f' => value.push('\u{c}'),
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                first @ '0'..='7' => {
                    let mut code = first.to_digit(8)?;
                    for _ in 0..2 {
                        let Some(digit) = characters.peek().and_then(|(_, c)| c.to_digit(8)) else { break };
                        code = code * 8 + digit;
                        characters.next();
                    }
                    value.extend(char::from_u32(code & 0xFF));
                }
                other => value.push(other),
            },
            (_, other) => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_setting_is_read_and_every_other_refused() {
        let one = |line: &str| parse_line(line).unwrap();
        let good = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(one("Port=5433#x"), good("port", "5433"));
        assert_eq!(one("archive_command = 'cp ''%p'' \\101'  # c"), good("archive_command", "cp '%p' A"));
        assert_eq!(one("a.b on"), good("a.b", "on"));
        assert_eq!(one("work_mem = -1"), good("work_mem", "-1"));
        for bad in
            ["port", "port = ", "= 1", "port = 1 2", "port = 'x", "listen_addresses = *", "just some words"]
        {
            assert!(one(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_line("   # only a comment"), None);
        assert_eq!(one("just some words").unwrap_err(), "token \"words\"");
    }
}
