"""From given lines to the aims, the tables and the page."""

from pathlib import Path

import pytest

from benchmarks import page, plots, report
from benchmarks.aims import Aim, aims_of, evaluate
from benchmarks.lines import Line
from tests.benchmarks.samples import MACHINE, line

FASTER = Aim(
    theme="model",
    what="prefill",
    config="bench",
    tokens=2048,
    measure="speed",
    against="transformers",
    at_least=5.0,
)
FLOOR = Aim(
    theme="model",
    what="prefill",
    config="bench",
    tokens=2048,
    measure="time",
    against="products alone",
    at_most=1.35,
)
SMALL = Aim(theme="model", what="prefill", config="bench", tokens=2048, measure="memory", at_most=60)
LINES = [
    line("ours fp32", 5000.0, memory_mb=61.0),
    line("products alone", 6500.0),
    line("transformers", 800.0, memory_mb=488.0),
]


def figure(aim: Aim, lines: list[Line]) -> tuple[float | None, bool | None]:
    (outcome,) = evaluate([aim], lines)
    return (None if outcome.figure is None else round(outcome.figure, 3)), outcome.reached


def test_aims_are_reached_missed_or_not_measured() -> None:
    assert figure(FASTER, LINES) == (6.25, True)
    assert figure(FLOOR, LINES) == (1.3, True)
    assert figure(SMALL, LINES) == (61.0, False)
    assert figure(FASTER, LINES[:2]) == (None, None)


def test_a_cost_counts_the_other_way_round() -> None:
    cost = [
        line("ours fp32", 2.0, unit="ns"),
        line("transformers", 8.0, unit="ns"),
        line("products alone", 1.0, unit="ns"),
    ]
    assert figure(FASTER, cost) == (4.0, False)
    assert figure(FLOOR, cost) == (2.0, False)


def test_another_length_of_ours_may_be_the_measure() -> None:
    growth = Aim(
        theme="model",
        what="prefill",
        config="bench",
        tokens=65536,
        measure="memory",
        against="ours fp32",
        against_tokens=2048,
        at_most=1.25,
    )
    longer = line("ours fp32", 4000.0, tokens=65536, memory_mb=76.25)
    assert figure(growth, [*LINES, longer]) == (1.25, True)


def test_quiet_lines_on_one_thread_go_before_disturbed_ones_on_two() -> None:
    disturbed = [line("ours fp32", 900.0, quiet_reps=0), line("transformers", 800.0)]
    single = [line("ours fp32", 3000.0, threads=1), line("transformers", 500.0, threads=1)]
    assert figure(FASTER, disturbed) == (1.125, False)
    assert figure(FASTER, disturbed + single) == (6.0, True)
    assert figure(FASTER, [*disturbed, single[0]]) == (1.125, False)  # never across numbers of threads


def test_a_line_with_an_error_answers_nothing() -> None:
    wrong = line("transformers", 800.0, error="another model")
    assert figure(FASTER, [LINES[0], wrong]) == (None, None)


def test_the_report_shows_ratios_misses_and_errors() -> None:
    lines = [*LINES, line("llama.cpp F32", error="no end after 240 s", reps=0, median_s=None)]
    text = report.render(MACHINE, lines, "picture.png")
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert "| prefill 2,048, bench | ≤ 60 MiB | 61 MiB |  | **missed** |" in rows
    assert any(
        "≥ 5 x as fast as transformers | 6.25 x | 5,000 / 800 tokens/s | reached" in row for row in rows
    )
    assert any("≥ 5 x as fast as llama.cpp F32 |  |  | not measured" in row for row in rows)
    assert any(
        "transformers | 800 tokens/s | 1 (0.9 to 1.25) | 488 MiB | 6.25 x |  | 4/5 | 0.03" in row
        for row in rows
    )
    assert any("products alone | 6,500 tokens/s | 1 (0.9 to 1.25) |  |  | 1.30 x |" in row for row in rows)
    assert any("llama.cpp F32 | no end after 240 s" in row for row in rows)
    assert "](picture.png)" in text


def test_disturbed_figures_are_called_so() -> None:
    text = report.render(MACHINE, [line("ours fp32", 5000.0, quiet_reps=0), line("transformers", 800.0)])
    assert "6.25 x, disturbed" in text


def test_half_precision_is_compared_with_half_precision() -> None:
    lines = [
        line("ours fp32", 100.0),
        line("ours bf16", 300.0),
        line("llama.cpp F16", 200.0),
        line("llama.cpp F32", 50.0),
    ]
    assert [report.ratios(item, lines)[0] for item in lines] == ["", "", "1.50 x", "2.00 x"]


def test_what_is_no_time_has_no_ratio() -> None:
    logits = [
        line(name, 1e-3, median_s=None, unit="of the largest logit")
        for name in ("ours fp32", "llama.cpp F32")
    ]
    assert report.ratios(logits[1], logits) == ("", "")


def test_all_tables_are_rectangular() -> None:
    for row in report.render(MACHINE, LINES).split("\n\n"):
        widths = {part.count(" |") for part in row.splitlines() if part.startswith("|")}
        assert len(widths) <= 1, row


@pytest.mark.parametrize("theme", list(report.TITLES))
def test_every_theme_renders_even_with_nothing(theme: str) -> None:
    nothing = Line(theme=theme, what="w", config="c", who="ours", name="ours fp32", error="left out")
    assert MACHINE.hardware in report.render(MACHINE, [nothing])


def test_the_processor_has_aims_for_models_and_the_card_for_scans() -> None:
    assert [bool(aims_of(theme, "cpu-2core-avx2")) for theme in ("model", "train", "scan")] == [
        True,
        True,
        False,
    ]
    assert [bool(aims_of(theme, "cuda-h200")) for theme in ("model", "train", "scan")] == [False, False, True]


def test_a_plot_is_drawn_of_what_there_is(tmp_path: Path) -> None:
    lengths = [
        line(name, speed, tokens=tokens)
        for name, speed in (("ours fp32", 9.0), ("llama.cpp F32", 0.1))
        for tokens in (512, 2048)
    ]
    assert plots.draw(lengths, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert not plots.draw([line("ours fp32", error="died")], tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def test_the_newest_file_of_each_theme_and_hardware_is_shown() -> None:
    names = [
        "model_cpu-2core-avx512_2026-01-02.jsonl",
        "model_cpu-2core-avx512_2026-01-10-9.jsonl",
        "model_cpu-2core-avx512_2026-01-10-10.jsonl",
        "model_cuda-h200_2025-12-31.jsonl",
        "scan_cuda-h200_2025-12-31.jsonl",
    ]
    found = page.newest_files(Path(name) for name in names)
    assert [path.name for path in found.values()] == [names[2], names[3], names[4]]


def test_a_page_holds_results_and_what_is_written_by_hand(tmp_path: Path) -> None:
    stem = f"model_{MACHINE.hardware}_{MACHINE.date}"
    (tmp_path / f"{stem}.jsonl").write_text(
        "\n".join([MACHINE.to_json(), *(item.to_json() for item in LINES)]), encoding="utf-8"
    )
    text = page.render("# Title\n\n{{model}}\n\nBy hand.\n\n{{scan}}\n", tmp_path)
    assert "**missed**" in text
    assert f"../benchmarks/results/{stem}.md" in text
    assert "By hand." in text
    assert "*Not measured yet.*" in text
    assert "{{" not in text


def test_the_page_is_made_of_the_newest_results() -> None:
    written = page.PAGE.read_text(encoding="utf-8")
    assert written == page.render(), "docs/performance.md is stale: python -m benchmarks --page"
