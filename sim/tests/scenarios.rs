//! The shipped scenarios hold, runs repeat to the bit, and the program says so by its exit code.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use posse_sim::scenario::Scenario;
use posse_sim::scenario::run::run;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let inside = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = inside(&folder).filter(|path| path.is_file()).collect();
    files.extend(inside(&folder.join("lab")));
    files.sort();
    files
}

fn read(file: &Path) -> Scenario {
    Scenario::parse(&file.display().to_string(), &std::fs::read_to_string(file).unwrap()).unwrap()
}

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_posse-sim")).args(arguments).output().unwrap()
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A scenario file of this test alone.
fn written(name: &str, text: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn every_shipped_scenario_holds() {
    let files = shipped();
    assert!(files.len() >= 8);
    for file in files {
        let scenario = read(&file);
        let outcome = run(&scenario, scenario.seed).unwrap();
        let failed: Vec<_> = outcome.verdicts.iter().filter(|verdict| !verdict.held).collect();
        assert!(outcome.held(), "{}: {failed:?} {:?} {:?}", file.display(), outcome.undone, outcome.stuck);
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let scenario = read(&shipped().into_iter().find(|file| file.ends_with("churn.toml")).unwrap());
    let (first, second) = (run(&scenario, 5).unwrap(), run(&scenario, 5).unwrap());
    assert!(first == second);
    assert_ne!(first.digest, run(&scenario, 6).unwrap().digest);
}

#[test]
fn two_processes_come_to_the_same_digest() {
    let digest = || lines(&program(&["demo", "--seed", "9", "--json"])).last().unwrap()["digest"].clone();
    let here = read(&shipped().into_iter().find(|file| file.ends_with("demo.toml")).unwrap());
    let here = format!("{:032x}", run(&here, 9).unwrap().digest);
    assert_eq!([digest(), digest()], [here.clone(), here]);
}

#[test]
fn the_exit_code_is_0_if_all_holds_1_if_not_and_2_if_the_file_is_bad() {
    assert_eq!(program(&["demo"]).status.code(), Some(0));
    let hasty = "title = \"t\"\nduration = \"1s\"\n[client.a]\n[client.b]\n\
        [[step]]\ndo = \"create-group\"\ngroup = \"g\"\nmembers = [\"a\", \"b\"]\n\
        [[expect]]\nthat = \"relayed\"\nbecause = \"forbidden\"\n";
    let not_held = program(&["run", &written("not-held.toml", hasty)]);
    assert_eq!(not_held.status.code(), Some(1));
    let bad = program(&["run", &written("bad.toml", "title = \"t\"\nduration = \"1 parsec\"\n[client.a]\n")]);
    assert_eq!(bad.status.code(), Some(2));
    let said = String::from_utf8(bad.stderr).unwrap();
    assert!(said.contains("bad.toml:2:12: duration: expected a duration"), "{said}");
    assert_eq!(program(&["run", "no-such-file.toml"]).status.code(), Some(2));
    assert_eq!(program(&["run"]).status.code(), Some(2));
}

#[test]
fn a_step_that_never_became_possible_is_no_success() {
    let text = "title = \"t\"\nduration = \"1s\"\n[client.a]\n[client.b]\nstart = \"5s\"\n\
        [[step]]\ndo = \"create-group\"\ngroup = \"g\"\nmembers = [\"a\", \"b\"]\n";
    let output = program(&["run", &written("undone.toml", text)]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("g was never created: not all its members came online"), "{said}");
}

#[test]
fn json_is_one_versioned_object_a_line() {
    let demo = lines(&program(&["demo", "--json"]));
    assert!(demo.iter().all(|line| line["v"] == 1));
    let types: Vec<_> = demo.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!((types[0], types[types.len() - 1]), ("run", "end"));
    for kind in ["event", "messages", "pair", "expectation"] {
        assert!(types.contains(&kind), "{kind}");
    }
    let described = include_str!("../../docs/json.md");
    for line in &demo {
        for field in line.as_object().unwrap().keys() {
            assert!(described.contains(&format!("`{field}`")), "docs/json.md says nothing of {field}");
        }
    }
}

#[test]
fn all_81_pairs_of_nats_agree_with_the_oracle() {
    let output = program(&["matrix", "--json"]);
    let lines = lines(&output);
    let (last, cells) = lines.split_last().unwrap();
    assert_eq!((cells.len(), &last["agree"], &last["direct"]), (81, &81.into(), &45.into()));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn random_scenarios_hold_and_two_processes_come_to_the_same_digests() {
    let swarm = |jobs| program(&["swarm", "--seeds", "20", "--jobs", jobs, "--json"]);
    let (first, second) = (swarm("1"), swarm("3"));
    assert_eq!(first.status.code(), Some(0), "{}", String::from_utf8_lossy(&first.stdout));
    assert_eq!(lines(&first).len(), 21);
    assert!(first.stdout == second.stdout);
}

#[test]
fn a_canary_fails_in_three_lines_and_leaves_a_folder() {
    let below = std::env::temp_dir().join(format!("posse-canary-{}", std::process::id()));
    let output = program(&["swarm", "--seeds", "20", "--canary", "--trace", below.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = said.lines().collect();
    let [broken, replay, folder] = lines[..] else { panic!("{said}") };
    assert!(broken.starts_with("seed ") && broken.contains("(digest "), "{broken}");
    let again: Vec<_> = replay.strip_prefix("replay: cargo sim ").unwrap().split(' ').collect();
    assert_eq!(program(&again).status.code(), Some(1));
    let folder = std::path::Path::new(folder.strip_prefix("folder: ").unwrap());
    assert!(folder.join("scenario.toml").exists() && folder.join("trace.pcapng").exists());
    std::fs::remove_dir_all(below).unwrap();
}

/// What a client by TCP that stops reading for eight seconds does to the others: 100 KB/s go to both it and carol by the relay.
#[test]
fn a_tcp_client_that_stands_still_costs_the_others_nothing() {
    let scenario = |pause: &str| {
        let client = |name: &str| format!("[client.{name}]\nlink = {{ delay = \"10ms\" }}\n");
        let text = format!(
            "title = \"One stands still\"\nduration = \"40s\"\n[server]\nlink = {{ delay = \"20ms\" }}\n{}{}{}\
             [[step]]\ndo = \"block-udp\"\nlink = \"bob\"\n\
             [[step]]\ndo = \"cut-direct\"\npair = [\"alice\", \"carol\"]\n\
             [[step]]\ndo = \"create-group\"\nat = \"1s\"\ngroup = \"room\"\nmembers = [\"alice\", \"bob\", \"carol\"]\n\
             [[step]]\ndo = \"send\"\nfrom = \"alice\"\nto = \"room\"\nkind = \"unreliable\"\nsize = 1000\nat = \"2s\"\nevery = \"10ms\"\ntimes = 2000\n\
             {pause}",
            client("alice"),
            client("bob"),
            client("carol"),
        );
        Scenario::parse("one stands still", &text).unwrap()
    };
    let p99 = |scenario: &Scenario| {
        let outcome = run(scenario, 1).unwrap();
        assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
        let to_carol = outcome.streams.iter().find(|s| scenario.host_name(s.to) == "carol").unwrap();
        let mut took = to_carol.took.clone();
        took.sort_unstable();
        (took.len(), took[took.len() * 99 / 100])
    };
    let still = "[[step]]\ndo = \"pause\"\nhost = \"bob\"\nat = \"5s\"\nlasts = \"8s\"\n";
    let (without, with) = (p99(&scenario("")), p99(&scenario(still)));
    assert_eq!((without.0, with.0), (2000, 2000));
    assert!(with.1 <= without.1 + posse_core::Duration::from_millis(1), "{with:?} beside {without:?}");
}
