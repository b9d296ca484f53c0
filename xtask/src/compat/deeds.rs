//! What the harness does between commands: members that are there while a tool looks, transactions that stay open, restarts.

use super::hang;
use crate::broker::Broker;
use crate::players::{Player, go_program};
use crate::steps::Trouble;
use ottla_checker::event::Deed;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// Running programs.
pub struct Deeds {
    bootstrap: String,
    logs: PathBuf,
    players: Vec<Player>,
}

impl Deeds {
    /// None running yet.
    pub fn new(bootstrap: &str, logs: &Path) -> Deeds {
        Deeds { bootstrap: bootstrap.into(), logs: logs.into(), players: Vec::new() }
    }

    /// `member NAME GROUP PROTOCOL TOPIC`, `transaction NAME ID TOPIC`, `hang ID TOPIC`, `finish NAME`, `kill NAME`, `restart`,
    /// `reconfigure KEY=VALUE…` (a restart with these settings as well), `kill-broker`.
    pub fn perform(&mut self, words: &[String], broker: &mut Broker) -> Result<Result<(), String>, Trouble> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["member", name, group, protocol, topic] => {
                let mut command = go_program("member");
                command.env("SESSION_MS", "30000");
                self.start(command, name, &[group, protocol, topic], |player| {
                    Ok(player.events()?.iter().any(|event| matches!(event.deed, Deed::Assigned { .. })))
                })
            }
            ["transaction", name, id, topic] => {
                self.start(go_program("transaction"), name, &[id, topic], |player| player.has_said("open"))
            }
            ["hang", id, topic] => hang::begin(&self.bootstrap, id, topic),
            ["finish", name] => match self.player(name) {
                Some(player) => player.finish(PATIENCE),
                None => Ok(Err("it does not run".into())),
            },
            ["kill", name] => match self.player(name) {
                Some(player) => player.kill().map(Ok),
                None => Ok(Err("it does not run".into())),
            },
            ["restart"] => {
                broker.stop()?;
                broker.start()?;
                Ok(Ok(()))
            }
            ["reconfigure", ref settings @ ..] => {
                let settings: Vec<(&str, &str)> =
                    settings.iter().filter_map(|setting| setting.split_once('=')).collect();
                broker.stop()?;
                broker.set(&settings);
                broker.start()?;
                Ok(Ok(()))
            }
            ["kill-broker"] => {
                broker.kill()?;
                broker.start()?;
                Ok(Ok(()))
            }
            _ => Err(Trouble::new(format!("no such deed: {}", words.join(" ")))),
        }
    }

    fn start(
        &mut self,
        command: std::process::Command,
        name: &str,
        arguments: &[&str],
        is_ready: impl Fn(&mut Player) -> Result<bool, Trouble>,
    ) -> Result<Result<(), String>, Trouble> {
        let mut player = Player::start(command, &self.bootstrap, name, name, arguments, &self.logs)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if is_ready(&mut player)? {
                self.players.push(player);
                return Ok(Ok(()));
            }
            if player.has_ended()? || Instant::now() > deadline {
                return Ok(Err("it did not begin".into()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn player(&mut self, name: &str) -> Option<&mut Player> {
        self.players.iter_mut().find(|player| player.name() == name)
    }
}
