"""Measurements run in children, and whatever a child does, the run goes on."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import pytest
import torch

from benchmarks.jobs import Job, run, run_all
from benchmarks.lines import Line
from benchmarks.measure import Settings, summary

SETTINGS = Settings(threads=2, work=Path())


def job(measure: Any, **changes: Any) -> Job:
    return Job(
        theme="model",
        what="prefill",
        config="bench",
        who="ours",
        name="ours fp32",
        measure=measure,
        **changes,
    )


def measured(job: Job, settings: Settings) -> Iterator[Line]:
    sys.stdout.write("peers talk\n")
    disturbed = settings.threads > 1 and job.options.get("disturbed", False)
    timing = summary([(0.5, 1.0 if disturbed else 0.0)], 0.15, None)
    said = f"{torch.get_num_threads()} threads, kernels {os.environ.get('SPELLBOUND_KERNELS')}"
    yield job.line(timing, settings, value=2.0, unit="tokens/s", note=said)


def failing(job: Job, settings: Settings) -> Iterator[Line]:
    raise RuntimeError("llama.cpp cannot load it")


def dying(job: Job, settings: Settings) -> Iterator[Line]:
    os._exit(3)


def endless(job: Job, settings: Settings) -> Iterator[Line]:
    sleep(60)
    yield job.line(None, settings)


def test_a_line_comes_from_a_child_with_its_threads_and_kernels(capfd: pytest.CaptureFixture[str]) -> None:
    (line,) = run(job(measured, kernels="torch"), SETTINGS)
    assert (line.value, line.median_s, line.threads, line.quiet_reps) == (2.0, 0.5, 2, 1)
    assert line.note == "2 threads, kernels torch"
    assert line.load is not None
    assert capfd.readouterr().out == ""  # the standard output is for lines


@pytest.mark.parametrize(
    ("measure", "error"),
    [
        (failing, "RuntimeError: llama.cpp cannot load it"),
        (dying, "died with exit code 3"),
        (endless, "no end after 1 s"),
    ],
)
def test_what_goes_wrong_becomes_a_line(measure: Any, error: str) -> None:
    (line,) = run(job(measure, timeout=1 if measure is endless else 60), SETTINGS)
    assert (line.error, line.name, line.value) == (error, "ours fp32", None)


def test_a_disturbed_group_is_repeated_on_one_thread() -> None:
    jobs = [
        job(measured, options={"disturbed": True}),
        job(measured, tokens=512),
        Job(theme="model", what="decode", config="bench", who="ours", name="ours fp32", measure=measured),
    ]
    lines = list(run_all(jobs, SETTINGS, perf_counter() + 60))
    found = [(line.what, line.tokens, line.threads) for line in lines]
    assert found == [
        ("prefill", None, 2),
        ("prefill", 512, 2),
        ("decode", None, 2),
        ("prefill", None, 1),
        ("prefill", 512, 1),
    ]


def test_a_quick_run_repeats_nothing() -> None:
    jobs = [job(measured, options={"disturbed": True})]
    assert len(list(run_all(jobs, SETTINGS, perf_counter() + 60, repeat=False))) == 1


def test_after_the_deadline_nothing_begins_and_that_is_said() -> None:
    (line,) = run_all([job(measured)], SETTINGS, perf_counter() - 1)
    assert line.error.startswith("left out")
