//! A share of a processor for each node: on one machine five nodes have no more processors than one, so that only a bound for each shows
//! what another machine would add. Control groups do it, where that is permitted.

use crate::steps::{Doing, Trouble};
use std::fs;
use std::path::{Path, PathBuf};

/// Within which a share is given, in microseconds: short, so that a node that has spent its share does not hold requests up for long.
const PERIOD_US: u64 = 20_000;

/// Processes that may use so much; they may use all there is when this is dropped.
pub struct Ration {
    parent: PathBuf,
    groups: Vec<PathBuf>,
}

impl Ration {
    /// Gives each of these processes a share of one processor. `None` where that is not permitted.
    pub fn new(pids: &[u32], share: f64) -> Option<Ration> {
        let (parent, is_unified) = home()?;
        let mut ration = Ration { parent, groups: Vec::new() };
        match pids.iter().try_for_each(|pid| ration.add(*pid, share, is_unified)) {
            Ok(()) => Some(ration),
            Err(trouble) => {
                println!("nodes can not be held to a share of a processor here ({trouble})");
                None
            }
        }
    }

    fn add(&mut self, pid: u32, share: f64, is_unified: bool) -> Result<(), Trouble> {
        let group = self.parent.join(format!("ottla-growth-{pid}"));
        fs::create_dir(&group).doing(format!("creating {}", group.display()))?;
        self.groups.push(group.clone());
        let quota = (share * PERIOD_US as f64) as u64;
        let give = |file: &str, value: String| {
            fs::write(group.join(file), value).doing(format!("writing {file} of {}", group.display()))
        };
        match is_unified {
            true => give("cpu.max", format!("{quota} {PERIOD_US}"))?,
            false => {
                give("cpu.cfs_period_us", PERIOD_US.to_string())?;
                give("cpu.cfs_quota_us", quota.to_string())?;
            }
        }
        give("cgroup.procs", pid.to_string())
    }
}

impl Drop for Ration {
    fn drop(&mut self) {
        for group in &self.groups {
            // What is gone needs no release, and about what can not be released nothing can be done.
            release(group, &self.parent);
            let _ = fs::remove_dir(group);
        }
    }
}

fn release(group: &Path, parent: &Path) {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in text.lines() {
        let _ = fs::write(parent.join("cgroup.procs"), pid);
    }
}

/// The group of this process where shares of processors are given, and whether it is of the unified hierarchy.
fn home() -> Option<(PathBuf, bool)> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let root = Path::new("/sys/fs/cgroup");
    let found = text.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let path = path.trim_start_matches('/');
        let has_cpu = controllers.split(',').any(|name| name == "cpu");
        has_cpu.then(|| (root.join(controllers).join(path), false))
    });
    found.filter(|(path, _)| path.is_dir()).or_else(|| {
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let path = root.join(path);
        let given = fs::read_to_string(path.join("cgroup.subtree_control")).ok()?;
        given.split_whitespace().any(|name| name == "cpu").then_some((path, true))
    })
}
