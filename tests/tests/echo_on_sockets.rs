//! The simulator's echo machines, unchanged, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse::{Driver, Duration, Instant};
use posse_sim::machines::{EchoClient, EchoServer};
use std::net::SocketAddr;
use std::time::Instant as Clock;

const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn server() -> Driver<EchoServer> {
    Driver::bind(ANY_PORT.into(), EchoServer::new()).unwrap()
}

fn client(server: SocketAddr, pings: u64, interval: Duration) -> Driver<EchoClient> {
    let machine = EchoClient::new(Instant::ZERO, server, [7; 32], (pings, 1200), interval);
    Driver::bind(ANY_PORT.into(), machine).unwrap()
}

/// Runs both ends, each as a program of its own would, until the client has `count` echoes.
fn exchange(server: &mut Driver<EchoServer>, client: &mut Driver<EchoClient>, count: usize) {
    let end = Clock::now() + Duration::from_secs(5);
    while client.machine().received().len() < count {
        assert!(Clock::now() < end, "{} of {count} echoes in time", client.machine().received().len());
        client.update().unwrap();
        server.update().unwrap();
        client.wait(Duration::from_millis(1));
    }
}

#[test]
fn every_ping_of_a_burst_comes_back_once_and_in_order() {
    const COUNT: u64 = 400;
    let mut server = server();
    let mut client = client(server.local_addr(), COUNT, Duration::ZERO);
    exchange(&mut server, &mut client, COUNT as usize);
    let numbers: Vec<_> = client.machine().received().iter().map(|(_, n)| *n).collect();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
    assert_eq!(client.stats().received_bytes, COUNT * 1200);
}

#[test]
fn paced_pings_leave_when_the_machine_says_and_the_driver_sleeps_between() {
    const COUNT: u64 = 10;
    const INTERVAL: Duration = Duration::from_millis(10);
    let mut server = server();
    let mut client = client(server.local_addr(), COUNT, INTERVAL);
    let echo = std::thread::spawn(move || {
        let end = Clock::now() + Duration::from_secs(5);
        loop {
            server.update().unwrap();
            if server.stats().sent_bytes == COUNT * 1200 || Clock::now() > end {
                return server.stats();
            }
            server.wait(Duration::from_secs(1));
        }
    });
    let end = Clock::now() + Duration::from_secs(5);
    loop {
        client.update().unwrap();
        if client.machine().received().len() == COUNT as usize || Clock::now() > end {
            break;
        }
        client.wait(Duration::from_secs(1));
    }
    let received = client.machine().received();
    assert_eq!(received.len(), COUNT as usize);
    for (at, number) in received {
        assert!(*at >= Instant::ZERO + INTERVAL * u32::try_from(*number).unwrap(), "{number} at {at:?}");
    }
    // One for each ping's time and one for each echo, and a few for the scheduler's whims.
    assert!(client.stats().wakeups <= 2 * COUNT + 5, "{:?}", client.stats());
    let server = echo.join().unwrap();
    assert!(server.wakeups <= COUNT + 5, "{server:?}");
}
