"""The benchmark of turns at true size, on a model that a test can afford."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import bench_turns
from tests.jamba.models import config


def test_a_turn_costs_what_it_adds_and_what_comes_too_late_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = tmp_path / "config.json"
    sizes = config(vocab_size=64, max_position_embeddings=8192)
    shape.write_text(json.dumps(sizes.to_dict()), encoding="utf-8")
    options = Namespace(config=shape, lengths=[1500, 200], cold_below=1000, streams=[2], seconds=1e9)
    bench_turns.main(options)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    reused = {(line["what"], line["tokens"]): line["reused"] for line in lines if "reused" in line}
    assert reused == {
        ("next turn", 200): 200,
        ("regenerate", 200): 200 + bench_turns.TURN,
        ("fork", 200): 0,  # the first of them, where nobody had stopped before
        ("next turn", 1500): 1500,
        ("regenerate", 1500): 1500 + bench_turns.TURN,
        ("fork", 1500): 200,
    }
    assert [line["tokens"] for line in lines if line["what"] == "cold"] == [200]
    assert all(line["value"] > 0 for line in lines if line["what"] in ("writing", "reading on", "cold"))
    options.seconds = 0.0
    bench_turns.main(options)
    assert capsys.readouterr().out.count("no time left") == 3
