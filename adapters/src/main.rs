//! The `posse` program.
fn main() {}
