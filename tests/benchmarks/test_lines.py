"""Lines of JSON go out and come back."""

import json

from benchmarks.lines import Line, read_lines
from tests.benchmarks.samples import MACHINE, line


def test_a_line_comes_back_as_it_was() -> None:
    original = line("ours fp32", 6529.0, memory_mb=55.5, note="with µs and “quotes”")
    assert Line.from_json(original.to_json()) == original


def test_what_is_empty_is_left_out_and_zero_is_not() -> None:
    keys = json.loads(line("ours fp32", quiet_reps=0).to_json())
    assert "value" not in keys
    assert "error" not in keys
    assert keys["quiet_reps"] == 0


def test_numbers_keep_six_digits() -> None:
    assert json.loads(line("ours fp32", 1234.56789).to_json())["value"] == 1234.57


def test_a_file_is_the_machine_and_its_lines() -> None:
    lines = [line("ours fp32", 100.0), line("transformers", error="no end after 240 s")]
    text = "\n".join([MACHINE.to_json(), *(item.to_json() for item in lines)]) + "\n"
    assert read_lines(text) == (MACHINE, lines)


def test_quiet_means_at_least_one_undisturbed_run() -> None:
    assert line("ours fp32").quiet
    assert not line("ours fp32", quiet_reps=0).quiet
