//! The `client` example on tokio: joins the lobby of either server and greets whoever is or comes there.
use posse::asynchronous::Client;
use posse::{Channel, ClientEvent, ClientOptions};
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, key, name] = &arguments[..] else { return Err("usage: async_client ADDRESS KEY NAME".into()) };
    let byte = |i: usize| key.get(2 * i..2 * i + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let key: Vec<u8> = (0..32).map_while(byte).collect();
    let key = key.try_into().map_err(|_| "KEY is 64 hexadecimal digits")?;
    let (net, mut events) = Client::connect(ClientOptions::new(server.parse()?, key, 1).token(name.as_str())).await?;
    while let Some(event) = events.next().await {
        match event {
            ClientEvent::MemberJoined { member, .. } if Some(member) != net.id() => {
                net.send(member, Channel::reliable(0), format!("hello from {name}").as_bytes()).await?;
            }
            ClientEvent::Message(m) => println!("{:?}: {}", m.from, String::from_utf8_lossy(events.payload())),
            ClientEvent::LoginFailed(why) => return Err(format!("login failed: {why:?}").into()),
            ClientEvent::Ended(why) => return Err(format!("session ended: {why:?}").into()),
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
