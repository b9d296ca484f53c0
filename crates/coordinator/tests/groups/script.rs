//! Scenario scripts: a story as text, commands and what they lead to. A script that no longer holds prints what happens
//! now, ready to be read and, if it is right, pasted.
//!
//! ```text
//! client NAME [group=G] [instance=I] [protocols=P,Q] [topics=T,U] [session=MS] [rebalance=MS]
//! join|heartbeat|leave|restart NAME      sync NAME [MEMBER=ASSIGNMENT …]
//! commit NAME TOPIC-PARTITION=OFFSET …   fetch GROUP   state GROUP
//! advance MS   fail ERRORCODE   failover
//! ```

use crate::rig::{Client, Rig, error, subscription};
use ottla_coordinator::{Response, Waiter};
use ottla_protocol::ErrorCode;
use std::collections::BTreeMap;
use std::fmt::Write;

struct Script {
    rig: Rig,
    clients: BTreeMap<String, Client>,
    waiting: BTreeMap<Waiter, String>,
    /// Member id → client name: ids are random, scripts are not.
    names: BTreeMap<String, String>,
    written: usize,
}

impl Script {
    fn run(text: &str) -> String {
        let mut script = Script {
            rig: Rig::new(),
            clients: BTreeMap::new(),
            waiting: BTreeMap::new(),
            names: BTreeMap::new(),
            written: 0,
        };
        let mut out = String::new();
        for block in text.trim_end().split("\n\n") {
            let commands = block.lines().take_while(|line| *line != "----");
            for line in commands.clone() {
                let _ = writeln!(out, "{line}");
            }
            if commands.clone().all(|line| line.starts_with('#')) {
                out.push('\n');
                continue;
            }
            out.push_str("----\n");
            for line in commands.filter(|line| !line.starts_with('#')) {
                let words: Vec<_> = line.split_whitespace().collect();
                script.command(&words, &mut out);
                script.report(&mut out);
            }
            out.push('\n');
        }
        script.rig.check_replay();
        out
    }

    fn command(&mut self, words: &[&str], out: &mut String) {
        let (verb, rest) = (words[0], &words[1..]);
        match verb {
            "client" => {
                self.clients.insert(rest[0].into(), client(rest));
            }
            "restart" => {
                let client = self.clients[rest[0]].restarted();
                self.clients.insert(rest[0].into(), client);
            }
            "join" => {
                let waiter = self.rig.join(&self.clients[rest[0]]);
                self.waiting.insert(waiter, rest[0].into());
            }
            "sync" => {
                let given: Vec<_> =
                    rest[1..].iter().map(|pair| pair.split_once('=').expect("member=bytes")).collect();
                let given: Vec<_> = given
                    .iter()
                    .map(|(name, bytes)| (&*self.clients[*name].member_id, bytes.as_bytes()))
                    .collect();
                let waiter = self.rig.sync(&self.clients[rest[0]], &given);
                self.waiting.insert(waiter, rest[0].into());
            }
            "heartbeat" => {
                let answer = self.rig.heartbeat(&self.clients[rest[0]]);
                let _ = writeln!(out, "{}: {answer:?}", rest[0]);
            }
            "leave" => {
                let answer = self.rig.leave(&self.clients[rest[0]]);
                let _ = writeln!(out, "{}: {answer:?}", rest[0]);
            }
            "commit" => {
                let offset = |word: &&str| {
                    let (place, offset) = word.split_once('=').expect("topic-partition=offset");
                    let (topic, partition) = place.rsplit_once('-').expect("topic-partition");
                    (
                        topic.to_string(),
                        partition.parse().expect("a number"),
                        offset.parse().expect("a number"),
                    )
                };
                let offsets: Vec<(String, i32, i64)> = rest[1..].iter().map(offset).collect();
                let offsets: Vec<_> =
                    offsets.iter().map(|(topic, p, offset)| (topic.as_str(), *p, *offset)).collect();
                let answer = self.rig.commit(&self.clients[rest[0]], &offsets);
                let _ = writeln!(out, "{}: {answer:?}", rest[0]);
            }
            "fetch" => {
                for (topic, partition, offset, error) in self.rig.fetch_all(rest[0]) {
                    let _ = writeln!(out, "{topic}-{partition} = {offset} {error:?}");
                }
            }
            "state" => {
                let _ = writeln!(out, "{}", self.rig.state(rest[0]));
            }
            "advance" => self.rig.advance(rest[0].parse().expect("milliseconds")),
            "fail" => self.rig.fail_next = Some(error(rest[0].parse().expect("an error code"))),
            "failover" => self.rig.fail_over(),
            other => panic!("{other:?} is not a command"),
        }
    }

    /// What arrived since, in the order of asking, and how much was written.
    fn report(&mut self, out: &mut String) {
        let arrived: Vec<_> =
            self.waiting.keys().copied().filter(|waiter| !self.rig.is_waiting(*waiter)).collect();
        for waiter in arrived {
            let name = self.waiting.remove(&waiter).expect("it waited");
            match self.rig.answer(waiter) {
                Response::JoinGroup(joined) => {
                    let client = self.clients.get_mut(&name).expect("a client");
                    let code = error(joined.error_code);
                    if matches!(code, ErrorCode::None | ErrorCode::MemberIdRequired) {
                        client.member_id = joined.member_id.to_string();
                        client.generation = joined.generation_id;
                        self.names.insert(client.member_id.clone(), name.clone());
                    }
                    if code != ErrorCode::None {
                        let _ = writeln!(out, "{name}: {code:?}");
                        continue;
                    }
                    let known = |id: &str| self.names.get(id).cloned().unwrap_or_else(|| "(somebody)".into());
                    let (generation, leader) = (joined.generation_id, known(&joined.leader));
                    let protocol = joined.protocol_name.as_deref().unwrap_or("-");
                    let _ =
                        write!(out, "{name}: joined, generation {generation}, {protocol}, leader {leader}");
                    if !joined.members.is_empty() {
                        let _ = write!(out, ", {} members", joined.members.len());
                    }
                    out.push_str(if joined.skip_assignment { ", skip assignment\n" } else { "\n" });
                }
                Response::SyncGroup(synced) if synced.error_code == 0 => {
                    let _ =
                        writeln!(out, "{name}: assigned {:?}", String::from_utf8_lossy(&synced.assignment));
                }
                Response::SyncGroup(synced) => {
                    let _ = writeln!(out, "{name}: {:?}", error(synced.error_code));
                }
                other => panic!("nobody waits for {other:?}"),
            }
        }
        let written = self.rig.log.len() - self.written;
        if written > 0 {
            let _ = writeln!(out, "({written} written)");
        }
        self.written = self.rig.log.len();
    }
}

fn client(words: &[&str]) -> Client {
    let mut client = Client::new(words[0]);
    for (key, value) in words[1..].iter().map(|word| word.split_once('=').expect("key=value")) {
        match key {
            "group" => client.group = value.into(),
            "instance" => client.instance = Some(value.into()),
            "protocols" => client = client.with_protocols(&value.split(',').collect::<Vec<_>>()),
            "topics" => {
                let subscribed = subscription(&value.split(',').collect::<Vec<_>>());
                client.protocols.iter_mut().for_each(|(_, metadata)| *metadata = subscribed.clone());
            }
            "session" => client.session = value.parse().expect("milliseconds"),
            "rebalance" => client.rebalance = value.parse().expect("milliseconds"),
            other => panic!("{other:?} is not a property of a client"),
        }
    }
    client
}

fn check(name: &str, text: &str) {
    let happened = Script::run(text);
    assert!(happened.trim_end() == text.trim_end(), "{name} does not hold; what happens is:\n\n{happened}");
}

#[test]
fn two_consumers() {
    check("two_consumers", include_str!("scenarios/two_consumers.txt"));
}

#[test]
fn static_restart() {
    check("static_restart", include_str!("scenarios/static_restart.txt"));
}

#[test]
fn failed_append() {
    check("failed_append", include_str!("scenarios/failed_append.txt"));
}
