//! What an interrupted deletion, compaction or split left in a log's directory: removed or finished before the log is opened
//! (`LogLoader.removeTempFilesAndCollectSwapFiles`).
//!
//! The one tricky idea: a `.cleaned` file is still being written and goes; a `.swap` file is complete and takes its place, after the segments
//! that it replaces are gone. This may be interrupted as well, so whatever a later step relies on is durable before that step begins.

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
    let mut unfinished = Vec::new();
    for name in &names {
        let Some(offset) = offset_of(name) else { continue };
        if name.ends_with(DELETED) {
            remove_if_exists(&*place.disk, &place.dir.join(name))?;
            changed = true;
        } else if name.ends_with(SWAP) && offset >= first_cleaned {
            // At or behind a file that was still being written: the swap, or a split, had not begun.
            unfinished.push(name);
        } else if name.ends_with(SWAP) {
            swaps.push((offset, name.clone()));
        }
    }
    if !unfinished.is_empty() {
        // Before the files that say that they are unfinished.
        unfinished.iter().try_for_each(|name| remove_if_exists(&*place.disk, &place.dir.join(name)))?;
        place.sync()?;
    }
    for name in names.iter().filter(|name| name.ends_with(CLEANED) && offset_of(name).is_some()) {
        remove_if_exists(&*place.disk, &place.dir.join(name))?;
        changed = true;
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
    place.sync()?;
    // The records first: as long as they have their temporary name, all files of the segment that have a final one are old ones.
    let (logs, indexes): (Vec<_>, Vec<_>) = swaps.iter().partition(|(_, name)| name.ends_with(".log.swap"));
    for names in [logs, indexes] {
        for (_, name) in names {
            let target = name.strip_suffix(SWAP).unwrap_or(name);
            place.disk.rename(&place.dir.join(name), &place.dir.join(target))?;
        }
        place.sync()?;
    }
    Ok(())
}
