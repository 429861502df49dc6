use super::*;
use crate::scenario::run;
use crate::scenario::{Action, Host, PacketFate};
use crate::swarm;
use proptest::prelude::*;

/// Judges by what is in a scenario, without running it.
fn by(fails: impl Fn(&Scenario) -> bool) -> impl FnMut(&Scenario) -> ControlFlow<(), Option<Kind>> {
    move |s| ControlFlow::Continue(fails(s).then(|| Kind::Model("broken".to_owned())))
}

fn is_send(action: &Action) -> bool {
    matches!(action, Action::Send(sending) if sending.from != Host::Server)
}

/// So many of each kind of step must be there for it to fail.
fn needs([creates, sends, cuts]: [usize; 3]) -> impl Fn(&Scenario) -> bool {
    move |s| {
        let count = |of: fn(&Action) -> bool| s.steps.iter().filter(|step| of(&step.action)).count();
        count(|a| matches!(a, Action::CreateGroup { .. })) >= creates
            && count(is_send) >= sends
            && count(|a| matches!(a, Action::Cut { .. } | Action::CutDirect { .. })) >= cuts
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_left_fails_and_has_no_step_too_many_and_comes_out_again(
        seed in 0u64..500,
        wanted in [0usize..2, 0usize..3, 0usize..2],
    ) {
        let scenario = Scenario::random(seed);
        let fails = needs(wanted);
        prop_assume!(fails(&scenario));
        let once = shrink(&scenario, seed, 5_000, &mut by(&fails)).expect("it fails");
        prop_assert!(once.done && fails(&once.scenario));
        prop_assert!(once.scenario.packets.is_empty());
        for step in 0..once.scenario.steps.len() {
            let mut fewer = once.scenario.clone();
            fewer.steps.remove(step);
            prop_assert!(!fails(&tidy(fewer, Expectations::Derived)), "step {} is not needed", step);
        }
        let again = shrink(&scenario, seed, 5_000, &mut by(&fails)).expect("it fails");
        prop_assert_eq!(once, again);
    }

    #[test]
    fn what_is_left_can_be_a_file_and_expects_what_follows_from_it(seed in 0u64..500) {
        let scenario = Scenario::random(seed);
        let left = shrink(&scenario, seed, 300, &mut by(|s| s.clients.len() > 1)).expect("it fails").scenario;
        let read = Scenario::parse("shrunk", &left.to_toml().expect("a file")).expect("a scenario");
        prop_assert_eq!(Expectations::of(&read), Expectations::Derived);
        prop_assert_eq!(read.steps, left.steps);
    }
}

#[test]
fn what_chances_came_to_comes_again_without_them_to_the_bit() {
    for seed in 0..10 {
        let scenario = Scenario::random(seed);
        let listed = explicit(&scenario, seed).expect("it runs");
        let (drawn, said) = (run::run(&scenario, seed).expect("it runs"), run::run(&listed, seed).expect("it runs"));
        assert_eq!(drawn.digest, said.digest, "seed {seed}");
        let again = explicit(&listed, seed).expect("it runs");
        assert_eq!(listed, again, "seed {seed}: a list comes to itself");
        assert_eq!(
            Scenario::parse("listed", &listed.to_toml().expect("a file")).map(|s| s.packets),
            Ok(listed.packets)
        );
    }
}

#[test]
fn a_single_loss_that_matters_is_found_among_many() {
    let scenario = (0..).map(Scenario::random).find(|s| s.server.up.loss > crate::Chance::NEVER).expect("one of two");
    let listed = explicit(&scenario, scenario.seed).expect("it runs");
    let wanted = listed.packets[listed.packets.len() / 2];
    let fails = |s: &Scenario| {
        let chance = explicit(s, s.seed).is_some_and(|s| s.packets.contains(&wanted));
        if s.packets.is_empty() { chance } else { s.packets.contains(&wanted) }
    };
    let mut judge = by(fails);
    let mut shrinker = Shrinker {
        best: listed,
        kind: Kind::Model("broken".to_owned()),
        expectations: Expectations::Derived,
        left: 1_000,
        runs: 0,
        over: false,
        judge: &mut judge,
    };
    shrinker.drop_from(|s: &mut Scenario| -> &mut Vec<PacketFate> { &mut s.packets });
    assert_eq!(shrinker.best.packets, [wanted]);
}

#[test]
fn what_does_not_fail_is_not_shrunk_and_a_judge_who_breaks_off_is_heeded() {
    let scenario = Scenario::random(1);
    assert_eq!(shrink(&scenario, 1, 100, &mut by(|_| false)), None);
    let mut patience = 10;
    let mut judge = |_: &Scenario| {
        patience -= 1;
        if patience < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(Some(Kind::Busy)) }
    };
    let left = shrink(&scenario, 1, 100, &mut judge).expect("it fails");
    assert_eq!((left.done, left.runs), (false, 11));
    let left = shrink(&scenario, 1, 5, &mut by(|_| true)).expect("it fails");
    assert_eq!((left.done, left.runs), (false, 6));
}

#[test]
fn another_failure_is_not_taken_for_the_same() {
    let scenario = Scenario::random(1);
    let mut judge = |s: &Scenario| {
        let kind = if s.steps.len() > 3 { Kind::Busy } else { Kind::Livelock };
        ControlFlow::Continue(Some(kind))
    };
    let left = shrink(&scenario, 1, 5_000, &mut judge).expect("it fails");
    assert_eq!((left.scenario.steps.len(), left.kind), (4, Kind::Busy));
}

#[test]
fn a_planted_loss_shrinks_to_a_few_steps_and_what_is_left_is_sound_without_it() {
    let scenario = Scenario::random(1);
    let mut judge = |s: &Scenario| {
        let verdict = swarm::judge_scenario(s, s.seed, swarm::Canary::On);
        ControlFlow::Continue(verdict.failures.first().map(|failure| failure.kind.clone()))
    };
    let left = shrink(&scenario, 1, 2_000, &mut judge).expect("the canary is found");
    assert!(left.scenario.events() <= 2, "{:?}", left.scenario);
    let sound = swarm::judge_scenario(&left.scenario, left.scenario.seed, swarm::Canary::Off);
    assert!(sound.failures.is_empty(), "{:?}", sound.failures);
}
