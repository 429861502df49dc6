//! Reference models: what must come of a run, computed anew from what its applications did, in code that shares nothing
//! with the protocol. A run's journals are held against them.

pub(crate) mod channels;
pub(crate) mod membership;
