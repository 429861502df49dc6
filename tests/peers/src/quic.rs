//! quinn: one stream of one connection, on tokio, each end a thread of its own.

use crate::figures::{Flood, Trips, cpu};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn run<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio works here").block_on(what)
}

/// A server's endpoint needs the runtime of the thread that drives it, hence only what it is made of is shared.
struct Keys {
    server: ServerConfig,
    client: ClientConfig,
}

fn keys() -> Keys {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a key can be made");
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = ServerConfig::with_single_cert(vec![certificate.clone()], key.into()).expect("the key is good");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("the certificate is good");
    let client = ClientConfig::with_root_certificates(Arc::new(roots)).expect("the roots are good");
    Keys { server, client }
}

async fn accept(endpoint: &Endpoint) -> Connection {
    endpoint.accept().await.expect("the endpoint is open").await.expect("the handshake succeeds")
}

async fn connect(client: ClientConfig, to: SocketAddr) -> (Endpoint, Connection) {
    let mut endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).expect("loopback is there");
    endpoint.set_default_client_config(client);
    let connection =
        endpoint.connect(to, "localhost").expect("the name is good").await.expect("the handshake succeeds");
    (endpoint, connection)
}

/// A flood of writes of `size` bytes on one stream.
pub fn flood(length: Duration, size: usize) -> Flood {
    let keys = keys();
    let (over, bytes) = (AtomicBool::new(false), AtomicU64::new(0));
    let (tell, told) = std::sync::mpsc::channel();
    let server = keys.server;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            run(async {
                let endpoint = Endpoint::server(server, ([127, 0, 0, 1], 0).into()).expect("loopback is there");
                let _ = tell.send(endpoint.local_addr().expect("it is bound"));
                let connection = accept(&endpoint).await;
                let mut stream = connection.accept_uni().await.expect("a stream is opened");
                while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX, true).await {
                    bytes.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
                }
            });
        });
        let to = told.recv().expect("the server begins");
        let (client, over) = (keys.client, &over);
        scope.spawn(move || {
            run(async {
                let (endpoint, connection) = connect(client, to).await;
                let mut stream = connection.open_uni().await.expect("a stream is allowed");
                let message = vec![7; size];
                while !over.load(Ordering::Relaxed) && stream.write_all(&message).await.is_ok() {}
                connection.close(0_u32.into(), b"");
                // The other end is to hear of it.
                endpoint.wait_idle().await;
            });
        });
        while bytes.load(Ordering::Relaxed) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(length / 4);
        let (start, before, had) = (Instant::now(), cpu(), bytes.load(Ordering::Relaxed));
        std::thread::sleep(length);
        let got = bytes.load(Ordering::Relaxed) - had;
        let flood = Flood::new(got, got / size as u64, start.elapsed(), cpu() - before);
        over.store(true, Ordering::Relaxed);
        flood
    })
}

/// 64 bytes there and back on one stream.
pub fn ping(length: Duration) -> Trips {
    let keys = keys();
    let (tell, told) = std::sync::mpsc::channel();
    let server = keys.server;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            run(async {
                let endpoint = Endpoint::server(server, ([127, 0, 0, 1], 0).into()).expect("loopback is there");
                let _ = tell.send(endpoint.local_addr().expect("it is bound"));
                let connection = accept(&endpoint).await;
                let (mut send, mut receive) = connection.accept_bi().await.expect("a stream is opened");
                let mut bytes = [0; 64];
                while receive.read_exact(&mut bytes).await.is_ok() && send.write_all(&bytes).await.is_ok() {}
            });
        });
        let to = told.recv().expect("the server begins");
        run(async {
            let (endpoint, connection) = connect(keys.client, to).await;
            let (mut send, mut receive) = connection.open_bi().await.expect("a stream is allowed");
            let (mut trips, start, mut bytes) = (Vec::new(), Instant::now(), [7; 64]);
            while start.elapsed() < length {
                let sent = Instant::now();
                send.write_all(&bytes).await.expect("the connection stands");
                receive.read_exact(&mut bytes).await.expect("the connection stands");
                trips.push(sent.elapsed());
            }
            connection.close(0_u32.into(), b"");
            endpoint.wait_idle().await;
            Trips::new(trips)
        })
    })
}
