//! What is measured of everybody alike.

use nix::sys::resource::{UsageWho, getrusage};
use std::time::{Duration, Instant};

/// A flood in one direction, as its receiver counted it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Flood {
    /// Bytes a second that arrived, headers aside, in MiB.
    pub mib: f64,
    /// Messages (or datagrams) a second.
    pub rate: f64,
    /// CPU of both ends for a GiB, s.
    pub cpu_gib: f64,
    /// CPU of both ends for a message, us.
    pub cpu_each: f64,
}

impl Flood {
    /// `bytes` in `messages` arrived in `time` for so much `cpu`.
    pub fn new(bytes: u64, messages: u64, time: Duration, cpu: Duration) -> Self {
        let (bytes, messages, time, cpu) =
            (bytes as f64, messages.max(1) as f64, time.as_secs_f64(), cpu.as_secs_f64());
        Self {
            mib: bytes / time / 1048576.0,
            rate: messages / time,
            cpu_gib: cpu / (bytes.max(1.0) / 1073741824.0),
            cpu_each: cpu * 1e6 / messages,
        }
    }
}

/// Round trips one at a time, us.
#[derive(Clone, Copy, Default, Debug)]
pub struct Trips {
    pub p50: f64,
    pub p99: f64,
}

impl Trips {
    pub fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |percent: usize| all.get((all.len() * percent / 100).min(all.len().saturating_sub(1)));
        let us = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
        Self { p50: us(at(50)), p99: us(at(99)) }
    }
}

/// CPU that this process has used; both ends of everything here are threads of it.
pub fn cpu() -> Duration {
    usage(UsageWho::RUSAGE_SELF)
}

/// CPU that this thread has used.
pub fn thread_cpu() -> Duration {
    usage(UsageWho::RUSAGE_THREAD)
}

fn usage(who: UsageWho) -> Duration {
    let usage = getrusage(who).expect("the system tells");
    let time = |t: nix::sys::time::TimeVal| Duration::from_micros((t.tv_sec() * 1_000_000 + t.tv_usec()) as u64);
    time(usage.user_time()) + time(usage.system_time())
}

/// Waits until `since` + `length`.
pub fn until(since: Instant, length: Duration) {
    std::thread::sleep((since + length).saturating_duration_since(Instant::now()));
}
