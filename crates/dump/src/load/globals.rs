//! Which statements of `pg_dumpall --globals-only` make the roles that are missing. Pure.
//!
//! Statements are chosen, never changed. Those about roles that exist are left out, whatever they say: a load must not give anybody rights
//! or passwords of another time. Tablespaces are left out too: their directories are a matter of the host.

use serde::Serialize;
use std::collections::BTreeSet;

/// What is done about roles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RolePlan {
    /// Roles that are made.
    pub create: Vec<String>,
    /// Roles that exist and are left as they are.
    pub leave: Vec<String>,
    /// The statements that make them, in the order of the dump. Passwords are among them, so they are not shown.
    #[serde(skip)]
    pub statements: Vec<String>,
}

/// Chooses for a server that has these roles.
pub(crate) fn choose(script: &str, present: &BTreeSet<String>) -> RolePlan {
    let statements = statements(script);
    let mut plan = RolePlan::default();
    let mut new = BTreeSet::new();
    for role in statements.iter().filter_map(|statement| created(statement)) {
        match present.contains(&role) {
            true => plan.leave.push(role),
            false => {
                new.insert(role.clone());
                plan.create.push(role);
            }
        }
    }
    plan.statements = statements.into_iter().filter(|statement| concerns(statement, &new)).collect();
    plan
}

/// Whether a statement makes one of these roles, or gives it something.
fn concerns(statement: &str, new: &BTreeSet<String>) -> bool {
    let words = words(statement);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["CREATE" | "ALTER", "ROLE", role, ..] | ["COMMENT", "ON", "ROLE", role, ..] => new.contains(*role),
        ["GRANT", granted, "TO", member, ..] => new.contains(*granted) || new.contains(*member),
        // From 15 on: `GRANT SET, ALTER SYSTEM ON PARAMETER x TO role`.
        ["GRANT", privileges @ .., "TO", role]
        | ["GRANT", privileges @ .., "TO", role, "GRANTED", "BY", _] => {
            privileges.contains(&"PARAMETER") && new.contains(*role)
        }
        _ => false,
    }
}

fn created(statement: &str) -> Option<String> {
    match words(statement).as_slice() {
        [create, role, name, ..] if create == "CREATE" && role == "ROLE" => Some(name.clone()),
        _ => None,
    }
}

/// The statements of a script, without comments and without commands of psql.
fn statements(script: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut statement = String::new();
    let mut rest = script;
    while let Some(first) = rest.chars().next() {
        let at_begin = statement.trim().is_empty();
        let length = match first {
            // `\restrict` and `\unrestrict`.
            '-' | '\\' if at_begin => {
                statement.clear();
                rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
                continue;
            }
            '\'' | '"' => quoted_length(rest, first, statement.ends_with('E')),
            _ => first.len_utf8(),
        };
        let (taken, left) = rest.split_at(length);
        statement.push_str(taken);
        rest = left;
        if taken == ";" {
            found.push(std::mem::take(&mut statement).trim().to_owned());
        }
    }
    found
}

/// Bytes of the quoted text that `text` begins with. A doubled quote is one of its characters, behind an `E` also one after a backslash.
fn quoted_length(text: &str, quote: char, escapes: bool) -> usize {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == '\\' && escapes {
            characters.next();
        } else if character == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return at + quote.len_utf8();
        }
    }
    text.len()
}

/// The words of a statement up to its first literal, with quotes of names taken off.
fn words(statement: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = statement.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let (name, left) = rest.split_at(quoted_length(rest, '"', false));
            // One quote at each end, and no more: a name may end with doubled ones.
            let name = name.strip_prefix('"').unwrap_or(name);
            words.push(name.strip_suffix('"').unwrap_or(name).replace("\"\"", "\""));
            rest = left;
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || ";,'\"".contains(c)).unwrap_or(rest.len());
            match rest[end..].chars().next() {
                _ if end > 0 => words.push(rest[..end].to_owned()),
                Some(',' | ';') => {}
                _ => break,
            }
            rest = &rest[end.max(1)..];
        }
        rest = rest.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "--\n-- Roles\n--\n\n\\restrict x;y\nSET standard_conforming_strings = on;\nCREATE ROLE old;\nCREATE ROLE \"the \"\"end\"\"\";\n\
        ALTER ROLE old WITH SUPERUSER PASSWORD 'md5;x';\nCREATE ROLE \"new \"\"one\"\"; DROP\";\n\
        ALTER ROLE \"new \"\"one\"\"; DROP\" WITH LOGIN PASSWORD 'a''; CREATE ROLE evil;\n';\n\
        ALTER ROLE \"new \"\"one\"\"; DROP\" SET x TO E'a\\';b';\n\
        GRANT old TO \"new \"\"one\"\"; DROP\" GRANTED BY old;\nGRANT pg_monitor TO old;\n\
        GRANT SET,ALTER SYSTEM ON PARAMETER x TO \"new \"\"one\"\"; DROP\";\nGRANT SET ON PARAMETER x TO old;\n\
        CREATE TABLESPACE fast OWNER old LOCATION '/x';\n";

    #[test]
    fn statements_about_missing_roles_are_chosen_as_they_stand() {
        let present = BTreeSet::from(["old".to_owned()]);
        let plan = choose(SCRIPT, &present);
        assert_eq!(plan.create, ["the \"end\"", "new \"one\"; DROP"]);
        assert_eq!(plan.leave, ["old"]);
        assert_eq!(
            plan.statements,
            [
                "CREATE ROLE \"the \"\"end\"\"\";",
                "CREATE ROLE \"new \"\"one\"\"; DROP\";",
                "ALTER ROLE \"new \"\"one\"\"; DROP\" WITH LOGIN PASSWORD 'a''; CREATE ROLE evil;\n';",
                "ALTER ROLE \"new \"\"one\"\"; DROP\" SET x TO E'a\\';b';",
                "GRANT old TO \"new \"\"one\"\"; DROP\" GRANTED BY old;",
                "GRANT SET,ALTER SYSTEM ON PARAMETER x TO \"new \"\"one\"\"; DROP\";",
            ]
        );
    }

    #[test]
    fn where_all_roles_exist_nothing_is_done() {
        let present = BTreeSet::from(["old", "the \"end\"", "new \"one\"; DROP"].map(str::to_owned));
        let plan = choose(SCRIPT, &present);
        assert!(plan.create.is_empty() && plan.statements.is_empty());
    }
}
