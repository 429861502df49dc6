//! What is asked of the kernel: network namespaces, links, rules, programs inside. All of it by the usual tools, as root.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What every namespace of this program begins with; the process's id follows.
const PREFIX: &str = "posse-lab-";
/// Without these there is no lab.
const TOOLS: [&str; 3] = ["ip", "nft", "conntrack"];

/// What is missing on this machine, in words; `None` if the lab can be built.
pub(crate) fn missing() -> Option<String> {
    for tool in TOOLS {
        if Command::new(tool).arg("-V").output().is_err() {
            return Some(format!("there is no `{tool}`: install the packages iproute2, nftables and conntrack"));
        }
    }
    let name = format!("{PREFIX}{}-try", std::process::id());
    let made = succeed(Command::new("ip").args(["netns", "add", &name]));
    let works =
        made.and_then(|()| nft(&name, "table inet try { chain c { type nat hook postrouting priority srcnat; }; }"));
    let _ = succeed(Command::new("ip").args(["netns", "del", &name]));
    works.err().map(|why| format!("network namespaces cannot be made here (it takes root on Linux): {why}"))
}

/// Removes what an earlier process left that was killed before it could.
pub(crate) fn sweep() {
    let Ok(output) = Command::new("ip").args(["netns", "list"]).output() else { return };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some(name) = line.split_whitespace().next().filter(|name| name.starts_with(PREFIX)) else { continue };
        let process = name.trim_start_matches(PREFIX).split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            let _ = succeed(Command::new("ip").args(["netns", "del", name]));
        }
    }
}

/// The namespaces of one case. They go when this does, panic or not.
pub(crate) struct Namespaces {
    case: String,
    names: Vec<String>,
}

impl Namespaces {
    pub(crate) fn new(case: &str) -> Self {
        Self { case: case.to_owned(), names: Vec::new() }
    }

    /// Makes one and gives its name.
    pub(crate) fn add(&mut self, who: &str) -> Result<String, String> {
        let name = format!("{PREFIX}{}-{}-{who}", std::process::id(), self.case);
        succeed(Command::new("ip").args(["netns", "add", &name]))?;
        self.names.push(name.clone());
        ip(&name, "link set dev lo up")?;
        Ok(name)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = succeed(Command::new("ip").args(["netns", "del", name]));
        }
    }
}

/// Has `ip` do what the lines say, in a namespace.
pub(crate) fn ip(namespace: &str, lines: &str) -> Result<(), String> {
    feed(Command::new("ip").args(["-netns", namespace, "-batch", "-"]), lines)
}

/// Loads rules in a namespace.
pub(crate) fn nft(namespace: &str, rules: &str) -> Result<(), String> {
    feed(inside(namespace, "nft").args(["-f", "-"]), rules)
}

/// Writes a setting of a namespace's network, such as `ipv4/ip_forward`.
pub(crate) fn set(namespace: &str, name: &str, value: u64) -> Result<(), String> {
    let file = format!("/proc/sys/net/{name}");
    feed(inside(namespace, "tee").arg(file), &value.to_string())
}

/// Has a router forget all its flows, as a restart would.
pub(crate) fn forget_flows(namespace: &str) -> Result<(), String> {
    succeed(inside(namespace, "conntrack").arg("-F"))
}

/// A program in a namespace, under the id of the process that is spawned.
pub(crate) fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]);
    command
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    judge(command, &output)
}

fn feed(command: &mut Command, text: &str) -> Result<(), String> {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(|e| format!("{command:?}: {e}"))?;
    // What does not read its input to the end says why in its output.
    let _ = child.stdin.take().map(|mut input| input.write_all(text.as_bytes()));
    let output = child.wait_with_output().map_err(|e| format!("{command:?}: {e}"))?;
    judge(command, &output).map_err(|why| format!("{why}\nin\n{text}"))
}

fn judge(command: &Command, output: &Output) -> Result<(), String> {
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
