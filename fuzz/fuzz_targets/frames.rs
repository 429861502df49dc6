#![cfg_attr(fuzzing, no_main)]
//! See [`posse_fuzz::parsers::frames`].

posse_fuzz::target!(posse_fuzz::parsers::frames);
