//! A scenario's network in the kernel: a namespace for the internet, one for the server, one for each client and router.
//!
//! The internet is a router between single addresses, so that nothing passes it unseen. A NAT of the scenario is a Linux
//! router with the nftables rules that behave that way, and inside it a bridge as its LAN. What Linux cannot be is refused: a
//! case that it cannot show is no case for this lab. Links carry what they can; delays are left out, for they need a
//! kernel with `netem`.

use crate::kernel::{Namespaces, forget_flows, ip, nft, set};
use posse_sim::nat::{Allocation, Filtering, Firewall, Mapping, Nat};
use posse_sim::scenario::{self, ClientIndex, LinkOf, NatIndex, Network, Scenario, ServerDoors};
use posse_sim::{Chance, Families, Link};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The life of a mapping unless a scenario says otherwise, which leaves the kernel at its own.
const USUAL_LIFETIME: Duration = Duration::from_secs(120);

/// A kind of address. Nobody translates those of IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What a host of a scenario has, IPv4 first; the network has all that any host has.
fn families(of: Families) -> &'static [Family] {
    match of {
        Families::V4 => &[Family::V4],
        Families::Both => &[Family::V4, Family::V6],
        Families::V6 => &[Family::V6],
    }
}

/// What the network of a scenario has.
pub(crate) fn network(scenario: &Scenario) -> Families {
    let all_v6 = scenario.clients.iter().all(|client| client.addresses == Families::V6);
    match scenario.ipv6 {
        false => Families::V4,
        true if all_v6 => Families::V6,
        true => Families::Both,
    }
}

/// See the module's text.
pub(crate) struct Lab {
    namespaces: Namespaces,
    pub(crate) families: Families,
    internet: String,
    attached: u16,
    pub(crate) server: Host,
    /// The server's other address.
    pub(crate) second: Option<IpAddr>,
    routers: Vec<Router>,
    pub(crate) clients: Vec<Host>,
}

/// Something with an address.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) namespace: String,
    pub(crate) address: IpAddr,
}

struct Router {
    host: Host,
    /// The address under which the internet sees what is inside.
    public: IpAddr,
    members: u16,
}

impl Lab {
    pub(crate) fn build(case: &str, scenario: &Scenario) -> Result<Self, String> {
        let all = network(scenario);
        let mut namespaces = Namespaces::new(case);
        let internet = namespaces.add("internet")?;
        forward(&internet, all)?;
        nft(&internet, INTERNET)?;
        let nobody = Host { namespace: String::new(), address: Family::V4.public(0) };
        let mut lab = Self {
            namespaces,
            families: all,
            internet,
            attached: 0,
            server: nobody,
            second: None,
            routers: Vec::new(),
            clients: Vec::new(),
        };
        lab.server = lab.host("server", Network::Internet, all, &scenario.server)?;
        if scenario.doors == ServerDoors::Address {
            lab.second = Some(lab.second_address()?);
        }
        for spec in &scenario.nats {
            lab.router(&spec.name, spec.behind, &spec.nat, &spec.link)?;
        }
        for spec in &scenario.clients {
            let host = lab.host(&spec.name, spec.on, if scenario.ipv6 { spec.addresses } else { all }, &spec.link)?;
            lab.clients.push(host);
        }
        Ok(lab)
    }

    /// A router restarts.
    pub(crate) fn reboot(&self, NatIndex(nat): NatIndex) -> Result<(), String> {
        self.routers.get(nat).map_or(Ok(()), |router| forget_flows(&router.host.namespace))
    }

    /// From now on nothing passes, or everything, between the public addresses of two clients.
    pub(crate) fn block(
        &self,
        scenario: &Scenario,
        (a, b): (ClientIndex, ClientIndex),
        block: bool,
    ) -> Result<(), String> {
        let public = |ClientIndex(i): ClientIndex| match scenario.clients.get(i).map(|c| c.on) {
            Some(Network::Behind(NatIndex(nat))) => self.routers.get(nat).map(|router| router.public),
            _ => self.clients.get(i).map(|host| host.address),
        };
        let (Some(a), Some(b)) = (public(a), public(b)) else { return Ok(()) };
        let word = if block { "add" } else { "delete" };
        nft(&self.internet, &format!("{word} element inet internet blocked {{ {a} . {b}, {b} . {a} }}"))
    }

    /// From now on a firewall lets no datagram pass, or all again: at a host, or at a router whatever goes through it.
    pub(crate) fn block_udp(&self, at: LinkOf, block: bool) -> Result<(), String> {
        let (namespace, hooks) = match at {
            LinkOf::Host(scenario::Host::Server) => (Some(&self.server.namespace), ["input", "output"]),
            LinkOf::Host(scenario::Host::Client(ClientIndex(i))) => {
                (self.clients.get(i).map(|host| &host.namespace), ["input", "output"])
            }
            LinkOf::Nat(NatIndex(i)) => {
                (self.routers.get(i).map(|router| &router.host.namespace), ["forward", "input"])
            }
        };
        let Some(namespace) = namespace else { return Ok(()) };
        if !block {
            return nft(namespace, "delete table inet noudp");
        }
        let chain = |hook| {
            format!(
                "chain {hook} {{ type filter hook {hook} priority filter - 1; policy accept; meta l4proto udp drop; }}"
            )
        };
        nft(namespace, &format!("table inet noudp {{\n{}\n}}", hooks.map(chain).join("\n")))
    }

    fn host(&mut self, name: &str, on: Network, of: Families, link: &Link) -> Result<Host, String> {
        if losses(link) != (0, 0) {
            return Err(format!("{name}: in the kernel only routers lose packets"));
        }
        let namespace = self.namespaces.add(name)?;
        let address = self.attach(&namespace, on, of)?;
        Ok(Host { namespace, address })
    }

    fn router(&mut self, name: &str, behind: Network, nat: &Nat, link: &Link) -> Result<(), String> {
        let namespace = self.namespaces.add(name)?;
        forward(&namespace, self.families)?;
        let address = self.attach(&namespace, behind, self.families)?;
        let number = self.routers.len() as u16;
        ip(&namespace, "link add name lan type bridge\nlink set dev lan up")?;
        for family in families(self.families) {
            let (inside, bits, nodad) = (family.lan(number, 1), family.lan_bits(), family.nodad());
            ip(&namespace, &format!("addr add {inside}/{bits} dev lan {nodad}"))?;
        }
        if self.families.has_v6() {
            if behind != Network::Internet {
                return Err(format!("{name}: in the kernel IPv6 has one firewall on its way"));
            }
            // Nobody translates: the internet has to know the way.
            let (net, bits, via) = (Family::V6.lan(number, 0), Family::V6.lan_bits(), Family::V6.public(self.attached));
            ip(&self.internet, &format!("route add {net}/{bits} via {via} dev n{}", self.attached))?;
        }
        nft(&namespace, &rules(nat, link, self.families, address).map_err(|why| format!("{name}: {why}"))?)?;
        if nat.lifetime != USUAL_LIFETIME {
            for name in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
                set(&namespace, &format!("netfilter/{name}"), nat.lifetime.as_secs())?;
            }
        }
        let public = match behind {
            Network::Behind(NatIndex(outer)) => self.routers.get(outer).map_or(address, |outer| outer.public),
            Network::Internet => address,
        };
        self.routers.push(Router { host: Host { namespace, address }, public, members: 0 });
        Ok(())
    }

    /// Gives a namespace its way to a network: the interface `up`, an address of each family, of which the first is returned, and
    /// the default routes.
    fn attach(&mut self, namespace: &str, on: Network, of: Families) -> Result<IpAddr, String> {
        let own = families(of);
        let first = own.first().copied().unwrap_or(Family::V4);
        match on {
            Network::Internet => {
                self.attached += 1;
                let n = self.attached;
                ip(
                    &self.internet,
                    &format!("link add name n{n} type veth peer name up netns {namespace}\nlink set dev n{n} up"),
                )?;
                ip(namespace, "link set dev up up")?;
                for family in own {
                    let (address, gateway) = (family.public(n), family.gateway());
                    let (bits, nodad) = (family.bits(), family.nodad());
                    ip(
                        &self.internet,
                        &format!("addr add {gateway}/{bits} dev n{n} {nodad}\nroute add {address}/{bits} dev n{n}"),
                    )?;
                    ip(
                        namespace,
                        &format!(
                            "addr add {address}/{bits} dev up {nodad}\nroute add {gateway}/{bits} dev up\n\
                             route add default via {gateway} dev up"
                        ),
                    )?;
                }
                Ok(first.public(n))
            }
            Network::Behind(NatIndex(nat)) => {
                let router = self.routers.get_mut(nat).ok_or("a NAT must stand after the one it is behind")?;
                router.members += 1;
                let n = router.members;
                ip(
                    &router.host.namespace,
                    &format!(
                        "link add name l{n} type veth peer name up netns {namespace}\nlink set dev l{n} master lan\nlink set dev l{n} up"
                    ),
                )?;
                ip(namespace, "link set dev up up")?;
                for family in own {
                    let (address, gateway) = (family.lan(nat as u16, n + 1), family.lan(nat as u16, 1));
                    let (bits, nodad) = (family.lan_bits(), family.nodad());
                    ip(
                        namespace,
                        &format!("addr add {address}/{bits} dev up {nodad}\nroute add default via {gateway} dev up"),
                    )?;
                }
                Ok(first.lan(nat as u16, n + 1))
            }
        }
    }

    /// One more address for the server, which is the last that was attached.
    fn second_address(&mut self) -> Result<IpAddr, String> {
        let on = self.attached;
        self.attached += 1;
        let family = if self.families.has_v4() { Family::V4 } else { Family::V6 };
        let (address, bits, nodad) = (family.public(self.attached), family.bits(), family.nodad());
        ip(&self.internet, &format!("route add {address}/{bits} dev n{on}"))?;
        ip(&self.server.namespace, &format!("addr add {address}/{bits} dev up {nodad}"))?;
        Ok(address)
    }
}

/// Documentation addresses (RFC 5737, RFC 3849) and the private block of RFC 1918.
impl Family {
    fn public(self, n: u16) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(203, 0, 113, n as u8).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, n).into(),
        }
    }

    fn gateway(self) -> IpAddr {
        self.public(254)
    }

    fn lan(self, net: u16, n: u16) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, net as u8, 0, n as u8).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, net, 0, 0, 0, n).into(),
        }
    }

    fn bits(self) -> u8 {
        if self == Self::V4 { 32 } else { 128 }
    }

    fn lan_bits(self) -> u8 {
        if self == Self::V4 { 24 } else { 64 }
    }

    /// Nobody else has the address: it may be used at once.
    fn nodad(self) -> &'static str {
        if self == Self::V4 { "" } else { "nodad" }
    }
}

fn forward(namespace: &str, of: Families) -> Result<(), String> {
    families(of).iter().try_for_each(|family| match family {
        Family::V4 => set(namespace, "ipv4/ip_forward", 1),
        Family::V6 => set(namespace, "ipv6/conf/all/forwarding", 1),
    })
}

/// Who may not talk to whom.
const INTERNET: &str = "
table inet internet {
  set blocked { type ipv4_addr . ipv4_addr; }
  chain forward { type filter hook forward priority filter; policy accept; ip saddr . ip daddr @blocked drop; }
}
";

/// Parts in a million lost up and down.
pub(crate) fn losses(link: &Link) -> (u32, u32) {
    (link.up.loss.in_a_million(), link.down.loss.in_a_million())
}

/// The rules of a router that behaves like `nat`, with its outside interface `up` and its LAN on `lan`.
fn rules(nat: &Nat, link: &Link, of: Families, outside: IpAddr) -> Result<String, String> {
    // What Linux keeps of a flow, it keeps alike for both families.
    let conntrack = Firewall { lifetime: nat.lifetime, inbound_refresh: true, ..Firewall::default() };
    if of.has_v6() && nat.ipv6 != Some(conntrack) {
        return Err(
            "a firewall of nftables lets in the very ends that were written to, and every packet refreshes".into()
        );
    }
    let symmetric = (Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent);
    let translation = match (of.has_v4(), (nat.mapping, nat.filtering), nat.allocation) {
        (false, ..) => String::new(),
        (true, behaviour, Allocation::Overloading) if behaviour == symmetric && !nat.hairpin => masquerade(""),
        (true, behaviour, Allocation::Random) if behaviour == symmetric && !nat.hairpin => masquerade("fully-random"),
        (true, (Mapping::EndpointIndependent, Filtering::EndpointIndependent), Allocation::Preserving)
            if nat.hairpin =>
        {
            cone(outside)
        }
        _ => return Err("no rules of nftables behave like that".into()),
    };
    let (up, down) = losses(link);
    let input = if nat.open_input { "accept" } else { "drop" };
    Ok(format!(
        "
table inet router {{
  chain input {{
    type filter hook input priority filter; policy {input};
    iifname lo accept
    ct state established,related accept
    meta l4proto {{ icmp, ipv6-icmp }} accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname lan oifname up {}
    iifname up oifname lan {}
    iifname up ct state new ct status dnat accept
    iifname up ct state new drop
  }}
}}
{translation}",
        lose(up),
        lose(down),
    ))
}

fn lose(in_a_million: u32) -> String {
    match in_a_million {
        0 => "continue".into(),
        n => format!("numgen random mod {} < {n} drop", Chance::ALWAYS.in_a_million()),
    }
}

/// The inside port is kept unless the same flow has it already; with `fully-random` it is drawn for each flow.
fn masquerade(how: &str) -> String {
    format!(
        "
table ip nat {{
  chain post {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname up masquerade {how}
  }}
}}
"
    )
}

/// Everybody is let in at a port that somebody inside has sent from, hosts inside included ("full cone").
fn cone(outside: IpAddr) -> String {
    format!(
        "
table ip nat {{
  map inside {{ type inet_service : ipv4_addr; flags dynamic,timeout; timeout 2m; size 65535; }}
  chain learn {{
    type filter hook forward priority filter + 1; policy accept;
    oifname up meta l4proto udp update @inside {{ udp sport : ip saddr }}
  }}
  chain pre {{
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr {outside} meta l4proto udp dnat to udp dport map @inside
  }}
  chain post {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname up masquerade
    oifname lan ip saddr 10.0.0.0/8 ct status dnat snat to {outside}
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nat_that_linux_cannot_be_is_refused() {
        let outside = Family::V4.public(1);
        let of = |nat: &Nat| rules(nat, &Link::PERFECT, Families::V4, outside);
        let linux = Nat::symmetric().allocation(Allocation::Overloading);
        assert!(of(&linux).unwrap().contains("oifname up masquerade \n"));
        assert!(of(&Nat::symmetric()).unwrap().contains("masquerade fully-random"));
        assert!(of(&linux.clone().open_input(true)).unwrap().contains("policy accept;\n    iifname lo"));
        for nat in [Nat::home(), linux.clone().hairpin(true), Nat::symmetric().allocation(Allocation::Sequential)] {
            assert!(of(&nat).is_err(), "{nat:?}");
        }
        for families in [Families::V6, Families::Both] {
            let of = |wall| rules(&linux.clone().ipv6(wall), &Link::PERFECT, families, outside);
            assert_eq!(
                of(Firewall { inbound_refresh: true, ..Firewall::default() }).unwrap().contains("masquerade"),
                families.has_v4()
            );
            assert!(of(Firewall::open()).is_err() && of(Firewall::new(Filtering::AddressDependent)).is_err());
            assert!(rules(&linux, &Link::PERFECT, families, outside).is_err(), "IPv6 without a firewall");
        }
    }

    #[test]
    fn losses_become_shares_of_a_million() {
        let link = Link::PERFECT.loss(Chance::percent(5));
        let text = rules(&Nat::symmetric(), &link, Families::V4, Family::V4.public(1)).unwrap();
        assert_eq!(text.matches("numgen random mod 1000000 < 50000 drop").count(), 2);
    }
}
