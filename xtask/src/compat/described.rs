//! Configurations compared key by key: the same keys, and for each the same type, default, secrecy and need of a restart.
//!
//! The output of `tests/clients/tools/src/Described.java` has a line for each key. Ottla may have keys of its own, and may describe a key
//! otherwise where `compat.differences` says why (`described KIND NAME: KEY TAB reason`). Nothing else.

use super::script::Call;
use std::collections::BTreeMap;

/// The name of the tool in the script.
pub const TOOL: &str = "described";
/// How Ottla's own keys begin.
const OWN: &str = "ottla.";

/// A key that is described otherwise, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excuse {
    /// `described broker 1: log.dir`
    pub key: String,
    pub reason: String,
    /// Whether it is needed.
    pub is_needed: bool,
}

/// Both sides without what may differ, and the excuses of this resource.
pub fn compared(
    call: &Call,
    wanted: &str,
    found: &str,
    reasons: &BTreeMap<String, String>,
) -> (String, String, Vec<Excuse>) {
    let (mut wanted, mut found) = (keys(wanted), keys(found));
    found.retain(|key, _| !key.starts_with(OWN));
    let mut excuses = Vec::new();
    for (name, reason) in reasons {
        let Some(key) = name.strip_prefix(&call.text).and_then(|rest| rest.strip_prefix(": ")) else {
            continue;
        };
        let is_needed = wanted.get(key) != found.get(key);
        excuses.push(Excuse { key: name.clone(), reason: reason.clone(), is_needed });
        // A key that is missing on one side stays so: only how it is described can be excused.
        if wanted.contains_key(key) && found.contains_key(key) {
            wanted.remove(key);
            found.remove(key);
        }
    }
    (rendered(&wanted), rendered(&found), excuses)
}

/// What is said of each key. Lines that are not of a key (the status, an exception) stand for themselves.
fn keys(output: &str) -> BTreeMap<String, String> {
    let line = |line: &str| match line.strip_prefix("| ").and_then(|line| line.split_once(' ')) {
        Some((key, attributes)) => (key.to_owned(), attributes.to_owned()),
        None => (line.to_owned(), String::new()),
    };
    output.lines().map(line).collect()
}

fn rendered(keys: &BTreeMap<String, String>) -> String {
    keys.iter().map(|(key, attributes)| format!("{key} {attributes}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::script::{Line, parse};
    use super::compared;
    use std::collections::BTreeMap;

    #[test]
    fn only_own_and_excused_keys_may_differ() {
        let lines = parse("described broker 1").unwrap_or_default();
        let [Line::Tool(call)] = &lines[..] else { panic!("a call") };
        let reasons: BTreeMap<String, String> = [("a", "why"), ("e", "not needed")]
            .map(|(k, v)| (format!("described broker 1: {k}"), v.into()))
            .into();
        let kafka = "status 0\n| a type=INT\n| b type=LONG\n| e type=INT\n";
        let ottla = "status 0\n| a type=LONG\n| b type=LONG\n| e type=INT\n| ottla.x type=INT\n";
        let (wanted, found, excuses) = compared(call, kafka, ottla, &reasons);
        assert_eq!(wanted, found);
        assert_eq!(excuses.iter().map(|excuse| excuse.is_needed).collect::<Vec<_>>(), [true, false]);
        for wrong in [
            "status 0\n| a type=LONG\n| b type=INT\n| e type=INT\n",
            "status 0\n| a type=LONG\n| e type=INT\n",
            "status 0\n| b type=LONG\n| e type=INT\n",
            "status 0\n| a type=LONG\n| b type=LONG\n| c type=LONG\n| e type=INT\n",
            "status 1\n",
        ] {
            let (wanted, found, _) = compared(call, kafka, wrong, &reasons);
            assert_ne!(wanted, found, "{wrong}");
        }
    }
}
