"""`--quick`: the tests that need no PC/SC daemon and hardly a process of their own, to be run after a small change.

Left out are those that ask for the daemon, those that take half a second or more, and the files below, which try promises hundreds
of times or start processes. An async test runs on one event loop (tests/support/faces.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

DAEMON = {"_daemon", "_emptied", "foreign", "pcscd"}
"""Fixtures that need it."""

LEFT_OUT = {
    *("benchmarks", "facts", "promises", "cli/test_demo.py", "cli/test_init.py", "cli/test_shell.py", "cli/test_watch.py"),
    *("cli/test_serve.py", "distributed", "examples/test_web_readers.py"),
    *("test_conftest.py", "test_loop_watch.py", "test_measuring.py", "test_packaging.py", "test_pytest_plugin.py"),
    *("test_readme.py", "test_readme_console.py", "testing/test_pcscd_namespace.py", "testing/test_private_pcscd.py"),
}
"""What stands below tests/."""


SLOW = {
    "test_a_callback_sees_what_was_answered_in_time",
    "test_a_card_pulled_in_a_batch_says_how_many_were_answered",
    "test_a_card_that_bounces_is_opened_once_it_has_settled",
    "test_a_card_that_does_not_match_any_more_is_left_alone",
    "test_a_card_that_fails_once_is_prepared_again",
    "test_a_card_that_goes_while_its_command_has_not_ended_is_replaced",
    "test_a_card_that_polkit_forbids_and_a_reader_that_cannot_be_used",
    "test_a_card_whose_command_has_not_ended_is_not_lent",
    "test_a_close_that_comes_first_is_told",
    "test_a_connection_that_breaks_is_no_error",
    "test_a_control_command_that_the_driver_refuses",
    "test_a_deadline_in_the_moment_in_which_the_connect_ends",
    "test_a_dropped_card_connects_again",
    "test_a_failure_that_cannot_be_looked_into",
    "test_a_fork_waits_for_short_calls",
    "test_a_full_disk_is_told_once",
    "test_a_late_one_that_has_ended_meanwhile_does_not_keep_its_owner_unresponsive",
    "test_a_loop_closed_under_a_task_is_forgotten_without_a_word",
    "test_a_loop_that_is_closed_lets_the_cards_go",
    "test_a_message_cut_off_is_the_end",
    "test_a_pin_that_is_refused_is_never_tried_again",
    "test_a_pin_that_was_not_answered_may_have_been_refused",
    "test_a_reader_of_another_serial_number_is_no_match",
    "test_a_reader_that_is_left_out_is_named_in_the_error",
    "test_a_reader_that_is_let_go_just_after_it_was_asked_is_asked_again",
    "test_a_reader_that_is_there_again_is_not_the_one_that_was_opened",
    "test_a_reader_that_was_swapped_between_two_queries",
    "test_a_recorder_takes_one",
    "test_a_script_in_any_encoding",
    "test_a_search_by_serial_number_that_is_given_up_leaves_nothing",
    "test_a_second_interrupt_where_the_wait_is_left",
    "test_a_service_that_is_lost_once_ends_no_search",
    "test_a_service_that_never_came_is_told_of",
    "test_a_start_takes_so_long_at_most",
    "test_a_status_call_that_never_comes_back_is_left_to_pcsc",
    "test_a_stop_at_any_moment_is_heeded",
    "test_a_thousand_readers_and_ten_thousand_waiting_cards",
    "test_a_timeout_of_0_ends_though_pcsc_does_not_answer",
    "test_a_transaction_of_a_dead_thread_is_told",
    "test_a_transaction_whose_thread_has_ended_is_waited_for_by_nobody",
    "test_a_wait_for_a_reader_has_an_end",
    "test_a_wait_sees_what_nobody_posted",
    "test_any_answers_end_within_the_bounds",
    "test_ctrl_c_ends_the_wait",
    "test_ctrl_c_ends_the_wait_for_a_card",
    "test_development_mode_shows_where_a_mistake_is",
    "test_does_nothing",
    "test_each_bit_of_a_response_counts",
    "test_each_command_keeps_to_it",
    "test_every_dialect",
    "test_every_module_can_be_imported_everywhere",
    "test_every_order",
    "test_everything_arrives_whole_and_once",
    "test_failures_are_not_recorded",
    "test_failures_of_pcsc_come_out",
    "test_it_goes_on_through_restarts_unplugged_readers_pulls_and_a_foreign_card",
    "test_it_is_reset_and_prepared_again_after_a_failed_exchange",
    "test_its_pauses_grow_while_there_is_no_service",
    "test_macos",
    "test_match_among_cards",
    "test_match_and_no_time_or_one_look",
    "test_match_chooses_by_what_is_on_the_card",
    "test_no_import_cycle",
    "test_only_one_room_touches_the_binding",
    "test_readers_without_and_cards_of_all_kinds",
    "test_the_other_streams_may_be_closed",
    "test_the_page_of_loggers_has_every_logger",
    "test_the_start_says_what_was_seen",
    "test_the_text_is_that_of_its_own_query_until_the_watcher_has_made_one",
    "test_the_time_for_each",
    "test_time_runs_out",
    "test_troubleshooting_has_messages_as_they_are",
    "test_what_goes_in_comes_out",
    "test_what_is_broken_is_found_out",
    "test_what_match_raises",
    "test_whatever_was_recorded_is_played",
    "test_when_the_wait_is_over_the_error_of_such_a_card_is_the_cause",
    "test_who_hears_is_left_alone",
    "test_whoever_reads_may_leave_any_command",
    "test_without_a_driver_the_card_gives_up",
    "test_without_a_standard_output_nothing_is_begun",
}
"""Tests that take half a second or more, since they wait for time-outs or try thousands of cases: `--durations` names new ones."""


def is_left_out(path: Path) -> bool:
    """Whether a folder or file is not even read."""
    return path.is_relative_to(TESTS) and path.relative_to(TESTS).as_posix() in LEFT_OUT


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs the daemon, and what is slow."""
    left_out = {
        item
        for item in items
        if DAEMON & set(getattr(item, "fixturenames", ())) or "[real" in item.nodeid or getattr(item, "originalname", "") in SLOW
    }
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]
