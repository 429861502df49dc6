//! The `server` example on tokio. `cargo run -p posse --features tokio --example async_server -- 127.0.0.1:7777`
use posse::asynchronous::Server;
use posse::{GroupId, GroupOptions, ServerEvent, ServerOptions, os_seed};
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7777".into()).parse()?;
    let (server, mut events) = Server::bind(addr, ServerOptions::new(os_seed()?, 1)).await?;
    let key: String = server.public_key().iter().map(|b| format!("{b:02x}")).collect();
    println!("cargo run -p posse --example client -- {} {key} YOUR_NAME", server.local_addr());
    let mut lobby: Option<GroupId> = None;
    while let Some(event) = events.next().await {
        println!("{event:?}");
        match event {
            ServerEvent::LoginRequested { login, token, .. } => {
                let peer = server.accept(login, &token, b"welcome")?;
                match lobby {
                    Some(group) => server.join_group(peer, group, b"")?,
                    None => lobby = Some(server.create_group(&[peer], GroupOptions::default())?),
                }
            }
            ServerEvent::GroupEnded(_) => lobby = None,
            _ => {}
        }
    }
    Ok(())
}
