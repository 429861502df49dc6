#![cfg_attr(fuzzing, no_main)]
//! See [`posse_fuzz::steps::client_survives`].

posse_fuzz::target!(posse_fuzz::steps::client_survives);
