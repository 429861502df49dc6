//! The scenario file: whatever text it is, it is refused with a place, or every index in it exists.

use posse_sim::scenario::{
    Action, ClientIndex, Expect, GroupIndex, Host, LinkOf, NatIndex, Network, Pairs, PolicyOf, Scenario, Target,
};

/// Reads a scenario.
pub fn scenario(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Scenario::parse("fuzz.toml", text) {
        Err(bad) => assert!(bad.to_string().contains("fuzz.toml"), "{bad}"),
        Ok(scenario) => {
            assert_eq!(Scenario::parse("fuzz.toml", text).as_ref(), Ok(&scenario), "the same text, the same scenario");
            Names(&scenario).check();
        }
    }
}

struct Names<'s>(&'s Scenario);

impl Names<'_> {
    fn check(&self) {
        for (n, nat) in self.0.nats.iter().enumerate() {
            self.network(nat.behind);
            assert!(
                !matches!(nat.behind, Network::Behind(NatIndex(i)) if i >= n),
                "a NAT stands after what it is behind"
            );
        }
        self.0.clients.iter().for_each(|client| self.network(client.on));
        self.0.steps.iter().for_each(|step| self.action(&step.action));
        self.0.expectations.iter().for_each(|expectation| self.expect(&expectation.expect));
        // The bounds are sums of what the file says.
        let hosts = || (0..self.0.clients.len()).map(|i| Host::Client(ClientIndex(i))).chain([Host::Server]);
        for from in hosts() {
            for to in hosts() {
                let _ = (self.0.round_trip(from, to), self.0.first_message_bound(from, to));
                assert!(!self.0.host_name(from).is_empty());
            }
        }
    }

    fn action(&self, action: &Action) {
        match action {
            Action::CreateGroup { group, members, .. } => {
                self.group(*group);
                members.iter().for_each(|client| self.client(*client));
            }
            Action::Join { group, client, .. } | Action::Leave { group, client } => {
                self.group(*group);
                self.client(*client);
            }
            Action::DestroyGroup { group } | Action::SetPolicy { of: PolicyOf::Group(group), .. } => self.group(*group),
            Action::SetPolicy { of: PolicyOf::Pair(a, b), .. } => {
                self.client(*a);
                self.client(*b);
            }
            Action::Disconnect { client } | Action::Logout { client } => self.client(*client),
            Action::Send(sending) => {
                self.host(sending.from);
                match sending.to {
                    Target::Host(host) => self.host(host),
                    Target::Group(group) => self.group(group),
                }
            }
            Action::Cut { link, .. } | Action::BlockUdp { link, .. } | Action::SetLink { of: link, .. } => match link {
                LinkOf::Host(host) => self.host(*host),
                LinkOf::Nat(nat) => self.nat(*nat),
            },
            Action::Reboot { nat, .. } => self.nat(*nat),
            Action::Pause { host, .. } | Action::ClockJump { host, .. } | Action::Restart { host } => self.host(*host),
            Action::Move { client, to, .. } => {
                self.client(*client);
                self.network(*to);
            }
            Action::CutDirect { pair: (a, b), .. } => {
                self.client(*a);
                self.client(*b);
            }
        }
    }

    fn expect(&self, expect: &Expect) {
        match expect {
            Expect::Direct { pairs, .. } | Expect::Relayed { pairs, .. } => {
                if let Pairs::One(a, b) = pairs {
                    self.client(*a);
                    self.client(*b);
                }
            }
            Expect::FirstMessage { from, to, .. } => {
                self.host(*from);
                self.host(*to);
            }
            Expect::Switches { pair: (a, b), .. } => {
                self.client(*a);
                self.client(*b);
            }
            Expect::Members { group, members } => {
                self.group(*group);
                members.iter().for_each(|client| self.client(*client));
            }
            Expect::Delay { from, .. } => self.host(*from),
            Expect::SessionEnds { client, .. } => self.client(*client),
            Expect::Delivery { .. } | Expect::Joins { .. } => {}
        }
    }

    fn network(&self, network: Network) {
        if let Network::Behind(nat) = network {
            self.nat(nat);
        }
    }

    fn host(&self, host: Host) {
        if let Host::Client(client) = host {
            self.client(client);
        }
    }

    fn client(&self, client: ClientIndex) {
        assert!(client.0 < self.0.clients.len());
    }

    fn nat(&self, nat: NatIndex) {
        assert!(nat.0 < self.0.nats.len());
    }

    fn group(&self, group: GroupIndex) {
        assert!(group.0 < self.0.groups.len());
    }
}
