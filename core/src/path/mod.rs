//! Hole punching: candidates, probing, verdict.
