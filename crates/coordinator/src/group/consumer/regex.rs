//! Subscriptions by regular expression: the coordinator finds the topics, in steps that never take long.
//!
//! A new pattern is compiled when it comes (a bad one is INVALID_REGULAR_EXPRESSION, 128) and resolved soon after, by a job
//! that walks over the names of the cluster's topics, a bounded number at a time. All patterns of a group are resolved
//! together; what they match is kept in records, and the group gets another epoch if it changed. They are resolved again
//! when topics were created since, and every ten minutes, but never twice within ten seconds.
//!
//! The dialect is RE2's. A pattern has to match a whole name.

use crate::group::config::NAME_BYTES_MAX;
use crate::group::consumer::draft::Draft;
use crate::group::consumer::group::count_matches;
use crate::group::consumer::heartbeat::Refusal;
use crate::group::consumer::{epochs, records};
use crate::group::coordinator::GroupCoordinator;
use crate::group::outcome::Outcome;
use crate::group::timers::TimerKey;
use crate::group::topics::Topics;
use ottla_protocol::ErrorCode;
use regex::bytes::{Regex, RegexBuilder};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Patterns are not resolved again within this time.
const REFRESH_INTERVAL_MS_MIN: i64 = 10_000;
/// Names that one step of a job matches, each pattern counted.
const MATCHES_PER_STEP: usize = 4_000;
/// Memory of one compiled pattern.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// The topics that a pattern matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub topics: Arc<BTreeSet<Arc<str>>>,
    /// How new the metadata was.
    pub version: i64,
    /// When, in milliseconds since the epoch.
    pub timestamp: i64,
}

/// What a heartbeat did to the member's pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RegexChange {
    None,
    /// Its topics are not known yet.
    Changed,
    /// And it is known which topics that means: the group needs another epoch.
    Resolved,
}

/// A walk over the names of all topics on behalf of one group.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    patterns: Vec<Pattern>,
    after: Option<Arc<str>>,
    version: i64,
    started_at: i64,
}

#[derive(Debug, Clone)]
struct Pattern {
    source: Arc<str>,
    compiled: Regex,
    topics: BTreeSet<Arc<str>>,
}

impl Job {
    fn new(sources: impl Iterator<Item = Arc<str>>, version: i64, started_at: i64) -> Job {
        // One that no longer compiles came from the log of another version: it matches nothing, and is not written again.
        let pattern = |source: Arc<str>| {
            let compiled = compile(&source).ok()?;
            Some(Pattern { source, compiled, topics: BTreeSet::new() })
        };
        Job { patterns: sources.filter_map(pattern).collect(), after: None, version, started_at }
    }

    /// One step. True when all names were seen.
    fn step(&mut self, topics: &dyn Topics) -> bool {
        let max = (MATCHES_PER_STEP / self.patterns.len().max(1)).max(1);
        let names = topics.names_after(self.after.as_deref(), max);
        for name in names.iter().filter(|name| topics.is_allowed(name)) {
            for pattern in self.patterns.iter_mut().filter(|p| p.compiled.is_match(name.as_bytes())) {
                pattern.topics.insert(name.clone());
            }
        }
        let is_done = names.len() < max;
        self.after = names.into_iter().next_back();
        is_done
    }
}

/// Compiles a pattern that must match a whole name.
fn compile(source: &str) -> Result<Regex, String> {
    let source = without_quotes(source);
    // Names are ASCII: classes of Unicode are only there for those who ask for them.
    let needs_unicode = !source.is_ascii() || source.contains("\\p") || source.contains("\\P");
    let build = |pattern: &str| {
        let mut builder = RegexBuilder::new(pattern);
        builder.unicode(needs_unicode).size_limit(COMPILED_BYTES_MAX);
        builder.dfa_size_limit(COMPILED_BYTES_MAX).build().map_err(|error| error.to_string())
    };
    // It has to be a pattern by itself: what follows would make one of `a)(b`.
    build(&source)?;
    build(&format!("\\A(?:{source})\\z"))
}

/// RE2 takes what stands between `\Q` and `\E` literally.
fn without_quotes(source: &str) -> String {
    let mut plain = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        plain.push_str(before);
        if let Some(quoted) = escape.strip_prefix("\\Q") {
            let (literal, behind) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            plain.push_str(&regex::escape(literal));
            rest = behind;
        } else {
            let length = 1 + escape[1..].chars().next().map_or(0, char::len_utf8);
            plain.push_str(&escape[..length]);
            rest = &escape[length..];
        }
    }
    plain.push_str(rest);
    plain
}

/// Looks at what the heartbeat did to the member's pattern.
pub(crate) fn change(draft: &mut Draft<'_>) -> Result<RegexChange, Refusal> {
    if draft.before.regex() == draft.member.regex() {
        return Ok(RegexChange::None);
    }
    if let Some(abandoned) = draft.abandoned_regex().cloned() {
        draft.records.push(records::resolved_tombstone(&draft.group.id, &abandoned));
    }
    let Some(new) = draft.member.regex() else { return Ok(RegexChange::Resolved) };
    if draft.group.regexes().contains_key(new) {
        let is_resolved = draft.group.resolved().contains_key(new);
        return Ok(if is_resolved { RegexChange::Resolved } else { RegexChange::Changed });
    }
    let invalid = |reason: String| {
        let text = format!("SubscribedTopicRegex `{new}` is not a valid regular expression: {reason}.");
        Refusal::new(ErrorCode::InvalidRegularExpression, text)
    };
    if new.len() > NAME_BYTES_MAX {
        return Err(invalid(format!("it is longer than {NAME_BYTES_MAX} bytes")));
    }
    compile(new).map_err(invalid)?;
    Ok(RegexChange::Changed)
}

/// The patterns to resolve now, none if there is nothing to do.
pub(crate) fn due(
    draft: &Draft<'_>,
    change: RegexChange,
    now: i64,
    new_topics_version: i64,
    refresh_interval_ms: i64,
) -> Vec<Arc<str>> {
    if change == RegexChange::None && draft.group.regexes().is_empty() {
        return Vec::new();
    }
    let regexes = draft.regexes();
    let last = draft.group.resolved().values().next();
    let resolved_at = last.map_or(i64::MIN / 2, |resolved| resolved.timestamp);
    if now <= resolved_at.saturating_add(REFRESH_INTERVAL_MS_MIN) {
        return Vec::new();
    }
    let is_due = regexes.len() != draft.group.resolved().len()
        || last.map_or(0, |resolved| resolved.version) < new_topics_version
        || now > resolved_at.saturating_add(refresh_interval_ms);
    if is_due { regexes.into_keys().collect() } else { Vec::new() }
}

impl GroupCoordinator {
    /// Begins to resolve patterns, unless the group has a job already.
    pub(crate) fn start_regex_job(
        &mut self,
        group_id: &str,
        sources: Vec<Arc<str>>,
        topics: &dyn Topics,
        now: i64,
    ) {
        if sources.is_empty() || self.regex_jobs.contains_key(group_id) {
            return;
        }
        let id: Arc<str> = Arc::from(group_id);
        self.regex_jobs.insert(id.clone(), Job::new(sources.into_iter(), topics.version(), now));
        self.timers.schedule(TimerKey::Resolve(id), now);
    }

    /// One step of a job; the last one asks for the records.
    pub(crate) fn on_regex_step(
        &mut self,
        group_id: &Arc<str>,
        now: i64,
        topics: &dyn Topics,
        out: &mut Outcome,
    ) {
        let Some(job) = self.regex_jobs.get_mut(group_id) else { return };
        if !job.step(topics) {
            // Not at once: what waits for this thread goes first.
            self.timers.schedule(TimerKey::Resolve(group_id.clone()), now + 1);
            return;
        }
        let job = self.regex_jobs.remove(group_id).expect("it was just there");
        let Some(group) = self.consumer_groups.get_mut(group_id) else { return };
        let mut subscriptions = group.subscriptions().clone();
        let mut is_changed = false;
        for pattern in job.patterns {
            if !group.regexes().contains_key(&pattern.source) {
                continue;
            }
            let (version, timestamp) = (job.version, job.started_at);
            let new = Resolved { topics: Arc::new(pattern.topics), version, timestamp };
            let old = group.resolved().get(&pattern.source);
            if old.map_or(!new.topics.is_empty(), |old| old.topics != new.topics) {
                is_changed = true;
                if let Some(old) = old {
                    count_matches(&mut subscriptions, old, -1);
                }
                count_matches(&mut subscriptions, &new, 1);
            }
            out.records.push(records::resolved(group_id, &pattern.source, &new));
        }
        let metadata_hash = self.topic_hashes.of_group(&subscriptions, topics);
        if is_changed || metadata_hash != group.metadata_hash {
            let group_epoch = epochs::next(group.group_epoch);
            out.records.push(records::group_epoch(group_id, group_epoch, metadata_hash));
            group.checked_at = Some(group_epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let compiled = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for name in matching {
            assert!(compiled.is_match(name.as_bytes()), "{pattern} matches {name}");
        }
        for name in others {
            assert!(!compiled.is_match(name.as_bytes()), "{pattern} does not match {name}");
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        check("foo", &["foo"], &["foobar", "afoo"]);
        check("foo.*", &["foo", "foobar"], &["afoo"]);
        check("a|ab", &["a", "ab"], &["abc"]);
        check("^foo$", &["foo"], &["foob"]);
        check("(?i)foo\\d{1,3}", &["FOO12"], &["foo", "foo1234"]);
        check("[[:alpha:]]+", &["abc"], &["a1"]);
        check("\\pL+", &["abc"], &["a1"]);
    }

    #[test]
    fn what_is_quoted_is_literal() {
        check("\\Qa.b\\E.*", &["a.bc"], &["axbc"]);
        check("\\Qa.b", &["a.b"], &["axb"]);
        check("\\\\Q|a", &["a", "\\Q"], &["Q"]);
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in ["(", "a)(b", "[", "*", "(?=a)", "\\1", "(((((a{100}){100}){100}){100}){100})"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }
}
