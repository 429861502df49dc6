//! A trace for programs: one JSON object a line, described in `docs/traces.md`. Whoever changes a field's meaning raises
//! [`VERSION`]; a new field or type does not.

use super::names::Names;
use super::{Line, Trace, packet_kind};
use crate::{DropReason, Event, PacketView, Place};
use posse_core::{Ecn, Instant};
use serde::Serialize;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const VERSION: u32 = 1;

#[derive(Serialize)]
struct Versioned<L> {
    v: u32,
    #[serde(flatten)]
    line: L,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Object<'a> {
    World { places: Vec<PlaceObject<'a>>, events: usize, forgotten: u64 },
    Event(&'a EventObject<'a>),
}

#[derive(Serialize)]
struct PlaceObject<'a> {
    name: &'a str,
    kind: &'static str,
    address: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<Ipv6Addr>,
    on: &'a str,
}

/// Which of the optional fields are there follows from `event`.
#[derive(Serialize, Default)]
struct EventObject<'a> {
    at_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'a str>,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<PacketObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<(SocketAddr, SocketAddr)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inside: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outside: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    toward: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outward: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_up: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_down: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incarnation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    len: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

#[derive(Serialize)]
struct PacketObject {
    id: u64,
    kind: &'static str,
    from: SocketAddr,
    to: SocketAddr,
    len: usize,
    ecn: &'static str,
    hops: u8,
}

impl From<PacketView<'_>> for PacketObject {
    fn from(packet: PacketView<'_>) -> Self {
        let PacketView { id, from, to, ecn, hops, tcp, bytes } = packet;
        Self {
            id,
            kind: if tcp { "tcp segment" } else { packet_kind(bytes) },
            from,
            to,
            len: bytes.len(),
            ecn: ecn_word(ecn),
            hops,
        }
    }
}

/// RFC 3168 §5, as everyone writes them.
fn ecn_word(ecn: Ecn) -> &'static str {
    match ecn {
        Ecn::NotCapable => "not-ect",
        Ecn::Ect1 => "ect1",
        Ecn::Ect0 => "ect0",
        Ecn::Ce => "ce",
    }
}

fn drop_word(why: DropReason) -> &'static str {
    match why {
        DropReason::Loss => "loss",
        DropReason::Queue => "queue",
        DropReason::TooBig => "too-big",
        DropReason::Cut => "cut",
        DropReason::Blocked => "blocked",
        DropReason::NoRoute => "no-route",
        DropReason::NoSocket => "no-socket",
        DropReason::HopLimit => "hop-limit",
        DropReason::NoMapping => "no-mapping",
        DropReason::Filtered => "filtered",
        DropReason::Hairpin => "hairpin",
        DropReason::NoPort => "no-port",
        DropReason::Firewall => "firewall",
        DropReason::Checksum => "checksum",
        DropReason::Burst => "burst",
        DropReason::Buffer => "buffer",
    }
}

pub(super) fn write(trace: &Trace<'_>, out: &mut impl io::Write) -> io::Result<()> {
    let names = trace.names();
    let places = names.all().map(|(place, name, address, ipv6, on)| {
        let kind = if matches!(place, Place::Host(_)) { "host" } else { "nat" };
        PlaceObject { name, kind, address, ipv6, on }
    });
    let (events, forgotten) = (trace.log.len(), trace.log.forgotten());
    line(out, Object::World { places: places.collect(), events, forgotten })?;
    for each in trace.lines() {
        let object = match each {
            Line::Event(at, event) => of_event(&names, at, &event),
            Line::Note(note) => EventObject {
                at_ns: note.at.0,
                place: note.who.map(|place| names.place(place)),
                event: note.kind.word(),
                text: Some(&note.text),
                ..EventObject::default()
            },
        };
        line(out, Object::Event(&object))?;
    }
    Ok(())
}

fn line(out: &mut impl io::Write, line: Object<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Versioned { v: VERSION, line })?;
    writeln!(out)
}

fn of_event<'a>(names: &'a Names<'_>, at: Instant, event: &Event<'_>) -> EventObject<'a> {
    let named = |place: Place, event| EventObject {
        at_ns: at.0,
        place: Some(names.place(place)),
        event,
        packet: None,
        ..EventObject::default()
    };
    let about =
        |place, event, packet: PacketView<'_>| EventObject { packet: Some(packet.into()), ..named(place, event) };
    match *event {
        Event::Sent { host, socket, packet } => {
            EventObject { socket: Some(socket.0), ..about(Place::Host(host), "sent", packet) }
        }
        Event::Delivered { host, socket, packet } => {
            EventObject { socket: Some(socket.0), ..about(Place::Host(host), "delivered", packet) }
        }
        Event::Dropped { place, why, packet } => {
            EventObject { why: Some(drop_word(why).to_owned()), ..about(place, "dropped", packet) }
        }
        Event::Duplicated { place, original, packet } => {
            EventObject { original: Some(original), ..about(place, "duplicated", packet) }
        }
        Event::Corrupted { place, packet } => about(place, "corrupted", packet),
        Event::Translated { net, before, packet } => {
            EventObject { was: Some(before), ..about(Place::Net(net), "translated", packet) }
        }
        Event::Passed { net, outward, packet } => {
            EventObject { outward: Some(outward), ..about(Place::Net(net), "passed", packet) }
        }
        Event::Mapped { net, inside, outside, toward } => EventObject {
            inside: Some(inside),
            outside: Some(outside),
            toward: Some(toward),
            ..named(Place::Net(net), "mapped")
        },
        Event::Woken { host, why } => {
            EventObject { why: Some(format!("{why:?}")), ..named(Place::Host(host), "woken") }
        }
        Event::Acted { host } => named(Place::Host(host), "acted"),
        Event::Started { host, incarnation } => {
            EventObject { incarnation: Some(incarnation), ..named(Place::Host(host), "started") }
        }
        Event::Unsendable { host, len } => EventObject { len: Some(len), ..named(Place::Host(host), "unsendable") },
        Event::SocketOpened { host, socket, port } => {
            EventObject { socket: Some(socket.0), port: Some(port), ..named(Place::Host(host), "socket-opened") }
        }
        Event::LinkChanged { place, cut: (up, down) } => {
            EventObject { cut_up: Some(up), cut_down: Some(down), ..named(place, "link-changed") }
        }
        Event::Rebooted { net } => named(Place::Net(net), "rebooted"),
        Event::Blocked { from, to, blocked } => EventObject {
            from: Some(from),
            to: Some(to),
            ..named(Place::Net(0), if blocked { "blocked" } else { "unblocked" })
        },
        Event::Paused { host, paused } => named(Place::Host(host), if paused { "paused" } else { "resumed" }),
        Event::ClockJumped { host, ahead } => {
            EventObject { ahead_ns: Some(ahead), ..named(Place::Host(host), "clock-jumped") }
        }
        Event::Firewall { place, blocked } => named(place, if blocked { "udp-blocked" } else { "udp-passes" }),
        Event::Moved { place, address } => EventObject { to: Some(address), ..named(place, "moved") },
    }
}
