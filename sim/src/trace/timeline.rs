//! A trace as text in fixed columns. The same run gives the same text; the columns are as wide as it needs.

use super::names::Names;
use super::{Line, Note, Trace, milliseconds, packet_kind};
use crate::scenario::written;
use crate::{Event, PacketView, Place};
use posse_core::Duration;
use std::io;
use std::net::SocketAddr;

/// Which lines a timeline has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Filter {
    /// All: every packet at every place that it passes, every wake-up.
    #[default]
    All,
    /// Drops, damage, faults, new mappings, and what applications saw.
    Short,
}

impl Filter {
    fn shows(self, line: &Line<'_>) -> bool {
        let Line::Event(_, event) = line else { return true };
        match event {
            Event::Sent { .. }
            | Event::Delivered { .. }
            | Event::Translated { .. }
            | Event::Passed { .. }
            | Event::Woken { .. }
            | Event::Acted { .. }
            | Event::SocketOpened { .. } => self == Self::All,
            Event::Dropped { .. }
            | Event::Duplicated { .. }
            | Event::Corrupted { .. }
            | Event::Mapped { .. }
            | Event::Started { .. }
            | Event::Unsendable { .. }
            | Event::LinkChanged { .. }
            | Event::Rebooted { .. }
            | Event::Blocked { .. }
            | Event::Paused { .. }
            | Event::ClockJumped { .. }
            | Event::Firewall { .. }
            | Event::Moved { .. } => true,
        }
    }
}

/// A line's columns.
#[derive(Default)]
struct Row {
    time: String,
    place: String,
    what: &'static str,
    ends: Option<(String, String)>,
    size: Option<usize>,
    note: String,
}

/// Width of "what": that of its longest word.
const WHAT: usize = 9;
/// Room for times below 1000 s.
const TIME: usize = 10;

pub(super) fn write(trace: &Trace<'_>, filter: Filter, out: &mut impl io::Write) -> io::Result<()> {
    let names = trace.names();
    head(trace, &names, out)?;
    // Once to see how wide the columns are, once to write.
    let rows = || trace.lines().filter(|line| filter.shows(line)).map(|line| row(&names, line));
    let (mut place, mut from, mut to) = (5, 4, 2);
    for row in rows() {
        place = place.max(row.place.chars().count());
        if let Some((a, b)) = &row.ends {
            (from, to) = (from.max(a.chars().count()), to.max(b.chars().count()));
        }
    }
    let head = format!(
        "{:>TIME$}  {:place$}  {:WHAT$}  {:from$}   {:to$}  {:>5}  note",
        "ms", "place", "what", "from", "to", "bytes"
    );
    writeln!(out, "{head}")?;
    for row in rows() {
        let Row { time, place: name, what, ends, size, note } = row;
        let arrow = if ends.is_some() { "→" } else { " " };
        let (a, b) = ends.unwrap_or_default();
        let size = size.map_or(String::new(), |size| size.to_string());
        let line = format!("{time:>TIME$}  {name:place$}  {what:WHAT$}  {a:from$} {arrow} {b:to$}  {size:>5}  {note}");
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Who is who, and what is missing.
fn head(trace: &Trace<'_>, names: &Names<'_>, out: &mut impl io::Write) -> io::Result<()> {
    for (place, name, address, ipv6, on) in names.all() {
        match (place, ipv6) {
            (Place::Host(_), None) => writeln!(out, "# {name}: a host at {address}, on {on}")?,
            (Place::Host(_), Some(ip)) => writeln!(out, "# {name}: a host at {address} and {ip}, on {on}")?,
            (Place::Net(_), None) => writeln!(out, "# {name}: a NAT at {address}, on {on}")?,
            (Place::Net(_), Some(ip)) => writeln!(out, "# {name}: a NAT at {address}, on {on}; behind it {ip}/64")?,
        }
    }
    if trace.log.forgotten() > 0 {
        writeln!(out, "# {} earlier events are not kept", trace.log.forgotten())?;
    }
    writeln!(out)
}

fn row(names: &Names<'_>, line: Line<'_>) -> Row {
    match line {
        Line::Event(at, event) => Row { time: milliseconds(at), ..of_event(names, &event) },
        Line::Note(Note { at, who, kind, text }) => Row {
            time: milliseconds(*at),
            place: who.map_or("-", |place| names.place(place)).to_owned(),
            what: kind.word(),
            note: text.replace(char::is_control, " "),
            ..Row::default()
        },
    }
}

fn of_event(names: &Names<'_>, event: &Event<'_>) -> Row {
    let host = |host: usize, what, note: String| at(names, Place::Host(host), what, note);
    match *event {
        Event::Sent { host, packet, .. } => about(names, Place::Host(host), "send", packet, String::new()),
        Event::Delivered { host, packet, .. } => about(names, Place::Host(host), "receive", packet, String::new()),
        Event::Dropped { place, why, packet } => about(names, place, "DROP", packet, format!(": {why}")),
        Event::Duplicated { place, original, packet } => {
            about(names, place, "duplicate", packet, format!(", a copy of #{original}"))
        }
        Event::Corrupted { place, packet } => about(names, place, "corrupt", packet, ", a bit flipped".to_owned()),
        Event::Translated { net, before, packet } => {
            about(names, Place::Net(net), "translate", packet, was(names, before, packet))
        }
        Event::Passed { net, outward, packet } => {
            let way = if outward { ", out through the firewall" } else { ", in through the firewall" };
            about(names, Place::Net(net), "pass", packet, way.to_owned())
        }
        Event::Mapped { net, inside, outside, toward } => Row {
            ends: Some((names.endpoint(inside), names.endpoint(outside))),
            ..at(names, Place::Net(net), "map", format!("toward {}", names.endpoint(toward)))
        },
        Event::Woken { host: i, why } => host(i, "wake", format!("{why:?}")),
        Event::Acted { host: i } => host(i, "act", String::new()),
        Event::Started { host: i, incarnation: 0 } => host(i, "start", String::new()),
        Event::Started { host: i, incarnation } => host(i, "RESTART", format!("number {incarnation}")),
        Event::Unsendable { host: i, len } => {
            Row { size: Some(len), ..host(i, "DROP", "no such socket or kind of address".to_owned()) }
        }
        Event::SocketOpened { host: i, socket, port } => host(i, "socket", format!("{} on port {port}", socket.0)),
        Event::LinkChanged { place, cut } => at(names, place, "LINK", link(cut).to_owned()),
        Event::Rebooted { net } => at(names, Place::Net(net), "REBOOT", "its mappings are gone".to_owned()),
        Event::Blocked { from, to, blocked } => Row {
            ends: Some((names.address(from), names.address(to))),
            ..at(names, Place::Net(0), if blocked { "BLOCK" } else { "UNBLOCK" }, String::new())
        },
        Event::Paused { host: i, paused } => host(i, if paused { "PAUSE" } else { "RESUME" }, String::new()),
        Event::ClockJumped { host: i, ahead } => host(i, "CLOCK", clock(ahead)),
        Event::Firewall { place, blocked } => {
            at(names, place, "FIREWALL", if blocked { "blocks UDP" } else { "lets UDP pass" }.to_owned())
        }
        Event::Moved { place, address } => at(names, place, "ADDRESS", format!("is {address} from now on")),
    }
}

/// How a clock stands.
pub(super) fn clock(ahead: i64) -> String {
    let by = written(Duration::from_nanos(ahead.unsigned_abs()));
    format!("{by} {} from now on", if ahead < 0 { "behind" } else { "ahead" })
}

/// How a link is now.
pub(super) fn link(cut: (bool, bool)) -> &'static str {
    match cut {
        (true, true) => "cut both ways",
        (true, false) => "cut up",
        (false, true) => "cut down",
        (false, false) => "works, as it is now",
    }
}

fn at(names: &Names<'_>, place: Place, what: &'static str, note: String) -> Row {
    Row { place: names.place(place).to_owned(), what, note, ..Row::default() }
}

fn about(names: &Names<'_>, place: Place, what: &'static str, packet: PacketView<'_>, rest: String) -> Row {
    Row {
        ends: Some((names.endpoint(packet.from), names.endpoint(packet.to))),
        size: Some(packet.bytes.len()),
        ..at(names, place, what, format!("#{} {}{rest}", packet.id, packet_kind(packet.bytes)))
    }
}

/// What a NAT replaced.
fn was(names: &Names<'_>, (from, to): (SocketAddr, SocketAddr), packet: PacketView<'_>) -> String {
    let mut text = String::new();
    if from != packet.from {
        text += &format!(", from was {}", names.endpoint(from));
    }
    if to != packet.to {
        text += &format!(", to was {}", names.endpoint(to));
    }
    text
}
