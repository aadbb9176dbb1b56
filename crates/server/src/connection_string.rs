//! What a connection string says of TLS. The client library knows half of libpq's parameters for it and refuses the rest, so they are taken
//! out before it sees the string.
//!
//! A string that makes no sense is handed on as it is: the library says better what is wrong with it.

use crate::tls::TlsOptions;

/// The string without the parameters that [`TlsOptions`] holds, and these.
pub(crate) fn split_tls(text: &str) -> Result<(String, TlsOptions), String> {
    let mut options = TlsOptions::default();
    let rest = match text.starts_with("postgres://") || text.starts_with("postgresql://") {
        true => uri(text, &mut options)?,
        false => pairs(text, &mut options)?,
    };
    Ok((rest, options))
}

fn uri(text: &str, options: &mut TlsOptions) -> Result<String, String> {
    let Some((place, query)) = text.split_once('?') else { return Ok(text.to_owned()) };
    let mut kept = Vec::new();
    for parameter in query.split('&') {
        let taken = match parameter.split_once('=') {
            Some((name, value)) => match decoded(value) {
                Some(value) => options.take(name, &value)?,
                None => false,
            },
            None => false,
        };
        if !taken {
            kept.push(parameter);
        }
    }
    Ok(if kept.is_empty() { place.to_owned() } else { format!("{place}?{}", kept.join("&")) })
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn pairs(text: &str, options: &mut TlsOptions) -> Result<String, String> {
    let Some(pairs) = parsed(text) else { return Ok(text.to_owned()) };
    let mut kept = Vec::new();
    for (name, value) in pairs {
        if !options.take(&name, &value)? {
            let value = value.replace('\\', r"\\").replace('\'', r"\'");
            kept.push(format!("{name}='{value}'"));
        }
    }
    Ok(kept.join(" "))
}

/// Names and values, as libpq's `conninfo_parse` reads them.
fn parsed(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after.trim_start())?;
        pairs.push((name.trim().to_owned(), value));
        rest = after.trim_start();
    }
    Some(pairs)
}

/// One value, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => value.push(characters.next()?.1),
            '\'' if quoted => return Some((value, &text[at + 1..])),
            c if !quoted && c.is_whitespace() => return Some((value, &text[at..])),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::SslMode;

    #[test]
    fn parameters_of_tls_are_taken_out_and_the_rest_keeps_its_values() {
        let text = r"host = /run/x sslmode=verify-ca user='o\'hara' sslrootcert='/my certs/root.crt' password=a\ b\\c";
        let (rest, options) = split_tls(text).unwrap();
        assert_eq!(rest, r"host='/run/x' user='o\'hara' password='a b\\c'");
        assert_eq!(options.sslmode, Some(SslMode::VerifyCa));
        assert_eq!(options.sslrootcert.as_deref(), Some("/my certs/root.crt"));
    }

    #[test]
    fn those_of_a_uri_are_too() {
        let text = "postgresql://ann@db:5433/x?sslmode=verify-full&application_name=y&sslcert=%2Fetc%2Fc.crt";
        let (rest, options) = split_tls(text).unwrap();
        assert_eq!(rest, "postgresql://ann@db:5433/x?application_name=y");
        assert_eq!(options.sslcert, Some("/etc/c.crt".into()));
        assert_eq!(split_tls("postgres://db?sslmode=require").unwrap().0, "postgres://db");
    }

    #[test]
    fn what_makes_no_sense_is_left_to_the_library_and_an_unknown_mode_is_named() {
        for text in ["host", "user='x", "host=a port"] {
            assert_eq!(split_tls(text).unwrap().0, text);
        }
        assert!(split_tls("sslmode=maybe").unwrap_err().contains("`maybe`"));
    }
}
