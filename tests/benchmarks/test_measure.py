"""What counts as a run, and what is summed up of them; no clock is judged here."""

from time import sleep

import torch

from benchmarks.measure import PeakMemory, Settings, summary, timed, wait_quiet

SETTINGS = Settings(threads=1, reps=3, seconds=0.6, quiet_wait=0.0)


def test_the_median_is_that_of_the_quiet_runs() -> None:
    found = summary([(1.0, 0.0), (9.0, 1.5), (3.0, 0.1), (2.0, 0.0)], 0.15, 7.0)
    assert (found.median_s, found.min_s, found.max_s) == (2.0, 1.0, 3.0)
    assert (found.reps, found.quiet_reps, found.memory_mb) == (4, 3, 7.0)


def test_where_no_run_was_quiet_all_count_and_it_is_said() -> None:
    found = summary([(1.0, 0.9), (3.0, 0.8)], 0.15, None)
    assert (found.median_s, found.quiet_reps, found.other_cpu) == (2.0, 0, 0.85)


def test_a_free_core_may_be_used_by_others() -> None:
    one, two = Settings(threads=1).others_allowed, Settings(threads=2).others_allowed
    assert one >= two >= 0.15


def test_short_work_is_repeated_inside_a_run_and_timed_once() -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        sleep(0.01)

    found = timed(SETTINGS, work)
    assert 0.01 <= found.median_s < 0.2
    assert calls > 2 * found.reps


def test_prepare_comes_before_each_run_and_is_not_timed() -> None:
    order = ""

    def prepare() -> None:
        nonlocal order
        order += "p"
        sleep(0.05)

    def work() -> None:
        nonlocal order
        order += "w"
        sleep(0.002)

    found = timed(SETTINGS, work, prepare=prepare)
    assert order == "pw" * (found.reps + 1)  # the warm-up does not count
    assert found.min_s < 0.05


def test_work_as_long_as_the_limit_runs_once_and_counts() -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        sleep(0.7)

    found = timed(SETTINGS, work)
    assert (calls, found.reps) == (1, 1)


def test_no_waiting_for_a_quiet_machine_beyond_the_limit() -> None:
    wait_quiet(Settings(threads=1000, quiet_wait=0.3))  # nobody ever leaves us a thousand cores


def test_peak_memory_sees_what_came_and_went() -> None:
    memory = PeakMemory("cpu")
    torch.ones(32 << 20)  # 128 MiB of float32, gone at once
    growth = memory.growth_mb()
    assert growth is None or growth > 100  # None where a system does not tell
