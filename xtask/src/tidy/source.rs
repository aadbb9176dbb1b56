//! Just enough understanding of Rust to measure functions and to find codes: comments, strings and characters are told
//! from code, and braces are counted. A parser would be the largest dependency of this program.

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// Where it begins, from 1.
    pub(super) line: usize,
    /// Lines from `fn` to its closing brace.
    pub(super) lines: usize,
}

/// Every function with a body, nested ones too.
pub(super) fn functions(text: &str) -> Vec<Function> {
    let code = blank(text, Keep::Nothing);
    bodies(&code)
        .into_iter()
        .map(|body| {
            let line = code[..body.start].matches('\n').count() + 1;
            Function { name: body.name, line, lines: code[body.start..body.end].matches('\n').count() + 1 }
        })
        .collect()
}

/// Codes of errors and findings: what functions named `code` return, and what `Finding::new` is given first. Tests, which
/// come last in a file, invent theirs.
pub(super) fn codes(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let code = blank(text, Keep::Strings);
    let mut codes = Vec::new();
    for body in bodies(&blank(text, Keep::Nothing)).into_iter().filter(|body| body.name == "code") {
        codes.extend(literals(&code[body.start..body.end]));
    }
    for call in code.split("Finding::new(").skip(1) {
        if let Some(rest) = call.trim_start().strip_prefix('"') {
            codes.extend(rest.split('"').next().map(str::to_owned));
        }
    }
    codes.retain(|code| {
        code.contains('-') && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    });
    codes.sort();
    codes.dedup();
    codes
}

fn literals(code: &str) -> Vec<String> {
    code.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

struct Body {
    name: String,
    start: usize,
    end: usize,
}

/// Functions in text without comments and strings.
fn bodies(code: &str) -> Vec<Body> {
    let mut bodies = Vec::new();
    let mut from = 0;
    while let Some(found) = code[from..].find("fn ") {
        let start = from + found;
        from = start + 3;
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name: String = code[from..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if let (false, Some(end)) = (name.is_empty(), end_of_body(code, from)) {
            bodies.push(Body { name, start, end });
        }
    }
    bodies
}

/// Where the body of a function ends whose signature begins at `from`; none if it has no body. A `;` inside brackets is
/// that of an array.
fn end_of_body(code: &str, from: usize) -> Option<usize> {
    let (mut brackets, mut braces) = (0_i32, 0_i32);
    for (index, byte) in code.as_bytes()[from..].iter().enumerate() {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            b';' if braces == 0 && brackets == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces -= 1;
                if braces <= 0 {
                    return (braces == 0).then_some(from + index + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    /// Plain string literals stay; whatever else could look like one goes.
    Strings,
}

/// The text with comments, characters and strings as spaces, of equal length and lines.
fn blank(text: &str, keep: Keep) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = token_end(bytes, at);
        let token = &bytes[at..end];
        let is_code = end == at + 1;
        let is_kept_string = token[0] == b'"' && keep == Keep::Strings;
        if is_code || is_kept_string {
            out.extend_from_slice(token);
        } else {
            out.extend(token.iter().map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }));
        }
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// End of the comment, string or character that begins here; of one byte of code otherwise.
fn token_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment(rest),
        [b'"', ..] => at + quoted(rest, b'"'),
        [b'r', b'"' | b'#', ..] if !after_word => raw_string(rest).map_or(at + 1, |length| at + length),
        [b'b', b'r', b'"' | b'#', ..] if !after_word => {
            raw_string(&rest[1..]).map_or(at + 1, |length| at + 1 + length)
        }
        [b'\'', ..] => character(rest).map_or(at + 1, |length| at + length),
        // A character of several bytes is neither code nor broken apart.
        [first, ..] if !first.is_ascii() => {
            at + rest.iter().skip(1).take_while(|&&byte| byte & 0xC0 == 0x80).count() + 1
        }
        _ => at + 1,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of `r"..."` or `r#"..."#`; none for a raw identifier.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    let body = 1 + hashes + 1;
    if rest.get(body - 1) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let found = rest[body..].windows(end.len()).position(|window| window == end);
    Some(found.map_or(rest.len(), |position| body + position + end.len()))
}

/// Length of a character literal; none for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        return Some(quoted(rest, b'\''));
    }
    let text = std::str::from_utf8(&rest[1..rest.len().min(6)]);
    let valid = match text {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&rest[1..=error.valid_up_to()]).ok()?,
    };
    let length = valid.chars().next()?.len_utf8();
    (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(text: &str) -> Vec<(String, usize, usize)> {
        functions(text).into_iter().map(|function| (function.name, function.line, function.lines)).collect()
    }

    #[test]
    fn functions_are_measured_from_fn_to_closing_brace() {
        let text = "struct S;\nimpl S {\n    fn a(&self) -> [u8; 2] {\n        [1, 2]\n    }\n    fn b();\n}\nfn c() {}\n";
        assert_eq!(lengths(text), [("a".to_owned(), 3, 3), ("c".to_owned(), 8, 1)]);
    }

    #[test]
    fn braces_in_strings_characters_and_comments_do_not_count() {
        let text = "fn a<'x>(s: &'x str) {\n// }\n/* } /* } */ } */\nlet b = \"}\\\"}\"; let c = '}'; let d = '\\'';\n\
            let e = r#\"}\"}\"#; let f = b\"}\"; let g = 'ä';\n}\n";
        assert_eq!(lengths(text), [("a".to_owned(), 1, 6)]);
    }

    #[test]
    fn codes_come_from_functions_of_that_name_and_from_findings() {
        let text = "fn code(&self) -> &str { match self { A => \"store-absent\", B => \"no_code\" } }\n\
            fn other() { Finding::new(\n  \"archive-off\", x, \"not-this one\") /* \"nor-this\" */ }\n\
            #[cfg(test)]\nmod tests { Finding::new(\"invented-here\") }";
        assert_eq!(codes(text), ["archive-off", "store-absent"]);
    }
}
