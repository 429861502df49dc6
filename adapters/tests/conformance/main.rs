//! What every adapter promises, each scenario run over each of them, on loopback sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod adapter;
mod legs;
mod scene;
mod sessions;
mod traffic;

/// A test for each scenario, over one adapter.
macro_rules! over {
    ($adapter:ty: $($file:ident::$scenario:ident),* $(,)?) => {
        $(#[test]
        fn $scenario() {
            crate::$file::$scenario::<$adapter>();
        })*
    };
}

macro_rules! suite {
    ($name:ident, $adapter:ty) => {
        mod $name {
            over!($adapter:
                sessions::a_client_is_let_in_with_what_each_had_to_say,
                sessions::what_a_rejected_client_is_told_is_the_servers_own_word,
                sessions::a_client_of_another_application_is_told_so,
                sessions::a_login_without_answer_fails_in_time,
                sessions::options_that_cannot_work_are_refused_at_once,
                sessions::a_dropped_client_leaves_at_once,
                sessions::whom_the_server_ends_is_told,
                sessions::a_server_that_goes_says_so,
                sessions::what_was_sent_before_the_end_comes_before_the_end,
                sessions::a_room_is_joined_by_its_name,
                traffic::a_group_messages_one_another,
                traffic::a_pair_goes_direct_and_loses_repeats_and_reorders_nothing,
                traffic::a_long_message_comes_whole,
                traffic::what_finds_no_room_is_refused_until_there_is_some,
                traffic::what_waits_for_room_is_sent_once_there_is_some,
                traffic::ipv6_is_as_good_as_ipv4,
                traffic::a_message_leaves_without_waiting_for_anything,
                legs::a_client_without_udp_and_one_with_it_converse,
                legs::udp_that_dies_and_returns_costs_no_message,
                legs::who_only_opens_connections_is_hung_up_on_and_keeps_nobody_out,
                legs::a_server_without_tcp_is_not_reached_by_it,
            );
        }
    };
}

suite!(game_loop, crate::adapter::GameLoop);
#[cfg(feature = "tokio")]
suite!(tokio_service, crate::adapter::Tokio);
