//! Posse inside a service on tokio that already does something else: here it answers on TCP, and how many players there are
//! is one more thing it can say. `cargo run -p posse --features tokio --example service -- 127.0.0.1:7777 127.0.0.1:8080`
use posse::ServerOptions;
use posse::asynchronous::{Server, ServerEvents};
use posse::os_seed;
use posse::rooms::{APP, RoomLimits, Rooms};
use std::error::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut addresses = std::env::args().skip(1);
    let udp = addresses.next().unwrap_or("127.0.0.1:7777".into()).parse()?;
    let (server, events) = Server::bind(udp, ServerOptions::new(os_seed()?, APP)).await?;
    let key: String = server.public_key().iter().map(|b| format!("{b:02x}")).collect();
    println!("public key {key}, on {}", server.local_addr());
    tokio::spawn(play(server.clone(), events));

    let listener = TcpListener::bind(addresses.next().unwrap_or("127.0.0.1:8080".into())).await?;
    println!("answers on {}", listener.local_addr()?);
    loop {
        let (mut stream, _) = listener.accept().await?;
        // Any task may hold a handle.
        let server = server.clone();
        tokio::spawn(async move {
            let answer = format!("{} players, {} groups\n", server.size().clients, server.size().groups);
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}

/// Puts everyone into the room that they name.
async fn play(mut server: Server, mut events: ServerEvents) {
    let mut rooms = Rooms::new(RoomLimits::default());
    while let Some(event) = events.next().await {
        if let Some(change) = rooms.handle(&event, &mut server) {
            println!("{change:?}");
        }
    }
}
