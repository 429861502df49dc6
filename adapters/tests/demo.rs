//! `posse demo` as a person or a script runs it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::Value;
use std::process::{Command, Output};

fn posse(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_posse")).args(arguments).output().unwrap()
}

#[test]
fn the_demo_holds_and_tells_it_in_lines_of_json() {
    let output = posse(&["demo", "--json", "--seconds", "1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.iter().all(|l| l["v"] == 1 && l["type"] == l["event"]), "{text}");
    let of = |event: &str| lines.iter().filter(|l| l["event"] == event).count();
    assert_eq!((of("logged_in"), of("group_formed"), of("first_message"), of("pair")), (3, 1, 6, 6), "{text}");
    assert_eq!(lines.last().unwrap()["ok"], true, "{text}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_wrong_command_line_is_told_and_ends_with_2() {
    for arguments in [&["demo", "--seconds", "0"][..], &["dance"], &["demo", "--fast"]] {
        let output = posse(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr).unwrap().contains("--help"));
    }
}
