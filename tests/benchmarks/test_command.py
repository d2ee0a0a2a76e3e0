"""The command line, and what a whole run would measure; nothing is measured here."""

from pathlib import Path

import pytest

from benchmarks import bench_story, command
from benchmarks.aims import aims_of
from benchmarks.bench_model import OUTSIDE
from benchmarks.command import Options, jobs_of, new_file, parse
from benchmarks.report import TITLES
from tests.benchmarks.samples import MACHINE


def test_names_choose_themes_in_our_order() -> None:
    assert parse([])[0].themes == list(command.THEMES)
    assert parse(["model", "train"])[0].themes == ["train", "model"]
    assert parse(["--device", "cuda"])[0].themes == ["scan"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scna"], "no benchmark 'scna'; there are: story, train, scan, model"),
        (["--threads", "0"], "--threads is 0"),
        (["model", "--device", "cuda"], "leave out model"),
    ],
)
def test_what_cannot_be_run_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert said in capsys.readouterr().err


def test_a_quick_or_partial_run_is_not_kept_among_the_results() -> None:
    assert parse([])[0].out == command.RESULTS
    assert parse(["--quick"])[0].out != command.RESULTS
    assert parse(["--only", "decode"])[0].out != command.RESULTS
    assert parse(["--quick", "--out", "here"])[0].out == Path("here")


def test_the_command_that_is_kept_names_no_folder() -> None:
    assert command.command_line([]) == "make bench"
    assert (
        command.command_line(["model", "--out", "/a/b", "--reps", "3"]) == "make bench ARGS='model --reps 3'"
    )
    assert command.command_line(["--out=/a/b", "--quick"]) == "make bench ARGS=--quick"


def test_no_result_is_overwritten(tmp_path: Path) -> None:
    first = new_file(tmp_path, "model", MACHINE)
    assert first.name == "model_cpu-2core-avx512_2026-01-02.jsonl"
    first.touch()
    second = new_file(tmp_path, "model", MACHINE)
    assert second.name == "model_cpu-2core-avx512_2026-01-02-2.jsonl"


@pytest.mark.parametrize("theme", command.THEMES)
def test_no_measurement_is_planned_twice(theme: str) -> None:
    jobs = jobs_of(theme, Options())
    keys = [(job.what, job.config, job.name, job.tokens, job.batch) for job in jobs]
    assert len(set(keys)) == len(keys)
    assert {job.theme for job in jobs} == {theme}
    assert len(jobs_of(theme, Options(quick=True))) <= len(jobs)


def test_one_may_run_a_part() -> None:
    jobs = jobs_of("model", Options(only="decode after 512, bench"))
    assert {(job.what, job.config) for job in jobs} == {("decode after 512", "bench")}


@pytest.mark.parametrize("theme", command.THEMES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_aim_is_answered_by_some_measurement(theme: str, device: str) -> None:
    aims = aims_of(theme, f"{device}-something")
    jobs = jobs_of(theme, Options(device=device)) if aims else []
    planned = {(job.what, job.config, job.name, job.tokens, job.batch) for job in jobs}
    planned |= {(OUTSIDE, *key[1:]) for key in planned if key[0] == "growth"}
    planned |= {(bench_story.OUTSIDE, *key[1:]) for key in planned if key[0] == bench_story.NEXT}
    by_hand = {"mamba-ssm"}  # planned only where somebody has built it
    for aim in aims:
        assert (aim.what, aim.config, aim.name, aim.tokens, aim.batch) in planned
        tokens = aim.against_tokens or aim.tokens
        if aim.against and aim.against not in by_hand:
            assert (aim.what, aim.config, aim.against, tokens, aim.batch) in planned


def test_every_theme_has_a_title() -> None:
    assert set(command.THEMES) == set(TITLES)
