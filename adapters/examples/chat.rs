//! A chat in a room of the stock server, on tokio: lines from the keyboard go to everyone, its end is a goodbye.
//! `posse serve --listen 127.0.0.1:7777`, then
//! `cargo run -p posse --features tokio --example chat -- 127.0.0.1:7777 KEY lobby ann`
use posse::asynchronous::Client;
use posse::rooms::{self, Room, RoomEvent};
use posse::{Channel, ClientOptions};
use std::error::Error;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, key, room, name] = &arguments[..] else { return Err("usage: chat ADDRESS KEY ROOM NAME".into()) };
    let byte = |i: usize| key.get(2 * i..2 * i + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let key: Vec<u8> = (0..32).map_while(byte).collect();
    let key = key.try_into().map_err(|_| "KEY is 64 hexadecimal digits")?;
    let mut room = Room::new(room.as_str(), name.as_str())?;
    let options = ClientOptions::new(server.parse()?, key, rooms::APP).token(room.token());
    let (net, mut events) = Client::connect(options).await?;
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        // Both are cancel safe: whichever is not ready loses nothing. Nobody is heard before this client is in the room.
        tokio::select! {
            event = events.next() => match event.map(|event| room.hear(event)) {
                Some(RoomEvent::Joined { peer }) => println!("{} is here", room.name_of(peer)),
                Some(RoomEvent::Left { name, .. }) => println!("{name} has left"),
                Some(RoomEvent::Message(m)) => {
                    println!("{}: {}", room.name_of(m.from), String::from_utf8_lossy(events.payload()));
                }
                Some(RoomEvent::Refused(why)) => return Err(why.into()),
                Some(RoomEvent::LoginFailed(why)) => return Err(format!("login failed: {why:?}").into()),
                Some(RoomEvent::Ended(why)) => return Err(format!("session ended: {why:?}").into()),
                Some(_) => {}
                None => return Err("the socket is broken".into()),
            },
            line = lines.next_line(), if room.group().is_some() => match (line?, room.group()) {
                (Some(line), Some(group)) => drop(net.send(group, Channel::reliable(0), line.as_bytes()).await?),
                _ => break,
            },
        }
    }
    // Delivers what was said before it logs out.
    net.close().await;
    Ok(())
}
