//! Quantities as people write them: `20ms`, `10Mb/s`, `64KiB`, `5%`. Integers throughout, so that a file means the same
//! everywhere.

use posse_core::Duration;

/// `text` as a length of time: a decimal number and one of `ns us ms s min h`, at most a year.
pub(super) fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 6] = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("min", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    const YEAR: u64 = 365 * 24 * 3_600_000_000_000;
    let nanos = quantity(text, &UNITS)?;
    (nanos <= YEAR).then(|| Duration::from_nanos(nanos))
}

/// `text` as bits a second: a decimal number and one of `b/s kb/s Mb/s Gb/s`, more than zero.
pub(super) fn rate(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 4] = [("b/s", 1), ("kb/s", 1_000), ("Mb/s", 1_000_000), ("Gb/s", 1_000_000_000)];
    quantity(text, &UNITS).filter(|&rate| rate > 0)
}

/// `text` as bytes: a decimal number and one of `B kB MB KiB MiB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 5] = [("B", 1), ("kB", 1_000), ("MB", 1_000_000), ("KiB", 1 << 10), ("MiB", 1 << 20)];
    quantity(text, &UNITS)
}

/// `text` as parts in a million: `5%`, `0.1%`.
pub(super) fn percent(text: &str) -> Option<u32> {
    let ppm = quantity(text, &[("%", 10_000)])?;
    u32::try_from(ppm).ok().filter(|&ppm| ppm <= 1_000_000)
}

/// How a length of time is written, in the largest unit that keeps three digits after the point.
pub fn written(d: Duration) -> String {
    let nanos = d.as_nanos();
    let (unit, name) = match nanos {
        0 => return "0s".to_owned(),
        1_000_000_000.. => (1_000_000_000, "s"),
        1_000_000.. => (1_000_000, "ms"),
        1_000.. => (1_000, "us"),
        _ => (1, "ns"),
    };
    let decimals = format!("{:03}", nanos % unit * 1_000 / unit);
    match decimals.trim_end_matches('0') {
        "" => format!("{}{name}", nanos / unit),
        rest => format!("{}.{rest}{name}", nanos / unit),
    }
}

/// A decimal number times its unit, exactly: digits after the point may not go below the smallest whole part.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let &(_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let mut value = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let mut place = scale;
    for digit in decimals.bytes() {
        let scaled = u64::from(digit.wrapping_sub(b'0')) * place;
        if !digit.is_ascii_digit() || !scaled.is_multiple_of(10) {
            return None;
        }
        value = value.checked_add(scaled / 10)?;
        place /= 10;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact_and_written_back_as_they_were() {
        for (text, nanos) in [("20ms", 20_000_000), ("1.5s", 1_500_000_000), ("250us", 250_000), ("0s", 0), ("3ns", 3)]
        {
            assert_eq!(duration(text), Some(Duration::from_nanos(nanos)), "{text}");
            assert_eq!(written(Duration::from_nanos(nanos)), text);
        }
        assert_eq!(duration("2min"), Some(Duration::from_secs(120)));
        assert_eq!(duration("1 h"), Some(Duration::from_secs(3600)));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in
            ["", "ms", "20", "-5ms", "1..5s", ".5s", "1e3s", "20 parsecs", "0.5ns", "99999999999999h", "9000h1", "½s"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!((rate("0b/s"), rate("10Mbit"), bytes("1.5B"), percent("101%")), (None, None, None, None));
    }

    #[test]
    fn rates_sizes_and_shares_have_the_usual_units() {
        assert_eq!((rate("1.5Mb/s"), bytes("64KiB"), bytes("1MB")), (Some(1_500_000), Some(65_536), Some(1_000_000)));
        assert_eq!((percent("5%"), percent("0.01%"), percent("100 %")), (Some(50_000), Some(100), Some(1_000_000)));
    }
}
