//! What the results were measured on, in words.

use crate::broker::Kind;
use crate::clients::setup::TANSU;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// Processor, memory, kernel, versions, date.
pub fn describe(other: Kind) -> Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = meminfo.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({
        "processor": model.trim_start_matches([':', '\t', ' ']),
        "cpus": cpus,
        "memory_gib": memory >> 20,
        "kernel": kernel.trim(),
        "load": load.trim(),
        "ottla": words("git", &["rev-parse", "--short", "HEAD"]),
        other.folder(): if other == Kind::Tansu { TANSU.to_owned() } else { kafka_version() },
        "runtime": if other == Kind::Tansu { "engine memory://".to_owned() } else { java_version() },
        "date": words("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        "command": std::env::args().skip(1).collect::<Vec<_>>().join(" "),
    })
}

fn words(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn java_version() -> String {
    let java = words("java", &["--version"]);
    format!("on {}", java.lines().next().unwrap_or_default())
}

fn kafka_version() -> String {
    let jars = crate::broker::class_path("kafka");
    let name = jars.split(':').filter_map(|jar| jar.rsplit('/').next()).find_map(|jar| {
        jar.strip_prefix("kafka-server-")
            .filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    });
    name.map(|name| name.trim_end_matches(".jar").to_owned()).unwrap_or_default()
}
