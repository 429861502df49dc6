//! What no protocol can beat: propagation delays between the hosts of a scenario, and the bounds made of them.
//!
//! Only [`Direction::delay`](crate::Direction::delay) counts. Jitter, rates and losses come on top, so against these bounds a measurement is
//! never flattered.

use super::{ClientIndex, Host, NatIndex, Network, Scenario};
use crate::Link;
use posse_core::Duration;

impl Scenario {
    /// Propagation delay of a packet from one host to another by the shortest way: up to the nearest network that both
    /// are on or behind, and down again.
    pub fn one_way(&self, from: Host, to: Host) -> Duration {
        let (up, down) = (self.way_out(from), self.way_out(to));
        for (i, (_, network)) in up.iter().enumerate() {
            if let Some(j) = down.iter().position(|(_, other)| other == network) {
                let climb: Duration = up.iter().take(i + 1).map(|(link, _)| link.up.delay).sum();
                return climb + down.iter().take(j + 1).map(|(link, _)| link.down.delay).sum::<Duration>();
            }
        }
        Duration::ZERO
    }

    /// There and back.
    pub fn round_trip(&self, a: Host, b: Host) -> Duration {
        self.one_way(a, b) + self.one_way(b, a)
    }

    /// From the moment when the server puts `from` and `to` into a group until a first message can be there: the sender
    /// hears of it, and the message goes by the server.
    pub fn first_message_bound(&self, from: Host, to: Host) -> Duration {
        self.one_way(Host::Server, from) + self.by_server(from, to)
    }

    /// A message's way by the server's relay.
    pub fn by_server(&self, from: Host, to: Host) -> Duration {
        self.one_way(from, Host::Server) + self.one_way(Host::Server, to)
    }

    /// From the moment when the server puts two clients into a group until both can know that the direct path works both
    /// ways: the later of them hears of it, then one round trip between them.
    pub fn direct_bound(&self, a: ClientIndex, b: ClientIndex) -> Duration {
        let (a, b) = (Host::Client(a), Host::Client(b));
        self.one_way(Host::Server, a).max(self.one_way(Host::Server, b)) + self.round_trip(a, b)
    }

    /// The links from a host to the internet, each with the network that it leads to.
    fn way_out(&self, host: Host) -> Vec<(Link, Network)> {
        let mut network = match host {
            Host::Server => return vec![(self.server, Network::Internet)],
            Host::Client(ClientIndex(i)) => match self.clients.get(i) {
                Some(client) => (client.link, client.on),
                None => return Vec::new(),
            },
        };
        let mut way = vec![network];
        // Each NAT stands after the one it is behind, so this ends at the internet.
        while let Network::Behind(NatIndex(i)) = network.1 {
            let Some(nat) = self.nats.get(i) else { break };
            network = (nat.link, nat.behind);
            way.push(network);
        }
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
title = "delays"
duration = "1s"
[nat.carrier]
mapping = "endpoint-independent"
filtering = "endpoint-independent"
link = { delay = "10ms", down = { delay = "12ms" } }
[nat.left]
behind = "carrier"
mapping = "endpoint-independent"
filtering = "endpoint-independent"
link = { delay = "3ms" }
[server]
link = { delay = "40ms" }
[client.a]
behind = "left"
link = { delay = "1ms" }
[client.b]
behind = "left"
link = { delay = "2ms" }
[client.c]
behind = "carrier"
[client.d]
link = { delay = "5ms" }
"#;

    #[test]
    fn the_way_between_two_hosts_turns_at_the_nearest_common_network() {
        let s = Scenario::parse("delays", TEXT).unwrap();
        let ms = |a, b| s.one_way(Host::Client(ClientIndex(a)), Host::Client(ClientIndex(b))).as_millis();
        assert_eq!((ms(0, 1), ms(0, 2), ms(2, 0), ms(0, 3), ms(3, 0)), (3, 4, 4, 19, 21));
    }

    #[test]
    fn bounds_follow_from_the_ways() {
        let s = Scenario::parse("delays", TEXT).unwrap();
        let [a, d] = [ClientIndex(0), ClientIndex(3)];
        assert_eq!(s.first_message_bound(Host::Client(a), Host::Client(d)).as_millis(), 56 + 54 + 45);
        assert_eq!(s.direct_bound(a, d).as_millis(), 56 + 40);
    }
}
