//! Every message in every version: bytes made straight from the schema are read and come out again, byte for byte.

use ottla_protocol::{CodecError, DecodeErrorKind, EncodeErrorKind};
use ottla_schema::random::{self, Dice};
use ottla_schema::tree::Tree;

use crate::common;

#[test]
fn random_bytes_of_every_version_come_back() {
    for (entry, schema) in common::messages() {
        let tree = Tree::new(&schema).expect("a sound schema");
        for version in schema.versions.iter() {
            for seed in 0..12 {
                let bytes = random::bytes(&tree, version, &mut Dice::new(seed));
                match (entry.roundtrip)(&bytes, version) {
                    Ok(written) => assert_eq!(written, bytes, "{} v{version} seed {seed}", entry.name),
                    Err(error) => panic!("{} v{version} seed {seed}: {error}\n{bytes:02x?}", entry.name),
                }
            }
        }
    }
}

#[test]
fn defaults_of_every_version_come_back() {
    for (entry, schema) in common::messages() {
        for version in schema.versions.iter() {
            match (entry.defaults)(version).and_then(|bytes| Ok(((entry.roundtrip)(&bytes, version)?, bytes)))
            {
                Ok((again, bytes)) => assert_eq!(again, bytes, "{} v{version}", entry.name),
                Err(error) => panic!("{} v{version}: {error}", entry.name),
            }
        }
    }
}

#[test]
fn versions_beyond_the_range_are_errors() {
    for (entry, schema) in common::messages() {
        for version in [i16::MIN, -1, schema.versions.min - 1, schema.versions.max + 1, i16::MAX] {
            if schema.versions.contains(version) {
                continue;
            }
            let read = (entry.decode)(&[0; 64], version);
            assert!(
                matches!(read, Err(CodecError::Decode(error)) if error.kind == DecodeErrorKind::UnsupportedVersion)
            );
            let written = (entry.defaults)(version);
            assert!(
                matches!(written, Err(CodecError::Encode(error)) if error.kind == EncodeErrorKind::UnsupportedVersion)
            );
        }
    }
}

#[test]
fn every_message_cut_short_or_with_a_tail_is_an_error() {
    for (entry, schema) in common::messages() {
        let tree = Tree::new(&schema).expect("a sound schema");
        for version in schema.versions.iter() {
            let mut bytes = random::bytes(&tree, version, &mut Dice::new(3));
            for end in 0..bytes.len() {
                assert!(
                    (entry.decode)(&bytes[..end], version).is_err(),
                    "{} v{version} to {end}",
                    entry.name
                );
            }
            bytes.push(0);
            let error = (entry.decode)(&bytes, version).expect_err("a byte too many");
            assert!(
                matches!(error, CodecError::Decode(error) if error.kind == DecodeErrorKind::TrailingBytes)
            );
        }
    }
}

#[test]
fn unknown_tags_are_skipped() {
    for (entry, schema) in common::messages() {
        let Some(version) = schema.flexible.map(|_| schema.versions.max) else { continue };
        let bytes = (entry.defaults)(version).expect("defaults can be written");
        // Without any tagged field that is set, the last byte of a flexible message is the count of tags of the message.
        let (last, body) = bytes.split_last().expect("the count at least");
        if *last != 0 {
            continue;
        }
        let mut more = body.to_vec();
        more.extend([2, 100, 3, 1, 2, 3, 0xc8, 0x01, 0]);
        let again =
            (entry.roundtrip)(&more, version).unwrap_or_else(|error| panic!("{}: {error}", entry.name));
        assert_eq!(again, bytes, "{}", entry.name);
    }
}
