//! How the recorded machine was made.

use crate::code::{Get, Put, Unknown};
use posse_core::config::{Admission, Doors, Rate, SearchLimits, Techniques, Tickets};
use posse_core::secure::{Crypto, suites};
use posse_core::{Algorithm, ClientConfig, Congestion, Limits, ServerConfig, Timers};
use std::net::SocketAddr;
use std::sync::Arc;

/// What a machine was told at construction: enough to make it again.
pub enum Construction {
    /// A client.
    Client(Box<ClientConfig>),
    /// A server.
    Server(Box<ServerConfig>),
}

impl Construction {
    /// Writes it. `Err` for what this version of the format cannot hold.
    pub(crate) fn put(&self, put: &mut Put<'_>) -> Result<(), Unknown> {
        match self {
            Self::Client(config) => {
                put.u8(0);
                put.addr(config.server);
                put.bytes(&config.server_key);
                put.u64(config.app);
                put.bytes(&config.token);
                put.bytes(&config.ticket);
                put.bytes(&config.seed);
                put_suites(put, &config.suites);
                put.policy(config.policy);
                put_rest(put, &config.limits, &config.timers, &config.congestion)
            }
            Self::Server(config) => {
                put.u8(1);
                put.bytes(&config.key);
                put.u64(config.app);
                put.bytes(&config.seed);
                put_suites(put, &config.suites);
                put_rest(put, &config.limits, &config.timers, &config.congestion)?;
                let Doors { second_port, second_address, second_address_port } = config.doors;
                for door in [second_port, second_address, second_address_port] {
                    put.option(door, Put::addr);
                }
                let Techniques { prediction, birthday, openers, probes_an_address } = config.techniques;
                put.u8(prediction.into());
                put.u8(birthday.into());
                put.u8(openers.into());
                put.u64(probes_an_address.into());
                put.size(config.advertised_addrs.len());
                config.advertised_addrs.iter().for_each(|addr| put.addr(*addr));
                put.option(config.ipv6.map(SocketAddr::V6), Put::addr);
                put_admission(put, config);
                put.policy(config.policy);
                Ok(())
            }
        }
    }

    pub(crate) fn get(get: &mut Get<'_>) -> Option<Self> {
        Some(match get.u8()? {
            0 => {
                let (server, key) = (get.addr()?, get.bytes()?.try_into().ok()?);
                let (app, token, ticket) = (get.u64()?, get.bytes()?.to_vec(), get.bytes()?.to_vec());
                let seed = get.bytes()?.try_into().ok()?;
                let mut config = ClientConfig::new(server, key, app, seed);
                (config.token, config.ticket) = (token, ticket);
                config.suites = get_suites(get)?;
                config.policy = get.policy()?;
                (config.limits, config.timers, config.congestion) = get_rest(get)?;
                Self::Client(Box::new(config))
            }
            1 => {
                let (key, app, seed) = (get.bytes()?.try_into().ok()?, get.u64()?, get.bytes()?.try_into().ok()?);
                let mut config = ServerConfig::new(key, app, seed);
                config.suites = get_suites(get)?;
                (config.limits, config.timers, config.congestion) = get_rest(get)?;
                config.doors = Doors {
                    second_port: get.option(Get::addr)?,
                    second_address: get.option(Get::addr)?,
                    second_address_port: get.option(Get::addr)?,
                };
                config.techniques = Techniques {
                    prediction: get.bool()?,
                    birthday: get.bool()?,
                    openers: get.bool()?,
                    probes_an_address: get.u64()?.try_into().ok()?,
                };
                let addrs = get.size()?;
                for _ in 0..addrs {
                    config.advertised_addrs.push(get.addr()?);
                }
                config.ipv6 = match get.option(Get::addr)? {
                    Some(SocketAddr::V6(addr)) => Some(addr),
                    Some(SocketAddr::V4(_)) => return None,
                    None => None,
                };
                get_admission(get, &mut config)?;
                config.policy = get.policy()?;
                Self::Server(Box::new(config))
            }
            _ => return None,
        })
    }
}

/// Whom the server lets in.
fn put_admission(put: &mut Put<'_>, config: &ServerConfig) {
    put.option(config.second_key, |put, key| put.bytes(&key));
    let Admission { unproven, proven, source, prefix } = config.admission;
    for Rate { per_second, burst } in [unproven, proven, source, prefix] {
        put.u64(per_second.into());
        put.u64(burst.into());
    }
    put.option(config.tickets, |put, Tickets { key, second_key, remembered }| {
        put.bytes(&key);
        put.option(second_key, |put, key| put.bytes(&key));
        put.size(remembered);
    });
}

fn get_admission(get: &mut Get<'_>, config: &mut ServerConfig) -> Option<()> {
    config.second_key = get.option(|get| get.bytes()?.try_into().ok())?;
    let Admission { unproven, proven, source, prefix } = &mut config.admission;
    for rate in [unproven, proven, source, prefix] {
        *rate = Rate { per_second: get.u64()?.try_into().ok()?, burst: get.u64()?.try_into().ok()? };
    }
    config.tickets = get.option(|get| {
        let key = get.bytes()?.try_into().ok()?;
        let second_key = get.option(|get| get.bytes()?.try_into().ok())?;
        Some(Tickets { key, second_key, remembered: get.size()? })
    })?;
    Some(())
}

fn put_suites(put: &mut Put<'_>, suites: &[Arc<dyn Crypto>]) {
    put.bytes(&suites.iter().map(|suite| suite.id()).collect::<Vec<_>>());
}

/// Those of the core: who brings suites of their own cannot be replayed here.
fn get_suites(get: &mut Get<'_>) -> Option<Vec<Arc<dyn Crypto>>> {
    let known = suites(true);
    get.bytes()?.iter().map(|id| known.iter().find(|suite| suite.id() == *id).cloned()).collect()
}

fn put_rest(put: &mut Put<'_>, limits: &Limits, timers: &Timers, congestion: &Congestion) -> Result<(), Unknown> {
    for limit in sizes(limits) {
        put.size(limit);
    }
    put.size(limits.search.sockets);
    put.u64(limits.search.probes.into());
    put.u64(limits.search.probes_per_second.into());
    for Rate { per_second, burst } in [limits.relay.bytes, limits.relay.packets] {
        put.u64(per_second.into());
        put.u64(burst.into());
    }
    for timer in times(timers) {
        put.duration(timer);
    }
    match congestion.algorithm {
        Algorithm::Cubic => put.u8(0),
        Algorithm::LossTolerant => put.u8(1),
        Algorithm::FixedRate(rate) => {
            put.u8(2);
            put.u64(rate);
        }
        _ => return Err(Unknown),
    }
    put.option(congestion.delay_guard, Put::duration);
    put.u8(congestion.hystart.into());
    put.u8(congestion.ecn.into());
    put.bytes(shown(limits, timers, congestion).as_bytes());
    Ok(())
}

fn get_rest(get: &mut Get<'_>) -> Option<(Limits, Timers, Congestion)> {
    let (mut limits, mut timers) = (Limits::default(), Timers::default());
    for limit in [
        &mut limits.max_message,
        &mut limits.send_buffer,
        &mut limits.receive_buffer,
        &mut limits.max_clients,
        &mut limits.max_groups,
        &mut limits.max_members,
        &mut limits.max_handshakes,
        &mut limits.direct_peers,
    ] {
        *limit = get.size()?;
    }
    limits.search = SearchLimits {
        sockets: get.size()?,
        probes: get.u64()?.try_into().ok()?,
        probes_per_second: get.u64()?.try_into().ok()?,
    };
    for rate in [&mut limits.relay.bytes, &mut limits.relay.packets] {
        *rate = Rate { per_second: get.u64()?.try_into().ok()?, burst: get.u64()?.try_into().ok()? };
    }
    for timer in [
        &mut timers.handshake,
        &mut timers.decision,
        &mut timers.server_keepalive,
        &mut timers.direct_keepalive,
        &mut timers.offline,
        &mut timers.session_idle,
        &mut timers.lease,
        &mut timers.join,
        &mut timers.retain_for,
    ] {
        *timer = get.duration()?;
    }
    let algorithm = match get.u8()? {
        0 => Algorithm::Cubic,
        1 => Algorithm::LossTolerant,
        2 => Algorithm::FixedRate(get.u64()?),
        _ => return None,
    };
    let delay_guard = get.option(Get::duration)?;
    let congestion = Congestion { algorithm, delay_guard, hystart: get.bool()?, ecn: get.bool()? };
    // A field that this format does not hold, and that was not at its default, shows here.
    (get.bytes()? == shown(&limits, &timers, &congestion).as_bytes()).then_some((limits, timers, congestion))
}

fn sizes(limits: &Limits) -> [usize; 8] {
    [
        limits.max_message,
        limits.send_buffer,
        limits.receive_buffer,
        limits.max_clients,
        limits.max_groups,
        limits.max_members,
        limits.max_handshakes,
        limits.direct_peers,
    ]
}

fn times(timers: &Timers) -> [posse_core::Duration; 9] {
    [
        timers.handshake,
        timers.decision,
        timers.server_keepalive,
        timers.direct_keepalive,
        timers.offline,
        timers.session_idle,
        timers.lease,
        timers.join,
        timers.retain_for,
    ]
}

fn shown(limits: &Limits, timers: &Timers, congestion: &Congestion) -> String {
    format!("{limits:?} {timers:?} {congestion:?}")
}
