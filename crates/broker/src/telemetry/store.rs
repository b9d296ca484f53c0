//! The last value of every metric of every client, and the page that shows them in Prometheus' text format.
//!
//! Values stay for a while after their client is gone, so that the last ones are seen too. All names and labels together are bounded:
//! what does not fit any more is left out, and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use ottla_protocol::Uuid;

use super::otlp::{Kind, Point};
use crate::effect::Millis;

/// Bytes of names and labels that are kept.
const NAMES_BYTES_MAX: usize = 16 << 20;
/// What a value costs besides its names.
const VALUE_BYTES: usize = 64;

/// One series: the name of its metric as Prometheus writes it, and its labels between braces.
type Series = (String, String);

#[derive(Debug, Clone, Copy)]
struct Value {
    value: f64,
    is_counter: bool,
}

/// What one client told.
#[derive(Debug, Default)]
struct Told {
    values: BTreeMap<Series, Value>,
    bytes: usize,
    expires_at: Millis,
}

/// What all of them told.
#[derive(Debug, Default)]
pub(super) struct Store {
    by_client: BTreeMap<Uuid, Told>,
    by_expiry: BTreeSet<(Millis, Uuid)>,
    bytes: usize,
    left_out: u64,
}

impl Store {
    /// Takes what a client told; it is kept until `expires_at`.
    pub(super) fn take(&mut self, client: Uuid, client_id: &str, points: Vec<Point>, expires_at: Millis) {
        let told = self.by_client.entry(client).or_default();
        self.by_expiry.remove(&(told.expires_at, client));
        self.by_expiry.insert((expires_at, client));
        told.expires_at = expires_at;
        for point in points {
            let series = (name_of(&point.name), labels_of(client, client_id, &point));
            let is_counter = point.kind != Kind::Gauge;
            match told.values.get_mut(&series) {
                Some(known) if point.kind == Kind::Increment => known.value += point.value,
                Some(known) => known.value = point.value,
                None => {
                    let bytes = series.0.len() + series.1.len() + VALUE_BYTES;
                    if self.bytes + bytes > NAMES_BYTES_MAX {
                        self.left_out += 1;
                        continue;
                    }
                    (told.bytes, self.bytes) = (told.bytes + bytes, self.bytes + bytes);
                    told.values.insert(series, Value { value: point.value, is_counter });
                }
            }
        }
    }

    pub(super) fn forget_idle(&mut self, now: Millis) {
        while let Some(&(at, client)) = self.by_expiry.first()
            && at <= now
        {
            self.by_expiry.pop_first();
            if let Some(told) = self.by_client.remove(&client) {
                self.bytes -= told.bytes;
            }
        }
    }

    /// The page; `clients`: how many are remembered.
    pub(super) fn text(&self, clients: usize) -> String {
        let mut page = String::new();
        let mut own = |name: &str, kind: &str, value: u64| {
            writeln!(page, "# TYPE {name} {kind}\n{name} {value}").expect("a string takes everything");
        };
        own("ottla_client_metrics_instances", "gauge", clients as u64);
        own("ottla_client_metrics_left_out_total", "counter", self.left_out);
        // All series of a metric have to stand together.
        let mut all: BTreeMap<(&str, &str), Value> = BTreeMap::new();
        for told in self.by_client.values() {
            all.extend(told.values.iter().map(|((name, labels), value)| ((&**name, &**labels), *value)));
        }
        let mut last = "";
        for ((name, labels), Value { value, is_counter }) in all {
            if name != last {
                let kind = if is_counter { "counter" } else { "gauge" };
                writeln!(page, "# TYPE {name} {kind}").expect("a string takes everything");
                last = name;
            }
            writeln!(page, "{name}{{{labels}}} {value}").expect("a string takes everything");
        }
        page
    }
}

/// A name as Prometheus allows it.
fn name_of(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    // Names that begin with ours are ours.
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) || name.starts_with("ottla") {
        out.push('_');
    }
    out.extend(name.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' }));
    out
}

fn labels_of(client: Uuid, client_id: &str, point: &Point) -> String {
    let mut out = format!("client_instance_id=\"{client}\",client_id=\"{}\"", escaped(client_id));
    let mut named = BTreeSet::from(["client_instance_id".to_owned(), "client_id".to_owned()]);
    for (key, value) in &point.attributes {
        let key = name_of(key);
        if !named.contains(&key) {
            write!(out, ",{key}=\"{}\"", escaped(value)).expect("a string takes everything");
            named.insert(key);
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Uuid = Uuid([1; 16]);
    const OTHER: Uuid = Uuid([2; 16]);

    fn point(name: &str, value: f64, kind: Kind) -> Point {
        Point { name: name.into(), attributes: BTreeMap::new(), value, kind }
    }

    #[test]
    fn increments_add_up_and_the_newest_counts_otherwise() {
        let mut store = Store::default();
        for value in [1.0, 2.0] {
            let points = vec![
                point("a.total", value, Kind::Increment),
                point("b", value, Kind::Gauge),
                point("c", value, Kind::Total),
            ];
            store.take(ONE, "app \"1\"", points, 10);
        }
        store.take(OTHER, "x", vec![point("b", 9.0, Kind::Gauge)], 20);
        let page = store.text(2);
        let labels =
            |client: Uuid, id: &str| format!("{{client_instance_id=\"{client}\",client_id=\"{id}\"}}");
        let one = labels(ONE, "app \\\"1\\\"");
        for line in [
            "ottla_client_metrics_instances 2",
            "# TYPE a_total counter",
            &format!("a_total{one} 3"),
            &format!("b{one} 2"),
            &format!("c{one} 2"),
            &format!("b{} 9", labels(OTHER, "x")),
        ] {
            assert!(page.lines().any(|told| told == line), "{line} in {page}");
        }
        assert_eq!(page.matches("# TYPE b gauge").count(), 1, "{page}");
        store.forget_idle(10);
        assert!(!store.text(1).contains("a_total"));
        store.forget_idle(20);
        assert_eq!(store.bytes, 0);
    }

    #[test]
    fn two_labels_of_one_name_are_one() {
        let mut store = Store::default();
        let mut told = point("1st", 1.0, Kind::Gauge);
        told.attributes =
            BTreeMap::from([("client.id".into(), "liar".into()), ("k-v".into(), "a\nb".into())]);
        store.take(ONE, "app", vec![told], 10);
        let page = store.text(1);
        assert!(page.contains(",client_id=\"app\",k_v=\"a\\nb\"} 1"), "{page}");
        assert!(page.contains("_1st{") && !page.contains("liar"), "{page}");
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let mut store = Store::default();
        let long = "x".repeat(NAMES_BYTES_MAX / 2);
        for suffix in ["a", "b", "c"] {
            store.take(ONE, "app", vec![point(&(long.clone() + suffix), 1.0, Kind::Gauge)], 10);
        }
        assert!(store.bytes <= NAMES_BYTES_MAX);
        assert!(store.text(1).contains("ottla_client_metrics_left_out_total 2"), "one fits");
    }
}
