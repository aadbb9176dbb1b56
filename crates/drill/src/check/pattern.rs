//! Names of relations with `*` in them: what no check of rows or sequences complains about.

use crate::error::DrillError;

/// `schema.name`, in which `*` stands for any letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Reads a list separated by commas.
    ///
    /// # Errors
    /// [`DrillError::Pattern`] for a name without schema.
    pub fn list(text: &str) -> Result<Vec<Self>, DrillError> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let one = |word: &str| match word.split_once('.') {
            Some((schema, name)) if !schema.is_empty() && !name.is_empty() => Ok(Self(word.to_owned())),
            _ => Err(DrillError::Pattern { text: word.to_owned() }),
        };
        words.map(one).collect()
    }

    /// Whether it means this relation.
    #[must_use]
    pub fn matches(&self, relation: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = relation.strip_prefix(first) else { return false };
        let Some(last) = self.0.contains('*').then(|| parts.next_back()).flatten() else {
            return rest.is_empty();
        };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_letters_and_the_rest_for_itself() {
        let list = Pattern::list("public.staging_*, *.queue,a.b").unwrap();
        let matches = |name: &str| list.iter().any(|pattern| pattern.matches(name));
        assert!(matches("public.staging_1") && matches("x.queue") && matches("a.b"));
        assert!(!matches("public.orders") && !matches("a.bc") && !matches("x.queue2"));
        assert!(Pattern::list("orders").is_err());
    }
}
