//! `pg_hba.conf`, read and matched as the server would (`src/backend/libpq/hba.c`), without asking it.
//!
//! Promises which line decides about a connection, as far as files tell: membership in roles (`+role`, `samerole`) is the server's to know,
//! so such a line is a [`Match::Perhaps`]. Errors carry file and line. Includes of version 16 and `@file` lists are followed.

use super::place::Place;
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// One line that lets somebody in or keeps them out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HbaLine {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: u32,
    /// `local`, `host`, `hostssl`, `hostnossl`, `hostgssenc`, `hostnogssenc`
    pub kind: String,
    /// Databases, quotes gone; a quoted word begins with a quote here, because keywords lose their meaning in quotes.
    pub databases: Vec<String>,
    /// Users, written in the same way.
    pub users: Vec<String>,
    /// Address with its mask, a host name, or a keyword.
    pub address: Option<Address>,
    /// `scram-sha-256`, `peer`...
    pub method: String,
    /// `map=x`...
    pub options: Vec<String>,
}

/// Whom a line is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// These addresses.
    Net {
        /// The first of them.
        address: IpAddr,
        /// Bits that count.
        bits: u8,
    },
    /// All.
    All,
    /// Those of this host.
    SameHost,
    /// Those of networks that this host is in.
    SameNet,
    /// Hosts of this name.
    Name(String),
}

/// Something that the server refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HbaProblem {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1; 0 for the file as a whole.
    pub line: u32,
    /// In the server's words.
    pub why: String,
}

/// The file with all that it includes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HbaFile {
    /// In order; the first that matches decides.
    pub lines: Vec<HbaLine>,
    /// What is wrong.
    pub problems: Vec<HbaProblem>,
    /// Seconds since the file was last changed.
    pub changed_s: Option<u64>,
}

/// A connection, as far as the file looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client<'a> {
    /// Where it comes from; none through a socket.
    pub address: Option<IpAddr>,
    /// Whether it is encrypted.
    pub tls: bool,
    /// The wanted database.
    pub database: &'a str,
    /// The role.
    pub user: &'a str,
}

/// Which line decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match<'a> {
    /// This one.
    Line(&'a HbaLine),
    /// This one, if the role is a member of what it names.
    Perhaps(&'a HbaLine),
    /// None, which refuses.
    Nothing,
}

/// `CONF_FILE_MAX_DEPTH`
const DEPTH_MAX: usize = 10;
const KINDS: [&str; 6] = ["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];
const METHODS: [&str; 14] = [
    "trust",
    "reject",
    "md5",
    "password",
    "scram-sha-256",
    "gss",
    "sspi",
    "ident",
    "peer",
    "pam",
    "bsd",
    "ldap",
    "cert",
    "radius",
];
const METHODS_18: [&str; 1] = ["oauth"];

pub(super) fn observe(place: Place) -> Result<HbaFile, String> {
    let mut file = HbaFile::default();
    let includes = place.version.is_none_or(|version| version >= 16);
    add(&mut file, &place.hba_file, includes, 0)
        .map_err(|error| format!("could not open {}: {error}", place.hba_file.display()))?;
    let modified = fs::metadata(&place.hba_file).and_then(|metadata| metadata.modified()).ok();
    file.changed_s = modified.and_then(|at| at.elapsed().ok()).map(|age| age.as_secs());
    Ok(file)
}

fn add(file: &mut HbaFile, path: &Path, includes: bool, depth: usize) -> std::io::Result<()> {
    let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    let folder = path.parent().unwrap_or(Path::new("/"));
    for (line, fields) in fields(&text) {
        let problem = |why: String| HbaProblem { file: path.to_owned(), line, why };
        let fields = match fields {
            Ok(fields) => fields,
            Err(why) => {
                file.problems.push(problem(why));
                continue;
            }
        };
        let target = fields.get(1).and_then(|field| field.first()).map(|word| folder.join(plain(word)));
        let keyword = fields[0].first().map_or("", String::as_str);
        match (keyword, target) {
            ("include" | "include_if_exists" | "include_dir", Some(target)) if includes => {
                if depth >= DEPTH_MAX {
                    file.problems.push(problem("maximum nesting depth exceeded".to_owned()));
                    continue;
                }
                for target in included(keyword, &target) {
                    if let Err(error) = add(file, &target, includes, depth + 1) {
                        let why = format!("could not open file {}: {error}", target.display());
                        file.problems.push(problem(why));
                    }
                }
            }
            _ => match line_of(&fields, path, line) {
                Ok(parsed) => file.lines.push(parsed),
                Err(why) => file.problems.push(problem(why)),
            },
        }
    }
    Ok(())
}

fn included(keyword: &str, target: &Path) -> Vec<PathBuf> {
    match keyword {
        "include_if_exists" if !target.exists() => Vec::new(),
        "include_dir" => {
            let entries = fs::read_dir(target).into_iter().flatten().flatten().map(|entry| entry.path());
            let is_conf = |path: &PathBuf| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.ends_with(".conf") && !name.starts_with('.')
            };
            let mut files: Vec<PathBuf> = entries.filter(is_conf).collect();
            files.sort();
            files
        }
        _ => vec![target.to_owned()],
    }
}

/// Fields of a line, each a list of words; a quoted word keeps its first quote.
type Fields = Result<Vec<Vec<String>>, String>;

/// The lines that hold something, with their numbers; a backslash at the end continues a line.
pub fn fields(text: &str) -> Vec<(u32, Fields)> {
    let mut found = Vec::new();
    let mut pending: Option<(u32, String)> = None;
    for (line, number) in text.lines().zip(1u32..) {
        let (first, so_far) = pending.take().unwrap_or((number, String::new()));
        match line.strip_suffix('\\') {
            Some(part) => pending = Some((first, so_far + part)),
            None => found.push((first, so_far + line)),
        }
    }
    found.extend(pending);
    found
        .into_iter()
        .map(|(number, line)| (number, split(&line)))
        .filter(|(_, fields)| fields != &Ok(Vec::new()))
        .collect()
}

fn split(line: &str) -> Fields {
    let mut fields: Vec<Vec<String>> = Vec::new();
    let mut characters = line.chars().peekable();
    let mut list_goes_on = false;
    loop {
        while characters.peek().is_some_and(|c| c.is_whitespace() || *c == ',') {
            list_goes_on |= characters.next() == Some(',');
        }
        if matches!(characters.peek(), None | Some('#')) {
            return Ok(fields);
        }
        let (mut word, mut quoted, mut was_quoted) = (String::new(), false, false);
        while let Some(&c) = characters.peek() {
            if !quoted && (c.is_whitespace() || c == ',' || c == '#') {
                break;
            }
            characters.next();
            match c {
                '"' if quoted && characters.peek() == Some(&'"') => {
                    characters.next();
                    word.push('"');
                }
                '"' => {
                    quoted = !quoted;
                    was_quoted = true;
                }
                c => word.push(c),
            }
        }
        if quoted {
            return Err("unterminated quoted string".to_owned());
        }
        let word = if was_quoted { format!("\"{word}") } else { word };
        match fields.last_mut().filter(|_| list_goes_on) {
            Some(field) => field.push(word),
            None => fields.push(vec![word]),
        }
        list_goes_on = false;
    }
}

fn plain(word: &str) -> &str {
    word.strip_prefix('"').unwrap_or(word)
}

fn line_of(fields: &[Vec<String>], file: &Path, line: u32) -> Result<HbaLine, String> {
    let one = |at: usize, what: &str| match fields.get(at).map(Vec::as_slice) {
        Some([word]) => Ok(plain(word).to_owned()),
        Some(_) => Err(format!("multiple values specified for {what}")),
        None => Err(format!("end-of-line before {what} specification")),
    };
    let list = |at: usize, what: &str| {
        let words = fields.get(at).ok_or_else(|| format!("end-of-line before {what} specification"))?;
        Ok::<_, String>(expanded(words, file))
    };
    let kind = one(0, "connection type")?;
    if !KINDS.contains(&kind.as_str()) {
        return Err(format!("invalid connection type \"{kind}\""));
    }
    let (databases, users) = (list(1, "database")?, list(2, "role")?);
    let mut at = 3;
    let mut address = None;
    if kind != "local" {
        let text = one(at, "IP address")?;
        let mask = fields.get(at + 1).and_then(|field| field.first()).map(|word| plain(word).to_owned());
        let (found, used) = address_of(&text, mask.as_deref())?;
        address = Some(found);
        at += used;
    }
    let method = one(at, "authentication method")?;
    if !METHODS.contains(&method.as_str()) && !METHODS_18.contains(&method.as_str()) {
        return Err(format!("invalid authentication method \"{method}\""));
    }
    if method == "peer" && kind != "local" {
        return Err("peer authentication is only supported on local sockets".to_owned());
    }
    let options: Vec<String> = fields[at + 1..].iter().flatten().map(|word| plain(word).to_owned()).collect();
    if let Some(bad) = options.iter().find(|option| !option.contains('=')) {
        return Err(format!("authentication option not in name=value format: {bad}"));
    }
    Ok(HbaLine { file: file.to_owned(), line, kind, databases, users, address, method, options })
}

/// `@file` stands for the words of that file.
fn expanded(words: &[String], file: &Path) -> Vec<String> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let expand = |word: &String| match word.strip_prefix('@') {
        Some(name) => {
            let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
            fields(&text).into_iter().filter_map(|(_, fields)| fields.ok()).flatten().flatten().collect()
        }
        None => vec![word.clone()],
    };
    words.iter().flat_map(expand).collect()
}

/// An address, and how many fields it took.
fn address_of(text: &str, mask: Option<&str>) -> Result<(Address, usize), String> {
    match text {
        "all" => return Ok((Address::All, 1)),
        "samehost" => return Ok((Address::SameHost, 1)),
        "samenet" => return Ok((Address::SameNet, 1)),
        _ => {}
    }
    if let Some((address, bits)) = text.split_once('/') {
        let address: IpAddr = address.parse().map_err(|_| format!("invalid IP address \"{address}\""))?;
        let bits: u8 = bits.parse().map_err(|_| format!("invalid CIDR mask in address \"{text}\""))?;
        if bits > if address.is_ipv4() { 32 } else { 128 } {
            return Err(format!("invalid CIDR mask in address \"{text}\""));
        }
        return Ok((Address::Net { address, bits }, 1));
    }
    let Ok(address) = text.parse::<IpAddr>() else { return Ok((Address::Name(text.to_owned()), 1)) };
    let mask = mask.ok_or("end-of-line before netmask specification")?;
    let mask: IpAddr = mask.parse().map_err(|_| format!("invalid IP mask \"{mask}\""))?;
    let bits = match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    Ok((Address::Net { address, bits: u8::try_from(bits).unwrap_or(128) }, 2))
}

impl HbaFile {
    /// The line that decides about a client.
    #[must_use]
    pub fn decides(&self, client: Client<'_>) -> Match<'_> {
        for line in &self.lines {
            match line.matches(client) {
                Some(true) => return Match::Line(line),
                Some(false) => {}
                None => return Match::Perhaps(line),
            }
        }
        Match::Nothing
    }
}

impl HbaLine {
    /// Whether it is about this client; none where only the server knows.
    #[must_use]
    pub fn matches(&self, client: Client<'_>) -> Option<bool> {
        let about_kind = match (self.kind.as_str(), client.address) {
            ("local", None) | ("host" | "hostnogssenc", Some(_)) => true,
            ("hostssl", Some(_)) => client.tls,
            ("hostnossl", Some(_)) => !client.tls,
            _ => false,
        };
        let about_address = match (client.address, &self.address) {
            (None, _) => true,
            (Some(address), Some(line)) => line.holds(address),
            (Some(_), None) => false,
        };
        if !(about_kind && about_address) {
            return Some(false);
        }
        both(
            any(&self.databases, |word| database_is(word, client)),
            any(&self.users, |word| user_is(word, client)),
        )
    }

    /// As a person reads it.
    #[must_use]
    pub fn text(&self) -> String {
        let list = |words: &[String]| words.iter().map(|word| plain(word)).collect::<Vec<_>>().join(",");
        let address = match &self.address {
            None => String::new(),
            Some(Address::Net { address, bits }) => format!(" {address}/{bits}"),
            Some(Address::All) => " all".to_owned(),
            Some(Address::SameHost) => " samehost".to_owned(),
            Some(Address::SameNet) => " samenet".to_owned(),
            Some(Address::Name(name)) => format!(" {name}"),
        };
        let (databases, users) = (list(&self.databases), list(&self.users));
        format!("{} {databases} {users}{address} {}", self.kind, self.method)
    }
}

impl Address {
    fn holds(&self, client: IpAddr) -> bool {
        match self {
            Self::All => true,
            // What belongs to this host's networks, and names, only a look at them tells; loopback always does.
            Self::SameHost | Self::SameNet => client.is_loopback(),
            Self::Name(name) => name == "localhost" && client.is_loopback(),
            Self::Net { address, bits } => match (address, client) {
                (IpAddr::V4(line), IpAddr::V4(client)) => {
                    same_prefix(line.to_bits().into(), client.to_bits().into(), u32::from(*bits), 32)
                }
                (IpAddr::V6(line), IpAddr::V6(client)) => {
                    same_prefix(line.to_bits(), client.to_bits(), u32::from(*bits), 128)
                }
                _ => false,
            },
        }
    }
}

fn same_prefix(a: u128, b: u128, bits: u32, width: u32) -> bool {
    bits == 0 || (a ^ b) >> (width - bits.min(width)) == 0
}

fn both(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn any(words: &[String], is: impl Fn(&str) -> Option<bool>) -> Option<bool> {
    let answers: Vec<Option<bool>> = words.iter().map(|word| is(word)).collect();
    if answers.contains(&Some(true)) {
        return Some(true);
    }
    if answers.contains(&None) { None } else { Some(false) }
}

fn database_is(word: &str, client: Client<'_>) -> Option<bool> {
    match word {
        "all" => Some(true),
        "sameuser" => Some(client.database == client.user),
        "samerole" | "samegroup" => None,
        "replication" => Some(false),
        word if word.starts_with('/') => None,
        word => Some(plain(word) == client.database),
    }
}

fn user_is(word: &str, client: Client<'_>) -> Option<bool> {
    match word {
        "all" => Some(true),
        word if word.starts_with(['+', '/']) => None,
        word => Some(plain(word) == client.user),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> HbaFile {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pg_hba.conf");
        fs::write(&path, text).unwrap();
        let mut file = HbaFile::default();
        add(&mut file, &path, true, 0).unwrap();
        file
    }

    fn client<'a>(address: Option<&str>, database: &'a str, user: &'a str) -> Client<'a> {
        Client { address: address.map(|text| text.parse().unwrap()), tls: false, database, user }
    }

    #[test]
    fn the_first_line_that_matches_decides() {
        let file = file(
            "# c\nlocal all postgres peer map=x\nhostssl all all 0.0.0.0/0 scram-sha-256\n\
             host shop,\"all\" app 10.0.0.0 255.0.0.0 md5\nhost all all ::1/128 trust\nhost all +staff 10.0.0.0/8 reject\n",
        );
        assert_eq!(file.problems, []);
        let line = |client| match file.decides(client) {
            Match::Line(line) => i64::from(line.line),
            Match::Perhaps(line) => -i64::from(line.line),
            Match::Nothing => 0,
        };
        assert_eq!(line(client(None, "shop", "postgres")), 2);
        assert_eq!(line(client(Some("10.1.2.3"), "shop", "app")), 4);
        assert_eq!(line(client(Some("10.1.2.3"), "all", "app")), 4);
        assert_eq!(line(client(Some("10.1.2.3"), "other", "app")), -6);
        assert_eq!(line(client(Some("11.1.2.3"), "shop", "app")), 0);
        assert_eq!(line(client(Some("::1"), "x", "y")), 5);
        assert_eq!(line(Client { tls: true, ..client(Some("11.1.2.3"), "x", "y") }), 3);
    }

    #[test]
    fn what_the_server_refuses_is_named_with_its_line() {
        let file = file(
            "hosst all all all trust\nlocal all all\nhost all all 10.0.0.0/33 trust\nhost all all 10.0.0.1 trust\n\
             local all all pear\nhost all all all peer\nlocal \"a b\n",
        );
        let found: Vec<_> =
            file.problems.iter().map(|problem| (problem.line, problem.why.as_str())).collect();
        assert_eq!(
            found,
            [
                (1, "invalid connection type \"hosst\""),
                (2, "end-of-line before authentication method specification"),
                (3, "invalid CIDR mask in address \"10.0.0.0/33\""),
                (4, "invalid IP mask \"trust\""),
                (5, "invalid authentication method \"pear\""),
                (6, "peer authentication is only supported on local sockets"),
                (7, "unterminated quoted string"),
            ]
        );
    }

    #[test]
    fn continued_lines_and_included_files_are_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pg_hba.conf"), "include more.conf\nlocal \\\n all @who trust\n")
            .unwrap();
        fs::write(folder.path().join("more.conf"), "local x y reject\n").unwrap();
        fs::write(folder.path().join("who"), "ann, bob\n").unwrap();
        let mut file = HbaFile::default();
        add(&mut file, &folder.path().join("pg_hba.conf"), true, 0).unwrap();
        assert_eq!(file.problems, []);
        assert_eq!(file.lines[0].method, "reject");
        assert_eq!((file.lines[1].line, file.lines[1].users.len()), (2, 2));
    }
}
