//! Java's `.properties` notation, as `server.properties` files are written in it.
//!
//! The tricky idea: there are *natural* lines (what the editor shows) and *logical* lines (what counts). A natural line whose end
//! carries an odd number of backslashes goes on in the next one, whose leading blanks then vanish; only a logical line's first
//! natural line can be a comment. Everything else is unescaping. The rules are those of `java.util.Properties.load`.

use std::iter::Peekable;
use std::str::Chars;

/// One `key = value` of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// The natural line on which the key stands, counted from 1.
    pub line: usize,
    /// The key, unescaped.
    pub key: String,
    /// The value, unescaped, with the blanks at its end still there.
    pub value: String,
}

/// Why a file is not in the notation; the only thing that can go wrong is a bad `\u` escape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertiesError {
    /// The line on which the broken escape stands, counted from 1.
    pub line: usize,
}

impl std::fmt::Display for PropertiesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: \\u must be followed by four hexadecimal digits", self.line)
    }
}

/// Reads a whole file. Later lines win over earlier ones with the same key, so the order is kept.
/// Bytes that are not UTF-8 are taken for ISO-8859-1, the notation's old encoding.
pub fn parse(bytes: &[u8]) -> Result<Vec<Property>, PropertiesError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    };
    logical_lines(&text).into_iter().map(|(line, text)| property(line, &text)).collect()
}

/// Unescapes a value as if it stood in a file behind `key=`: blanks before it vanish, backslash escapes are resolved.
pub fn unescape_value(value: &str) -> Result<String, PropertiesError> {
    unescape(value.trim_start_matches(is_blank), 1)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Joins natural lines into logical ones; comments and blank lines are dropped.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, natural) in text.split(['\n', '\r']).enumerate() {
        let content = natural.trim_start_matches(is_blank);
        if open.is_none() && (content.is_empty() || content.starts_with(['#', '!'])) {
            continue;
        }
        let backslashes = content.len() - content.trim_end_matches('\\').len();
        let continues = backslashes % 2 == 1;
        let kept = if continues { &content[..content.len() - 1] } else { content };
        let (start, mut logical) = open.take().unwrap_or((index + 1, String::new()));
        logical.push_str(kept);
        if continues {
            open = Some((start, logical));
        } else {
            lines.push((start, logical));
        }
    }
    lines.extend(open.filter(|(_, logical)| !logical.is_empty()));
    lines
}

/// Splits a logical line at the first unescaped `=`, `:` or blank.
fn property(line: usize, text: &str) -> Result<Property, PropertiesError> {
    let mut escaped = false;
    let key_end = text
        .char_indices()
        .find(|&(_, c)| {
            let ends = !escaped && (is_blank(c) || c == '=' || c == ':');
            escaped = c == '\\' && !escaped;
            ends
        })
        .map_or(text.len(), |(position, _)| position);
    let rest = text[key_end..].trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(is_blank);
    Ok(Property { line, key: unescape(&text[..key_end], line)?, value: unescape(rest, line)? })
}

fn unescape(text: &str, line: usize) -> Result<String, PropertiesError> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    // Escapes name UTF-16 units, and two of them may make up one character.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some('u') => {
                    units.push(unescape_unit(&mut chars).ok_or(PropertiesError { line })?);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            other => other,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Ok(String::from_utf16_lossy(&units))
}

fn unescape_unit(chars: &mut Peekable<Chars<'_>>) -> Option<u16> {
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit * 16 + chars.next()?.to_digit(16)?;
    }
    u16::try_from(unit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let parsed = parse(text.as_bytes()).expect("in the notation");
        let pairs: Vec<_> = parsed.iter().map(|p| (p.key.as_str(), p.value.as_str())).collect();
        assert_eq!(pairs, expected, "{text:?}");
    }

    #[test]
    fn separators() {
        check(
            "a=1\nb:2\nc 3\nd = 4\ne\t:\t5\nf==6",
            &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5"), ("f", "=6")],
        );
        check("lonely", &[("lonely", "")]);
        check("=value", &[("", "value")]);
        check("listeners=PLAINTEXT://:9092,SSL://:9093", &[("listeners", "PLAINTEXT://:9092,SSL://:9093")]);
    }

    #[test]
    fn comments_and_blank_lines() {
        check(
            "# c\n  ! d\n\n \t \na=1 # no comment\r\nb=2\rc=3\n",
            &[("a", "1 # no comment"), ("b", "2"), ("c", "3")],
        );
        check("# a comment does not go on \\\na=1", &[("a", "1")]);
    }

    #[test]
    fn continuation() {
        check("a=one,\\\n    two,\\\n\tthree\nb=2", &[("a", "one,two,three"), ("b", "2")]);
        check("a=even\\\\\nb=2", &[("a", "even\\"), ("b", "2")]);
        check("a=odd\\\\\\\n  more", &[("a", "odd\\more")]);
        check("a=1\\\n# not a comment here", &[("a", "1# not a comment here")]);
        check("a=last\\", &[("a", "last")]);
        check("key\\\n  =value", &[("key", "value")]);
    }

    #[test]
    fn escapes() {
        check(r"a\ b\=c\:d = x\ty\nz\q", &[("a b=c:d", "x\ty\nzq")]);
        check(r"snow=\u2603 \ud83d\ude00", &[("snow", "\u{2603} \u{1f600}")]);
        check("keeps=trailing  ", &[("keeps", "trailing  ")]);
        assert_eq!(parse(b"a=1\nb=\\u12g4"), Err(PropertiesError { line: 2 }));
        assert_eq!(parse(b"a=\\u12"), Err(PropertiesError { line: 1 }));
    }

    #[test]
    fn old_encoding_and_line_numbers() {
        assert_eq!(parse(b"a=caf\xe9").expect("latin 1")[0].value, "caf\u{e9}");
        let lines: Vec<_> = parse(b"\n# c\na=1\\\n2\n\nb=3").expect("fine").iter().map(|p| p.line).collect();
        assert_eq!(lines, [3, 6]);
    }
}
