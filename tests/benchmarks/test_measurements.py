"""Every kind of measurement runs, once and tiny, and says what it should; how long it took is no matter."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from benchmarks import bench_model, bench_scan, bench_story, bench_train
from benchmarks.jobs import Job
from benchmarks.lines import Line
from benchmarks.machine import describe
from benchmarks.measure import Settings
from benchmarks.peers import scans
from spellbound.jamba import model
from spellbound.jamba.step import one_token
from tests.jamba.kernels import needs_library

ONCE = Settings(threads=2, reps=1, seconds=0.0, quiet_wait=0.0)
Measure = Callable[[Job, Settings], Iterator[Line]]


def lines_of(measure: Measure, name: str, what: str = "", tokens: int = 24, **changes: Any) -> list[Line]:
    job = Job(
        theme="model",
        what=what,
        config="narrow",
        who="ours" if name.startswith("ours") else "peer",
        name=name,
        tokens=tokens,
        measure=measure,
        **changes,
    )
    return list(measure(job, ONCE))


@pytest.mark.parametrize(
    ("measure", "name", "what"),
    [
        (bench_model.prefill, "ours fp32", ""),
        (bench_model.prefill, "ours bf16", ""),
        (bench_model.prefill, "transformers", ""),
        (bench_model.prefill_products, "products alone", ""),
        (bench_model.decode, "ours fp32", ""),
        (bench_model.decode_products, "torch.mv alone", ""),
        (bench_model.layer, "ours fp32", bench_model.LAYER),
        (bench_model.layer, "ours fp32", bench_model.LAYER_BOTH),
        (bench_model.layer, "transformers", bench_model.LAYER),
        (bench_model.layer, "transformers", bench_model.LAYER_BOTH),
        (bench_model.layer_products, "products alone", bench_model.LAYER_BOTH),
        (bench_train.our_step, "ours fp32", ""),
        (bench_train.peer_step, "transformers", ""),
        (bench_train.products_step, "products alone", ""),
    ],
)
def test_a_model_measurement_gives_tokens_a_second(measure: Measure, name: str, what: str) -> None:
    (line,) = lines_of(measure, name, what)
    assert line.unit == "tokens/s"
    assert line.value is not None
    assert line.value > 0
    assert line.version
    assert (line.reps, line.name, line.threads, line.error) == (1, name, 2, "")


@pytest.mark.parametrize(
    ("measure", "what", "lines"),
    [
        (bench_story.next_turn, bench_story.NEXT, 3),
        (bench_story.left_out, bench_story.LEFT_OUT, 1),
        (bench_story.regenerate, bench_story.AGAIN, 1),
        (bench_story.fork, bench_story.FORK, 1),
        (bench_story.restart, bench_story.RESTART, 1),
        (bench_story.cold, bench_story.NEXT, 1),
    ],
)
def test_a_turn_gives_milliseconds(measure: Measure, what: str, lines: int) -> None:
    found = lines_of(measure, "ours fp32", what, 2100)
    assert len(found) == lines
    assert found[0].what == what
    for line in found:
        assert line.unit == "ms"
        assert line.value is not None
        assert not line.error


def test_a_peer_takes_the_same_turn() -> None:
    options = {"goes_on": False, "note": "reads everything again"}
    (line,) = lines_of(bench_story.peer_turn, "transformers", bench_story.AGAIN, 40, options=options)
    assert line.value is not None
    assert line.note == "reads everything again"


def test_many_at_once_gives_tokens_a_second_and_memory_of_each() -> None:
    speed, memory = lines_of(bench_story.streams, "ours fp32", bench_story.STREAMS, batch=3)
    assert speed.value is not None
    assert (speed.unit, memory.unit, memory.what) == ("tokens/s", "MiB a stream", bench_story.MEMORY)


def test_ours_is_compared_with_transformers_before_it_is_measured() -> None:
    (line,) = lines_of(bench_model.agreement, "ours fp32")
    assert line.value is not None
    assert line.value < 1e-4
    assert not line.error


def test_growth_tells_attention_from_the_rest() -> None:
    whole, outside, after = lines_of(bench_model.growth, "ours fp32", bench_model.GROWTH, tokens=300)
    assert (whole.what, outside.what, after.what) == (
        bench_model.GROWTH,
        bench_model.OUTSIDE,
        bench_model.AFTER,
    )
    assert whole.value is not None
    assert outside.value is not None
    assert 0 < outside.value < whole.value
    assert "attention" in whole.note


@needs_library
def test_after_a_context_single_tokens_are_read_as_they_are_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[bool] = []

    def watch(*arguments: Any) -> Any:
        result = one_token(*arguments)
        calls.append(result is not None)
        return result

    monkeypatch.setattr(model, "one_token", watch)
    lines_of(bench_model.growth, "ours fp32", bench_model.GROWTH, tokens=40)
    assert calls[-1]


@pytest.mark.parametrize(
    "what", [bench_scan.SCAN, bench_scan.SCAN_BOTH, bench_scan.CONV, bench_scan.CONV_BOTH]
)
def test_an_operation_is_checked_and_measured_and_so_is_a_copy(what: str) -> None:
    options = {"channels": 32}
    (ours,) = lines_of(bench_scan.operation, "ours torch", what, options=options)
    (copy,) = lines_of(bench_scan.copy, bench_scan.COPY, what, options=options)
    assert ours.unit == copy.unit == bench_scan.UNIT
    assert "GB/s" in copy.note


def test_a_peer_gets_the_layout_it_wants_before_the_clock_runs() -> None:
    for tensor in bench_scan.scan_inputs(2, 5, 6, torch.float32, "cpu"):
        theirs = bench_scan.as_wanted("mamba-ssm", tensor)
        assert torch.equal(theirs, tensor)
        assert tensor.dim() != 3 or theirs.transpose(1, 2).is_contiguous()
        assert bench_scan.as_wanted("ours triton", tensor) is tensor


def test_an_operation_that_computes_something_else_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "torch_conv", lambda x, weight, bias: x)
    with pytest.raises(AssertionError):
        lines_of(bench_scan.operation, "torch conv1d", bench_scan.CONV, options={"channels": 32})


def test_the_hardware_is_short_enough_for_a_file_name() -> None:
    assert re.fullmatch(r"cpu-\d+core-(avx\w+|neon|portable)", describe("cpu", "make bench").hardware)
