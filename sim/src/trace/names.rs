//! Who is where.

use crate::Place;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

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
    pub address: Ipv4Addr,
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
}

impl Topology {
    /// Every host, then every NAT.
    pub(super) fn places(&self) -> impl Iterator<Item = (Place, Ipv4Addr)> {
        let hosts = self.hosts.iter().enumerate().map(|(i, host)| (Place::Host(i), host.address));
        let nats = self.nets.iter().enumerate();
        hosts.chain(nats.filter_map(|(i, net)| net.outside.map(|address| (Place::Net(i), address))))
    }

    /// The address of `place` on the network that its link leads to.
    pub(super) fn address(&self, place: Place) -> Option<Ipv4Addr> {
        match place {
            Place::Host(i) => self.hosts.get(i).map(|host| host.address),
            Place::Net(i) => self.nets.get(i)?.outside,
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
    of: BTreeMap<Ipv4Addr, Option<Place>>,
    topology: &'a Topology,
}

impl<'a> Names<'a> {
    pub(super) fn new(topology: &'a Topology) -> Self {
        let mut of = BTreeMap::new();
        for (place, address) in topology.places() {
            of.entry(address).and_modify(|known| *known = None).or_insert(Some(place));
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
    pub(super) fn address(&self, address: Ipv4Addr) -> String {
        match self.of.get(&address) {
            Some(Some(place)) => self.place(*place).to_owned(),
            _ => address.to_string(),
        }
    }

    /// The same with the port.
    pub(super) fn endpoint(&self, endpoint: SocketAddrV4) -> String {
        format!("{}:{}", self.address(*endpoint.ip()), endpoint.port())
    }

    /// Everyone with an address: name, address, and where that is.
    pub(super) fn all(&self) -> impl Iterator<Item = (Place, &str, Ipv4Addr, &str)> {
        self.topology.places().map(|(place, address)| {
            let on = self.topology.on(place).map_or("?", |net| self.place(Place::Net(net)));
            (place, self.place(place), address, on)
        })
    }
}
