//! The network between the nodes: a namespace for each on one bridge, so that packets can be lost in one direction alone.
//!
//! The tricky idea: a cut needs no firewall. Whoever shall not reach an address gets a wrong hardware address for it, and everything that
//! is sent there is lost without a word, as on a network that lost a cable.

use crate::steps::Trouble;
use std::process::Command;

/// An address that no interface has.
const NOWHERE: &str = "02:00:00:00:00:fe";

/// Somebody on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A node, by its index.
    Node(usize),
    /// All clients.
    Clients,
}

/// Where nodes live.
pub struct Network {
    /// In the names of everything that is made: runs beside each other do not meet.
    tag: String,
    subnet: u32,
    nodes: usize,
    cuts: Vec<(Side, Side)>,
}

impl Network {
    /// Makes the network, if that is permitted here.
    pub fn new(nodes: usize) -> Option<Network> {
        let number = std::process::id() % 10_000;
        let network = Network { tag: format!("on{number}"), subnet: number % 250, nodes, cuts: Vec::new() };
        match network.build() {
            Ok(()) => Some(network),
            Err(trouble) => {
                println!("no network namespaces here ({trouble}): faults of the network are left out");
                None
            }
        }
    }

    fn build(&self) -> Result<(), Trouble> {
        let (bridge, clients) = (self.bridge(), self.address(Side::Clients));
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {clients}/24 dev {bridge}"))?;
        ip(&format!("link set {bridge} up"))?;
        for node in 0..self.nodes {
            let (space, wire) = (self.space(node), format!("{}w{node}", self.tag));
            ip(&format!("netns add {space}"))?;
            ip(&format!("link add {wire} type veth peer name eth0 netns {space}"))?;
            ip(&format!("link set {wire} master {bridge}"))?;
            ip(&format!("link set {wire} up"))?;
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {space} addr add {}/24 dev eth0", self.address(Side::Node(node))))?;
            ip(&format!("-n {space} link set eth0 up"))?;
        }
        Ok(())
    }

    fn bridge(&self) -> String {
        format!("{}br", self.tag)
    }

    fn space(&self, node: usize) -> String {
        format!("{}-{node}", self.tag)
    }

    /// The address of somebody.
    pub fn address(&self, side: Side) -> String {
        let last = match side {
            Side::Clients => 1,
            Side::Node(node) => 11 + node,
        };
        format!("10.88.{}.{last}", self.subnet)
    }

    /// A command that runs `program` as a process of a node.
    pub fn command(&self, node: usize, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(node)]).arg(program);
        command
    }

    /// From now on nothing that `from` sends to `to` arrives.
    pub fn cut(&mut self, from: Side, to: Side) -> Result<(), Trouble> {
        let at = self.place(from);
        ip(&format!(
            "{} neigh replace {} lladdr {NOWHERE} nud permanent dev {}",
            at.0,
            self.address(to),
            at.1
        ))?;
        self.cuts.push((from, to));
        Ok(())
    }

    /// Everything arrives again.
    pub fn heal(&mut self) -> Result<(), Trouble> {
        for (from, to) in std::mem::take(&mut self.cuts) {
            let at = self.place(from);
            ip(&format!("{} neigh del {} dev {}", at.0, self.address(to), at.1))?;
        }
        Ok(())
    }

    /// Where somebody's table of neighbours is: options of `ip`, and the interface.
    fn place(&self, side: Side) -> (String, String) {
        match side {
            Side::Node(node) => (format!("-n {}", self.space(node)), "eth0".into()),
            Side::Clients => (String::new(), self.bridge()),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What was never made can not be taken away; nobody is left to be told.
        for node in 0..self.nodes {
            let _ = ip(&format!("netns del {}", self.space(node)));
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}

fn ip(arguments: &str) -> Result<(), Trouble> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(Trouble::new(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
