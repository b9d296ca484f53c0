//! Hostile bytes for every message and version: no panic, and no more memory than a small multiple of what was sent.
//!
//! A counting allocator needs a binary of its own.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ottla_protocol::messages::metadata_request::MetadataRequest;
use ottla_protocol::{Message, Reader};
use ottla_schema::random::{self, Dice};
use ottla_schema::tree::Tree;

/// Counts the bytes that the present thread holds, and the most that it ever held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that is ending has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

#[allow(unsafe_code)] // passes everything on to the system's allocator
// SAFETY: every call is forwarded unchanged; the counting touches no memory that it hands out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most bytes that `work` held at once beyond what was held before.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    usize::try_from(PEAK.get() - before).expect("the peak is not below the start")
}

/// Room for elements that were announced, have their bytes, and turn out to be broken: at most 1024 in each of the few
/// arrays that are open at once.
const ROOM: usize = 1024 * 512;
/// The most that an element grows between the wire and memory: three bytes may become a struct with two vectors.
const GROWTH: usize = 100;

#[test]
fn four_hostile_bytes_cost_nothing() {
    for bytes in [
        &[0x7f, 0xff, 0xff, 0xff][..],
        &[0, 0, 0, 255],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xfe, 0xff, 0xff, 0x0f],
    ] {
        for (entry, schema) in common::messages() {
            for version in schema.versions.iter() {
                let peak = peak_of(|| {
                    let _ = (entry.decode)(bytes, version);
                });
                assert!(peak <= 512, "{} v{version} took {peak} bytes for {bytes:02x?}", entry.name);
            }
        }
    }
}

#[test]
fn noise_is_bounded() {
    let mut dice = Dice::new(1);
    let messages = common::messages();
    for round in 0..6 {
        let length = [5, 17, 64, 300, 2000, 20_000][round];
        // Small values make plausible lengths: pure noise is refused at the first of them.
        let bytes: Vec<u8> = (0..length)
            .map(|_| if dice.once_in(3) { dice.roll() as u8 } else { dice.below(4) as u8 })
            .collect();
        for (entry, schema) in &messages {
            for version in schema.versions.iter() {
                let peak = peak_of(|| {
                    let _ = (entry.decode)(&bytes, version);
                });
                assert!(peak <= length * GROWTH + ROOM, "{} v{version}: {peak} for {length}", entry.name);
            }
        }
    }
}

#[test]
fn spoilt_messages_are_bounded() {
    let mut dice = Dice::new(2);
    for (entry, schema) in common::messages() {
        let tree = Tree::new(&schema).expect("a sound schema");
        for version in schema.versions.iter() {
            let sound = random::bytes(&tree, version, &mut dice);
            for _ in 0..40 {
                let mut bytes = sound.clone();
                for _ in 0..=dice.below(3) {
                    if !bytes.is_empty() {
                        let place = dice.below(bytes.len() as u64) as usize;
                        bytes[place] = [0, 1, 0x7f, 0x80, 0xff, dice.roll() as u8][dice.below(6) as usize];
                    }
                }
                bytes.truncate(bytes.len() - dice.below(bytes.len() as u64 / 4 + 1) as usize);
                let peak = peak_of(|| {
                    let _ = (entry.decode)(&bytes, version);
                });
                assert!(peak <= bytes.len() * GROWTH + ROOM, "{} v{version}: {peak}", entry.name);
            }
        }
    }
}

#[test]
fn a_count_that_its_bytes_could_hold_is_believed_in_steps() {
    // A million topics of one byte each: zero is null, which a name must not be. All bytes are there, so the count is
    // plausible, and yet only the first step of the vector is made room for.
    let mut bytes = vec![0x00, 0x0f, 0x42, 0x40];
    bytes.resize(4 + 2_000_000, 0xff);
    let peak = peak_of(|| {
        let read = MetadataRequest::decode(&mut Reader::new(&bytes), 1);
        assert!(read.is_err());
    });
    assert!(peak < 100_000, "{peak}");
}
