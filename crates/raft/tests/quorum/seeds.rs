//! Some hundred seeds of the simulator, and those that once failed.

use crate::sim::scenario;

#[test]
fn some_seeds() {
    let mut committed = 0;
    for seed in 0..300 {
        match std::panic::catch_unwind(|| scenario::run(seed, None)) {
            Ok(outcome) => committed += outcome.committed,
            Err(cause) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(cause);
            }
        }
    }
    assert!(committed > 300 * 20, "the runs commit something: {committed} records");
}

#[test]
fn a_seed_is_a_run() {
    for seed in 0..10 {
        assert_eq!(scenario::run(seed, Some(1)), scenario::run(seed, Some(1)), "seed {seed}");
    }
}
