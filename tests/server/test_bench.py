"""The measurement of the server, in miniature: it runs, and nothing is left behind."""

import json
from pathlib import Path

import pytest

from benchmarks import bench_server


def test_it_measures_and_nothing_leaks(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_server.main(["--model", str(tiny_folder), "--streams", "8", "24", "--tokens", "6"])
    about, *lines = map(json.loads, capsys.readouterr().out.splitlines())
    assert about.keys() == {"theme", "hardware", "processor"}
    assert [line["streams"] for line in lines] == [8, 24]
    for line in lines:
        nonsense = line["streams"] // 8
        assert line["statuses"] == {"200": line["streams"] - nonsense, "400": nonsense}
        assert line["unfinished"] == 0
        assert line["first_token_ms"]["p50"] > 0
        assert line["before"]["idle"]
        assert line["after"]["idle"]
        assert line["after"]["handles"] <= line["before"]["handles"] + 2
        assert line["after"]["rss_mib"] < line["before"]["rss_mib"] + 100
    assert lines[1]["after"]["threads"] <= lines[1]["before"]["threads"] + 6


def test_percentiles_are_milliseconds() -> None:
    assert bench_server.percentiles([0.001 * place for place in range(101)]) == {
        "p50": 50,
        "p95": 95,
        "p99": 99,
    }
    assert bench_server.percentiles([0.25]) == {"p50": 250}
    assert bench_server.percentiles([]) == {"p50": 0}
