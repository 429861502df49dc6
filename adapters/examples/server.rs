//! A server that puts everyone into one lobby. `cargo run -p posse --example server -- 127.0.0.1:7777`
use posse::{GroupId, GroupOptions, Server, ServerEvent, ServerOptions, os_seed};
use std::{error::Error, time::Duration};

fn main() -> Result<(), Box<dyn Error>> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:7777".into()).parse()?;
    let mut server = Server::bind(addr, ServerOptions::new(os_seed()?, 1))?;
    let key: String = server.public_key().iter().map(|b| format!("{b:02x}")).collect();
    println!("cargo run -p posse --example client -- {} {key} YOUR_NAME", server.local_addr());
    let (mut lobby, mut payload): (Option<GroupId>, Vec<u8>) = (None, Vec::new());
    loop {
        server.update()?;
        while let Some(event) = server.next_event(&mut payload) {
            println!("{event:?}");
            match (event, lobby) {
                (ServerEvent::LoginRequested { login, token, .. }, lobby_now) => {
                    let peer = server.accept(login, &token, b"welcome")?;
                    match lobby_now {
                        Some(group) => server.join_group(peer, group, b"")?,
                        None => lobby = Some(server.create_group(&[peer], GroupOptions::default())?),
                    }
                }
                (ServerEvent::GroupEnded(_), _) => lobby = None,
                _ => {}
            }
        }
        server.flush();
        server.wait(Duration::from_secs(1));
    }
}
