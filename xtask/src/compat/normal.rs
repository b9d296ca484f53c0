//! What two runs of one command may differ in without anyone minding: addresses, ids, times, paths, widths of columns.

use super::driver::Output;
use super::script::Call;
use std::path::PathBuf;

/// What is somewhere else in every run.
pub struct Places {
    /// Where clients connect.
    pub bootstrap: String,
    /// Where controllers connect.
    pub controller: String,
    /// The log directory.
    pub data: PathBuf,
}

/// The output as text in which such things have names instead of values.
pub fn normal(output: &Output, call: &Call, places: &Places) -> String {
    let mut text = format!("status {}\n", output.status);
    for (mark, stream) in [("|", &output.out), ("!", &output.err)] {
        let mut lines: Vec<String> = stream
            .lines()
            .map(|line| normal_line(line, places))
            .map(|line| if call.is_numberless { without_numbers(&line) } else { line })
            .filter(|line| !line.is_empty() && !is_frame(line) && !is_own_key(line))
            .collect();
        if call.is_unordered {
            lines.sort();
        }
        for line in lines {
            text.push_str(&format!("{mark} {line}\n"));
        }
    }
    text
}

fn normal_line(line: &str, places: &Places) -> String {
    let Places { bootstrap, controller, data } = places;
    let (host, port) = bootstrap.split_once(':').expect("an address has a port");
    let line = line.replace(&data.display().to_string(), "DATA").replace(bootstrap, "HOST:PORT");
    let line = line.replace(controller, "HOST:CONTROLLER");
    let line = line.replace(host, "HOST");
    // A whole word: the digits of a checksum may begin like a port.
    let named = |word: &str| if word == port { "PORT".to_owned() } else { named(word) };
    let mut normal = String::new();
    let mut word = String::new();
    for letter in line.chars() {
        if letter.is_ascii_alphanumeric() || letter == '-' || letter == '_' {
            word.push(letter);
            continue;
        }
        normal.push_str(&named(&word));
        word.clear();
        // Columns are as wide as their widest value, which may be an id.
        let is_space = letter == ' ' || letter == '\t';
        if !(is_space && normal.ends_with(' ')) {
            normal.push(if is_space { ' ' } else { letter });
        }
    }
    normal.push_str(&named(&word));
    normal.trim().into()
}

/// Where in the tool's own code an exception was thrown says nothing about the broker, and depends on what the JVM compiled.
fn is_frame(line: &str) -> bool {
    line.strip_prefix("at ").is_some_and(|rest| rest.ends_with(')')) || line.starts_with("... ")
}

/// Keys that only Ottla has are additions by their name.
fn is_own_key(line: &str) -> bool {
    line.starts_with("ottla.") && line.contains(" synonyms={")
}

/// Numbers of two digits and more, with or without a sign in JSON or a fraction, become `N`.
fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    let mut number = String::new();
    for letter in line.chars().chain(['\n']) {
        if letter.is_ascii_digit() || (letter == '.' && !number.is_empty()) {
            number.push(letter);
            continue;
        }
        let digits = number.trim_end_matches('.');
        // Hashes of ids are as often negative as not.
        if digits.len() > 1 && text.ends_with(":-") {
            text.pop();
        }
        text.push_str(if digits.len() > 1 { "N" } else { digits });
        text.push_str(&number[digits.len()..]);
        number.clear();
        text.push(letter);
    }
    text.trim_end().into()
}

/// The name of a value that is different in every run, or the word itself.
fn named(word: &str) -> String {
    if is_time(word) {
        return "TIME".into();
    }
    if is_id(word) {
        return "ID".into();
    }
    // Client ids and member ids end with a UUID: `console-consumer-6a5ee8f1-…`.
    let end = word.len().checked_sub(36).filter(|at| word.is_char_boundary(*at));
    if let Some(at) = end.filter(|at| is_uuid(&word[*at..])) {
        return format!("{}UUID", &word[..at]);
    }
    // The console consumer's own group is one of a hundred thousand.
    if word.strip_prefix("console-consumer-").is_some_and(|number| number.parse::<u32>().is_ok()) {
        return "console-consumer-N".into();
    }
    word.into()
}

/// Milliseconds since 1970, of this decade and the next.
fn is_time(word: &str) -> bool {
    word.len() == 13 && word.starts_with(['1', '2']) && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Kafka's ids: sixteen bytes in base64 without padding. Names of classes have few capitals and no digits.
fn is_id(word: &str) -> bool {
    let capitals = word.bytes().filter(u8::is_ascii_uppercase).count();
    let is_plain = word.bytes().all(|byte| byte.is_ascii_alphabetic());
    word.len() == 22 && capitals >= 2 && (!is_plain || capitals >= 7)
}

fn is_uuid(text: &str) -> bool {
    text.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Places, normal_line};

    #[test]
    fn numbers_go_where_they_say_nothing() {
        let line = "crc: 123 at 4, 36.496 per second. 17.";
        assert_eq!(super::without_numbers(line), "crc: N at 4, N per second. N.");
        let line = r#"{"hash":-123,"epoch":-1,"id":"a-12"}"#;
        assert_eq!(super::without_numbers(line), r#"{"hash":N,"epoch":-1,"id":"a-N"}"#);
    }

    #[test]
    fn values_of_one_run_get_names() {
        let places = Places {
            bootstrap: "127.0.0.1:45001".into(),
            controller: "127.0.0.1:45002".into(),
            data: "/srv/data".into(),
        };
        for (line, expected) in [
            ("Topic: a\tTopicId: b3R0bGEtdGVzdHMtMDAwMQ\tx", "Topic: a TopicId: ID x"),
            (
                "g    -    console-consumer-0189abcd-0000-1111-2222-0123456789ab /127.0.0.1  c",
                "g - console-consumer-UUID /HOST c",
            ),
            ("127.0.0.1:45001 (id: 1 rack: null)", "HOST:PORT (id: 1 rack: null)"),
            ("45001 crc: 4500123 at :45001 45001", "PORT crc: 4500123 at :PORT PORT"),
            ("voters=1@127.0.0.1:45002", "voters=1@HOST:CONTROLLER"),
            ("CreateTime:1795646500505", "CreateTime:TIME"),
            ("/srv/data/a-0/00000000000000000000.log", "DATA/a-0/00000000000000000000.log"),
            (
                "org.apache.kafka.common.errors.UnknownTopicOrPartitionException",
                "org.apache.kafka.common.errors.UnknownTopicOrPartitionException",
            ),
        ] {
            assert_eq!(normal_line(line, &places), expected);
        }
    }
}
