//! The name of a table as a person types it, and names that look like it. Pure.

use crate::databases::quote_identifier;
use serde::Serialize;
use std::fmt;

/// Longest name of anything in PostgreSQL, in bytes (`NAMEDATALEN` less the terminating zero).
const NAME_BYTES_MAX: usize = 63;

/// How alike two names must be to be suggested, from 0 to 1: one or two slips in a name of usual length.
const ALIKE: f64 = 0.7;

/// Names that are suggested.
const SUGGESTIONS_MAX: usize = 5;

/// A table as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableName {
    /// Its schema, where one was given.
    pub schema: Option<String>,
    /// Its name.
    pub name: String,
}

/// A table that exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct QualifiedName {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
}

impl QualifiedName {
    /// As SQL takes it, and as a pattern of `pg_dump`, in which quotes take all meaning from what they hold.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", shown(&self.schema), shown(&self.name))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{}.{}", shown(schema), shown(&self.name)),
            None => f.write_str(&shown(&self.name)),
        }
    }
}

/// A name, quoted where SQL would need it.
fn shown(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_plain = name.chars().all(plain) && name.chars().next().is_some_and(|c| !c.is_ascii_digit());
    if is_plain { name.to_owned() } else { quote_identifier(name) }
}

impl TableName {
    /// Reads `table` or `schema.table`; what is not in quotes is folded to lower case, as in SQL.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (part, behind) = identifier(rest)?;
            parts.push(part);
            match behind.strip_prefix('.') {
                Some(next) => rest = next,
                None if behind.is_empty() => break,
                None => return Err("something follows the closing quote"),
            }
        }
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(name), None, _) => Ok(Self { schema: None, name }),
            (Some(schema), Some(name), None) => Ok(Self { schema: Some(schema), name }),
            _ => Err("it has more parts than a schema and a table"),
        }
    }
}

/// The identifier at the beginning, and what follows it.
fn identifier(text: &str) -> Result<(String, &str), &'static str> {
    let (name, rest) = match text.strip_prefix('"') {
        Some(quoted) => closing_quote(quoted).ok_or("a quote is not closed")?,
        None => {
            let (name, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
            (name.to_lowercase(), rest)
        }
    };
    if name.is_empty() {
        return Err("a name is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err("a name is longer than 63 bytes");
    }
    Ok((name, rest))
}

/// What stands before the closing quote, with doubled quotes made single, and what follows it.
fn closing_quote(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once('"')?;
        name.push_str(before);
        match behind.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Some((name, behind)),
        }
    }
}

/// Those of `tables` that may have been meant, likeliest first: the same name in another schema, then names that look like it.
pub(crate) fn similar(asked: &TableName, tables: &[QualifiedName]) -> Vec<String> {
    let wanted = asked.name.to_lowercase();
    let mut alike: Vec<(f64, &QualifiedName)> = tables
        .iter()
        .map(|table| (strsim::normalized_damerau_levenshtein(&wanted, &table.name.to_lowercase()), table))
        .filter(|(likeness, table)| *likeness >= ALIKE || table.name.to_lowercase().contains(&wanted))
        .collect();
    alike.sort_by(|(one, first), (other, second)| other.total_cmp(one).then_with(|| first.cmp(second)));
    alike.into_iter().take(SUGGESTIONS_MAX).map(|(_, table)| table.to_string()).collect()
}

/// The name that something belonging to a table gets when the table is renamed: `orders_pkey` becomes `orders_recovered_pkey`.
pub(crate) fn renamed(part: &str, old: &str, new: &str) -> String {
    let suffix = match part.strip_prefix(old) {
        Some(suffix) => suffix.to_owned(),
        None => format!("_{part}"),
    };
    shortened(new, &suffix)
}

/// `stem` and `suffix` in 63 bytes; the suffix tells things apart, so that the stem is cut.
pub(crate) fn shortened(stem: &str, suffix: &str) -> String {
    let suffix = cut(suffix, NAME_BYTES_MAX / 2);
    format!("{}{suffix}", cut(stem, NAME_BYTES_MAX - suffix.len()))
}

fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sql_reads_them() {
        let parse = |text: &str| TableName::parse(text).map(|table| (table.schema, table.name));
        let schema = |name: &str| Some(name.to_owned());
        assert_eq!(parse("Orders"), Ok((None, "orders".into())));
        assert_eq!(parse("Shop.Orders"), Ok((schema("shop"), "orders".into())));
        assert_eq!(parse(r#""Shop"."a.b""#), Ok((schema("Shop"), "a.b".into())));
        assert_eq!(parse(r#"shop."say ""hi""""#), Ok((schema("shop"), "say \"hi\"".into())));
        for wrong in ["", ".", "a.", "a.b.c", "\"a", "\"a\"b", &"x".repeat(64)] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(TableName::parse(r#"shop."Orders""#).unwrap().to_string(), r#"shop."Orders""#);
    }

    #[test]
    fn slips_and_other_schemas_are_suggested() {
        let table = |schema: &str, name: &str| QualifiedName { schema: schema.into(), name: name.into() };
        let tables = [table("public", "orders"), table("old", "orders_2024"), table("public", "customers")];
        let similar = |asked: &str| similar(&TableName::parse(asked).unwrap(), &tables);
        assert_eq!(similar("oders"), ["public.orders"]);
        assert_eq!(similar("sales.orders"), ["public.orders", "old.orders_2024"]);
        assert_eq!(similar("invoices"), Vec::<String>::new());
    }

    #[test]
    fn what_belongs_to_a_table_is_renamed_with_it() {
        assert_eq!(renamed("orders_pkey", "orders", "orders_recovered"), "orders_recovered_pkey");
        assert_eq!(renamed("by_day", "orders", "orders_recovered"), "orders_recovered_by_day");
        let long = renamed(&"x".repeat(63), "orders", &"ä".repeat(31));
        assert!(long.len() <= 63 && long.starts_with('ä') && long.ends_with('x'), "{long}");
    }
}
