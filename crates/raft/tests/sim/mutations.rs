//! Takes away one guard of the protocol at a time, and sees how many seeds it takes until a promise is broken.

use ottla_raft::Guard;

use crate::sim::scenario;

/// The first of `most` seeds that notices that `guard` is missing, and what it says.
fn noticed(guard: Guard, most: u64) -> Option<(u64, String)> {
    guard.remove();
    let found = (0..most).find_map(|seed| {
        let outcome = std::panic::catch_unwind(|| scenario::run(seed, None));
        outcome.err().map(|cause| {
            let text = cause.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("");
            (seed, text.lines().next().unwrap_or("").chars().take(100).collect())
        })
    });
    Guard::restore();
    found
}

/// All guards, one after the other; returns how many are not missed.
pub fn sweep(most: u64) -> usize {
    std::panic::set_hook(Box::new(|_| {}));
    let mut escaped = 0;
    for &guard in Guard::ALL {
        match noticed(guard, most) {
            Some((seed, text)) => println!("{guard:?}: seed {seed}: {text}"),
            None => {
                escaped += 1;
                println!("{guard:?}: NOT MISSED in {most} seeds");
            }
        }
    }
    println!("mutations: {} guards, {escaped} not missed", Guard::ALL.len());
    escaped
}
