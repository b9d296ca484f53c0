//! Goal: every codec gives back what it took, reads what other writers write, and can be made neither to panic nor to spend
//! memory by bytes that lie. Method: round trips, vectors written out by hand, streams of other encoders, bombs, mutations.

use std::io::Write;

use proptest::prelude::*;

use super::xxh32::xxh32;
use super::*;

const MIB: usize = 1 << 20;

fn compressed(codec: Codec, source: &[u8]) -> Vec<u8> {
    let mut target = Vec::new();
    compress(codec, None, source, &mut target);
    target
}

fn check_reads(codec: Codec, source: &[u8], expected: &[u8]) {
    assert_eq!(decompress(codec, source, MIB).as_deref(), Ok(expected), "{codec}");
}

fn check_corrupt(codec: Codec, source: &[u8]) {
    match decompress(codec, source, MIB) {
        Err(CompressionError { kind: CompressionErrorKind::Corrupt(_), .. }) => {}
        other => panic!("{codec}: {other:?}"),
    }
}

fn text(bytes: usize) -> Vec<u8> {
    (0u32..)
        .flat_map(|n| format!("record {} of many; ", n.wrapping_mul(2_654_435_761) % 1000).into_bytes())
        .take(bytes)
        .collect()
}

#[test]
fn ids_and_names_of_codecs() {
    for (id, codec) in Codec::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(codec.id()), id);
        assert_eq!(Codec::from_id(id as u8), Some(codec));
        assert_eq!(Codec::from_name(codec.name()), Some(codec));
    }
    assert_eq!(Codec::from_id(5), None);
    assert_eq!(Codec::from_name("producer"), None);
}

#[test]
fn round_trips_at_sizes_around_block_boundaries() {
    for codec in Codec::ALL {
        for size in [0, 1, 15, 16, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537, 200_000] {
            let source = text(size);
            let packed = compressed(codec, &source);
            assert_eq!(decompress(codec, &packed, size).as_deref(), Ok(source.as_slice()), "{codec} {size}");
            if size > 0 {
                let error = decompress(codec, &packed, size - 1);
                let kind = CompressionErrorKind::TooLarge { limit: size - 1 };
                assert_eq!(error, Err(CompressionError { codec, kind }), "{codec} {size}");
            }
        }
    }
}

#[test]
fn compress_appends_behind_what_is_there() {
    for codec in Codec::ALL {
        let mut target = b"header".to_vec();
        compress(codec, None, &text(100_000), &mut target);
        assert_eq!(&target[..6], b"header");
        check_reads(codec, &target[6..], &text(100_000));
    }
}

#[test]
fn levels_are_clamped_and_matter() {
    let source = text(300_000);
    for codec in [Codec::Gzip, Codec::Zstd] {
        let mut sizes = Vec::new();
        for level in [i32::MIN, -1, 0, 1, 9, 19, i32::MAX] {
            let mut target = Vec::new();
            compress(codec, Some(level), &source, &mut target);
            assert_eq!(decompress(codec, &target, MIB).as_deref(), Ok(source.as_slice()));
            sizes.push(target.len());
        }
        assert!(sizes[5] < sizes[0], "{codec}: {sizes:?}");
    }
}

#[test]
fn snappy_is_framed_as_xerial_does_it() {
    let packed = compressed(Codec::Snappy, &[7; 40_000]);
    assert_eq!(&packed[..16], b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    let first = u32::from_be_bytes(*packed[16..].first_chunk().unwrap()) as usize;
    assert_eq!(snap::raw::decompress_len(&packed[20..20 + first]), Ok(32 * 1024));
    let second = &packed[20 + first + 4..];
    assert_eq!(snap::raw::decompress_len(second), Ok(40_000 - 32 * 1024));
    // A block written by hand: length 5, one literal of five bytes.
    let by_hand = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x07\x05\x10hello";
    check_reads(Codec::Snappy, by_hand, b"hello");
}

#[test]
fn snappy_reads_raw_blocks_and_concatenated_streams() {
    check_reads(Codec::Snappy, b"\x05\x10hello", b"hello");
    let source = text(100_000);
    let raw = snap::raw::Encoder::new().compress_vec(&source).unwrap();
    check_reads(Codec::Snappy, &raw, &source);
    let mut twice = compressed(Codec::Snappy, b"one ");
    twice.extend(compressed(Codec::Snappy, b"two"));
    check_reads(Codec::Snappy, &twice, b"one two");
}

#[test]
fn snappy_lengths_are_not_believed() {
    // Raw: claims 4 GiB. Framed: block of 2 GiB, of a negative length, of no length.
    check_corrupt(Codec::Snappy, b"\xff\xff\xff\xff\x0f\x10hello");
    let header = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
    for block in [&b"\x7f\xff\xff\xff\x05\x10hello"[..], b"\xff\xff\xff\xff\x05", b"\0\0\0\0", b"\0\0"] {
        check_corrupt(Codec::Snappy, &[&header[..], block].concat());
    }
    check_corrupt(Codec::Snappy, b"");
    check_corrupt(Codec::Snappy, b"\x82SNAPPY\0\0\0\0\x02\0\0\0\x02\0\0\0\x07\x05\x10hello");
}

#[test]
fn lz4_frames_begin_as_kafka_writes_them() {
    let packed = compressed(Codec::Lz4, &text(70_000));
    // 0x82 is the published header checksum of FLG 60, BD 40.
    assert_eq!(&packed[..7], &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    assert_eq!(&packed[packed.len() - 4..], &[0; 4]);
    check_reads(Codec::Lz4, b"\x04\x22\x4d\x18\x60\x40\x82\x05\0\0\x80hello\0\0\0\0", b"hello");
    check_reads(Codec::Lz4, &compressed(Codec::Lz4, b""), b"");
}

#[test]
fn lz4_and_its_other_implementation_read_each_other() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
    let source = text(700_000);
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut FrameDecoder::new(&compressed(Codec::Lz4, &source)[..]), &mut plain)
        .unwrap();
    assert_eq!(plain, source);

    let encode = |info: FrameInfo| {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&source).unwrap();
        encoder.finish().unwrap()
    };
    for block_size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
        let info = FrameInfo::new().block_size(block_size);
        check_reads(Codec::Lz4, &encode(info.clone()), &source);
        let all = info.content_size(Some(source.len() as u64)).content_checksum(true).block_checksums(true);
        let packed = encode(all.clone());
        check_reads(Codec::Lz4, &packed, &source);
        for wrong in [packed.len() - 1, packed.len() - 10, 8, 14] {
            let mut packed = packed.clone();
            packed[wrong] ^= 1;
            check_corrupt(Codec::Lz4, &packed);
        }
        check_corrupt(Codec::Lz4, &encode(all.block_mode(BlockMode::Linked)));
    }
}

#[test]
fn lz4_frames_must_be_whole() {
    let packed = compressed(Codec::Lz4, &text(1000));
    for end in 0..packed.len() {
        check_corrupt(Codec::Lz4, &packed[..end]);
    }
    let twice = [packed.clone(), packed].concat();
    check_reads(Codec::Lz4, &twice, &[text(1000), text(1000)].concat());
}

#[test]
fn xxh32_vectors() {
    assert_eq!(xxh32(b""), 0x02cc_5d05);
    assert_eq!(xxh32(b"a"), 0x550d_7456);
    assert_eq!(xxh32(b"abc"), 0x32d1_53ff);
    assert_eq!(xxh32(b"Nobody inspects the spammish repetition"), 0xe229_3b2f);
}

#[test]
fn gzip_members_follow_each_other() {
    let mut twice = compressed(Codec::Gzip, b"one ");
    twice.extend(compressed(Codec::Gzip, b"two"));
    check_reads(Codec::Gzip, &twice, b"one two");
    check_corrupt(Codec::Gzip, &twice[..twice.len() - 1]);
    check_corrupt(Codec::Gzip, b"");
    let mut wrong = compressed(Codec::Gzip, b"one");
    let crc_at = wrong.len() - 8;
    wrong[crc_at] ^= 1;
    check_corrupt(Codec::Gzip, &wrong);
}

#[test]
fn zstd_streams_without_size_and_with_several_frames() {
    let source = text(500_000);
    let mut stream = zstd_stream(3, &source);
    check_reads(Codec::Zstd, &stream, &source);
    stream.extend_from_slice(b"\x50\x2a\x4d\x18\x03\0\0\0abc");
    stream.extend(zstd_stream(22, b"more"));
    check_reads(Codec::Zstd, &stream, &[&source[..], b"more"].concat());
    for end in [1, 5, 100, stream.len() - 1] {
        check_corrupt(Codec::Zstd, &stream[..end]);
    }
    check_reads(Codec::Zstd, b"", b"");
}

/// What an encoder writes which does not know how much is to come.
fn zstd_stream(level: i32, source: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), level).unwrap();
    encoder.include_checksum(true).unwrap();
    for part in source.chunks(10_000) {
        encoder.write_all(part).unwrap();
    }
    encoder.finish().unwrap()
}

#[test]
fn zstd_frames_which_lie_about_their_size() {
    // Single segment, content size 2^62 in eight bytes, one raw block of five bytes.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x40];
    frame.extend_from_slice(b"\x29\0\0hello");
    check_corrupt(Codec::Zstd, &frame);
    // The same with a size of 3: more comes than was said.
    let frame = b"\x28\xb5\x2f\xfd\x20\x03\x29\0\0hello";
    check_corrupt(Codec::Zstd, frame);
    let frame = b"\x28\xb5\x2f\xfd\x20\x05\x29\0\0hello";
    check_reads(Codec::Zstd, frame, b"hello");
    // A window of 2^28 bytes.
    check_corrupt(Codec::Zstd, b"\x28\xb5\x2f\xfd\x00\x90\x29\0\0hello");
    check_reads(Codec::Zstd, b"\x28\xb5\x2f\xfd\x00\x88\x29\0\0hello", b"hello");
}

#[test]
fn bombs_are_stopped_at_the_limit() {
    let zeros = vec![0; 100 * MIB];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut bomb = Vec::new();
        let level = Some(1);
        compress(codec, level, &zeros, &mut bomb);
        assert!(bomb.len() < 6 * MIB, "{codec}: {}", bomb.len());
        let kind = CompressionErrorKind::TooLarge { limit: MIB };
        assert_eq!(decompress(codec, &bomb, MIB), Err(CompressionError { codec, kind }));
    }
    // Many small frames of zstd, each one an RLE block of 128 KiB in thirteen bytes.
    let frame = b"\x28\xb5\x2f\xfd\x00\x58\x03\x00\x10\x00";
    assert_eq!(decompress(Codec::Zstd, frame, MIB).map(|output| output.len()), Ok(128 * 1024));
    let kind = CompressionErrorKind::TooLarge { limit: MIB };
    assert_eq!(
        decompress(Codec::Zstd, &frame.repeat(1000), MIB),
        Err(CompressionError { codec: Codec::Zstd, kind })
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_round_trips(
        source in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..5000),
            proptest::collection::vec(0u8..3, 0..100_000),
        ],
        level in proptest::option::of(-5i32..12),
    ) {
        for codec in Codec::ALL {
            let mut packed = Vec::new();
            compress(codec, level, &source, &mut packed);
            let unpacked = decompress(codec, &packed, source.len());
            prop_assert_eq!(unpacked.as_deref(), Ok(source.as_slice()));
        }
    }

    #[test]
    fn mutations_never_panic_nor_exceed_the_limit(
        size in 0usize..70_000,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let limit = 50_000;
        let source = text(size);
        for codec in Codec::ALL {
            let mut packed = compressed(codec, &source);
            if packed.is_empty() { continue }
            for (index, byte) in &edits {
                let at = index.index(packed.len());
                packed[at] = *byte;
            }
            if let Some(cut) = &cut {
                packed.truncate(cut.index(packed.len()));
            }
            if let Ok(output) = decompress(codec, &packed, limit) {
                prop_assert!(output.len() <= limit);
            }
        }
    }

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let magics: [&[u8]; 5] =
            [b"", b"\x1f\x8b\x08\0", b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01", b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd"];
        for codec in Codec::ALL {
            for magic in magics {
                let _ = decompress(codec, &[magic, &noise[..]].concat(), 10_000);
            }
        }
    }
}
