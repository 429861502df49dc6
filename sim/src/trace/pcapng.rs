//! A trace as a capture (draft-ietf-opsawg-pcapng): one interface per host and per side of each NAT, raw IPv4 and IPv6 packets with
//! ciphertext as it was sent, times in nanoseconds from the start of the run.
//!
//! A packet stands in the capture once for each interface that it passes, with the addresses of that side, and with its
//! number modulo 2^16 as IPv4 identification, modulo 2^20 as IPv6 flow label, so that its whole way can be found. What became of it is a comment: where a NAT or host refuses it, on its arrival there; where a link or the internet loses it, on the
//! last interface that saw it. What is no packet (an application's word, a fault) is a comment on the nearest one at that
//! place.

use super::names::Names;
use super::timeline::{clock, link};
use super::{Line, NoteKind, Trace, milliseconds};
use crate::{DropReason, Event, PacketView, Place};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::name_resolution::{Ipv4Record, Ipv6Record, NameResolutionBlock, Record};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};
use posse_core::{Duration, Instant};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Times are in units of 10^-9 s.
const NANOSECONDS: u8 = 9;
/// `epb_flags`: which way the packet goes, seen from the interface.
const INBOUND: u32 = 0b01;
const OUTBOUND: u32 = 0b10;
/// The longest comment, in bytes; the format takes 65535.
const MAX_COMMENT: usize = 4096;
/// The longest UDP payload that an IPv4 packet holds.
const MAX_PAYLOAD: usize = 65_535 - crate::HEADERS;
const UDP_HEADER: usize = 8;

/// A packet at an interface.
struct Seen<'a> {
    at: Instant,
    interface: usize,
    flags: u32,
    packet: PacketView<'a>,
    comments: Vec<String>,
}

/// Something that is no packet and waits for the nearest one.
struct Remark {
    at: Instant,
    place: Option<Place>,
    text: String,
}

pub(super) fn write(trace: &Trace<'_>, out: &mut impl io::Write) -> io::Result<()> {
    let names = trace.names();
    let mut capture = Capture::new(trace, &names);
    for line in trace.lines() {
        match line {
            Line::Event(at, event) => capture.event(at, &event),
            Line::Note(note) => {
                let who = note.who.map_or("network", |place| names.place(place));
                let who = if note.kind == NoteKind::Broken { "BROKEN" } else { who };
                let (at, place) = (note.at, note.who);
                capture.remarks.push(Remark { at, place, text: format!("{who}: {}", note.text) });
            }
        }
    }
    let homeless = capture.place_remarks();
    capture.write(homeless, out).map_err(|error| match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    })
}

struct Capture<'a> {
    trace: &'a Trace<'a>,
    names: &'a Names<'a>,
    seen: Vec<Seen<'a>>,
    /// By packet: the last of `seen` that it stands in.
    last: BTreeMap<u64, usize>,
    /// What a NAT says of the packet that it translates next.
    mapped: Option<String>,
    remarks: Vec<Remark>,
}

impl<'a> Capture<'a> {
    fn new(trace: &'a Trace<'a>, names: &'a Names<'a>) -> Self {
        Self { trace, names, seen: Vec::new(), last: BTreeMap::new(), mapped: None, remarks: Vec::new() }
    }

    /// Hosts first, then the two sides of each NAT.
    fn interface(&self, place: Place, inside: bool) -> usize {
        match place {
            Place::Host(i) => i,
            // The internet, which has no NAT, has no interface; what happens there never asks for one.
            Place::Net(i) => self.trace.topology.hosts.len() + 2 * i.saturating_sub(1) + usize::from(!inside),
        }
    }

    fn event(&mut self, at: Instant, event: &Event<'a>) {
        match *event {
            Event::Sent { host, packet, .. } => self.see(at, Place::Host(host), false, OUTBOUND, packet),
            Event::Delivered { host, packet, .. } => {
                self.see(at, Place::Host(host), false, INBOUND, packet);
                self.last.remove(&packet.id);
            }
            Event::Translated { net, before, packet } => self.translated(at, net, before, packet),
            Event::Passed { net, outward, packet } => {
                self.see(at, Place::Net(net), outward, INBOUND, packet);
                self.see(at, Place::Net(net), !outward, OUTBOUND, packet);
            }
            Event::Dropped { place, why, packet } => self.dropped(at, place, why, packet),
            Event::Duplicated { place, original, packet } => {
                let text = format!("doubled on the link of {}; the copy is #{}", self.names.place(place), packet.id);
                if let Some(&last) = self.last.get(&original) {
                    self.last.insert(packet.id, last);
                }
                self.comment(at, original, text);
            }
            Event::Corrupted { place, packet } => {
                self.comment(at, packet.id, format!("a bit is flipped on the link of {}", self.names.place(place)));
            }
            Event::Mapped { inside, outside, toward, .. } => {
                let [inside, outside, toward] = [inside, outside, toward].map(|end| self.names.endpoint(end));
                self.mapped = Some(format!("new mapping: {inside} is {outside}, toward {toward}"));
            }
            Event::Started { incarnation: 0, .. }
            | Event::Woken { .. }
            | Event::Acted { .. }
            | Event::SocketOpened { .. } => {}
            Event::Started { host, incarnation } => {
                self.remark(at, Place::Host(host), format!("restarted, number {incarnation}"));
            }
            Event::Unsendable { host, len } => {
                self.remark(at, Place::Host(host), format!("DROP {len} bytes: no such socket or kind of address"));
            }
            Event::LinkChanged { place, cut } => self.remark(at, place, format!("link {}", link(cut))),
            Event::Rebooted { net } => self.remark(at, Place::Net(net), "reboots, its mappings are gone".to_owned()),
            Event::Blocked { from, to, blocked } => {
                let [from, to] = [from, to].map(|address| self.names.address(address));
                let word = if blocked { "nothing passes" } else { "packets pass again" };
                self.remark(at, Place::Net(0), format!("{word} from {from} to {to}"));
            }
            Event::Paused { host, paused } => {
                self.remark(at, Place::Host(host), if paused { "paused" } else { "goes on" }.to_owned());
            }
            Event::ClockJumped { host, ahead } => {
                self.remark(at, Place::Host(host), format!("its clock jumps: {}", clock(ahead)));
            }
            Event::Firewall { place, blocked } => {
                self.remark(at, place, if blocked { "blocks UDP" } else { "lets UDP pass" }.to_owned());
            }
            Event::Moved { place, address } => self.remark(at, place, format!("has the address {address} from now on")),
        }
    }

    fn see(&mut self, at: Instant, place: Place, inside: bool, flags: u32, packet: PacketView<'a>) {
        let interface = self.interface(place, inside);
        self.last.insert(packet.id, self.seen.len());
        self.seen.push(Seen { at, interface, flags, packet, comments: Vec::new() });
    }

    fn translated(&mut self, at: Instant, net: usize, before: (SocketAddr, SocketAddr), packet: PacketView<'a>) {
        let place = Place::Net(net);
        // Only what comes from inside has its source replaced; only what goes inside its destination.
        let (from_inside, to_inside) = (before.0 != packet.from, before.1 != packet.to);
        let arrived = PacketView { from: before.0, to: before.1, ..packet };
        self.see(at, place, from_inside, INBOUND, arrived);
        self.see(at, place, to_inside, OUTBOUND, packet);
        if let (Some(text), Some(seen)) = (self.mapped.take(), self.seen.last_mut()) {
            seen.comments.push(text);
        }
    }

    fn dropped(&mut self, at: Instant, place: Place, why: DropReason, packet: PacketView<'a>) {
        let name = self.names.place(place);
        // Whoever looks into its table or for a socket has the packet in its hands.
        let (arrives, inside) = match why {
            DropReason::NoSocket | DropReason::NoMapping | DropReason::Filtered => (true, false),
            DropReason::Hairpin | DropReason::NoPort => (true, true),
            _ => (false, false),
        };
        let text = match place {
            Place::Net(0) => format!("DROP in the internet: {why}"),
            _ if arrives || why == DropReason::HopLimit => format!("DROP by {name}: {why}"),
            _ if self.trace.topology.goes_up(place, packet.from.ip()) => {
                format!("DROP on the link up from {name}: {why}")
            }
            _ => format!("DROP on the link down to {name}: {why}"),
        };
        if arrives {
            self.see(at, place, inside, INBOUND, packet);
        }
        if !self.last.contains_key(&packet.id) {
            // Its way here is forgotten, or it is a copy; it must not vanish for that.
            self.see(at, if place == Place::Net(0) { Place::Host(0) } else { place }, false, INBOUND, packet);
        }
        self.comment(at, packet.id, text);
        self.last.remove(&packet.id);
    }

    /// Says something of a packet where it was seen last.
    fn comment(&mut self, at: Instant, id: u64, text: String) {
        let Some(seen) = self.last.get(&id).and_then(|last| self.seen.get_mut(*last)) else { return };
        // A copy is not the packet that was seen.
        let whose = if seen.packet.id == id { String::new() } else { format!("#{id}: ") };
        let when = if seen.at == at { String::new() } else { format!(" at {} ms", milliseconds(at)) };
        seen.comments.push(format!("{whose}{text}{when}"));
    }

    fn remark(&mut self, at: Instant, place: Place, text: String) {
        let text = format!("{}: {text}", self.names.place(place));
        self.remarks.push(Remark { at, place: Some(place), text });
    }

    /// Puts each remark on the packet at its place that is nearest in time, of two the earlier. What is left if there is
    /// no packet at all.
    fn place_remarks(&mut self) -> Vec<Remark> {
        let remarks = std::mem::take(&mut self.remarks);
        let mut by_interface: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, seen) in self.seen.iter().enumerate() {
            by_interface.entry(seen.interface).or_default().push(i);
        }
        let all: Vec<_> = (0..self.seen.len()).collect();
        let mut homeless = Vec::new();
        for remark in remarks {
            let interface = remark.place.filter(|place| *place != Place::Net(0)).map(|p| self.interface(p, false));
            let here = interface.and_then(|interface| by_interface.get(&interface)).unwrap_or(&all);
            let next = here.partition_point(|&i| self.seen[i].at <= remark.at);
            let near = [next.checked_sub(1), Some(next)].into_iter().flatten().filter_map(|n| here.get(n).copied());
            let distance = |i: &usize| self.seen[*i].at.0.abs_diff(remark.at.0);
            match near.min_by_key(distance) {
                Some(i) => self.seen[i].comments.push(format!("{} ms, {}", milliseconds(remark.at), remark.text)),
                None => homeless.push(remark),
            }
        }
        homeless
    }

    fn write(&self, homeless: Vec<Remark>, out: &mut impl io::Write) -> Result<(), PcapError> {
        let mut options = vec![SectionHeaderOption::UserApplication("posse-sim".into())];
        if self.trace.log.forgotten() > 0 {
            let text = format!("{} earlier events are not kept", self.trace.log.forgotten());
            options.push(SectionHeaderOption::Comment(text.into()));
        }
        let homeless = homeless.into_iter().map(|r| format!("{} ms, {}", milliseconds(r.at), r.text));
        options.extend(homeless.map(|text| SectionHeaderOption::Comment(short(text).into())));
        // Little endian everywhere, so that the same run gives the same file.
        let section = SectionHeaderBlock { endianness: Endianness::Little, options, ..SectionHeaderBlock::default() };
        let mut writer = PcapNgWriter::with_section_header(out, section)?;
        for (name, description) in self.interfaces() {
            let options = vec![
                InterfaceDescriptionOption::IfName(name.into()),
                InterfaceDescriptionOption::IfDescription(description.into()),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ];
            let (linktype, snaplen) = (DataLink::RAW, 0);
            writer.write_pcapng_block(InterfaceDescriptionBlock { linktype, snaplen, options })?;
        }
        let records = self.names.all().flat_map(|(place, name, address, ipv6, _)| {
            let ipv6 = ipv6.map(IpAddr::V6).filter(|_| matches!(place, Place::Host(_)));
            std::iter::once(address).chain(ipv6).map(|ip| record(name, ip))
        });
        let records: Vec<_> = records.collect();
        if !records.is_empty() {
            writer.write_pcapng_block(NameResolutionBlock { records, options: Vec::new() })?;
        }
        let mut frame = Vec::new();
        for seen in &self.seen {
            ip_packet(&seen.packet, &mut frame);
            writer.write_pcapng_block(block(seen, &frame))?;
        }
        Ok(())
    }

    /// Name and description of each, in the order of [`Self::interface`].
    fn interfaces(&self) -> Vec<(String, String)> {
        let topology = self.trace.topology;
        let net = |i| self.names.place(Place::Net(i));
        let mut all = Vec::new();
        for (i, host) in topology.hosts.iter().enumerate() {
            let name = self.names.place(Place::Host(i)).to_owned();
            let ipv6 = host.ipv6.map_or(String::new(), |ip| format!(" and {ip}"));
            all.push((name, format!("host {}{ipv6} on {}", host.address, net(host.on))));
        }
        for (i, info) in topology.nets.iter().enumerate().skip(1) {
            let outside = info.outside.map_or(String::new(), |address| format!(" {address}"));
            all.push((format!("{}-in", net(i)), format!("inside of the NAT {}", net(i))));
            all.push((
                format!("{}-out", net(i)),
                format!("outside of the NAT {},{outside} on {}", net(i), net(info.behind.unwrap_or(0))),
            ));
        }
        all
    }
}

fn block<'b>(seen: &'b Seen<'_>, frame: &'b [u8]) -> EnhancedPacketBlock<'b> {
    let comments = seen.comments.iter().map(|text| EnhancedPacketOption::Comment(short(text.clone()).into()));
    let options = [EnhancedPacketOption::Flags(seen.flags)].into_iter().chain(comments).collect();
    EnhancedPacketBlock {
        interface_id: seen.interface as u32,
        timestamp: Duration::from_nanos(seen.at.0),
        original_len: (header_len(&seen.packet)
            + if seen.packet.tcp { 0 } else { UDP_HEADER }
            + seen.packet.bytes.len()) as u32,
        data: Cow::Borrowed(frame),
        options,
    }
}

/// `text`, cut where a comment ends at the latest.
fn short(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_COMMENT));
    text
}

fn record(name: &str, ip: IpAddr) -> Record<'static> {
    let names = vec![name.to_owned().into()];
    match ip {
        IpAddr::V4(ip) => Record::Ipv4(Ipv4Record { ip_addr: Cow::Owned(ip.octets().to_vec()), names }),
        IpAddr::V6(ip) => Record::Ipv6(Ipv6Record { ip_addr: Cow::Owned(ip.octets().to_vec()), names }),
    }
}

fn header_len(packet: &PacketView<'_>) -> usize {
    if packet.to.is_ipv6() { 40 } else { 20 }
}

/// The packet with IP and UDP (RFC 768) headers. A payload that no packet holds is cut.
fn ip_packet(packet: &PacketView<'_>, out: &mut Vec<u8>) {
    if packet.tcp {
        return tcp_packet(packet, out);
    }
    const UDP: u8 = 17;
    let payload = packet.bytes.get(..MAX_PAYLOAD).unwrap_or(packet.bytes);
    let udp_len = (payload.len() + UDP_HEADER) as u16;
    let sum = ip_header(packet, UDP, udp_len, out);
    let start = out.len();
    out.extend_from_slice(&packet.from.port().to_be_bytes());
    out.extend_from_slice(&packet.to.port().to_be_bytes());
    out.extend_from_slice(&udp_len.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(payload);
    let sum = match checksum(sum, &out[start..]) {
        // 0 would mean that there is none.
        0 => 0xffff,
        sum => sum,
    };
    out[start + 6..start + 8].copy_from_slice(&sum.to_be_bytes());
}

/// The same around a TCP segment, with the ports and the checksum (RFC 9293 §3.1) that it has at this point of its way.
fn tcp_packet(packet: &PacketView<'_>, out: &mut Vec<u8>) {
    const TCP: u8 = 6;
    let sum = ip_header(packet, TCP, packet.bytes.len() as u16, out);
    let start = out.len();
    out.extend_from_slice(packet.bytes);
    if let Some(segment) = out.get_mut(start..).and_then(|segment| segment.first_chunk_mut::<18>()) {
        segment[..2].copy_from_slice(&packet.from.port().to_be_bytes());
        segment[2..4].copy_from_slice(&packet.to.port().to_be_bytes());
        segment[16..].fill(0);
        let sum = checksum(sum, &out[start..]);
        out[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
    }
}

/// An IPv4 (RFC 791) or IPv6 (RFC 8200) header, and the sum over the pseudo header with which the checksum of what follows
/// begins.
fn ip_header(packet: &PacketView<'_>, protocol: u8, len: u16, out: &mut Vec<u8>) -> u32 {
    out.clear();
    let addresses = match (packet.from.ip(), packet.to.ip()) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            // Version 6, the traffic class that is the ECN bits, the flow label.
            let head = 6 << 28 | u32::from(packet.ecn.bits()) << 20 | (packet.id as u32 & 0xf_ffff);
            out.extend_from_slice(&head.to_be_bytes());
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&[protocol, packet.hops]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
            8..40
        }
        (from, to) => {
            // Version 4 and 5 words of header; traffic class 0 with the ECN bits.
            out.extend_from_slice(&[0x45, packet.ecn.bits()]);
            out.extend_from_slice(&(len + 20).to_be_bytes());
            out.extend_from_slice(&(packet.id as u16).to_be_bytes());
            // Don't fragment: the simulated network does not.
            out.extend_from_slice(&0x4000u16.to_be_bytes());
            out.extend_from_slice(&[packet.hops, protocol, 0, 0]);
            for ip in [from, to] {
                let IpAddr::V4(ip) = ip else { continue };
                out.extend_from_slice(&ip.octets());
            }
            let header = checksum(0, out);
            out[10..12].copy_from_slice(&header.to_be_bytes());
            12..20
        }
    };
    let sum = checksum(u32::from(protocol) + u32::from(len), out.get(addresses).unwrap_or_default());
    u32::from(!sum)
}

/// RFC 1071, over `bytes` and what is already in `sum`.
fn checksum(mut sum: u32, bytes: &[u8]) -> u16 {
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
