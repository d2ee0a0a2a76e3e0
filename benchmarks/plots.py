"""Speed and memory against length, drawn from lines of results."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.lines import Line

_SHADES = {
    "ours": ("#b03a2e", "#e67e22", "#d98880", "#7b241c"),
    "peer": ("#1b4f72", "#2e86c1", "#7fb3d5", "#5d6d7e"),
    "floor": ("#b7950b", "#d4ac0d"),
}
_MARKS = {"ours": "o", "peer": "s", "floor": "^"}
_LABELS = {"growth": "in all", "growth outside attention": "without what attention adds"}
_LOGARITHMIC = 20  # from this ratio of the largest to the smallest figure on
_SPEEDS = ("prefill", "training step", "scan", "convolution", "decode after 512")

Figure = Callable[[Line], float | None]


def draw(lines: Sequence[Line], path: Path) -> bool:
    """Draw the theme's panels into ``path``; return False where there is nothing to draw."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    good = [line for line in lines if line.value is not None and not line.error and line.threads]
    if not good:
        return False
    panels = [
        (title, chosen, figure, label)
        for title, what, config, figure, label in _panels(good)
        if (chosen := _chosen(good, what, config, figure))
    ]
    if not panels:
        return False
    columns = 2 if len(panels) > 1 else 1
    rows = -(-len(panels) // columns)
    picture, axes = pyplot.subplots(rows, columns, figsize=(6.2 * columns, 4.2 * rows), squeeze=False)
    for place, panel in zip(axes.flat, panels, strict=False):
        _panel(place, *panel)
    for unused in axes.flat[len(panels) :]:
        unused.set_axis_off()
    picture.tight_layout()
    picture.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(picture)
    return True


def _panels(lines: Sequence[Line]) -> Iterable[tuple[str, set[str], str, Figure, str]]:
    """Yield title, subjects, config, figure and label of each panel that the lines could fill."""
    for (what, config), unit in {(line.what, line.config): line.unit for line in lines}.items():
        if what.startswith(_SPEEDS):
            yield f"{what}, {config}", {what}, config, _value, unit
        if what == "prefill":
            yield f"memory of {what}, {config}", {what}, config, _memory, "MiB more at the peak"
        if what == "growth":
            both = {what, "growth outside attention"}
            yield f"time a token, {config}", both, config, _value, "µs a token"
            yield f"memory, {config}", both, config, _memory, "MiB more at the peak"


def _value(line: Line) -> float | None:
    return line.value


def _memory(line: Line) -> float | None:
    return line.memory_mb


def _chosen(lines: Sequence[Line], what: set[str], config: str, figure: Figure) -> list[Line]:
    """Return a panel's lines at one number of threads: least disturbed, then most threads."""
    fitting = [line for line in lines if line.what in what and line.config == config and figure(line)]
    by_threads = {
        threads: [line for line in fitting if line.threads == threads]
        for threads in {line.threads or 0 for line in fitting}
    }
    return max(
        by_threads.items(),
        key=lambda item: (sum(line.quiet for line in item[1]) / len(item[1]), item[0]),
        default=(0, []),
    )[1]


def _panel(axes: Any, title: str, lines: Sequence[Line], figure: Figure, label: str) -> None:
    threads = lines[0].threads
    axes.set_title(f"{title}, {threads} thread{'s' if threads != 1 else ''}", fontsize=11)
    lengths = {line.tokens for line in lines}
    series: dict[tuple[str, str, str, int], list[Line]] = {}
    for line in sorted(lines, key=lambda line: line.tokens or 0):
        series.setdefault((line.who, line.what, line.name, line.batch), []).append(line)
    if len(lengths) == 1:
        _bars(axes, lines, figure, label)
        return
    several = len({what for _, what, _, _ in series}) > 1
    drawn = dict.fromkeys(_SHADES, 0)
    for (who, what, name, batch), points in series.items():
        axes.plot(
            [line.tokens for line in points],
            [figure(line) for line in points],
            color=_SHADES[who][drawn[who] % len(_SHADES[who])],
            marker=_MARKS[who],
            linestyle="--" if who == "floor" else "-",
            label=(_LABELS[what] if several else name) + (f", batch {batch}" if batch > 1 else ""),
        )
        drawn[who] += 1
    axes.set_xscale("log", base=2)
    figures = [figure(line) or 0 for line in lines]
    if max(figures) > _LOGARITHMIC * min(figures):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0, top=1.1 * max(figures))
    ticks = sorted(length for length in lengths if length)
    axes.set_xticks(ticks, [f"{length:,}" for length in ticks], fontsize=8)
    axes.minorticks_off()
    axes.set_xlabel("tokens")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _bars(axes: Any, lines: Sequence[Line], figure: Figure, label: str) -> None:
    upwards = lines[::-1]
    colors = [_SHADES[line.who][0] for line in upwards]
    bars = axes.barh([line.name for line in upwards], [figure(line) for line in upwards], color=colors)
    axes.bar_label(bars, fmt="{:,.4g}", fontsize=8, padding=2)
    axes.margins(x=0.12)
    axes.set_xlabel(label)
    axes.grid(alpha=0.3, axis="x")
    axes.tick_params(axis="y", labelsize=8)
