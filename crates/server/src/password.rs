//! Passwords from libpq's password file: `PGPASSFILE`, else `~/.pgpass`.

use crate::session::Environment;
use postgres::{Config, config::Host};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The password of the first line that fits, as libpq's `passwordFromFile` finds it (`src/interfaces/libpq/fe-connect.c`).
/// Like there, a file that others may read is not used.
pub(crate) fn from_file(config: &Config, environment: &Environment) -> Option<String> {
    let path = match environment.get("PGPASSFILE") {
        Some(path) => PathBuf::from(path),
        None => Path::new(environment.get("HOME")?).join(".pgpass"),
    };
    if fs::metadata(&path).ok()?.mode() & 0o077 != 0 {
        return None;
    }
    let host = match config.get_hosts().first()? {
        Host::Tcp(name) => name.clone(),
        // libpq writes the socket directory it was built with as `localhost`.
        Host::Unix(directory) if directory == Path::new("/var/run/postgresql") => "localhost".to_owned(),
        Host::Unix(directory) => directory.display().to_string(),
    };
    let port = config.get_ports().first()?.to_string();
    let wanted = [host.as_str(), &port, config.get_dbname()?, config.get_user()?];
    first_match(&fs::read_to_string(path).ok()?, wanted)
}

fn first_match(file: &str, wanted: [&str; 4]) -> Option<String> {
    file.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split_escaped(line);
        let (password, keys) = fields.split_last()?;
        let fits = keys.len() == wanted.len()
            && keys.iter().zip(wanted).all(|(key, value)| key == "*" || key == value);
        fits.then(|| password.clone())
    })
}

/// Splits at the first four colons; a backslash keeps the next character as it is.
fn split_escaped(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => field.extend(characters.next()),
            ':' if fields.len() < 4 => fields.push(std::mem::take(&mut field)),
            _ => field.push(character),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_gives_the_password() {
        let file = "# comment\nother:*:*:*:no\nlocalhost:5432:*:ann:se\\:cr:et\n*:*:*:*:any\n";
        let find = |user| first_match(file, ["localhost", "5432", "postgres", user]);
        assert_eq!(find("ann").as_deref(), Some("se:cr:et"));
        assert_eq!(find("bob").as_deref(), Some("any"));
    }

    #[test]
    fn a_line_with_too_few_fields_fits_nothing() {
        assert_eq!(first_match("*:*:secret", ["h", "1", "d", "u"]), None);
    }
}
