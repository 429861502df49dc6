//! The TCP leg on real sockets: where UDP to the server's port is blocked or dies, and back.

use crate::adapter::{Adapter, AnyClient, AnyServer};
use crate::scene::{APP, CHAT, PATIENCE, Scene, options};
use posse::{ClientEvent, Leg, LegReason, LoginFailure, PathPolicy, ServerEvent, ServerOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A firewall before a server, for one client: passes TCP on, and UDP of the same port number as long as it is told to.
struct Firewall {
    addr: SocketAddr,
    udp: Arc<AtomicBool>,
}

impl Firewall {
    fn before(server: SocketAddr, udp: bool) -> Self {
        let (listener, front) = Self::one_port_of_both();
        let (addr, udp) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(udp)));
        std::thread::spawn(move || {
            for from in listener.incoming().map_while(Result::ok) {
                let Ok(onward) = TcpStream::connect(server) else { continue };
                let pass = |mut a: TcpStream, mut b: TcpStream| {
                    std::thread::spawn(move || {
                        let _ = io::copy(&mut a, &mut b);
                        let _ = b.shutdown(Shutdown::Write);
                    });
                };
                pass(from.try_clone().unwrap(), onward.try_clone().unwrap());
                pass(onward, from);
            }
        });
        let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        back.connect(server).unwrap();
        let (front_2, back_2, udp_2) = (front.try_clone().unwrap(), back.try_clone().unwrap(), udp.clone());
        let client = Arc::new(std::sync::Mutex::new(None));
        let client_2 = client.clone();
        std::thread::spawn(move || {
            let mut datagram = [0; 2048];
            while let Ok((len, from)) = front.recv_from(&mut datagram) {
                *client.lock().unwrap() = Some(from);
                if udp_2.load(SeqCst) {
                    let _ = back.send(&datagram[..len]);
                }
            }
        });
        let udp_3 = udp.clone();
        std::thread::spawn(move || {
            let mut datagram = [0; 2048];
            loop {
                // A server that has gone is told by an error, which is no reason to stop.
                let Ok(len) = back_2.recv(&mut datagram) else { continue };
                let to = *client_2.lock().unwrap();
                if let (true, Some(to)) = (udp_3.load(SeqCst), to) {
                    let _ = front_2.send_to(&datagram[..len], to);
                }
            }
        });
        Self { addr, udp }
    }

    fn one_port_of_both() -> (TcpListener, UdpSocket) {
        let both = (0..100).find_map(|_| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
            let udp = UdpSocket::bind(listener.local_addr().ok()?).ok()?;
            Some((listener, udp))
        });
        both.expect("a port that is free for both")
    }
}

/// A client behind a firewall and one without, and the firewall.
fn scene<A: Adapter>(udp: bool) -> (Scene<A>, Firewall) {
    let mut scene = Scene::<A>::new(0);
    let server = scene.server();
    let firewall = Firewall::before(server.local_addr(), udp);
    let mut behind = options(server);
    behind.server = firewall.addr;
    // Whatever it says goes by the leg.
    behind.policy = PathPolicy::RELAY_ONLY;
    let clients = [behind, options(server)].map(|options| Some(A::connect(options).unwrap()));
    scene.clients.extend(clients);
    scene.at_clients.resize_with(2, Vec::new);
    scene.run(|s| s.clients.iter().flatten().all(|c| c.id().is_some()));
    (scene, firewall)
}

fn legs<A: Adapter>(scene: &Scene<A>, client: usize) -> Vec<(Leg, LegReason)> {
    let leg = |event: &ClientEvent| match event {
        ClientEvent::LegChanged { leg, why } => Some((*leg, *why)),
        _ => None,
    };
    scene.at_clients[client].iter().filter_map(|(event, _)| leg(event)).collect()
}

fn numbers<A: Adapter>(scene: &Scene<A>, client: usize) -> Vec<u8> {
    scene.texts(client).iter().map(|text| text[0]).collect()
}

pub(crate) fn a_client_without_udp_and_one_with_it_converse<A: Adapter>() {
    let (mut scene, _firewall) = scene::<A>(false);
    let group = scene.group();
    // More than the leg's queue and the connection take at once.
    let large: Vec<_> = (0..40_000u32).map(|n| n as u8).collect();
    for n in 0..20u8 {
        for client in 0..2 {
            let mut text = large.clone();
            text[0] = n;
            text.truncate(if n % 2 == 0 { 10 } else { text.len() });
            assert!(scene.client(client).send_within(PATIENCE, group.into(), CHAT, &text));
            scene.run_for(Duration::from_millis(2));
        }
    }
    scene.run(|s| (0..2).all(|client| s.texts(client).len() == 20));
    for client in 0..2 {
        assert_eq!(numbers(&scene, client), (0..20).collect::<Vec<_>>());
        assert!(scene.texts(client).iter().skip(1).step_by(2).all(|text| text[1..] == large[1..]));
    }
    assert_eq!((legs(&scene, 0), legs(&scene, 1)), (vec![(Leg::Tcp, LegReason::UdpSilent)], vec![]));
    let (ids, seen) = (scene.ids(), |e: &ServerEvent| matches!(e, ServerEvent::LegChanged { leg: Leg::Tcp, .. }));
    assert!(scene.at_server.iter().any(|(event, _)| seen(event)));
    let server = scene.server();
    assert_eq!((server.leg(ids[0]), server.leg(ids[1])), (Some(Leg::Tcp), Some(Leg::Udp)));
    assert_eq!(scene.client(0).leg(), (Leg::Tcp, Some(LegReason::UdpSilent)));
    scene.client(0).close();
    scene.run(|s| s.saw_leave(1, ids[0]));
}

pub(crate) fn udp_that_dies_and_returns_costs_no_message<A: Adapter>() {
    let (mut scene, firewall) = scene::<A>(true);
    let group = scene.group();
    let begin = Instant::now();
    let mut sent = 0;
    // On as long as it takes to be back: a message each 10 ms, both ways.
    while !legs(&scene, 0).iter().any(|(leg, _)| *leg == Leg::Udp) {
        assert!(begin.elapsed() < PATIENCE, "not back by UDP: {:?}", legs(&scene, 0));
        firewall.udp.store(sent < 10 || !legs(&scene, 0).is_empty(), SeqCst);
        for client in 0..2 {
            assert!(scene.client(client).send_within(PATIENCE, group.into(), CHAT, &[sent as u8; 100]));
        }
        sent += 1;
        scene.run_for(Duration::from_millis(10));
    }
    scene.run(|s| (0..2).all(|client| s.texts(client).len() == sent));
    for client in 0..2 {
        assert!(numbers(&scene, client).into_iter().eq((0..sent).map(|n| n as u8)), "once each, and in order");
    }
    assert_eq!(legs(&scene, 0), [(Leg::Tcp, LegReason::UdpSilent), (Leg::Udp, LegReason::UdpReturned)]);
    assert_eq!(legs(&scene, 1), []);
}

pub(crate) fn who_only_opens_connections_is_hung_up_on_and_keeps_nobody_out<A: Adapter>() {
    let mut options = ServerOptions::new([9; 32], APP);
    options.limits.max_handshakes = 4;
    options.timers.handshake = Duration::from_millis(300);
    let server = A::bind((Ipv4Addr::LOCALHOST, 0).into(), options).unwrap();
    let addr = server.local_addr();
    let mut scene = Scene::<A>::new(0);
    scene.server = Some(server);
    let mut idle: Vec<_> = (0..10).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let nonsense = TcpStream::connect(addr).and_then(|mut it| it.write_all(&[0xff; 64]).map(|()| it)).unwrap();
    idle.push(nonsense);
    let begin = Instant::now();
    while !idle.is_empty() {
        assert!(begin.elapsed() < PATIENCE, "{} are still open", idle.len());
        scene.run_for(Duration::from_millis(5));
        idle.retain_mut(|stream| {
            stream.set_nonblocking(true).unwrap();
            matches!(stream.read(&mut [0; 8]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
        });
    }
    assert!(scene.server().streams_refused() >= 6, "beyond four at once");
    // Whoever comes then finds the door open.
    let firewall = Firewall::before(addr, false);
    let mut behind = crate::scene::options(scene.server());
    behind.server = firewall.addr;
    scene.clients.push(Some(A::connect(behind).unwrap()));
    scene.at_clients.push(Vec::new());
    scene.run(|s| s.clients.iter().flatten().all(|c| c.id().is_some()));
}

pub(crate) fn a_server_without_tcp_is_not_reached_by_it<A: Adapter>() {
    let mut without = ServerOptions::new([9; 32], APP);
    without.tcp = false;
    let server = A::bind((Ipv4Addr::LOCALHOST, 0).into(), without).unwrap();
    assert!(TcpStream::connect(server.local_addr()).is_err());
    let firewall = Firewall::before(server.local_addr(), false);
    let mut behind = options(&server);
    behind.server = firewall.addr;
    behind.timers.handshake = Duration::from_millis(900);
    let mut scene = Scene::<A>::new(0);
    scene.server = Some(server);
    scene.clients.push(Some(A::connect(behind).unwrap()));
    scene.at_clients.push(Vec::new());
    let failed = ClientEvent::LoginFailed(LoginFailure::NoAnswer);
    scene.run(|s| s.at_clients[0].iter().any(|(event, _)| *event == failed));
}
