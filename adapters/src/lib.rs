//! posse
