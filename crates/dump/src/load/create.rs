//! The statements that make a database under another name than the dumped one's, or for a part of it. Pure.
//!
//! `pg_restore --create` makes a database under its own name only, and with everything in it. What it would say of a database is said here
//! with the options that the dump kept of it, in the words of the target's version.

use pgproof_pg::MajorVersion;
use pgproof_repo::manifest::summary::DatabaseProperties;

/// `CREATE DATABASE`, from template0 because that alone takes every encoding and locale.
pub(crate) fn create(name: &str, of: &DatabaseProperties, target: MajorVersion, tablespace: bool) -> String {
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", identifier(name));
    let mut clause = |word: &str, value: &str| sql.push_str(&format!(" {word} {value}"));
    clause("OWNER", &identifier(&of.owner));
    clause("ENCODING", &literal(&of.encoding));
    // Before 15 there is no other provider, and no clause for it.
    if target > MajorVersion::V14 {
        match of.locale_provider {
            'i' => clause("LOCALE_PROVIDER", "icu"),
            'b' => clause("LOCALE_PROVIDER", "builtin"),
            _ => clause("LOCALE_PROVIDER", "libc"),
        }
    }
    clause("LC_COLLATE", &literal(&of.collate));
    clause("LC_CTYPE", &literal(&of.ctype));
    if let Some(locale) = &of.locale {
        match of.locale_provider {
            'i' => clause("ICU_LOCALE", &literal(locale)),
            'b' => clause("BUILTIN_LOCALE", &literal(locale)),
            _ => {}
        }
    }
    if let Some(rules) = of.icu_rules.as_ref().filter(|_| target > MajorVersion::V15) {
        clause("ICU_RULES", &literal(rules));
    }
    if tablespace && of.tablespace != "pg_default" {
        clause("TABLESPACE", &identifier(&of.tablespace));
    }
    sql
}

/// What is set when everything is loaded: a limit of connections could keep `pg_restore` out, a setting mislead it.
pub(crate) fn finish(name: &str, of: &DatabaseProperties) -> Vec<String> {
    let database = identifier(name);
    let mut statements = Vec::new();
    for setting in &of.settings {
        if let Some((setting, value)) = setting.split_once('=') {
            let value = setting_value(setting, value);
            statements.push(format!("ALTER DATABASE {database} SET {} TO {value}", identifier(setting)));
        }
    }
    if of.connection_limit != -1 {
        statements.push(format!("ALTER DATABASE {database} CONNECTION LIMIT {}", of.connection_limit));
    }
    if of.is_template {
        statements.push(format!("ALTER DATABASE {database} IS_TEMPLATE true"));
    }
    statements
}

/// Settings that are lists of names are kept as one quoted list and must be given as several values
/// (`variable_is_guc_list_quote` in `src/bin/pg_dump/dumputils.c`).
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

fn setting_value(setting: &str, value: &str) -> String {
    if !LISTS.contains(&setting) {
        return literal(value);
    }
    let mut names = Vec::new();
    let (mut name, mut inside) = (String::new(), false);
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if inside && characters.next_if_eq(&'"').is_some() => name.push('"'),
            '"' => inside = !inside,
            ',' if !inside => names.push(literal(&std::mem::take(&mut name))),
            ' ' if !inside => {}
            other => name.push(other),
        }
    }
    names.push(literal(&name));
    names.join(", ")
}

/// A name, quoted.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, quoted; sessions here have `standard_conforming_strings` on, as every server since 9.1 has it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties() -> DatabaseProperties {
        DatabaseProperties {
            owner: "o\"wner".to_owned(),
            encoding: "UTF8".to_owned(),
            collate: "C".to_owned(),
            ctype: "C".to_owned(),
            locale_provider: 'c',
            locale: None,
            icu_rules: None,
            tablespace: "pg_default".to_owned(),
            connection_limit: 7,
            allows_connections: true,
            is_template: false,
            settings: vec!["search_path=\"$user\", a, \"b,\"\"c\"".to_owned(), "work_mem=8MB".to_owned()],
        }
    }

    #[test]
    fn fourteen_knows_no_provider_of_locales() {
        let fourteen = create("n", &properties(), MajorVersion::V14, true);
        assert_eq!(
            fourteen,
            "CREATE DATABASE \"n\" TEMPLATE template0 OWNER \"o\"\"wner\" ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
        );
        let icu = DatabaseProperties {
            locale_provider: 'i',
            locale: Some("de".to_owned()),
            icu_rules: Some("&a < b".to_owned()),
            ..properties()
        };
        let fifteen = create("n", &icu, MajorVersion::V15, true);
        assert!(
            fifteen.ends_with("LOCALE_PROVIDER icu LC_COLLATE 'C' LC_CTYPE 'C' ICU_LOCALE 'de'"),
            "{fifteen}"
        );
        assert!(create("n", &icu, MajorVersion::V16, true).ends_with("ICU_RULES '&a < b'"));
    }

    #[test]
    fn lists_are_given_name_by_name() {
        assert_eq!(
            finish("n", &properties()),
            [
                "ALTER DATABASE \"n\" SET \"search_path\" TO '$user', 'a', 'b,\"c'",
                "ALTER DATABASE \"n\" SET \"work_mem\" TO '8MB'",
                "ALTER DATABASE \"n\" CONNECTION LIMIT 7",
            ]
        );
    }
}
