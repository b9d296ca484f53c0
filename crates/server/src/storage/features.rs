//! Feature levels by release, and what they need.

use std::fmt::Write;

use ottla_metadata::MetadataVersion;
use ottla_metadata::features::{self, Feature, METADATA_VERSION};

/// The levels that a release brings, one a line, metadata.version first.
pub fn mapping(release: Option<&str>) -> Result<String, String> {
    let version = release.map_or(Ok(MetadataVersion::LATEST), parse_release)?;
    let mut text = format!("{METADATA_VERSION}={} ({})\n", version.0, version.name());
    for feature in others() {
        writeln!(text, "{}={}", feature.name, feature.default_level(version)).expect("a string takes it");
    }
    Ok(text)
}

/// What each of `levels` (`name=level`) can not do without.
pub fn dependencies(levels: &[String]) -> Result<String, String> {
    let mut text = String::new();
    for level in levels {
        let (name, level) = parse_level(level)?;
        let told = if name == METADATA_VERSION {
            let version = known_version(level)?;
            format!("{name}={level} ({}) has no dependencies.", version.name())
        } else {
            let feature = find(&name)?;
            let needs = feature
                .needs(level)
                .ok_or_else(|| format!("Feature level {level} is not supported for feature {name}"))?;
            match needs {
                MetadataVersion::MINIMUM => format!("{name}={level} has no dependencies."),
                version => format!(
                    "{name}={level} requires:\n    {METADATA_VERSION}={} ({})",
                    version.0,
                    version.name()
                ),
            }
        };
        text.push_str(&told);
        text.push('\n');
    }
    Ok(text)
}

/// `name=level`.
pub fn parse_level(text: &str) -> Result<(String, i16), String> {
    let (name, level) = text
        .split_once('=')
        .ok_or_else(|| format!("{text}: write a feature as name=level, for example group.version=1"))?;
    let (name, level) = (name.trim(), level.trim());
    let number = level.parse().map_err(|_| format!("{text}: the level {level} is not a number"))?;
    Ok((name.to_owned(), number))
}

/// `4.4` or `4.4-IV2`.
pub fn parse_release(name: &str) -> Result<MetadataVersion, String> {
    MetadataVersion::parse(name).ok_or_else(|| {
        let (oldest, newest) = (MetadataVersion::MINIMUM.name(), MetadataVersion::LATEST.name());
        format!("{name} is not a release whose levels are known: from {oldest} to {newest}")
    })
}

/// The level of metadata.version, if there is such a one.
pub fn known_version(level: i16) -> Result<MetadataVersion, String> {
    let version = MetadataVersion(level);
    if version.is_known() { Ok(version) } else { Err(format!("Unknown {METADATA_VERSION} {level}")) }
}

/// The feature of this name.
pub fn find(name: &str) -> Result<&'static Feature, String> {
    features::find(name).ok_or_else(|| {
        let known: Vec<&str> = features::FEATURES.iter().map(|feature| feature.name).collect();
        format!("Unsupported feature: {name}. Supported features are: {}", known.join(", "))
    })
}

fn others() -> impl Iterator<Item = &'static Feature> {
    features::FEATURES.iter().filter(|feature| feature.name != METADATA_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_bring_levels() {
        let newest = mapping(None).expect("fine");
        assert!(newest.starts_with("metadata.version=33 (4.4-IV2)\n"), "{newest}");
        assert!(newest.contains("transaction.version=2\n"), "{newest}");
        assert!(mapping(Some("3.8")).expect("fine").contains("transaction.version=0\n"));
        assert!(mapping(Some("9.9")).expect_err("none").contains("9.9"));
    }

    #[test]
    fn levels_need_others() {
        let told = dependencies(&["eligible.leader.replicas.version=1".into(), "group.version=1".into()]);
        let told = told.expect("fine");
        let expected = "eligible.leader.replicas.version=1 requires:\n    metadata.version=23 (4.0-IV1)\n\
                        group.version=1 has no dependencies.\n";
        assert_eq!(told, expected);
        for wrong in
            ["group.version", "group.version=x", "group.version=9", "no.such=1", "metadata.version=99"]
        {
            assert!(dependencies(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
