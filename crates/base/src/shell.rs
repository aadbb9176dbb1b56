//! Text as a person types it into a shell.

/// One word of a command line, quoted only where the shell would see more than that.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_only_where_the_shell_needs_it() {
        assert_eq!(shell_word("/usr/bin/pgproof"), "/usr/bin/pgproof");
        assert_eq!(shell_word("/my etc/it's.toml"), r"'/my etc/it'\''s.toml'");
        assert_eq!(shell_word(""), "''");
    }
}
