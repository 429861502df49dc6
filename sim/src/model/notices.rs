//! What a client's application may be told, where that much is due to it.
//!
//! It depends on when the client's machine hears of it, and when the application asks:
//!
//! 1. what is due arrives in order, cut into batches: each holds what arrived between two moments at which the application
//!    asked for everything there was;
//! 2. in a batch, a leave strikes a join of the same member that stands before it, and is not told either; the client's
//!    own leave strikes the joins of all others in that group, too, but tells nothing of them;
//! 3. what is left of a batch is told, in order, at one moment.
//!
//! So what was told is right if there is a way to cut what was due into batches that yields it. All ways are tried at once:
//! a state is how much of both has been used up, and a batch leads from one state to another. What is due from one step of
//! the server that touches several groups may come in any order.

use crate::scenario::{ClientIndex, GroupIndex};
use posse_core::{Instant, LeaveReason};
use std::collections::BTreeSet;

/// What a client is told of a group's member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Notice {
    Joined(GroupIndex, ClientIndex),
    Left(GroupIndex, ClientIndex, LeaveReason),
}

/// A notice and when the server did what it tells of. Those of one number may come in any order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) number: u64,
    pub(super) at: Instant,
    pub(super) notice: Notice,
}

/// Whether what was told follows from what was due. If not, how much of either could be used up at the most.
pub(super) fn follows(me: ClientIndex, due: &[Due], told: &[(Instant, Notice)]) -> Result<(), (usize, usize)> {
    let mut states = BTreeSet::from([(0, 0)]);
    let mut best = (0, 0);
    // By what was used up of what was due, so that each state is left after all that lead to it.
    while let Some((used, matched)) = states.pop_first() {
        best = best.max((matched, used));
        if matched == told.len() {
            return Ok(());
        }
        // A batch that tells something tells it at the moment of the next thing told, from what the server did by then.
        let next = told.get(matched..).unwrap_or_default();
        let now = next.first().map_or(Instant::FAR, |(at, _)| *at);
        let (mut left, mut end) = (Vec::new(), used);
        while let Some(arrived) = due.get(end).filter(|due| due.at <= now) {
            arrive(me, &mut left, *arrived);
            end += 1;
            if left.len() <= next.len() && tells(&left, next, now) {
                states.insert((end, matched + left.len()));
            }
        }
    }
    Err((best.1, best.0))
}

/// What is left of a batch when one more notice arrives.
fn arrive(me: ClientIndex, batch: &mut Vec<Due>, due: Due) {
    if let Notice::Left(group, member, _) = due.notice {
        let count = batch.len();
        batch.retain(|due| due.notice != Notice::Joined(group, member));
        let struck = batch.len() < count;
        if member == me {
            batch.retain(|due| !matches!(due.notice, Notice::Joined(g, _) if g == group));
        }
        if struck {
            return;
        }
    }
    batch.push(due);
}

/// Whether `next` begins with that batch, told at that moment.
fn tells(batch: &[Due], next: &[(Instant, Notice)], now: Instant) -> bool {
    let Some(next) = next.get(..batch.len()).filter(|next| next.iter().all(|(at, _)| *at == now)) else { return false };
    let mut rest = next;
    batch.chunk_by(|a, b| a.number == b.number).all(|any_order| {
        let (these, others) = rest.split_at(any_order.len());
        rest = others;
        let mut these: Vec<_> = these.iter().map(|(_, notice)| *notice).collect();
        let mut those: Vec<_> = any_order.iter().map(|due| due.notice).collect();
        these.sort_unstable();
        those.sort_unstable();
        these == those
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: GroupIndex = GroupIndex(0);
    const ME: ClientIndex = ClientIndex(0);
    const JOINED: fn(usize) -> Notice = |who| Notice::Joined(ROOM, ClientIndex(who));
    const LEFT: fn(usize) -> Notice = |who| Notice::Left(ROOM, ClientIndex(who), LeaveReason::Left);

    fn holds(due: &[Notice], told: &[(u64, Notice)]) -> bool {
        let due: Vec<_> = (0..).zip(due).map(|(number, &notice)| Due { number, at: Instant::ZERO, notice }).collect();
        let told: Vec<_> = told.iter().map(|(at, notice)| (Instant::from_millis(*at), *notice)).collect();
        follows(ME, &due, &told).is_ok()
    }

    #[test]
    fn what_ended_before_anyone_asked_is_not_told_and_what_was_told_of_must_be_ended() {
        let due = [JOINED(0), JOINED(1), LEFT(1), JOINED(1)];
        assert!(holds(&due, &[(1, JOINED(0)), (2, JOINED(1)), (3, LEFT(1)), (4, JOINED(1))]));
        assert!(holds(&due, &[(1, JOINED(0)), (2, JOINED(1))]));
        assert!(holds(&due, &[]), "it may not have asked yet");
        assert!(!holds(&due, &[(1, JOINED(0)), (2, JOINED(1)), (3, JOINED(1))]));
        assert!(!holds(&due, &[(1, JOINED(0)), (2, LEFT(1))]));
    }

    #[test]
    fn the_own_leave_takes_along_who_had_come_and_was_not_told_of() {
        let due = [JOINED(0), JOINED(1), JOINED(2), LEFT(0)];
        assert!(holds(&due, &[(1, JOINED(0)), (2, JOINED(1)), (3, LEFT(0))]));
        assert!(!holds(&due, &[(1, JOINED(0)), (1, JOINED(1)), (2, LEFT(1))]));
    }

    #[test]
    fn nothing_is_told_before_the_server_did_it() {
        let due = [Due { number: 0, at: Instant::from_millis(5), notice: JOINED(0) }];
        assert!(follows(ME, &due, &[(Instant::from_millis(5), JOINED(0))]).is_ok());
        assert!(follows(ME, &due, &[(Instant::from_millis(4), JOINED(0))]).is_err());
    }
}
