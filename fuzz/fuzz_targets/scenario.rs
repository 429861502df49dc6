#![cfg_attr(fuzzing, no_main)]
//! See [`posse_fuzz::scenario::scenario`].

posse_fuzz::target!(posse_fuzz::scenario::scenario);
