//! What holds of every controller, whatever it is told.

use super::*;
use proptest::prelude::*;

const DATAGRAM: u64 = 1200;

fn congestion() -> impl Strategy<Value = Congestion> {
    let fixed = prop_oneof![0u64..1_000_000_000, any::<u64>()].prop_map(Algorithm::FixedRate);
    let algorithm = prop_oneof![Just(Algorithm::Cubic), Just(Algorithm::LossTolerant), fixed];
    (algorithm, any::<bool>()).prop_map(|(algorithm, hystart)| Congestion { algorithm, hystart, ..Default::default() })
}

#[derive(Clone, Debug)]
enum Told {
    Acked { bytes: u64, rtt: Option<u64>, limited: bool, hold: bool, round: bool, rate: Option<(u64, bool)> },
    Congested { cause: Cause, ago: u64, bytes: u64 },
    Spurious { ago: u64 },
    Persistent,
    Datagram(u64),
}

fn told() -> impl Strategy<Value = (u64, Told)> {
    // Times from nothing to years, as a clock that jumps gives them.
    let time = || prop_oneof![Just(0), 0u64..1_000_000, 0u64..10_000_000_000, any::<u64>().prop_map(|n| n >> 8)];
    let bytes = || prop_oneof![0u64..100_000, Just(1 << 27), Just(1 << 32)];
    let rate = prop_oneof![0u64..1_000_000_000, any::<u64>()];
    let acked =
        (bytes(), proptest::option::of(time()), any::<[bool; 3]>(), proptest::option::of((rate, any::<bool>())));
    let acked = acked.prop_map(|(bytes, rtt, [limited, hold, round], rate)| Told::Acked {
        bytes,
        rtt,
        limited,
        hold,
        round,
        rate,
    });
    let cause = prop_oneof![Just(Cause::Loss), Just(Cause::Marked), Just(Cause::Delayed)];
    let congested = (cause, time(), bytes());
    let congested = congested.prop_map(|(cause, ago, bytes)| Told::Congested { cause, ago, bytes });
    (
        time(),
        prop_oneof![
            12 => acked,
            4 => congested,
            2 => time().prop_map(|ago| Told::Spurious { ago }),
            1 => Just(Told::Persistent),
            1 => (DATAGRAM..9000).prop_map(Told::Datagram),
        ],
    )
}

proptest! {
    #[test]
    fn no_window_is_below_its_minimum_or_beyond_its_maximum_and_no_rate_is_zero(
        config in congestion(),
        steps in proptest::collection::vec(told(), 1..200),
    ) {
        let (mut controller, mut datagram) = (Chosen::new(&config, DATAGRAM), DATAGRAM);
        let (mut now, mut min, mut last) = (Instant::from_millis(1000), Duration::from_secs(30), Duration::from_millis(50));
        for (passes, told) in steps {
            now = now + Duration::from_nanos(passes);
            match told {
                Told::Acked { bytes, rtt, limited, hold, round, rate } => {
                    let rtt = rtt.map(|rtt| Duration::from_nanos(rtt).min(Duration::from_secs(30)));
                    last = rtt.unwrap_or(last);
                    min = min.min(last);
                    let rate = rate.map(|(rate, app_limited)| Sample { rate, app_limited });
                    let (sent, smoothed_rtt, min_rtt) = (now - last, last, min);
                    let acked = Acked { now, sent, bytes, limited, hold, round, rtt, smoothed_rtt, min_rtt, rate };
                    let before = controller.window();
                    controller.on_ack(&acked);
                    // A fixed rate's window follows the round trip.
                    if (!limited || hold) && !matches!(config.algorithm, Algorithm::FixedRate(_)) {
                        prop_assert!(controller.window() <= before, "grew while held");
                    }
                }
                Told::Congested { cause, ago, bytes } => {
                    let sent = now - Duration::from_nanos(ago);
                    controller.on_congestion(&Congested { now, cause, sent, packets: bytes / DATAGRAM, bytes });
                }
                Told::Spurious { ago } => controller.on_spurious(now - Duration::from_nanos(ago)),
                Told::Persistent => controller.on_persistent_congestion(),
                Told::Datagram(size) => {
                    datagram = size;
                    controller.set_datagram(size);
                }
            }
            prop_assert!(controller.window() >= MINIMUM_DATAGRAMS * datagram);
            prop_assert!(controller.window() <= MAXIMUM);
            prop_assert!(controller.pacing_rate(last) > 0);
        }
    }
}
