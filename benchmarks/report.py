"""From lines of JSON to what people read: the aims, every measurement with its ratios, and a plot.

Pure but for :func:`write`: equal lines give equal text.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.aims import HIGHER_IS_BETTER, Outcome, aims_of, cost, evaluate
from benchmarks.lines import Line, Machine, read_file

TITLES = {
    "model": "Reading and writing with a whole model",
    "train": "A training step",
    "story": "Turns of a long story, and many stories at once",
    "scan": "The selective scan and the causal convolution",
}
REACHED = {True: "reached", False: "**missed**", None: "not measured"}


def write(path: Path) -> None:
    """Write the report and the plot of a file of results beside it."""
    from benchmarks import plots

    machine, lines = read_file(path)
    picture = path.with_suffix(".png")
    drawn = plots.draw(lines, picture)
    text = render(machine, lines, picture.name if drawn else None)
    path.with_suffix(".md").write_text(text, encoding="utf-8")


def render(machine: Machine, lines: Sequence[Line], picture: str | None = None) -> str:
    """Return the report as Markdown."""
    theme = lines[0].theme if lines else "model"
    parts = [f"# {TITLES[theme]}: {machine.hardware}, {machine.date}", machine_text(machine)]
    if aims_of(theme, machine.hardware):
        parts += ["## Aims", aims_table(machine, lines)]
    if picture:
        parts.append(f"![{TITLES[theme]}, against length]({picture})")
    parts += ["## Measurements", LEGEND]
    for what, config in dict.fromkeys((line.what, line.config) for line in lines):
        chosen = [line for line in lines if (line.what, line.config) == (what, config)]
        parts += [f"### {what}, {config}", measurements_table(chosen)]
    return "\n\n".join(parts) + "\n"


LEGEND = """\
Seconds are the median of the undisturbed runs (least to most), or of all runs where none was undisturbed.
*Runs* counts the undisturbed ones and all; *others* is how many processors anybody else used meanwhile.
*Memory* is by how much the peak grew. *Faster* is our speed over a peer's; *of the floor* is our time over
that of what nobody can avoid."""
_HEADS = [
    "tokens",
    "threads",
    "who",
    "value",
    "seconds",
    "memory",
    "faster",
    "of the floor",
    "runs",
    "others",
    "",
]


def machine_text(machine: Machine) -> str:
    """Say where the figures come from and how to repeat them."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        f"{machine.processor}, {machine.cores} cores, {machine.instructions}, {machine.memory_gib:g} GiB; "
        f"{machine.system}; {versions}. Repeat with `{machine.command}`."
    )


def aims_table(machine: Machine, lines: Sequence[Line]) -> str:
    """Return each aim with the figure reached: misses as misses."""
    theme = lines[0].theme if lines else "model"
    outcomes = evaluate(aims_of(theme, machine.hardware), lines)
    rows = [
        [item.aim.subject, item.aim.wanted, _reached_figure(item), _both_figures(item), REACHED[item.reached]]
        for item in outcomes
    ]
    return table(["what", "aim", "reached", "ours / the other", ""], rows)


def measurements_table(lines: Sequence[Line]) -> str:
    """Return every line of one subject with its ratios to ours."""
    rows = []
    for line in lines:
        faster, floor = ratios(line, lines)
        rows.append(
            [
                _length(line),
                str(line.threads or ""),
                f"{line.name} ({line.version})" if line.version else line.name,
                line.error or _value(line),
                _seconds(line),
                "" if line.memory_mb is None else f"{line.memory_mb:,.0f} MiB",
                faster,
                floor,
                f"{line.quiet_reps}/{line.reps}" if line.reps else "",
                "" if line.other_cpu is None else f"{line.other_cpu:.2f}",
                line.note,
            ]
        )
    return table(*_without_empty(_HEADS, rows))


def ratios(line: Line, lines: Sequence[Line]) -> tuple[str, str]:
    """Return (ours over the peer's speed, our time over the floor's) for a line that is not ours."""
    if line.who == "ours" or line.value is None or line.median_s is None:
        return "", ""
    same = [
        other
        for other in lines
        if other.who == "ours"
        and other.value is not None
        and (other.tokens, other.batch, other.threads) == (line.tokens, line.batch, line.threads)
    ]
    # What has an own counterpart in precision is compared with it: bf16 with F16 and two bytes.
    narrow = [other for other in same if "bf16" in other.name and ("16" in line.name or "Q8" in line.name)]
    if not same or line.unit not in (*HIGHER_IS_BETTER, same[0].unit):
        return "", ""
    ours = (narrow or same)[0]
    ratio = cost(line) / cost(ours)
    return (f"{ratio:.2f} x", "") if line.who == "peer" else ("", f"{1 / ratio:.2f} x")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def number(value: float) -> str:
    """Return three digits or all before the point, thousands set apart."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}" if abs(value) >= 0.01 or value == 0 else f"{value:.1e}"


def _reached_figure(item: Outcome) -> str:
    if item.figure is None:
        return ""
    disturbed = "" if item.quiet else ", disturbed"
    threads = item.ours.threads if item.ours else None
    few = f", {threads} thread" if threads == 1 else ""
    return (f"{item.figure:,.2f} x" if item.other else f"{item.figure:,.0f} MiB") + few + disturbed


def _both_figures(item: Outcome) -> str:
    if item.ours is None or item.other is None:
        return ""
    if item.aim.measure == "memory":
        return f"{item.ours.memory_mb or 0:,.0f} / {item.other.memory_mb or 0:,.0f} MiB"
    return f"{number(item.ours.value or 0)} / {number(item.other.value or 0)} {item.ours.unit}"


def _length(line: Line) -> str:
    if line.tokens is None:
        return ""
    return f"{line.batch} x {line.tokens:,}" if line.batch > 1 else f"{line.tokens:,}"


def _value(line: Line) -> str:
    return "" if line.value is None else f"{number(line.value)} {line.unit}"


def _seconds(line: Line) -> str:
    if line.median_s is None or line.min_s is None or line.max_s is None:
        return ""
    return f"{line.median_s:.4g} ({line.min_s:.4g} to {line.max_s:.4g})"


def _without_empty(heads: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    kept = [place for place in range(len(heads)) if any(row[place] for row in rows)]
    return [heads[place] for place in kept], [[row[place] for place in kept] for row in rows]
