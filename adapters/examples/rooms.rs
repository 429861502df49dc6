//! A room of the stock server in a game's loop: who comes, who goes, what they say.
//! `posse serve --listen 127.0.0.1:7777`, then `cargo run -p posse --example rooms -- 127.0.0.1:7777 KEY lobby ann`
use posse::rooms::{self, Room, RoomEvent};
use posse::{Channel, Client, ClientOptions};
use std::{error::Error, time::Duration};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, key, room, name] = &arguments[..] else { return Err("usage: rooms ADDRESS KEY ROOM NAME".into()) };
    let byte = |i: usize| key.get(2 * i..2 * i + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let key: Vec<u8> = (0..32).map_while(byte).collect();
    let key = key.try_into().map_err(|_| "KEY is 64 hexadecimal digits")?;
    let mut room = Room::new(room.as_str(), name.as_str())?;
    let mut net = Client::connect(ClientOptions::new(server.parse()?, key, rooms::APP).token(room.token()))?;
    let mut payload = Vec::new();
    loop {
        net.update()?;
        while let Some(event) = net.next_event(&mut payload) {
            match room.hear(event) {
                RoomEvent::Joined { peer } => {
                    println!("{} is here", room.name_of(peer));
                    net.send(peer, Channel::reliable(0), format!("hello from {name}").as_bytes())?;
                }
                RoomEvent::Left { name, .. } => println!("{name} has left"),
                RoomEvent::Message(m) => println!("{}: {}", room.name_of(m.from), String::from_utf8_lossy(&payload)),
                RoomEvent::Refused(why) => return Err(why.into()),
                RoomEvent::LoginFailed(why) => return Err(format!("login failed: {why:?}").into()),
                RoomEvent::Ended(why) => return Err(format!("session ended: {why:?}").into()),
                _ => {}
            }
        }
        net.flush();
        net.wait(Duration::from_millis(16));
    }
}
