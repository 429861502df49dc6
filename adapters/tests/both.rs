//! What the game-loop adapter can, the async adapter can: an application that changes from one to the other finds the same calls.

use std::collections::BTreeSet;

/// The calls with which an application drives its own loop; a task does so in the async adapter.
const LOOP: [&str; 5] = ["update", "flush", "wait", "next_event", "is_quiet"];

/// Names of the public functions of one type in a source file.
fn calls(source: &str, of: &str) -> BTreeSet<String> {
    let begin = source.find(&format!("\nimpl {of} {{")).expect("the type has functions");
    let body = &source[begin + 1..];
    let body = &body[..body.find("\n}").expect("it ends")];
    let name = |line: &str| {
        let line = line.strip_prefix("    pub ")?;
        let line = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
        Some(line.split(['(', '<']).next()?.to_owned())
    };
    body.lines().filter_map(name).collect()
}

fn missing(of: &str, game_loop: &str, asynchronous: &str, instead: &[(&str, &str)]) -> Vec<String> {
    let there = calls(asynchronous, of);
    let has = |call: &String| {
        let call = instead.iter().find(|(from, _)| from == call).map_or(call.as_str(), |(_, to)| to);
        LOOP.contains(&call) || there.contains(call)
    };
    calls(game_loop, of).into_iter().filter(|call| !has(call)).collect()
}

#[test]
fn the_async_client_can_all_that_the_game_loop_client_can() {
    let (game_loop, asynchronous) =
        (include_str!("../src/std_client.rs"), include_str!("../src/asynchronous/client.rs"));
    assert!(calls(game_loop, "Client").len() > 15, "the functions are found at all");
    assert_eq!(missing("Client", game_loop, asynchronous, &[("disconnect", "close")]), Vec::<String>::new());
}

#[test]
fn the_async_server_can_all_that_the_game_loop_server_can() {
    let (game_loop, asynchronous) =
        (include_str!("../src/std_server.rs"), include_str!("../src/asynchronous/server.rs"));
    assert!(calls(game_loop, "Server").len() > 25, "the functions are found at all");
    assert_eq!(missing("Server", game_loop, asynchronous, &[]), Vec::<String>::new());
}
