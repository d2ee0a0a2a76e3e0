"""The benchmark of LoRA at true size, on a model that a test can afford."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import bench_lora
from tests.jamba.models import config


def test_each_case_is_a_line_and_one_too_late_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = tmp_path / "config.json"
    shape.write_text(json.dumps(config(vocab_size=64).to_dict()), encoding="utf-8")
    options = Namespace(config=shape, lengths=["24x1", "24x2"], batch=2, steps=1, seconds=1e9, profile="")
    bench_lora.main(options)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    cases = [line for line in lines if line["what"] == "LoRA step"]
    assert [(case["tokens"], case["rows"]) for case in cases] == [(24, 1), (24, 2)]
    for case in cases:
        assert case["value"] > 0
        assert case["gradients"] == "all"
    options.seconds = 0.0
    bench_lora.main(options)
    assert capsys.readouterr().out.count("no time left") == 2
