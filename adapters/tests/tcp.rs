//! A server's TCP port.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse::{ServeError, Server, ServerOptions};
use std::net::TcpListener;

#[test]
fn a_tcp_port_that_is_taken_is_named() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at = taken.local_addr().unwrap();
    let Err(refused) = Server::bind(at, ServerOptions::new([9; 32], 7)) else { panic!("it was bound") };
    assert!(matches!(refused, ServeError::Bind(_)));
    assert!(refused.to_string().starts_with(&format!("TCP port {} on 127.0.0.1 is taken", at.port())), "{refused}");
    let mut without = ServerOptions::new([9; 32], 7);
    without.tcp = false;
    assert!(Server::bind(at, without).is_ok());
}
