//! What an interrupted deletion, compaction or split left in a log's directory: removed or finished before the log is opened
//! (`LogLoader.removeTempFilesAndCollectSwapFiles`).
//!
//! The one tricky idea: a `.cleaned` file is still being written and goes; a `.swap` file is complete and takes its place, after the segments
//! that it replaces are gone.

use std::io;

use crate::disk::{OpenMode, remove_if_exists};
use crate::names::{self, CLEANED, DELETED, SEGMENT_EXTENSIONS, SWAP, parse_segment_name};
use crate::place::Place;
use crate::scan::{Found, Scan};
use crate::segment::HEADER_PIECE;

/// Removes what deletion and compaction left half-done, finishes a swap that had begun, and returns the segments' base offsets.
pub(super) fn clean_up(place: &Place) -> io::Result<Vec<i64>> {
    let mut names = place.disk.list(&place.dir)?;
    let mut changed = false;
    let offset_of = |name: &str| parse_segment_name(name).map(|(offset, _)| offset);
    let cleaned: Vec<i64> =
        names.iter().filter(|name| name.ends_with(CLEANED)).filter_map(|name| offset_of(name)).collect();
    let first_cleaned = cleaned.iter().min().copied().unwrap_or(i64::MAX);
    let mut swaps = Vec::new();
    for name in &names {
        let Some(offset) = offset_of(name) else { continue };
        // A swap at or behind a file that was still being written belongs to a split that did not finish.
        let unfinished = name.ends_with(SWAP) && offset >= first_cleaned;
        if name.ends_with(DELETED) || name.ends_with(CLEANED) || unfinished {
            remove_if_exists(&*place.disk, &place.dir.join(name))?;
            changed = true;
        } else if name.ends_with(SWAP) {
            swaps.push((offset, name.clone()));
        }
    }
    if !swaps.is_empty() {
        finish_swap(place, &names, &swaps)?;
        changed = true;
    }
    if changed {
        place.sync()?;
        names = place.disk.list(&place.dir)?;
    }
    let segments = names.iter().filter_map(|name| parse_segment_name(name));
    let bases: Vec<i64> =
        segments.filter(|(_, extension)| *extension == names::LOG).map(|(base, _)| base).collect();
    for name in &names {
        if let Some((base, extension)) = parse_segment_name(name)
            && SEGMENT_EXTENSIONS[1..].contains(&extension)
            && !bases.contains(&base)
        {
            remove_if_exists(&*place.disk, &place.dir.join(name))?;
        }
    }
    Ok(bases)
}

/// The swapped segments are complete: what they replace goes, then they take their names.
fn finish_swap(place: &Place, names: &[String], swaps: &[(i64, String)]) -> io::Result<()> {
    let (mut from, mut to) = (i64::MAX, i64::MIN);
    for (offset, name) in swaps.iter().filter(|(_, name)| name.ends_with(".log.swap")) {
        let file = place.disk.open(&place.dir.join(name), OpenMode::Read)?;
        let mut scan = Scan::new(&*file, 0, file.len()?, HEADER_PIECE);
        let mut end = *offset;
        while let Found::At(_, header) = scan.next_header()? {
            end = header.next_offset();
        }
        from = from.min(*offset);
        to = to.max(end);
    }
    for name in names {
        if let Some((offset, extension)) = parse_segment_name(name)
            && SEGMENT_EXTENSIONS.contains(&extension)
            && (from..to).contains(&offset)
        {
            remove_if_exists(&*place.disk, &place.dir.join(name))?;
        }
    }
    for (_, name) in swaps {
        let target = name.strip_suffix(SWAP).unwrap_or(name);
        place.disk.rename(&place.dir.join(name), &place.dir.join(target))?;
    }
    Ok(())
}
