//! Two [`Punch`]es over a small network: a NAT before each, delay, loss, and a relay. Against it an oracle that knows
//! NAT semantics (RFC 4787) and nothing of time or of [`Punch`].

use super::*;
use crate::entropy::{Entropy, Rng};
use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;
use proptest::prelude::*;

/// What a NAT's mapping or filter depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Depends {
    Independent,
    Address,
    AddressAndPort,
}

const DEPENDS: [Depends; 3] = [Depends::Independent, Depends::Address, Depends::AddressAndPort];

/// Mapping, filter.
type Kind = (Depends, Depends);

/// The end at `index` has this address; its NAT's ports count up from 1.
fn ip(index: usize) -> IpAddr {
    IpAddr::from([203, 0, 113, index as u8 + 1])
}

fn server() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 7777))
}

struct Nat {
    kind: Kind,
    ip: IpAddr,
    /// Per port: the destination it was made for, and all that it was used to.
    mappings: Vec<(SocketAddr, Vec<SocketAddr>)>,
}

impl Nat {
    fn outbound(&mut self, to: SocketAddr) -> SocketAddr {
        let same = |made_for: SocketAddr| match self.kind.0 {
            Depends::Independent => true,
            Depends::Address => made_for.ip() == to.ip(),
            Depends::AddressAndPort => made_for == to,
        };
        let index = self.mappings.iter().position(|m| same(m.0)).unwrap_or_else(|| {
            self.mappings.push((to, Vec::new()));
            self.mappings.len() - 1
        });
        let used = &mut self.mappings[index].1;
        if !used.contains(&to) {
            used.push(to);
        }
        SocketAddr::new(self.ip, index as u16 + 1)
    }

    fn lets_in(&self, from: SocketAddr, port: u16) -> bool {
        let Some((_, used)) = self.mappings.get(usize::from(port) - 1) else { return false };
        match self.kind.1 {
            Depends::Independent => true,
            Depends::Address => used.iter().any(|to| to.ip() == from.ip()),
            Depends::AddressAndPort => used.contains(&from),
        }
    }
}

struct End {
    punch: Punch,
    nat: Nat,
    given: Vec<SocketAddr>,
    sources: BTreeSet<SocketAddr>,
    /// Where challenges of this end arrived since its path last died.
    reached: BTreeSet<SocketAddr>,
    verdicts: Vec<Verdict>,
    /// When a send address was first proven, and when the verdict first was direct.
    proven: Option<Instant>,
    direct: Option<Instant>,
    challenged: u64,
}

struct Packet {
    to: usize,
    /// Source and destination of a direct packet.
    direct: Option<(SocketAddr, SocketAddr)>,
    probe: Probe,
}

pub(super) struct Delays {
    pub(super) there: Duration,
    pub(super) back: Duration,
    pub(super) relay: Duration,
}

struct Network {
    now: Instant,
    ends: [End; 2],
    flying: BTreeMap<(Instant, u64), Packet>,
    sent: u64,
    delays: Delays,
    loss_percent: u64,
    rng: Rng,
}

impl Network {
    fn new(kinds: [Kind; 2], delays: Delays, loss_percent: u64, seed: u8) -> Self {
        let entropy = Entropy::new(&[seed; 32]);
        let mut nats = [0, 1].map(|i| Nat { kind: kinds[i], ip: ip(i), mappings: Vec::new() });
        let observed = nats.each_mut().map(|nat| nat.outbound(server()));
        let mut nats = nats.into_iter();
        let ends = [0, 1].map(|i| End {
            punch: Punch::new(&PunchConfig::default(), entropy.stream("punch", i as u64)),
            nat: nats.next().unwrap(),
            given: Vec::from([observed[1 - i]]),
            sources: BTreeSet::new(),
            reached: BTreeSet::new(),
            verdicts: Vec::new(),
            proven: None,
            direct: None,
            challenged: 0,
        });
        let rng = entropy.stream("network", 0);
        Self { now: Instant::ZERO, ends, flying: BTreeMap::new(), sent: 0, delays, loss_percent, rng }
    }

    /// Runs until `limit`, starting each end at its time of `starts`.
    fn run(&mut self, mut starts: Vec<(Instant, usize)>, limit: Instant) {
        starts.sort();
        starts.reverse();
        let mut idle = 0;
        loop {
            let wakes = self.ends.iter().filter_map(|e| e.punch.wake());
            let next = wakes.chain(self.flying.keys().map(|k| k.0).take(1)).chain(starts.last().map(|s| s.0)).min();
            let Some(next) = next.filter(|&next| next.max(self.now) <= limit) else { break };
            idle = if next <= self.now { idle + 1 } else { 0 };
            assert!(idle < 10, "a busy loop at {:?}", self.now);
            self.now = self.now.max(next);
            while let Some((_, end)) = starts.pop_if(|s| s.0 <= self.now) {
                let given = self.ends[end].given.clone();
                self.ends[end].punch.start(self.now, &given);
            }
            while let Some(entry) = self.flying.first_entry().filter(|e| e.key().0 <= self.now) {
                let packet = entry.remove();
                self.arrive(packet);
            }
            for end in 0..2 {
                self.drain(end);
            }
        }
        self.now = limit;
    }

    fn drain(&mut self, index: usize) {
        while let Some(probe) = self.ends[index].punch.poll(self.now, &mut Pace::default()) {
            self.send(index, probe);
        }
        let end = &mut self.ends[index];
        while let Some(event) = end.punch.poll_event() {
            match event {
                PunchEvent::Validated { to, .. } => {
                    assert!(end.reached.contains(&to.at), "{to:?} is used, and nothing ever arrived there");
                    assert_eq!(end.punch.send_address(), Some(to));
                    end.proven = end.proven.or(Some(self.now));
                }
                PunchEvent::Verdict(verdict) => {
                    assert_ne!(end.verdicts.last(), Some(&verdict));
                    end.verdicts.push(verdict);
                    if verdict == Verdict::Direct {
                        end.direct = end.direct.or(Some(self.now));
                    }
                }
                PunchEvent::Answered => {}
                PunchEvent::WantsRestart | PunchEvent::WantsSearch => {}
            }
        }
    }

    fn send(&mut self, index: usize, probe: Probe) {
        let end = &mut self.ends[index];
        let mut delay = self.delays.relay;
        let mut direct = None;
        if let Over::Direct(Way { at: to, .. }) = probe.over {
            assert!(end.given.contains(&to) || end.sources.contains(&to), "nobody vouches for {to}");
            direct = Some((end.nat.outbound(to), to));
            delay = if index == 0 { self.delays.there } else { self.delays.back };
        }
        if self.rng.below(100) < self.loss_percent {
            return;
        }
        self.sent += 1;
        self.flying.insert((self.now + delay, self.sent), Packet { to: 1 - index, direct, probe });
    }

    fn arrive(&mut self, Packet { to: index, direct, probe }: Packet) {
        if let Some((from, to)) = direct {
            let end = &mut self.ends[index];
            if to.ip() != end.nat.ip || !end.nat.lets_in(from, to.port()) {
                return;
            }
            end.sources.insert(from);
            end.punch.on_packet(self.now, from);
            if let Some(token) = probe.challenge {
                end.challenged += 1;
                end.punch.on_challenge(self.now, from, token);
                self.ends[1 - index].reached.insert(to);
            }
        }
        if let Some(token) = probe.response {
            self.ends[index].punch.on_response(self.now, token);
        }
    }
}

/// Which directions can work, from 0 to 1 and from 1 to 0: the fixed point of "every end sends to every address that
/// it knows and learns the source of whatever comes in", without time.
fn oracle(kinds: [Kind; 2]) -> [bool; 2] {
    // An address is its owner and what the mapping behind it was made for (nothing, an owner, an address).
    #[derive(Clone, PartialEq, Debug)]
    struct Endpoint(usize, Vec<(usize, Option<alloc::boxed::Box<Endpoint>>)>);
    const SERVER: usize = 2;
    let source = |end: usize, to: &Endpoint| {
        Endpoint(
            end,
            match kinds[end].0 {
                Depends::Independent => Vec::new(),
                Depends::Address => Vec::from([(to.0, None)]),
                Depends::AddressAndPort => Vec::from([(to.0, Some(to.clone().into()))]),
            },
        )
    };
    let server = Endpoint(SERVER, Vec::new());
    // What each end sends to; the server first.
    let observed = [source(0, &server), source(1, &server)];
    let mut known = [Vec::from([server.clone(), observed[1].clone()]), Vec::from([server, observed[0].clone()])];
    let mut works = [false; 2];
    // More rounds than addresses that can come to be known within the limit on peer-reflexive candidates.
    for _ in 0..2 * MAX_REFLEXIVE {
        for end in 0..2 {
            for to in known[end].clone().iter().filter(|to| to.0 == 1 - end) {
                let from = source(end, to);
                let mut sent = known[1 - end].iter().filter(|target| source(1 - end, target) == *to);
                let passes = match kinds[1 - end].1 {
                    Depends::Independent => sent.next().is_some(),
                    Depends::Address => sent.any(|target| target.0 == end),
                    Depends::AddressAndPort => sent.any(|target| *target == from),
                };
                works[end] |= passes;
                if passes && !known[1 - end].contains(&from) {
                    known[1 - end].push(from);
                }
            }
        }
    }
    works
}

fn expected([out, inbound]: [bool; 2]) -> Verdict {
    match (out, inbound) {
        (true, true) => Verdict::Direct,
        (true, false) => Verdict::Relayed(RelayReason::OnlyOutbound),
        (false, true) => Verdict::Relayed(RelayReason::OnlyInbound),
        (false, false) => Verdict::Relayed(RelayReason::NoAnswer),
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn kinds() -> impl Iterator<Item = Kind> + Clone {
    DEPENDS.into_iter().flat_map(|mapping| DEPENDS.map(|filter| (mapping, filter)))
}

#[test]
fn all_81_nat_pairs_end_as_nat_semantics_say_and_45_of_them_direct() {
    let mut direct = 0;
    for a in kinds() {
        for b in kinds() {
            let delays = Delays { there: ms(30), back: ms(30), relay: ms(45) };
            let mut network = Network::new([a, b], delays, 0, 1);
            network.run(
                Vec::from([(Instant::from_millis(20), 0), (Instant::from_millis(25), 1)]),
                Instant::from_millis(6000),
            );
            let [out, back] = oracle([a, b]);
            let verdicts = network.ends.each_ref().map(|e| e.punch.verdict());
            assert_eq!(verdicts, [expected([out, back]), expected([back, out])], "{a:?} and {b:?}");
            direct += u32::from(out && back);
        }
    }
    assert_eq!(direct, 45);
}

#[test]
fn both_ends_of_plain_nats_are_direct_within_the_bound() {
    let plain = (Depends::Independent, Depends::AddressAndPort);
    for later in [0, 5, 19, 21, 70, 300] {
        let mut network = Network::new([plain; 2], Delays { there: ms(30), back: ms(40), relay: ms(60) }, 0, 3);
        let start = Instant::from_millis(10) + ms(later);
        network.run(Vec::from([(Instant::from_millis(10), 0), (start, 1)]), Instant::from_millis(2000));
        let direct = network.ends.each_ref().map(|e| e.direct.unwrap().since(start));
        assert!(direct[0] <= ms(70 + 20), "the earlier end took {:?}", direct[0]);
        assert!(direct[1] <= ms(70 + 20), "the later end took {:?}", direct[1]);
        assert!(network.ends.iter().all(|e| e.proven.is_some()));
    }
}

#[test]
fn nobody_probes_once_both_ends_are_direct() {
    let plain = (Depends::Independent, Depends::Address);
    let mut network = Network::new([plain; 2], Delays { there: ms(30), back: ms(30), relay: ms(50) }, 0, 3);
    network.run(Vec::from([(Instant::ZERO, 0), (Instant::ZERO, 1)]), Instant::from_millis(500));
    let sent = network.sent;
    network.run(Vec::new(), Instant::from_millis(30_000));
    assert_eq!(network.sent, sent);
    assert!(sent < 40, "{sent}");
}

#[test]
fn a_pair_that_cannot_go_direct_costs_little_in_an_hour() {
    let hard = (Depends::AddressAndPort, Depends::AddressAndPort);
    let mut network = Network::new([hard; 2], Delays { there: ms(30), back: ms(30), relay: ms(50) }, 0, 3);
    network.run(Vec::from([(Instant::ZERO, 0), (Instant::ZERO, 1)]), Instant::from_millis(3_600_000));
    for end in &network.ends {
        assert_eq!(end.verdicts, [Verdict::Relayed(RelayReason::NoAnswer)]);
        // 5 rounds while the wait doubles, then one in about 300 s.
        assert!((5 * 60..20 * 65).contains(&end.punch.stats().challenges), "{:?}", end.punch.stats());
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    (0..3usize, 0..3usize).prop_map(|(mapping, filter)| (DEPENDS[mapping], DEPENDS[filter]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn both_ends_agree_with_the_oracle_over_any_delay_loss_and_start(
        a in kind(), b in kind(), there in 0..250u64, back in 0..250u64, relay in 0..300u64,
        later in 0..400u64, loss in 0..25u64, seed: u8,
    ) {
        let mut network = Network::new([a, b], Delays { there: ms(there), back: ms(back), relay: ms(relay) }, loss, seed);
        let start = Instant::from_millis(later);
        network.run(Vec::from([(Instant::ZERO, 0), (start, 1)]), start + ROUND + ms(600));
        let [out, back] = oracle([a, b]);
        let expected = [expected([out, back]), expected([back, out])];
        let verdicts = |network: &Network| network.ends.each_ref().map(|e| e.punch.verdict());
        // An end that is done falls silent, and who has heard little of it may say no more to it than that. Where losses took so
        // much that this was too little, it asks the server, who starts both again.
        if loss > 0 && verdicts(&network) != expected {
            let again = network.now + FIRST_BACKOFF;
            network.run(Vec::from([(again, 0), (again, 1)]), again + ROUND + ms(600));
        }
        prop_assert_eq!(verdicts(&network), expected);
        for end in &network.ends {
            let stats = end.punch.stats();
            prop_assert!(stats.challenges <= u64::from(ROUND_BUDGET));
            prop_assert!(stats.responses <= 2 * end.challenged);
            prop_assert!(end.verdicts.len() <= 3, "{:?}", end.verdicts);
        }
    }
}
