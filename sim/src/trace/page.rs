//! A trace as one page for a browser, without scripts and without anything from elsewhere: what broke, who is where, and a
//! picture of time from left to right with a lane for each host and NAT.
//!
//! A packet that a host got is a line from its sender's lane, at the time of sending, to its receiver's; what became of the
//! others is a mark on the lane where it happened. A picture shows [`MARKS`] things at most; what nobody needs to see (packets
//! that arrived) is left out first, and the page says so.

use super::names::Names;
use super::{Line, NoteKind, Trace, milliseconds, packet_kind};
use crate::{Event, Place};
use posse_core::Instant;
use std::collections::BTreeMap;
use std::io;

/// More in one picture is slow to show and not to be told apart.
const MARKS: usize = 4_000;
/// Pixels: of the picture, of the names on its left, of a lane.
const WIDTH: f64 = 1_400.0;
const MARGIN: f64 = 130.0;
const LANE: f64 = 56.0;
/// Notes of the story that the page lists.
const STORY: usize = 500;

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2em;max-width:1440px;color:#222}\
    .broken{background:#fdecea;border-left:4px solid #c62828;padding:.6em 1em}\
    .held{background:#e8f5e9;border-left:4px solid #2e7d32;padding:.6em 1em}\
    svg{background:#fafafa;border:1px solid #ddd;width:100%;height:auto}text{font:12px system-ui,sans-serif}\
    table{border-collapse:collapse}td,th{padding:.1em 1em .1em 0;text-align:left;vertical-align:top}\
    code{background:#f2f2f2;padding:0 .3em}.fault{color:#b26a00}.sees{color:#1565c0}.wrong{color:#c62828}";

/// What the page says beside the trace.
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    pub(super) broken: Option<&'a str>,
    pub(super) replay: &'a str,
    pub(super) digest: u128,
    /// Files beside it, and what each is.
    pub(super) files: &'a [(&'a str, &'a str)],
}

pub(super) fn write(trace: &Trace<'_>, page: &Page<'_>, out: &mut impl io::Write) -> io::Result<()> {
    let title = escaped(page.title);
    writeln!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>"
    )?;
    writeln!(out, "<h1>{title}</h1>")?;
    match page.broken {
        Some(broken) => writeln!(out, "<p class=\"broken\"><b>Broken:</b> {}</p>", escaped(broken))?,
        None => writeln!(out, "<p class=\"held\">Nothing is broken.</p>")?,
    }
    writeln!(out, "<p>Digest <code>{:032x}</code>. Again: <code>{}</code></p>", page.digest, escaped(page.replay))?;
    let names = trace.names();
    topology(&names, out)?;
    picture(trace, &names, out)?;
    story(trace, &names, out)?;
    writeln!(out, "<h2>Files</h2><table>")?;
    for (file, what) in page.files {
        writeln!(out, "<tr><td><a href=\"{file}\">{file}</a><td>{}", escaped(what))?;
    }
    writeln!(out, "</table></html>")
}

fn topology(names: &Names<'_>, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out, "<h2>Who is where</h2><table><tr><th>name<th>what<th>address<th>on")?;
    for (place, name, address, ipv6, on) in names.all() {
        let what = if matches!(place, Place::Host(_)) { "host" } else { "NAT" };
        let ipv6 = match (place, ipv6) {
            (_, None) => String::new(),
            (Place::Host(_), Some(ip)) => format!(", {ip}"),
            (Place::Net(_), Some(ip)) => format!("; behind it {ip}/64"),
        };
        writeln!(out, "<tr><td>{}<td>{what}<td>{address}{ipv6}<td>{}", escaped(name), escaped(on))?;
    }
    writeln!(out, "</table>")
}

/// Something in the picture. Times in ns.
enum Mark {
    /// A packet from one lane to another.
    Packet { from: (u64, Place), to: (u64, Place), kind: &'static str, id: u64 },
    /// A point on a lane, of a class with a colour, with what it says.
    Point { at: u64, place: Place, look: &'static str, says: String },
    /// Something that concerns all.
    All { at: u64, look: &'static str, says: String },
}

impl Mark {
    fn is_packet(&self) -> bool {
        matches!(self, Self::Packet { .. })
    }
}

const FAULT: &str = "#e08700";
const WRONG: &str = "#c62828";
const SEES: &str = "#1565c0";

fn marks(trace: &Trace<'_>) -> Vec<Mark> {
    let mut sent: BTreeMap<u64, (u64, Place)> = BTreeMap::new();
    let mut marks = Vec::new();
    for line in trace.lines() {
        match line {
            Line::Note(note) => {
                let look = match note.kind {
                    NoteKind::App => SEES,
                    NoteKind::Fault => FAULT,
                    NoteKind::Broken => WRONG,
                };
                let (at, says) = (note.at.0, note.text.clone());
                marks.push(match note.who {
                    Some(place) => Mark::Point { at, place, look, says },
                    None => Mark::All { at, look, says },
                });
            }
            Line::Event(Instant(at), event) => {
                let point = |place, look, says| Mark::Point { at, place, look, says };
                match event {
                    Event::Sent { host, packet, .. } => _ = sent.insert(packet.id, (at, Place::Host(host))),
                    Event::Delivered { host, packet, .. } => {
                        // A log that forgot the beginning knows of packets that nobody sent.
                        if let Some(from) = sent.get(&packet.id) {
                            let (to, kind) = ((at, Place::Host(host)), packet_kind(packet.bytes));
                            marks.push(Mark::Packet { from: *from, to, kind, id: packet.id });
                        }
                    }
                    Event::Dropped { place, why, packet } => {
                        let says = format!("#{} {}: {why}", packet.id, packet_kind(packet.bytes));
                        marks.push(point(place, WRONG, says));
                    }
                    Event::Duplicated { place, original, packet } => {
                        if let Some(from) = sent.get(&original).copied() {
                            sent.insert(packet.id, from);
                        }
                        marks.push(point(place, FAULT, format!("#{} is a copy of #{original}", packet.id)));
                    }
                    Event::Corrupted { place, packet } => {
                        marks.push(point(place, FAULT, format!("#{}: a bit is flipped", packet.id)));
                    }
                    _ => {}
                }
            }
        }
    }
    marks
}

fn picture(trace: &Trace<'_>, names: &Names<'_>, out: &mut impl io::Write) -> io::Result<()> {
    let mut marks = marks(trace);
    let all = marks.len();
    let rest = marks.iter().filter(|mark| !mark.is_packet()).count();
    let (mut packets, room) = (0, MARKS.saturating_sub(rest));
    marks.retain(|mark| {
        packets += usize::from(mark.is_packet());
        !mark.is_packet() || packets <= room
    });
    marks.truncate(MARKS);
    let lanes: Vec<Place> = names.all().map(|(place, ..)| place).collect();
    let lane = |place: Place| LANE * (lanes.iter().position(|p| *p == place).map_or(0.3, |i| i as f64 + 1.0));
    let end = marks.iter().map(Mark::ends).max().unwrap_or(1).max(1);
    let x = |at: u64| MARGIN + (WIDTH - MARGIN - 20.0) * (at as f64 / end as f64);
    let height = LANE * (lanes.len() as f64 + 1.0);
    writeln!(out, "<h2>What happened, from 0 to {} ms</h2>", milliseconds(Instant(end)))?;
    writeln!(
        out,
        "<p>Grey: packets that arrived, by relay or direct. <span class=\"wrong\">Red</span>: dropped, or broken."
    )?;
    writeln!(
        out,
        "<span class=\"fault\">Orange</span>: faults. <span class=\"sees\">Blue</span>: what applications saw."
    )?;
    writeln!(out, "Point at a mark to read it.")?;
    if marks.len() < all {
        writeln!(out, " {} of {all} are shown; timeline.txt has all.", marks.len())?;
    }
    writeln!(out, "</p><svg viewBox=\"0 0 {WIDTH} {height}\" xmlns=\"http://www.w3.org/2000/svg\">")?;
    for (place, name, ..) in names.all() {
        let y = lane(place);
        writeln!(out, "<text x=\"8\" y=\"{y:.0}\">{}</text>", escaped(name))?;
        writeln!(out, "<path d=\"M{MARGIN} {y:.0}H{WIDTH}\" stroke=\"#bbb\"/>")?;
    }
    for mark in &marks {
        match mark {
            Mark::Packet { from: (sent, a), to: (got, b), kind, id } => writeln!(
                out,
                "<path d=\"M{:.1} {:.0}L{:.1} {:.0}\" stroke=\"#999\" stroke-width=\".6\"><title>#{id} {kind}, {} to {} ms</title></path>",
                x(*sent),
                lane(*a),
                x(*got),
                lane(*b),
                milliseconds(Instant(*sent)),
                milliseconds(Instant(*got)),
            )?,
            Mark::Point { at, place, look, says } => writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.0}\" r=\"3.5\" fill=\"{look}\"><title>{} ms: {}</title></circle>",
                x(*at),
                lane(*place),
                milliseconds(Instant(*at)),
                escaped(says),
            )?,
            Mark::All { at, look, says } => writeln!(
                out,
                "<path d=\"M{:.1} 0V{height}\" stroke=\"{look}\" stroke-width=\"1.5\" stroke-dasharray=\"4 3\"><title>{} ms: {}</title></path>",
                x(*at),
                milliseconds(Instant(*at)),
                escaped(says),
            )?,
        }
    }
    writeln!(out, "</svg>")
}

impl Mark {
    fn ends(&self) -> u64 {
        match self {
            Self::Packet { to: (at, _), .. } | Self::Point { at, .. } | Self::All { at, .. } => *at,
        }
    }
}

/// What applications saw, and faults, in words.
fn story(trace: &Trace<'_>, names: &Names<'_>, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out, "<h2>The story</h2><table><tr><th>ms<th>who<th>what")?;
    let notes = trace.lines().filter_map(|line| if let Line::Note(note) = line { Some(note) } else { None });
    for note in notes.take(STORY) {
        let class = match note.kind {
            NoteKind::App => "sees",
            NoteKind::Fault => "fault",
            NoteKind::Broken => "wrong",
        };
        let who = note.who.map_or("-", |place| names.place(place));
        let (at, text) = (milliseconds(note.at), escaped(&note.text));
        writeln!(out, "<tr class=\"{class}\"><td>{at}<td>{}<td>{text}", escaped(who))?;
    }
    writeln!(out, "</table>")
}

/// As text of HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::{HostInfo, Log, NetInfo, Note, Topology};
    use super::*;

    #[test]
    fn a_page_says_what_broke_and_lets_no_text_be_markup() {
        let at = std::net::Ipv4Addr::LOCALHOST;
        let hosts = vec![HostInfo { name: "<b>".to_owned(), on: 0, address: at.into(), ipv6: None }];
        let nets = vec![NetInfo { name: "internet".to_owned(), behind: None, outside: None, ipv6: None }];
        let text = "\"quoted\" & <script>".to_owned();
        let notes = [Note { at: Instant(5), who: Some(Place::Host(0)), kind: NoteKind::App, text }];
        let trace = Trace { log: &Log::new(), topology: &Topology { hosts, nets }, notes: &notes };
        let files = [("timeline.txt", "every event")];
        let page = Page { title: "t", broken: Some("1 < 2"), replay: "again", digest: 7, files: &files };
        let mut out = Vec::new();
        write(&trace, &page, &mut out).expect("memory takes it");
        let page = String::from_utf8(out).expect("text");
        assert!(page.contains("1 &lt; 2") && page.contains("&lt;script&gt;") && page.contains("&lt;b&gt;"), "{page}");
        assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("<b></"), "{page}");
        assert!(page.contains("href=\"timeline.txt\""));
    }
}
