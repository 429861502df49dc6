//! What came of a case, in the kernel or in the simulator, in terms that both have.

use std::time::Duration;

/// See the module's text.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Outcome {
    /// What each client says at the end of how its traffic goes, in the order of the scenario: `direct`, or `relayed` and why.
    pub(crate) ways: Vec<String>,
    /// By which legs each client reached the server one after another, `tcp` or `udp`; nothing if it was by UDP all the time.
    pub(crate) legs: Vec<Vec<String>>,
    /// From seeing the other until the later of both says "direct".
    pub(crate) to_direct: Option<Duration>,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) reordered: u64,
}

impl Outcome {
    /// Whether both ways to see the case come to the same, and nothing went wrong with any message.
    /// `legs`: they are the same in every run, and must be the same here.
    pub(crate) fn agrees(&self, other: &Self, legs: bool) -> bool {
        self.ways == other.ways && (!legs || self.legs == other.legs) && self.is_clean() && other.is_clean()
    }

    fn is_clean(&self) -> bool {
        !self.ways.is_empty() && self.sent > 0 && (self.lost, self.repeated, self.reordered) == (0, 0, 0)
    }

    /// How traffic goes, in a word if both clients say the same.
    pub(crate) fn way(&self) -> String {
        let leg =
            |legs: &Vec<String>| if legs.is_empty() { String::new() } else { format!(", by {}", legs.join(" then ")) };
        let ways: Vec<String> =
            self.ways.iter().zip(&self.legs).map(|(way, legs)| format!("{way}{}", leg(legs))).collect();
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
        let good = Outcome { ways, legs: vec![Vec::new(); 2], sent: 10, ..Outcome::default() };
        assert!(good.agrees(&good, true));
        assert_eq!(good.way(), "direct");
        for bad in [
            Outcome { lost: 1, ..good.clone() },
            Outcome { repeated: 1, ..good.clone() },
            Outcome { sent: 0, ..good.clone() },
            Outcome { legs: vec![Vec::new(), vec!["tcp".into(), "udp".into()]], ..good.clone() },
            Outcome { ways: vec!["direct".into(), "relayed, no-answer".into()], ..good.clone() },
            Outcome::default(),
        ] {
            assert!(!bad.agrees(&good, true) && !good.agrees(&bad, true), "{bad:?}");
        }
        assert!(!Outcome::default().agrees(&Outcome::default(), false));
    }
}
