//! What came of a case, in the kernel or in the simulator, in terms that both have.

use std::time::Duration;

/// See the module's text.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Outcome {
    /// What each client says at the end of how its traffic goes, in the order of the scenario: `direct`, or `relayed` and why.
    pub(crate) ways: Vec<String>,
    /// Whether each client's own leg to the server goes by TCP then.
    pub(crate) by_tcp: Vec<bool>,
    /// From seeing the other until the later of both says "direct".
    pub(crate) to_direct: Option<Duration>,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) reordered: u64,
}

impl Outcome {
    /// Whether both ways to see the case come to the same, and nothing went wrong with any message.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        (&self.ways, &self.by_tcp) == (&other.ways, &other.by_tcp) && self.is_clean() && other.is_clean()
    }

    fn is_clean(&self) -> bool {
        !self.ways.is_empty() && self.sent > 0 && (self.lost, self.repeated, self.reordered) == (0, 0, 0)
    }

    /// How traffic goes, in a word if both clients say the same.
    pub(crate) fn way(&self) -> String {
        let leg = |by_tcp: &bool| if *by_tcp { ", by tcp" } else { "" };
        let ways: Vec<String> =
            self.ways.iter().zip(&self.by_tcp).map(|(way, tcp)| format!("{way}{}", leg(tcp))).collect();
        match ways.split_first() {
            Some((first, rest)) if rest.iter().all(|way| way == first) => first.clone(),
            _ => ways.join(" / "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_or_never_sent_agrees_with_nothing() {
        let ways = vec!["direct".to_owned(); 2];
        let good = Outcome { ways, by_tcp: vec![false; 2], sent: 10, ..Outcome::default() };
        assert!(good.agrees(&good));
        assert_eq!(good.way(), "direct");
        for bad in [
            Outcome { lost: 1, ..good.clone() },
            Outcome { repeated: 1, ..good.clone() },
            Outcome { sent: 0, ..good.clone() },
            Outcome { by_tcp: vec![false, true], ..good.clone() },
            Outcome { ways: vec!["direct".into(), "relayed, no-answer".into()], ..good.clone() },
            Outcome::default(),
        ] {
            assert!(!bad.agrees(&good) && !good.agrees(&bad), "{bad:?}");
        }
        assert!(!Outcome::default().agrees(&Outcome::default()));
    }
}
