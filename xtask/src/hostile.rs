//! `cargo xtask hostile`: frames that no client would send, for a minute, while a well-behaved connection goes on being served.
//!
//! Every API and version is offered with truncated, random, mutated and absurdly long bodies; sizes that promise gigabytes; headers
//! that name APIs that do not exist. The broker must answer or close, never crash, never grow, and serve others all the while.

use crate::broker::{Broker, Kind};
use crate::steps::{Trouble, fresh_dir};
use crate::{wire, workspace};
use clap::Args;
use ottla_protocol::messages::metadata_request::MetadataRequest;
use ottla_protocol::{ApiKey, Writer};
use std::io;
use std::time::{Duration, Instant};

/// Resident memory that the broker may gain, in KiB: the pools fill once, and then nothing may accumulate.
const RSS_GROWTH_MAX_KIB: u64 = 96 << 10;
/// How long the well-behaved connection may wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to send for how long.
#[derive(Args)]
pub struct Options {
    /// Seconds of hostile frames
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seed of the frames
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Options {
    /// The short form of `cargo xtask test`.
    pub fn smoke() -> Options {
        Options { seconds: 5, seed: 1 }
    }
}

/// Runs the chore.
pub fn run(options: Options) -> Result<bool, Trouble> {
    let home = fresh_dir(&workspace::scratch("hostile"))?;
    let logs = fresh_dir(&workspace::logs("hostile"))?;
    let mut broker = Broker::new(Kind::Ottla, None, &home, &logs)?;
    broker.start()?;
    let outcome = attack(&mut broker, &options);
    broker.stop()?;
    let frames = outcome?;
    println!(
        "hostile: {frames} frames in {} s, seed {}: no crash, memory bounded, others served",
        options.seconds, options.seed
    );
    Ok(true)
}

fn attack(broker: &mut Broker, options: &Options) -> Result<u64, Trouble> {
    let mut friend = wire::Connection::open(&broker.bootstrap(), PATIENCE)?;
    let all = MetadataRequest { topics: None, ..Default::default() };
    friend.ask(&all, 12)?;
    let rss_before = broker.rss_kib()?;
    let mut dice = Dice(options.seed);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut frames = 0;
    while Instant::now() < end {
        for key in ApiKey::ALL {
            let frame = hostile_frame(&mut dice, key)?;
            // Whether it is answered or refused is the broker's choice; that the next one can be sent is what counts.
            let mut enemy = wire::Connection::open(&broker.bootstrap(), Duration::from_millis(2))?;
            let _ = enemy.send_raw(&frame).and_then(|()| enemy.read_frame());
            frames += 1;
        }
        if !broker.is_alive() {
            return Err(Trouble::new(format!(
                "the broker died after {frames} frames, seed {}; log: {}",
                options.seed,
                broker.log().display()
            )));
        }
        friend
            .ask(&all, 12)
            .map_err(|error| Trouble::new(format!("the well-behaved connection is not served: {error}")))?;
    }
    let grown = broker.rss_kib()?.saturating_sub(rss_before);
    if grown > RSS_GROWTH_MAX_KIB {
        return Err(Trouble::new(format!("resident memory grew by {grown} KiB over {frames} frames")));
    }
    Ok(frames)
}

/// One frame, its size included, that is wrong in some way.
fn hostile_frame(dice: &mut Dice, key: ApiKey) -> io::Result<Vec<u8>> {
    let version = match dice.below(8) {
        0 => dice.next() as i16,
        1 => key.max_version() + 1,
        _ => key.min_version() + dice.below((key.max_version() - key.min_version() + 1) as u64) as i16,
    };
    let mut writer = Writer::new();
    let header_version = version.clamp(key.min_version(), key.max_version());
    wire::header(&mut writer, key, header_version, 7)?;
    let mut frame = writer.into_bytes().to_vec();
    frame[2..4].copy_from_slice(&version.to_be_bytes());
    if dice.below(16) == 0 {
        let unknown = (dice.next() as i16).to_be_bytes();
        frame[..2].copy_from_slice(&unknown);
    }
    let length = match dice.below(4) {
        0 => 0,
        1 => 4,
        2 => dice.below(64) as usize,
        _ => dice.below(4096) as usize,
    };
    let style = dice.below(4);
    frame.extend((0..length).map(|_| match style {
        0 => 0x7f,
        1 => 0xff,
        2 => 0,
        _ => dice.next() as u8,
    }));
    let size = match dice.below(8) {
        0 => i32::MAX,
        1 => -1,
        2 => 100 << 20,
        3 => dice.below(frame.len() as u64) as i32,
        _ => frame.len() as i32,
    };
    let mut sized = size.to_be_bytes().to_vec();
    sized.append(&mut frame);
    Ok(sized)
}

/// A splitmix64 generator: the same seed sends the same frames.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}
