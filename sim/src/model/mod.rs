//! Reference models: what must come of a run, computed anew from what its applications did, in code that shares nothing
//! with the protocol. A run's journals are held against them.

pub(crate) mod channels;
pub(crate) mod exact;
pub(crate) mod latency;
pub(crate) mod membership;
mod notices;
pub(crate) mod presence;

use crate::scenario::ClientIndex;
use crate::scenario::journal::{Entry, What};
use posse_core::EndReason;
use std::collections::BTreeMap;

#[cfg(test)]
mod testing {
    //! What the tests of several models write journals of.
    use super::{ClientIndex, Entry, What};
    use crate::scenario::GroupIndex;
    use posse_core::Instant;

    pub(super) const ROOM: GroupIndex = GroupIndex(0);
    pub(super) const A: ClientIndex = ClientIndex(0);
    pub(super) const B: ClientIndex = ClientIndex(1);

    pub(super) fn entry(at: u64, what: What) -> Entry {
        Entry { at: Instant::from_millis(at), who: None, what }
    }
}

/// A client's session: whose, and how many it had before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Session {
    client: ClientIndex,
    before: usize,
}

/// The sessions of all clients, by the server's entries: a client that restarts comes back as another.
#[derive(Default)]
struct Sessions {
    /// How many each client had.
    had: BTreeMap<ClientIndex, usize>,
    /// Those that are not over, by age.
    live: Vec<Session>,
    /// The one that the last entry ended.
    over: Option<Session>,
}

impl Sessions {
    fn on(&mut self, entry: &Entry) {
        self.over = None;
        match entry.what {
            What::Accepted(client) => {
                let had = self.had.entry(client).or_default();
                self.live.push(Session { client, before: *had });
                *had += 1;
            }
            What::ClientLeft(client, why) => {
                // Of several the one that nobody answers for any more runs idle; the others can be ended otherwise.
                let mut theirs = self.live.iter().copied().filter(|session| session.client == client);
                let over = if why == EndReason::TimedOut { theirs.next() } else { theirs.next_back() };
                let over = over.unwrap_or(self.latest(client));
                self.live.retain(|session| *session != over);
                self.over = Some(over);
            }
            What::Restarted => self.live.clear(),
            _ => {}
        }
    }

    /// The one that the server's application means.
    fn latest(&self, client: ClientIndex) -> Session {
        Session { client, before: self.had.get(&client).map_or(0, |had| had.saturating_sub(1)) }
    }
}

/// The server's entries without steps that it refused, which changed nothing.
fn done(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    // It says so at once; of messages it speaks, too.
    let refused = |what: &What| matches!(what, What::Refused(why) if !why.starts_with("send"));
    let after = entries.iter().skip(1).map(Some).chain([None]);
    entries.iter().zip(after).filter_map(move |(entry, after)| {
        (!after.is_some_and(|next| next.at == entry.at && refused(&next.what))).then_some(entry)
    })
}
