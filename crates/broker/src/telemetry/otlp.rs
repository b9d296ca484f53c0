//! Reads OpenTelemetry's `MetricsData` (opentelemetry/proto/metrics/v1), as far as clients of Kafka use it: numbers that stand for
//! themselves (gauges) or add up (sums), and histograms, with attributes.
//!
//! A histogram becomes the values that Prometheus makes of one: for each bound how many were not above it, how many there were, and their
//! sum.
//!
//! Read as it lies: nothing is built from what is not kept, so that a message of nothing but empty messages costs nothing.

use std::collections::BTreeMap;

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Values that one report may bring; more are not looked at.
const POINTS_MAX: usize = 10_000;

/// One value of a metric.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    /// The name, such as `org.apache.kafka.producer.record.send.total`.
    pub name: String,
    /// Attributes of the value.
    pub attributes: BTreeMap<String, String>,
    pub value: f64,
    pub kind: Kind,
}

/// How values of a metric follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The newest counts.
    Gauge,
    /// The newest counts, and it only grows.
    Total,
    /// It is what came on top of the one before.
    Increment,
}

/// `AGGREGATION_TEMPORALITY_DELTA`.
const DELTA: u64 = 1;
/// Buckets of one histogram; a client that has more is not looked at.
const BUCKETS_MAX: usize = 1_000;

/// A field that was read.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a kind that no field has that is looked at.
    Other,
}

/// Reads all values.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Point>, DecodeError> {
    let mut points = Vec::new();
    // MetricsData.resource_metrics, ResourceMetrics.scope_metrics, ScopeMetrics.metrics.
    each(bytes, |tag, field| match (tag, field) {
        (1, Field::Bytes(resource)) => each(resource, |tag, field| match (tag, field) {
            (2, Field::Bytes(scope)) => each(scope, |tag, field| match (tag, field) {
                (2, Field::Bytes(metric)) => read_metric(metric, &mut points),
                _ => Ok(()),
            }),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })?;
    Ok(points)
}

fn read_metric(bytes: &[u8], points: &mut Vec<Point>) -> Result<(), DecodeError> {
    let (mut name, mut values, mut kind) = (&[][..], None, Kind::Gauge);
    let mut is_histogram = false;
    each(bytes, |tag, field| {
        match (tag, field) {
            (1, Field::Bytes(text)) => name = text,
            (5, Field::Bytes(gauge)) => (values, kind) = (Some(gauge), Kind::Gauge),
            (7, Field::Bytes(sum)) => {
                let (mut is_delta, mut is_monotonic) = (false, false);
                each(sum, |tag, field| {
                    match (tag, field) {
                        (2, Field::Number(temporality)) => is_delta = temporality == DELTA,
                        (3, Field::Number(flag)) => is_monotonic = flag != 0,
                        _ => {}
                    }
                    Ok(())
                })?;
                let of_sum = match (is_delta, is_monotonic) {
                    (true, _) => Kind::Increment,
                    (false, true) => Kind::Total,
                    (false, false) => Kind::Gauge,
                };
                (values, kind) = (Some(sum), of_sum);
            }
            (9, Field::Bytes(histogram)) => {
                kind = Kind::Total;
                each(histogram, |tag, field| {
                    if let (2, Field::Number(DELTA)) = (tag, field) {
                        kind = Kind::Increment;
                    }
                    Ok(())
                })?;
                (values, is_histogram) = (Some(histogram), true);
            }
            _ => {}
        }
        Ok(())
    })?;
    let (Ok(name), Some(values)) = (str::from_utf8(name), values) else { return Ok(()) };
    each(values, |tag, field| {
        if let (1, Field::Bytes(point)) = (tag, field)
            && points.len() < POINTS_MAX
        {
            match is_histogram {
                true => points.extend(read_histogram(name, kind, point)?),
                false => points.extend(read_point(name, kind, point)?),
            }
        }
        Ok(())
    })
}

fn read_point(name: &str, kind: Kind, bytes: &[u8]) -> Result<Option<Point>, DecodeError> {
    let (mut value, mut attributes) = (None, BTreeMap::new());
    each(bytes, |tag, field| {
        match (tag, field) {
            (4, Field::Number(bits)) => value = Some(f64::from_bits(bits)),
            (6, Field::Number(bits)) => value = Some(bits.cast_signed() as f64),
            (7, Field::Bytes(pair)) => attributes.extend(read_attribute(pair)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(value.map(|value| Point { name: name.to_owned(), attributes, value, kind }))
}

/// A `HistogramDataPoint`: its count, its sum if it has one, and its buckets if they fit to each other.
fn read_histogram(name: &str, kind: Kind, bytes: &[u8]) -> Result<Vec<Point>, DecodeError> {
    let (mut count, mut sum, mut attributes) = (0, None, BTreeMap::new());
    let (mut counts, mut bounds) = (Vec::new(), Vec::new());
    each(bytes, |tag, field| {
        match (tag, field) {
            (4, Field::Number(number)) => count = number,
            (5, Field::Number(bits)) => sum = Some(f64::from_bits(bits)),
            (6, Field::Bytes(packed)) => counts.extend(numbers(packed)),
            (6, Field::Number(number)) => counts.push(number),
            (7, Field::Bytes(packed)) => bounds.extend(numbers(packed).map(f64::from_bits)),
            (7, Field::Number(bits)) => bounds.push(f64::from_bits(bits)),
            (9, Field::Bytes(pair)) => attributes.extend(read_attribute(pair)?),
            _ => {}
        }
        Ok(())
    })?;
    let point = |suffix: &str, bound: Option<String>, value: f64| {
        let mut attributes = attributes.clone();
        attributes.extend(bound.map(|bound| ("le".to_owned(), bound)));
        Point { name: format!("{name}.{suffix}"), attributes, value, kind }
    };
    let mut points = vec![point("count", None, count as f64)];
    points.extend(sum.map(|sum| point("sum", None, sum)));
    // The last bucket has no bound of its own.
    if counts.len() == bounds.len() + 1 && counts.len() <= BUCKETS_MAX {
        let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut not_above = 0_u64;
        points.extend(bounds.zip(counts).map(|(bound, count)| {
            not_above = not_above.saturating_add(count);
            point("bucket", Some(bound), not_above as f64)
        }));
    }
    Ok(points)
}

/// Numbers of eight bytes each, one after the other.
fn numbers(packed: &[u8]) -> impl Iterator<Item = u64> {
    let (eights, _) = packed.as_chunks::<8>();
    eights.iter().map(|eight| u64::from_le_bytes(*eight))
}

/// A `KeyValue` whose value is a text, a number or a truth.
fn read_attribute(bytes: &[u8]) -> Result<Option<(String, String)>, DecodeError> {
    let (mut key, mut value) = (None, None);
    each(bytes, |tag, field| match (tag, field) {
        (1, Field::Bytes(text)) => {
            key = str::from_utf8(text).ok().map(str::to_owned);
            Ok(())
        }
        (2, Field::Bytes(any)) => each(any, |tag, field| {
            value = match (tag, field) {
                (1, Field::Bytes(text)) => str::from_utf8(text).ok().map(str::to_owned),
                (2, Field::Number(flag)) => Some((flag != 0).to_string()),
                (3, Field::Number(number)) => Some(number.cast_signed().to_string()),
                (4, Field::Number(bits)) => Some(f64::from_bits(bits).to_string()),
                _ => None,
            };
            Ok(())
        }),
        _ => Ok(()),
    })?;
    Ok(key.zip(value))
}

/// Hands over the fields of a message, one after the other.
fn each<'a>(
    mut rest: &'a [u8],
    mut take: impl FnMut(u32, Field<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !rest.is_empty() {
        let (tag, wire_type) = decode_key(&mut rest)?;
        let field = match wire_type {
            WireType::Varint => Field::Number(decode_varint(&mut rest)?),
            WireType::SixtyFourBit if rest.len() >= 8 => {
                let (number, after) = rest.split_at(8);
                rest = after;
                Field::Number(u64::from_le_bytes(number.try_into().expect("split at eight")))
            }
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut rest)?).unwrap_or(usize::MAX);
                let Some((bytes, after)) = rest.split_at_checked(length) else {
                    // Says what is wrong: the message ends too early.
                    return Err(prost::decode_length_delimiter(&[][..]).expect_err("of nothing"));
                };
                rest = after;
                Field::Bytes(bytes)
            }
            other => {
                skip_field(other, tag, &mut rest, DecodeContext::default())?;
                Field::Other
            }
        };
        take(tag, field)?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use prost::encoding::{encode_key, encode_varint};

    fn message(tag: u32, inner: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_key(tag, WireType::LengthDelimited, &mut out);
        encode_varint(inner.len() as u64, &mut out);
        out.extend_from_slice(inner);
        out
    }

    fn number(tag: u32, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode_key(tag, WireType::Varint, &mut out);
        encode_varint(value, &mut out);
        out
    }

    fn fixed(tag: u32, bits: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode_key(tag, WireType::SixtyFourBit, &mut out);
        out.extend_from_slice(&bits.to_le_bytes());
        out
    }

    /// `MetricsData` with one metric, a sum of increments, and one value with the attribute `node`.
    pub(in super::super) fn increment(name: &str, node: &str, value: i64) -> Vec<u8> {
        let attribute = [message(1, b"node"), message(2, &message(1, node.as_bytes()))].concat();
        let point = [fixed(3, 17), fixed(6, value.cast_unsigned()), message(7, &attribute)].concat();
        let sum = [message(1, &point), number(2, DELTA), number(3, 1)].concat();
        wrap(&[message(1, name.as_bytes()), message(7, &sum)].concat())
    }

    fn wrap(metric: &[u8]) -> Vec<u8> {
        let scope = [message(1, b""), message(2, metric)].concat();
        message(1, &[message(1, b""), message(2, &scope)].concat())
    }

    #[test]
    fn sums_and_gauges() {
        let sum = increment("org.a", "node-1", -7);
        let gauge = message(5, &message(1, &fixed(4, 2.5f64.to_bits())));
        let gauge = wrap(&[message(1, b"org.b"), message(3, b"unit"), gauge].concat());
        let points = read(&[sum, gauge].concat()).expect("readable");
        let node = BTreeMap::from([("node".to_owned(), "node-1".to_owned())]);
        let expected = [
            Point { name: "org.a".into(), attributes: node, value: -7.0, kind: Kind::Increment },
            Point { name: "org.b".into(), attributes: BTreeMap::new(), value: 2.5, kind: Kind::Gauge },
        ];
        assert_eq!(points, expected);
    }

    fn packed(tag: u32, numbers: &[u64]) -> Vec<u8> {
        message(tag, &numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// `MetricsData` with a histogram of increments: bounds 1 and 2.5, and counts.
    fn histogram(counts: &[u64], temporality: u64) -> Vec<u8> {
        let bounds = [1.0f64.to_bits(), 2.5f64.to_bits()];
        let attribute = [message(1, b"node"), message(2, &message(1, b"n"))].concat();
        let point = [
            fixed(4, counts.iter().sum()),
            fixed(5, 9.5f64.to_bits()),
            packed(6, counts),
            packed(7, &bounds),
            message(9, &attribute),
        ];
        let histogram = [message(1, &point.concat()), number(2, temporality)].concat();
        wrap(&[message(1, b"h"), message(9, &histogram)].concat())
    }

    #[test]
    fn histograms() {
        let told = |bytes: &[u8]| -> Vec<(String, String, f64, Kind)> {
            let points = read(bytes).expect("readable");
            assert!(points.iter().all(|point| point.attributes["node"] == "n"));
            let bound = |point: &Point| point.attributes.get("le").cloned().unwrap_or_default();
            points
                .into_iter()
                .map(|point| (point.name.clone(), bound(&point), point.value, point.kind))
                .collect()
        };
        let of = |name: &str, bound: &str, value, kind| (name.to_owned(), bound.to_owned(), value, kind);
        let kind = Kind::Increment;
        let expected = [
            of("h.count", "", 6.0, kind),
            of("h.sum", "", 9.5, kind),
            of("h.bucket", "1", 3.0, kind),
            of("h.bucket", "2.5", 5.0, kind),
            of("h.bucket", "+Inf", 6.0, kind),
        ];
        assert_eq!(told(&histogram(&[3, 2, 1], DELTA)), expected);
        let cumulative = 2;
        let misfit = told(&histogram(&[3, 2], cumulative));
        assert_eq!(misfit, [of("h.count", "", 5.0, Kind::Total), of("h.sum", "", 9.5, Kind::Total)]);
    }

    #[test]
    fn what_is_cut_off_is_refused_and_what_is_foreign_is_passed_over() {
        let whole = increment("org.a", "node-1", 1);
        for length in 1..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        let summary = wrap(&[message(1, b"s"), message(11, &message(1, &fixed(4, 1)))].concat());
        assert_eq!(read(&summary).expect("readable"), []);
        assert_eq!(read(&number(99, 1)).expect("readable"), []);
        assert!(read(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err(), "longer than anything");
    }

    #[test]
    fn values_beyond_the_limit_are_not_looked_at() {
        let point = message(1, &fixed(6, 1));
        let gauge = message(5, &point.repeat(POINTS_MAX + 1));
        let points = read(&wrap(&[message(1, b"m"), gauge].concat())).expect("readable");
        assert_eq!(points.len(), POINTS_MAX);
    }
}
