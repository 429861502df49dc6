//! Who is where.

use crate::Place;
use crate::network::net_of;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Who is where, by which name and address: [`World::topology`](crate::World::topology).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology {
    /// Hosts, by their number.
    pub hosts: Vec<HostInfo>,
    /// Networks, by their number; the first is the internet.
    pub nets: Vec<NetInfo>,
}

/// A host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostInfo {
    /// Its name.
    pub name: String,
    /// The network that it is on.
    pub on: usize,
    /// Its own address there.
    pub address: IpAddr,
    /// Its IPv6 address, if it has one beside that.
    pub ipv6: Option<Ipv6Addr>,
}

/// A network, and the NAT in front of it that goes by its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetInfo {
    /// Its name.
    pub name: String,
    /// The network that its NAT leads to; none from the internet.
    pub behind: Option<usize>,
    /// The NAT's address there.
    pub outside: Option<Ipv4Addr>,
    /// The first of its IPv6 addresses, of which it has 2^64, if it has any; none of the internet's.
    pub ipv6: Option<Ipv6Addr>,
}

impl Topology {
    /// Every host, then every NAT; the address there, and the IPv6 address of a host beside that, or of a NAT's network.
    pub(super) fn places(&self) -> impl Iterator<Item = (Place, IpAddr, Option<Ipv6Addr>)> {
        let hosts = self.hosts.iter().enumerate().map(|(i, host)| (Place::Host(i), host.address, host.ipv6));
        let nats = self.nets.iter().enumerate();
        hosts.chain(nats.filter_map(|(i, net)| net.outside.map(|address| (Place::Net(i), address.into(), net.ipv6))))
    }

    /// Whether what comes from `from` goes up the link of `place`, not down.
    pub(super) fn goes_up(&self, place: Place, from: IpAddr) -> bool {
        match (place, from) {
            (Place::Host(i), _) => {
                self.hosts.get(i).is_some_and(|h| h.address == from || h.ipv6.is_some_and(|ip| ip == from))
            }
            (Place::Net(i), IpAddr::V4(_)) => self.nets.get(i).and_then(|net| net.outside).is_some_and(|ip| ip == from),
            (Place::Net(i), IpAddr::V6(from)) => {
                let outer = |net: &usize| self.nets.get(*net)?.behind;
                std::iter::successors(net_of(from), outer).any(|net| net == i)
            }
        }
    }

    /// The network that the link of `place` leads to.
    pub(super) fn on(&self, place: Place) -> Option<usize> {
        match place {
            Place::Host(i) => self.hosts.get(i).map(|host| host.on),
            Place::Net(i) => self.nets.get(i)?.behind,
        }
    }
}

/// A topology to look names up in.
pub(super) struct Names<'a> {
    hosts: Vec<String>,
    nets: Vec<String>,
    /// `None` if two have it, on networks that do not see each other.
    of: BTreeMap<IpAddr, Option<Place>>,
    topology: &'a Topology,
}

impl<'a> Names<'a> {
    pub(super) fn new(topology: &'a Topology) -> Self {
        let mut of = BTreeMap::new();
        for (place, address, ipv6) in topology.places() {
            let ipv6 = ipv6.map(IpAddr::V6).filter(|_| matches!(place, Place::Host(_)));
            for address in std::iter::once(address).chain(ipv6) {
                of.entry(address).and_modify(|known| *known = None).or_insert(Some(place));
            }
        }
        // A name must not break a column or a line.
        let sound = |name: &String| name.replace(|c: char| c.is_whitespace() || c.is_control(), "_");
        let hosts = topology.hosts.iter().map(|host| sound(&host.name)).collect();
        Self { hosts, nets: topology.nets.iter().map(|net| sound(&net.name)).collect(), of, topology }
    }

    /// The name of a host, or of a network and its NAT.
    pub(super) fn place(&self, place: Place) -> &str {
        match place {
            Place::Host(i) => self.hosts.get(i).map_or("?", String::as_str),
            Place::Net(i) => self.nets.get(i).map_or("?", String::as_str),
        }
    }

    /// The name of whoever alone has `address`, else the address itself.
    pub(super) fn address(&self, address: IpAddr) -> String {
        match self.of.get(&address) {
            Some(Some(place)) => self.place(*place).to_owned(),
            _ => address.to_string(),
        }
    }

    /// The same with the port; `name/6:port` where that is by IPv6.
    pub(super) fn endpoint(&self, endpoint: SocketAddr) -> String {
        let (ip, port) = (endpoint.ip(), endpoint.port());
        match self.of.get(&ip) {
            Some(Some(place)) if ip.is_ipv6() => format!("{}/6:{port}", self.place(*place)),
            Some(Some(place)) => format!("{}:{port}", self.place(*place)),
            _ => endpoint.to_string(),
        }
    }

    /// Everyone with an address: name, address, IPv6 address or network beside it, and where that is.
    pub(super) fn all(&self) -> impl Iterator<Item = (Place, &str, IpAddr, Option<Ipv6Addr>, &str)> {
        self.topology.places().map(|(place, address, ipv6)| {
            let on = self.topology.on(place).map_or("?", |net| self.place(Place::Net(net)));
            (place, self.place(place), address, ipv6, on)
        })
    }
}
