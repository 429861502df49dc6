//! Tests that cross crates live under `tests/tests/`; this library only holds what several of them share.
