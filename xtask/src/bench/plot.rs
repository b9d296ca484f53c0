//! Two drawings, as SVG written by hand: how many times better than Kafka, and latencies of both. Both axes are logarithmic.

use super::figure::{self, Figure};
use super::report::{goals, is_met};
use super::scenario::SCENARIOS;
use serde_json::{Map, Value};

const LEFT: f64 = 430.0;
const WIDTH: f64 = 460.0;
const ROW: f64 = 26.0;
const TOP: f64 = 56.0;

/// Bars: how many times better the ratio is than one, with its ends, and a mark where the goal is.
pub fn ratios(all: &Map<String, Value>) -> String {
    let rows = goals(all);
    let (low, high) = (0.25_f64, 1000.0_f64);
    let x = |factor: f64| LEFT + WIDTH * (factor.clamp(low, high) / low).ln() / (high / low).ln();
    let mut body = String::new();
    let height = TOP + ROW * rows.len() as f64 + 30.0;
    for tick in [0.25, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0] {
        let at = x(tick);
        let stroke = if tick == 1.0 { "#555" } else { "#ddd" };
        body.push_str(&line(at, TOP - 6.0, at, height - 24.0, stroke));
        body.push_str(&text(at, height - 8.0, "middle", &format!("{tick}x")));
    }
    for (index, (name, goal, entry)) in rows.iter().enumerate() {
        let y = TOP + ROW * index as f64;
        let factor = |value: f64| if goal.figure.more_is_better { value } else { 1.0 / value };
        let part = |key: &str| factor(entry["ratio"][key].as_f64().unwrap_or(1.0));
        let (median, one, other) = (part("median"), part("min"), part("max"));
        let fill = if is_met(goal.figure, entry, goal.ratio) { "#2a7" } else { "#e90" };
        let (from, to) = (x(1.0).min(x(median)), x(1.0).max(x(median)));
        body.push_str(&text(LEFT - 8.0, y + 14.0, "end", &format!("{name}: {}", goal.figure.name)));
        body.push_str(&format!(
            "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"14\" fill=\"{fill}\"/>\n",
            y + 3.0,
            to - from
        ));
        body.push_str(&line(x(one), y + 10.0, x(other), y + 10.0, "#333"));
        let mark = x(factor(goal.ratio));
        body.push_str(&format!("<path d=\"M{mark:.1} {:.1}l4 -5h-8z\" fill=\"#c22\"/>\n", y + 4.0));
        body.push_str(&text(
            x(median.max(one).max(other)) + 6.0,
            y + 14.0,
            "start",
            &format!("{median:.1}x"),
        ));
    }
    svg(
        height,
        "How many times better than Apache Kafka (bar: median of pairs; line: their ends; red: goal)",
        &body,
    )
}

/// Points for p50, p99, p99.9 and the maximum of both brokers in the scenarios that keep a fixed rate.
pub fn latencies(all: &Map<String, Value>) -> String {
    let marks: [(&Figure, &str); 4] =
        [(&figure::P50, "p50"), (&figure::P99, "p99"), (&figure::P999, "p99.9"), (&figure::MAX, "max")];
    let (low, high) = (10.0_f64, 1_000_000.0_f64);
    let x = |us: f64| LEFT + WIDTH * (us.clamp(low, high) / low).ln() / (high / low).ln();
    let is_latency =
        |name: &str| ["half-load", "end-to-end", "catch-up"].iter().any(|part| name.contains(part));
    let rows: Vec<_> = SCENARIOS
        .iter()
        .filter(|scenario| is_latency(scenario.name))
        .filter_map(|s| Some((s, all.get(s.name)?)))
        .collect();
    let height = TOP + 2.4 * ROW * rows.len() as f64 + 30.0;
    let mut body = String::new();
    for (tick, label) in
        [(10.0, "10 µs"), (100.0, "100 µs"), (1e3, "1 ms"), (1e4, "10 ms"), (1e5, "100 ms"), (1e6, "1 s")]
    {
        body.push_str(&line(x(tick), TOP - 6.0, x(tick), height - 24.0, "#ddd"));
        body.push_str(&text(x(tick), height - 8.0, "middle", label));
    }
    for (index, (scenario, entry)) in rows.iter().enumerate() {
        for (side, shift, fill) in [("ottla", 0.0, "#2a7"), ("kafka", ROW, "#36c")] {
            let y = TOP + 2.4 * ROW * index as f64 + shift;
            body.push_str(&text(LEFT - 8.0, y + 14.0, "end", &format!("{}: {side}", scenario.name)));
            let mut last: Option<f64> = None;
            for (figure, label) in marks {
                let Some(us) = entry["figures"][figure.key][side].as_f64() else { continue };
                let at = x(us);
                if let Some(last) = last {
                    body.push_str(&line(last, y + 10.0, at, y + 10.0, fill));
                }
                last = Some(at);
                body.push_str(&format!(
                    "<circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{fill}\"/>\n",
                    y + 10.0
                ));
                body.push_str(&text(at, y + 2.0, "middle", label));
            }
        }
    }
    svg(height, "Latency from the time that a request was due (log scale)", &body)
}

fn svg(height: f64, title: &str, body: &str) -> String {
    let width = LEFT + WIDTH + 70.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\">{title}</text>\n{body}</svg>\n"
    )
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64, stroke: &str) -> String {
    format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{stroke}\"/>\n")
}

fn text(x: f64, y: f64, anchor: &str, words: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>\n")
}
