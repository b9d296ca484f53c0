//! A closed range of message versions, and how it is written relative to the range that contains it.

use std::fmt;

/// Versions `min..=max`, both inclusive. Never empty: absence is an `Option`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest version.
    pub min: i16,
    /// The newest version.
    pub max: i16,
}

impl Versions {
    /// Every version that could ever be.
    pub const ALL: Versions = Versions { min: 0, max: i16::MAX };

    /// The range `min..=max`, or nothing where it would be empty.
    pub fn new(min: i16, max: i16) -> Option<Versions> {
        (min <= max).then_some(Versions { min, max })
    }

    /// Is `version` in the range?
    pub fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// What both ranges have in common.
    pub fn intersect(self, other: Versions) -> Option<Versions> {
        Versions::new(self.min.max(other.min), self.max.min(other.max))
    }

    /// Does this range hold all of `other`?
    pub fn covers(self, other: Versions) -> bool {
        self.min <= other.min && other.max <= self.max
    }

    /// Every version of the range, oldest first.
    pub fn iter(self) -> impl Iterator<Item = i16> {
        self.min..=self.max
    }

    /// Reads `3-7`, `3`, `3+` or `-7`; the open end is that of `parent`, to which the result is clipped.
    /// `none`, or a range that misses `parent`, is `Ok(None)`.
    pub fn parse(text: &str, parent: Versions) -> Result<Option<Versions>, String> {
        let number =
            |part: &str| part.parse::<i16>().map_err(|_| format!("`{text}` is not a range of versions"));
        let range = if text == "none" {
            None
        } else if let Some(min) = text.strip_suffix('+') {
            Versions::new(number(min)?, i16::MAX)
        } else if let Some(max) = text.strip_prefix('-') {
            Versions::new(0, number(max)?)
        } else if let Some((min, max)) = text.split_once('-') {
            Versions::new(number(min)?, number(max)?)
        } else {
            Versions::new(number(text)?, number(text)?)
        };
        Ok(range.and_then(|range| range.intersect(parent)))
    }

    /// How the range is written inside of `parent`; `None` where it is all of it and nothing need be said.
    pub fn within(self, parent: Versions) -> Option<String> {
        if self.covers(parent) {
            None
        } else if self.max >= parent.max {
            Some(format!("{}+", self.min))
        } else if self.min <= parent.min {
            Some(format!("-{}", self.max))
        } else {
            Some(self.to_string())
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { write!(f, "{}", self.min) } else { write!(f, "{}-{}", self.min, self.max) }
    }
}
