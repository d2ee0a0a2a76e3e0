"""Pictures of a tally, in colours for a light and for a dark page."""

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spellbound.data.stats.tally import Names, Spread, Tally
from spellbound.errors import EnvironmentFault

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
except ImportError as error:
    raise EnvironmentFault(
        "pictures need matplotlib, which is not installed; pip install 'spellbound[data]'"
    ) from error


@dataclass(frozen=True)
class Theme:
    """Colours of a page."""

    page: str
    ink: str
    faint: str
    bar: str


LIGHT = Theme(page="#ffffff", ink="#2b2622", faint="#dcd5cc", bar="#8a3b2e")
DARK = Theme(page="#191614", ink="#e9e2d8", faint="#3b3530", bar="#e0876f")

_COLUMNS = 3
_BARS, _LEAST_BARS = 10, 6
_WHOLE = 40  # so many sizes have a bar each
_LOGARITHMIC = 30  # from this ratio of largest to smallest on
_SHARES = ("share of speech", "share in doubt", "rating")
_GROUPS = {
    "lengths": ("prompt", "past story", "completion", "story"),
    "markup": ("tag", *(f"{kind}s a row" for kind in ("quote", "action", "sound")), "speakers", "share"),
    "instructions": ("instruction kind", "instructions", "characters", "form", "weight", "rating"),
    "origin": ("language", "collection", "licence", "annotator", "model"),
}
"""What each picture shows: everything whose name begins so."""


def draw(tally: Tally, theme: Theme) -> dict[str, bytes]:
    """Return PNG pictures by name; a picture with nothing to show is left out."""
    pictures = {}
    for name, beginnings in _GROUPS.items():
        if panels := list(_panels(tally, beginnings)):
            pictures[name] = _picture(panels, theme)
    return pictures


def _panels(tally: Tally, beginnings: tuple[str, ...]) -> Iterator[tuple[str, Spread | Names]]:
    contents: dict[str, Spread | Names] = {**tally.names, **tally.spreads}
    for beginning in beginnings:
        for name, content in contents.items():
            if name == beginning or name.startswith((f"{beginning},", f"{beginning} ")):
                yield name, content


def _picture(panels: list[tuple[str, Spread | Names]], theme: Theme) -> bytes:
    columns = 2 if len(panels) == 4 else min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(
        figsize=(4.4 * columns, 3.2 * rows),
        facecolor=theme.page,
        layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.1),
    )
    places = figure.subplots(rows, columns, squeeze=False)
    for axes, (name, content) in zip(places.flat, panels, strict=False):
        _dress(axes, name, theme)
        if isinstance(content, Names):
            _bars(axes, content, theme)
        else:
            _histogram(axes, content, theme, share=name in _SHARES)
    for axes in places.flat[len(panels) :]:
        axes.set_axis_off()
    written = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the page has it as text.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(written, format="png", dpi=100, metadata={"Software": None})
    return written.getvalue()


def _dress(axes: Axes, name: str, theme: Theme) -> None:
    axes.set_title(name[:1].upper() + name[1:], loc="left", fontsize=11, color=theme.ink, pad=10)
    axes.set_facecolor(theme.page)
    axes.tick_params(colors=theme.ink, labelsize=8.5, length=0, which="both")
    axes.spines[:].set_visible(False)
    axes.set_axisbelow(True)


def _bars(axes: Axes, names: Names, theme: Theme) -> None:
    """One bar a name, the most frequent on top."""
    chosen = names.most(_BARS)
    total = sum(count for _, count in chosen) or 1
    bars = axes.barh(range(len(chosen)), [count for _, count in chosen], color=theme.bar, height=0.7)
    labels = [f"{name:.24}…" if len(name) > 25 else name for name, _ in chosen]
    axes.set_yticks(range(len(chosen)), labels, parse_math=False)
    shares = [f"{count:,} ({count / total:.0%})" for _, count in chosen]
    axes.bar_label(bars, shares, padding=3, fontsize=8, color=theme.ink)
    axes.set_ylim(max(len(chosen), _LEAST_BARS) - 0.5, -0.5)
    axes.set_xticks([])
    axes.margins(x=0.28)


def _histogram(axes: Axes, spread: Spread, theme: Theme, *, share: bool) -> None:
    """Rows by size; sizes far apart on a logarithmic axis. A dashed line marks the median."""
    values = np.array(sorted(spread.counts), float)
    counts = np.array([spread.counts[value] for value in sorted(spread.counts)])
    told = f"median {spread.quantile(0.5):,.4g}"
    if not share and values[0] == 0 and len(values) > 1 and values[-1] / values[1] > _LOGARITHMIC:
        told += f", {counts[0]:,} times 0"
        values, counts = values[1:], counts[1:]
    axes.hist(values, bins=_bins(axes, values, share=share), weights=counts, color=theme.bar, rwidth=0.92)
    axes.axvline(spread.quantile(0.5), color=theme.ink, linewidth=1, linestyle="--")
    axes.set_title(told, loc="right", fontsize=8.5, color=theme.ink, pad=10)
    axes.grid(axis="y", color=theme.faint, linewidth=0.7)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(_figure))


def _bins(axes: Axes, values: NDArray[np.float64], *, share: bool) -> list[float]:
    """Edges of the bars; sets the axis."""
    least, largest = float(values[0]), float(values[-1])
    if share:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        return [place / 20 for place in range(21)]
    if least > 0 and largest / least > _LOGARITHMIC:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(_figure))
        return [float(edge) for edge in np.geomspace(least, largest * 1.001, 33)]
    axes.xaxis.set_major_formatter(FuncFormatter(_figure))
    if bool(np.all(values == np.round(values))) and largest - least < _WHOLE:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return [place - 0.5 for place in range(int(least), int(largest) + 2)]
    return [float(edge) for edge in np.linspace(least, largest if largest > least else least + 1, 33)]


def _figure(value: float, _: object) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.4g}"
