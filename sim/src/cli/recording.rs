//! A session that the flight recorder saved, once more.

use super::{Failure, json};
use posse_record::Replayed;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

#[derive(Serialize)]
#[serde(tag = "type", rename = "recording")]
struct Line<'a> {
    held: bool,
    role: &'a str,
    entries: u64,
    until_ns: u64,
    datagrams: u64,
    digest: String,
    checkpoints: u64,
    differs_after: Option<u64>,
    cut_short: bool,
}

/// Replays `file`. Whether it came to what was recorded.
pub(super) fn replay(file: &Path, as_json: bool, out: &mut impl Write) -> Result<bool, Failure> {
    let replayed = Replayed::of(file).map_err(|error| Failure::Setup(format!("{}: {error}", file.display())))?;
    let digest = format!("{:032x}", replayed.digest);
    if as_json {
        let line = Line {
            held: replayed.is_same(),
            role: replayed.role,
            entries: replayed.entries,
            until_ns: replayed.until.0,
            datagrams: replayed.datagrams,
            digest,
            checkpoints: replayed.checkpoints,
            differs_after: replayed.differs_after,
            cut_short: replayed.cut_short,
        };
        json::line(out, &line)?;
    } else {
        let Replayed { role, entries, until, datagrams, checkpoints, .. } = replayed;
        writeln!(out, "a {role}: {entries} calls over {until:?}, {datagrams} datagrams sent, digest {digest}")?;
        if replayed.cut_short {
            writeln!(out, "the recording was cut short; it is compared up to its last checkpoint")?;
        }
        match replayed.differs_after {
            None => writeln!(out, "the same as recorded at all of {checkpoints} checkpoints")?,
            Some(entries) => {
                writeln!(out, "NOT as recorded: what it sent is different within the first {entries} calls")?
            }
        }
    }
    out.flush()?;
    Ok(replayed.is_same())
}
