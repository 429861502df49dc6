//! Which scope sends next: strict classes with a floor, and deficit round robin within a class.
//!
//! A scope that has something to send stands in the ring of the most urgent class among its waiting messages, so that an
//! urgent one is not held up by those before it in its scope. The scope in front sends until it has used up its deficit, then
//! goes to the back with a quantum more (Shreedhar and Varghese, "Efficient Fair Queuing Using Deficit Round-Robin", 1995;
//! what a piece takes beyond the deficit is paid back in later rounds, so scopes stay within a packet of each other).
//!
//! A ring is served only while those before it are empty, but each class below the first is owed a share of what the
//! others send, and once a packet is owed, it goes first.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Control messages, then the application's classes from the most to the least urgent.
pub(super) const RANKS: usize = 4;
/// Control messages.
pub(super) const CONTROL: usize = 0;
/// The application's first class, which is owed nothing: nobody but control goes before it.
pub(super) const FIRST: usize = 1;

/// What a scope may send in a turn, bytes: about a packet, so that a turn costs others no more.
const QUANTUM: i64 = 1200;

/// A class that waits is owed one byte of so many that others send: 6.25 %, to be above 5 % whatever packets lose to
/// being cut.
const FLOOR: u64 = 16;

/// What a class is owed at most, bytes: two packets, so that what built up cannot come as a burst.
const MOST_OWED: u64 = 2 * QUANTUM as u64;

/// A scope that has sent or waited.
#[derive(Debug)]
struct Flow {
    id: u64,
    /// Messages that are not completely sent, by rank.
    waiting: [u32; RANKS],
    /// In which rings its id stands. Where it does not belong any more, it is taken out when it comes up.
    on: [bool; RANKS],
    /// Waits for credit.
    blocked: bool,
    /// The ring it belongs in: of its most urgent message that waits, unless it is blocked. Worked out when either changes.
    rank: Option<usize>,
    /// Bytes it may still send in this turn; below zero, what it sent too much.
    deficit: i64,
}

impl Flow {
    fn set_rank(&mut self) {
        self.rank = if self.blocked { None } else { self.waiting.iter().position(|&n| n > 0) };
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Ascending by id.
    flows: Vec<Flow>,
    rings: [VecDeque<u64>; RANKS],
    /// Sixteenths of bytes that a class is owed.
    owed: [u64; RANKS],
}

impl Turns {
    /// One more message of a scope waits.
    pub(super) fn wait(&mut self, id: u64, rank: usize) {
        let at = match self.flows.binary_search_by_key(&id, |f| f.id) {
            Ok(at) => at,
            Err(at) => {
                let flow = Flow { id, waiting: [0; RANKS], on: [false; RANKS], blocked: false, rank: None, deficit: 0 };
                self.flows.insert(at, flow);
                at
            }
        };
        let Some(flow) = self.flows.get_mut(at) else { return };
        if flow.waiting == [0; RANKS] {
            flow.deficit = flow.deficit.min(0) + QUANTUM;
        }
        if let Some(count) = flow.waiting.get_mut(rank) {
            *count += 1;
        }
        self.place(at);
    }

    /// A message that waited was sent completely, or is gone.
    pub(super) fn done(&mut self, id: u64, rank: usize) {
        let Some(at) = self.find(id) else { return };
        if let Some(count) = self.flows.get_mut(at).and_then(|f| f.waiting.get_mut(rank)) {
            *count = count.saturating_sub(1);
        }
        self.place(at);
    }

    /// A scope is over.
    pub(super) fn forget(&mut self, id: u64) {
        if let Some(at) = self.find(id) {
            self.flows.remove(at);
            self.rings.iter_mut().for_each(|ring| ring.retain(|&other| other != id));
        }
    }

    /// Not before [`Self::unblock`].
    pub(super) fn block(&mut self, id: u64) {
        if let Some(flow) = self.find(id).and_then(|at| self.flows.get_mut(at)) {
            flow.blocked = true;
            flow.rank = None;
        }
    }

    pub(super) fn unblock(&mut self, id: u64) {
        if let Some(at) = self.find(id) {
            self.unblock_at(at);
        }
    }

    pub(super) fn unblock_all(&mut self) {
        (0..self.flows.len()).for_each(|at| self.unblock_at(at));
    }

    fn unblock_at(&mut self, at: usize) {
        if let Some(flow) = self.flows.get_mut(at).filter(|flow| flow.blocked) {
            flow.blocked = false;
            self.place(at);
        }
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.flows.binary_search_by_key(&id, |f| f.id).ok()
    }

    fn place(&mut self, at: usize) {
        let Some(flow) = self.flows.get_mut(at) else { return };
        flow.set_rank();
        if let Some(rank) = flow.rank
            && let (Some(on), Some(ring)) = (flow.on.get_mut(rank), self.rings.get_mut(rank))
            && !core::mem::replace(on, true)
        {
            ring.push_back(flow.id);
        }
    }

    /// Nobody stands in any ring.
    pub(super) fn is_idle(&self) -> bool {
        self.rings.iter().all(VecDeque::is_empty)
    }

    /// Nobody stands in the class's ring.
    #[inline]
    pub(super) fn is_empty(&self, rank: usize) -> bool {
        self.rings.get(rank).is_none_or(VecDeque::is_empty)
    }

    /// Whose turn it is in a class, or who follows `skip` places behind.
    #[inline]
    pub(super) fn turn(&mut self, rank: usize, skip: usize) -> Option<u64> {
        // Asked several times a packet, mostly of classes that nobody uses.
        if self.is_empty(rank) { None } else { self.search(rank, skip) }
    }

    fn search(&mut self, rank: usize, skip: usize) -> Option<u64> {
        let Self { flows, rings, .. } = self;
        let ring = rings.get_mut(rank)?;
        let (mut at, mut left) = (0, skip);
        loop {
            let id = *ring.get(at)?;
            let flow = flows.binary_search_by_key(&id, |f| f.id).ok().and_then(|at| flows.get_mut(at));
            match flow {
                Some(flow) if flow.rank == Some(rank) => {
                    if at == 0 && flow.deficit <= 0 {
                        flow.deficit += QUANTUM;
                        ring.rotate_left(1);
                    } else if left == 0 {
                        return Some(id);
                    } else {
                        (at, left) = (at + 1, left - 1);
                    }
                }
                flow => {
                    ring.remove(at);
                    if let Some(on) = flow.and_then(|f| f.on.get_mut(rank)) {
                        *on = false;
                    }
                }
            }
        }
    }

    /// Those whose turn it is or will be, class by class, and their class.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (usize, u64)> {
        (0..RANKS).zip(&self.rings).flat_map(move |(rank, ring)| {
            let is_live = move |id: &u64| self.rank(*id) == Some(rank);
            ring.iter().copied().filter(is_live).map(move |id| (rank, id))
        })
    }

    /// The class that a scope is served in now.
    pub(super) fn rank(&self, id: u64) -> Option<usize> {
        self.find(id).and_then(|at| self.flows.get(at)).and_then(|flow| flow.rank)
    }

    /// A scope sent so many bytes of new data.
    pub(super) fn spend(&mut self, id: u64, bytes: usize) {
        if let Some(flow) = self.find(id).and_then(|at| self.flows.get_mut(at)) {
            flow.deficit = flow.deficit.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// A class sent so many bytes: that much nearer are the others to what they are owed.
    pub(super) fn pay(&mut self, rank: usize, bytes: usize) {
        let bytes = bytes as u64;
        for (class, owed) in self.owed.iter_mut().enumerate().skip(FIRST + 1) {
            *owed = match class == rank {
                true => owed.saturating_sub(bytes * FLOOR),
                false => (*owed + bytes).min(MOST_OWED * FLOOR),
            };
        }
    }

    /// In which order the classes fill the packet at hand; `again` says whether a class has something to repeat.
    pub(super) fn order(&mut self, again: impl Fn(usize) -> bool) -> [usize; RANKS - 1] {
        let mut order = [1, 2, 3];
        let mut most = QUANTUM as u64 * FLOOR;
        for class in FIRST + 1..RANKS {
            let waits = again(class) || self.turn(class, 0).is_some();
            let Some(owed) = self.owed.get_mut(class) else { continue };
            // Who has nothing to send is owed nothing.
            *owed = if waits { *owed } else { 0 };
            if *owed >= most {
                (most, order) = (*owed + 1, if class == 2 { [2, 1, 3] } else { [3, 1, 2] });
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec;

    /// Sends packets of `room` bytes in which whoever's turn it is fills what is left; says who sent how much.
    fn send(turns: &mut Turns, packets: usize, room: usize, most: impl Fn(u64) -> usize) -> BTreeMap<u64, usize> {
        let mut sent = BTreeMap::new();
        for _ in 0..packets {
            let mut left = room;
            for rank in turns.order(|_| false) {
                while left > 0
                    && let Some(id) = turns.turn(rank, 0)
                {
                    let bytes = most(id).min(left);
                    turns.spend(id, bytes);
                    turns.pay(rank, bytes);
                    *sent.entry(id).or_default() += bytes;
                    left -= bytes;
                }
            }
        }
        sent
    }

    proptest! {
        #[test]
        fn scopes_of_a_class_share_it_within_a_packet_whatever_their_messages_sizes(
            sizes in proptest::collection::vec(1usize..1200, 2..9), packets in 20usize..200,
        ) {
            let mut turns = Turns::default();
            (0..sizes.len()).for_each(|id| turns.wait(id as u64, 2));
            let sent = send(&mut turns, packets, 1171, |id| sizes[id as usize]);
            let (least, most) = (sent.values().min().unwrap(), sent.values().max().unwrap());
            prop_assert_eq!(sent.len(), sizes.len());
            // A turn is a quantum long, and one's last piece goes up to a packet beyond.
            prop_assert!(most - least <= 2 * 1200, "{sent:?}");
        }

        #[test]
        fn a_class_that_waits_gets_its_floor_and_the_rest_goes_to_the_most_urgent(
            classes in proptest::collection::btree_set(1usize..4, 1..4), size in 100usize..1200,
        ) {
            let mut turns = Turns::default();
            classes.iter().for_each(|&rank| turns.wait(rank as u64, rank));
            let sent = send(&mut turns, 1000, 1171, |_| size);
            let (total, first) = (sent.values().sum::<usize>(), *classes.first().unwrap() as u64);
            for (id, bytes) in &sent {
                let share = *bytes as f64 / total as f64;
                prop_assert!(share >= 0.05, "{sent:?}");
                prop_assert!((*id == first) == (share > 0.5), "{sent:?}");
                prop_assert!(*id == first || share < 0.08, "{sent:?}");
            }
        }
    }

    #[test]
    fn an_urgent_message_pulls_those_before_it_in_its_scope_along() {
        let mut turns = Turns::default();
        turns.wait(1, 2);
        turns.wait(2, 3);
        assert_eq!(turns.order(|_| false).map(|rank| turns.turn(rank, 0)), [None, Some(1), Some(2)]);
        turns.wait(2, 1);
        assert_eq!(turns.order(|_| false).map(|rank| turns.turn(rank, 0)), [Some(2), Some(1), None]);
        turns.done(2, 3);
        turns.done(2, 1);
        assert_eq!(turns.waiting().collect::<Vec<_>>(), [(2, 1)]);
    }

    #[test]
    fn who_waits_for_credit_is_passed_over_and_comes_back() {
        let mut turns = Turns::default();
        (1..4).for_each(|id| turns.wait(id, 2));
        turns.block(1);
        assert_eq!((turns.turn(2, 0), turns.turn(2, 1), turns.turn(2, 2)), (Some(2), Some(3), None));
        turns.unblock(1);
        assert_eq!((0..4).map(|skip| turns.turn(2, skip)).collect::<Vec<_>>(), vec![Some(2), Some(3), Some(1), None]);
        turns.forget(2);
        assert_eq!(turns.turn(2, 0), Some(3));
    }

    #[test]
    fn what_a_scope_sent_too_much_it_pays_back_even_if_it_paused() {
        let mut turns = Turns::default();
        turns.wait(1, 2);
        turns.wait(2, 2);
        turns.spend(1, 5000);
        turns.done(1, 2);
        turns.wait(1, 2);
        let sent = send(&mut turns, 4, 1200, |_| 1200);
        assert_eq!(sent, BTreeMap::from([(1, 1200), (2, 3600)]), "three quanta are owed");
    }
}
