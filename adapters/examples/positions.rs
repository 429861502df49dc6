//! Positions at 60 Hz in a room of the stock server: only the newest counts, so they go on a sequenced channel, where a
//! newer one takes the place of an older one that has not left yet, and none is ever delivered after a newer one.
//! `cargo run -p posse --example positions -- 127.0.0.1:7777 KEY NAME [SECONDS]`
use posse::rooms::{self, Room, RoomEvent};
use posse::{Channel, Client, ClientOptions, PeerId, SendOptions};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

const POSITIONS: Channel = Channel::sequenced(0);
const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (server, key, name, seconds) = match &arguments[..] {
        [server, key, name] => (server, key, name, 10.0),
        [server, key, name, seconds] => (server, key, name, seconds.parse()?),
        _ => return Err("usage: positions ADDRESS KEY NAME [SECONDS]".into()),
    };
    let byte = |i: usize| key.get(2 * i..2 * i + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let key: Vec<u8> = (0..32).map_while(byte).collect();
    let key = key.try_into().map_err(|_| "KEY is 64 hexadecimal digits")?;
    let mut room = Room::new("positions", name.as_str())?;
    let mut net = Client::connect(ClientOptions::new(server.parse()?, key, rooms::APP).token(room.token()))?;

    let start = Instant::now();
    let (mut due, mut payload) = (start, Vec::new());
    let mut world: BTreeMap<PeerId, (f32, f32, u64)> = BTreeMap::new();
    while start.elapsed().as_secs_f32() < seconds {
        net.update()?;
        while let Some(event) = net.next_event(&mut payload) {
            match room.hear(event) {
                RoomEvent::Message(m) => {
                    let Some((x, y)) = read(&payload) else { continue };
                    let updates = world.get(&m.from).map_or(0, |(.., updates)| *updates);
                    world.insert(m.from, (x, y, updates + 1));
                }
                RoomEvent::Left { peer, name } => {
                    world.remove(&peer);
                    println!("{name} has left");
                }
                RoomEvent::Refused(why) => return Err(why.into()),
                RoomEvent::LoginFailed(why) => return Err(format!("login failed: {why:?}").into()),
                RoomEvent::Ended(why) => return Err(format!("session ended: {why:?}").into()),
                _ => {}
            }
        }
        if Instant::now() >= due {
            due += FRAME;
            // Each player runs in circles.
            let angle = start.elapsed().as_secs_f32();
            let (x, y) = (angle.cos() * 10.0, angle.sin() * 10.0);
            let bytes = [x.to_be_bytes(), y.to_be_bytes()].concat();
            if let Some(group) = room.group() {
                // An unreliable message finds room always; there may be nobody to send to.
                net.send_with(group, POSITIONS, &bytes, SendOptions::default().replaces(0))?;
            }
        }
        net.flush();
        net.wait(due.saturating_duration_since(Instant::now()));
    }
    for (peer, (x, y, updates)) in &world {
        println!("{} at {x:.1}, {y:.1} after {updates} updates", room.name_of(*peer));
    }
    Ok(())
}

fn read(bytes: &[u8]) -> Option<(f32, f32)> {
    let (x, rest) = bytes.split_first_chunk()?;
    Some((f32::from_be_bytes(*x), f32::from_be_bytes(*rest.first_chunk()?)))
}
