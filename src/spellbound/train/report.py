"""A run in one page: report.html in its folder, which needs nothing else to be read."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spellbound.files import replacing
from spellbound.train import samples
from spellbound.train.dataset import Dataset
from spellbound.train.folder import PLAN, REPORT
from spellbound.train.log import Entry, read_log
from spellbound.train.tokens import Counts

_WIDTH, _HEIGHT, _EDGE = 720, 240, 46
_POINTS = 600  # of a curve; more cannot be seen
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1b22; --paper: #fdfcf9; --line: #c9c4b8; --one: #2f6db5;
  --other: #c4591a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e4da; --paper: #191820; --line: #4a4752;
  --one: #7db4ee; --other: #f0a264; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem; border-bottom: 1px solid var(--line);
  text-align: right; } th:first-child, td:first-child { text-align: left; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid var(--line);
  padding-left: .8rem; } svg { max-width: 100%; height: auto; } text { fill: var(--ink); font-size: 12px; }
.one { stroke: var(--one); } .other { stroke: var(--other); } path { fill: none; stroke-width: 2; }
.axis { stroke: var(--line); }
"""

Points = Sequence[tuple[float, float]]


def write_report(folder: Path, title: str, dataset: Dataset, recipe: str) -> Path:
    """Make the page from the run's log, samples and plan, the data's counts and the recipe's text."""
    entries = list(read_log(folder))
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _table(("", ""), _summary(entries)),
        "<h2>Loss</h2><p>Nats a target: training (first colour) and held out (second colour).</p>",
        curve(_of(entries, "loss"), _of(entries, "valid")),
        f"<h2>Learning rate</h2>{curve(_of(entries, 'rate'))}",
        f"<h2>Tokens a second</h2>{curve(_of(entries, 'speed'))}",
        "<h2>Data</h2>",
        _data(dataset),
        *_samples(folder),
        *_plan(folder, entries),
        f"<h2>Recipe</h2><pre>{html.escape(recipe)}</pre>",
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    with replacing(folder / REPORT) as draft:
        draft.write_text(page, encoding="utf-8")
    return folder / REPORT


def curve(points: Points, others: Points = ()) -> str:
    """One or two curves over steps as SVG; values that are not finite are left out."""
    drawn = [[each for each in one if math.isfinite(each[1])] for one in (points, others)]
    together = [each for one in drawn for each in one]
    if not together:
        return "<p>Nothing was measured.</p>"
    (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*together, strict=True))
    paths, bottom = [], _HEIGHT - _EDGE / 2
    for name, one in zip(("one", "other"), drawn, strict=True):
        across = [_between(x, left, right, _EDGE, _WIDTH - 8) for x, _ in _thinned(one)]
        down = [_between(y, low, high, bottom, 8) for _, y in _thinned(one)]
        placed = " L".join(f"{x:.1f} {y:.1f}" for x, y in zip(across, down, strict=True))
        if placed:
            paths.append(f'<path class="{name}" d="M{placed}"/>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f'<path class="axis" d="M{_EDGE} 8 L{_EDGE} {bottom} L{_WIDTH - 8} {bottom}"/>'
        f'<text x="0" y="16">{high:.3g}</text><text x="0" y="{bottom}">{low:.3g}</text>'
        f'<text x="{_EDGE}" y="{_HEIGHT - 6}">step {left:,.0f}</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 6}" text-anchor="end">{right:,.0f}</text>'
        f"{''.join(paths)}</svg>"
    )


def _between(value: float, low: float, high: float, first: float, last: float) -> float:
    return first + (last - first) * (value - low) / ((high - low) or 1.0)


def _thinned(points: Points) -> Points:
    step = max(1, len(points) // _POINTS)
    return [*points[::step], points[-1]] if points else []


def _of(entries: list[Entry], key: str) -> list[tuple[float, float]]:
    return [(entry["step"], entry[key]) for entry in entries if key in entry]


def _summary(entries: list[Entry]) -> list[tuple[str, str]]:
    losses, valid = _of(entries, "loss"), _of(entries, "valid")
    last = next((entry for entry in reversed(entries) if "seconds" in entry), None)
    told: list[tuple[str, str]] = []
    if last:
        told += [
            ("steps", f"{last['step']:,}"),
            ("tokens", f"{last['tokens']:,}"),
            ("minutes in steps", f"{last['seconds'] / 60:.1f}"),
            ("tokens a second", f"{last['tokens'] / max(last['seconds'], 1e-9):,.0f}"),
            ("memory, most", f"{max(entry.get('memory', 0.0) for entry in entries):.2f} GiB"),
        ]
    for name, values in (("loss", losses), ("held-out loss", valid)):
        if values:
            told.append((f"{name}, first and last", f"{values[0][1]:.3f}, {values[-1][1]:.3f}"))
    return told


def _data(dataset: Dataset) -> str:
    def row(split: str, counts: Counts) -> tuple[str, ...]:
        numbers = (counts.samples, counts.tokens, counts.targets, counts.held_out, counts.windowed)
        told = [f"{number:,}" for number in (*numbers, counts.dropped)]
        return (f"{split} {counts.name}", *told, ", ".join(counts.licences))

    rows = [
        row(split, counts)
        for split, tokens in (("train", dataset.train), ("valid", dataset.valid))
        for counts in tokens.counts
        if counts.samples or counts.dropped
    ]
    heads = ("source", "samples", "tokens", "learnt", "held out", "cut", "left out", "licences")
    return _table(heads, rows)


def _samples(folder: Path) -> list[str]:
    parts: list[str] = []
    for number, sample in enumerate(samples.read(folder), 1):
        parts.append(f"<h2>Sample {number}</h2>")
        told = {"prompt": sample.prompt, "before": sample.before, "after": sample.after}
        parts += [f"<h3>{name}</h3><pre>{html.escape(text)}</pre>" for name, text in told.items() if text]
    return parts


def _plan(folder: Path, entries: list[Entry]) -> list[str]:
    """The plan beside what was measured, if there was a plan."""
    if not (folder / PLAN).is_file():
        return []
    plan: dict[str, Any] = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    measured = {
        "memory_gib": plan.get("measured", {}).get(
            "memory_gib", max((entry.get("memory", 0.0) for entry in entries), default=math.nan)
        ),
        "seconds": next((entry["seconds"] for entry in reversed(entries) if "seconds" in entry), math.nan),
    }
    rows = [(key, f"{plan[key]:,.2f}", f"{value:,.2f}") for key, value in measured.items() if key in plan]
    return ["<h2>Plan</h2>", _table(("", "predicted", "measured"), rows)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
