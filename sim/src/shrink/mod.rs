//! A scenario that fails, made as small as it still fails in the same way.
//!
//! [`shrink`] proposes smaller scenarios and keeps one if a judge, who runs it, finds the [same kind](Kind) of failure: steps
//! are dropped by halves and then singly (delta debugging: Zeller and Hildebrandt, "Simplifying and Isolating
//! Failure-Inducing Input", 2002), repetitions reduced, links made perfect one effect at a time, NATs made simple or taken
//! away, hosts and groups removed, the end brought forward, messages made small and few. When nothing of that helps any
//! more, what the remaining chances came to becomes [a list](explicit()), which shrinks like the steps: the result needs no
//! chance. All of it again until nothing changes.
//!
//! This works since nothing that is taken away changes the chances of what is left (see [`Link`](crate::Link)), and is sound since
//! what must hold is derived anew from each smaller script: no expectation outlives its reason. An expectation that somebody
//! wrote down stays, and the failure must then look the same in what was found, too.
//!
//! The same scenario and judge give the same result: there is no clock here. Who wants to stop in time counts runs, or has
//! the judge break off.

mod explicit;
mod passes;
mod reduce;
#[cfg(test)]
mod tests;

pub use crate::scenario::failure::Kind;
pub use explicit::explicit;

use crate::scenario::Scenario;
use reduce::{Expectations, tidy};
use std::ops::ControlFlow;

/// Who runs a scenario and says what kind of failure came first, if any; or breaks off.
pub type Judge<'a> = dyn FnMut(&Scenario) -> ControlFlow<(), Option<Kind>> + 'a;

/// What became of a scenario.
#[derive(Clone, PartialEq, Debug)]
pub struct Shrunk {
    /// The smallest one found that fails in the same way.
    pub scenario: Scenario,
    /// In which way.
    pub kind: Kind,
    /// How many scenarios the judge saw.
    pub runs: u32,
    /// Whether nothing was left to try, rather than the runs used up or the judge gone.
    pub done: bool,
}

/// Makes `scenario`, which fails when it runs with `seed`, as small as it gets within `runs` runs. `None` if it does not fail.
pub fn shrink(scenario: &Scenario, seed: u64, runs: u32, judge: &mut Judge<'_>) -> Option<Shrunk> {
    let start = Scenario { seed, ..scenario.clone() };
    let ControlFlow::Continue(Some(kind)) = judge(&start) else { return None };
    let expectations = Expectations::of(&start);
    let mut shrinker = Shrinker { best: start, kind, expectations, left: runs, runs: 1, over: false, judge };
    loop {
        let before = shrinker.best.clone();
        shrinker.round();
        let unchanged = before == shrinker.best;
        if shrinker.over || (unchanged && !shrinker.make_explicit()) {
            break;
        }
    }
    let Shrinker { mut best, kind, runs, over, .. } = shrinker;
    if best.events() < scenario.events() && !best.title.ends_with(SHRUNK) {
        best.title += SHRUNK;
    }
    Some(Shrunk { scenario: best, kind, runs, done: !over })
}

/// Ends the title of what was made smaller.
const SHRUNK: &str = ", shrunk";

struct Shrinker<'a, 'j> {
    best: Scenario,
    kind: Kind,
    expectations: Expectations,
    /// Runs that are left.
    left: u32,
    runs: u32,
    /// They are used up, or the judge broke off.
    over: bool,
    judge: &'a mut Judge<'j>,
}

impl Shrinker<'_, '_> {
    /// Takes `smaller` for the best if it fails in the same way.
    fn attempt(&mut self, smaller: Scenario) -> bool {
        let smaller = tidy(smaller, self.expectations);
        if self.over || smaller == self.best {
            return false;
        }
        if self.left == 0 {
            self.over = true;
            return false;
        }
        (self.left, self.runs) = (self.left - 1, self.runs + 1);
        match (self.judge)(&smaller) {
            ControlFlow::Break(()) => {
                self.over = true;
                false
            }
            ControlFlow::Continue(found) if found.as_ref() == Some(&self.kind) => {
                self.best = smaller;
                true
            }
            ControlFlow::Continue(_) => false,
        }
    }

    /// The same, with what `change` makes of the best.
    fn change(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut smaller = self.best.clone();
        change(&mut smaller);
        self.attempt(smaller)
    }

    /// Drops what it can of a list: first halves, then quarters, at last each single one, until none of them can go.
    fn drop_from<T>(&mut self, list: impl Fn(&mut Scenario) -> &mut Vec<T>) {
        let mut size = list(&mut self.best).len().div_ceil(2);
        while size > 0 && !self.over {
            let (mut at, mut dropped) = (0, false);
            while at < list(&mut self.best).len() && !self.over {
                // What depends on what goes, goes too: the list may get shorter by more than a chunk.
                let chunk = |s: &mut Scenario| {
                    let list = list(s);
                    list.drain(at..at.saturating_add(size).min(list.len()));
                };
                if self.change(chunk) {
                    dropped = true;
                } else {
                    at += size;
                }
            }
            size = match size {
                1 if dropped => 1,
                _ => size / 2,
            };
        }
    }

    /// Makes a number as small as it can be from `low` on: `low` itself, else by halving what lies between.
    fn lower(&mut self, low: u64, high: u64, set: impl Fn(&mut Scenario, u64)) {
        let (mut low, mut high) = (low, high);
        if low >= high || self.change(|s| set(s, low)) {
            return;
        }
        while high - low > 1 && !self.over {
            let middle = low + (high - low) / 2;
            if self.change(|s| set(s, middle)) {
                high = middle;
            } else {
                low = middle;
            }
        }
    }
}
