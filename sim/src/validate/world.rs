//! A whole world: no packet is unaccounted for, and it repeats to the bit.

use super::Figure;
use crate::machines::{EchoClient, EchoServer};
use crate::{Bursts, Chance, Link, Nat, World};
use posse_core::Duration;

const MS: Duration = Duration::from_millis(1);

pub(super) fn figures(seed: u64) -> Vec<Figure> {
    let (unaccounted, looks, digest) = everything_at_once(seed);
    let (_, _, again) = everything_at_once(seed);
    let hex = |digest| format!("{digest:032x}");
    vec![
        Figure::exactly(format!("packets unaccounted for, over {looks} looks"), unaccounted, 0, ""),
        Figure::exactly("digest of the same run again", hex(again), hex(digest), ""),
    ]
}

/// Every effect and every fault, and each millisecond a look at the accounts. The worst difference, the looks, the digest.
fn everything_at_once(seed: u64) -> (u64, u32, u128) {
    let mut world = World::new(seed);
    let bad = Link::millis(5)
        .loss(Chance::percent(2))
        .bursts(Bursts::mean(50_000, 3).unwrap_or_default())
        .jitter(3 * MS)
        .reorder(Chance::percent(5), 4 * MS)
        .duplicate(Chance::percent(5))
        .corrupt(Chance::percent(1))
        .rate(2_000_000, 20_000)
        .mtu(1_200);
    let server = world.host(world.internet(), Link::millis(5), |_, _, _| EchoServer::new());
    let (to, home) = (world.addr(server), world.home(Nat::home().lifetime(50 * MS)));
    let internet = world.internet();
    let mut clients = Vec::new();
    for size in [100, 1_100, 1_190] {
        let make = move |now, _, seed| EchoClient::new(now, to, seed, (900, size), 2 * MS);
        clients.push(world.host(home, bad, make));
    }
    let (mut worst, mut looks) = (0, 0);
    for ms in 0..2_000u32 {
        match ms {
            200 => world.cut(home),
            260 => world.heal(home),
            400 => world.reboot_nat(home),
            600 => world.pause(server),
            700 => world.resume(server),
            800 => world.reboot_nat_with_new_address(home),
            1_000 => world.set_link(clients[0], bad.rate(200_000, 20_000)),
            1_200 => world.set_link(clients[0], bad),
            1_300 => world.jump_clock(clients[1], 20_000_000),
            1_400 => world.move_host(clients[2], internet, bad),
            1_500 => world.restart(server),
            _ => {}
        }
        let stuck = world.run_for(MS).is_err();
        let c = world.counters();
        let (came, went) = (c.sent + c.duplicated, c.delivered + c.dropped_total() + world.in_flight());
        worst = worst.max(came.abs_diff(went)).max(u64::from(stuck));
        looks += 1;
    }
    (worst, looks, world.digest())
}
