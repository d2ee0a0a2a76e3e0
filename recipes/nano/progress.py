"""What a run shows while it goes: a line in the terminal, a log of JSON lines, a curve as PNG."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recipes.nano.files import replacing

Entry = dict[str, Any]


class Log:
    """Entries of a run, one JSON object a line; on disk after every `write`."""

    def __init__(self, path: Path, until: int) -> None:
        """Keeps the entries of steps before `until`: later ones belong to a run that was cut off."""
        self.path = path
        self.entries: list[Entry] = []
        if path.is_file() and until:
            read = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
            self.entries = [entry for entry in read if entry["step"] < until]

    def add(self, **entry: Any) -> None:
        """Notes one entry; needs a `step`."""
        self.entries.append(entry)

    def write(self) -> None:
        """Writes log and curve, each whole or not at all."""
        with replacing(self.path) as draft:
            draft.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries), encoding="utf-8")
        with replacing(self.path.with_suffix(".png")) as draft:
            curve(self.entries, draft)

    def values(self, key: str) -> list[float]:
        """All values noted under this key, in order."""
        return [entry[key] for entry in self.entries if key in entry]


def curve(entries: list[Entry], path: Path) -> None:
    """Draws training loss (thin as measured, thick smoothed) and validation loss over tokens."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    measured = [(entry["tokens"] / 1e6, entry["loss"]) for entry in entries if "loss" in entry]
    if measured:
        tokens, losses = zip(*measured, strict=True)
        axes.plot(tokens, losses, linewidth=0.5, alpha=0.4, color="tab:blue")
        axes.plot(tokens, smoothed(losses), linewidth=1.8, color="tab:blue", label="training")
    valid = [(entry["tokens"] / 1e6, entry["valid"]) for entry in entries if "valid" in entry]
    if valid:
        tokens, losses = zip(*valid, strict=True)
        axes.plot(tokens, losses, marker="o", markersize=3, color="tab:orange", label="held out")
    axes.set_xlabel("million tokens")
    axes.set_ylabel("loss, nats a token")
    axes.grid(alpha=0.3)
    if measured or valid:
        axes.legend()
    canvas.print_figure(path, format="png", dpi=110)


def smoothed(values: tuple[float, ...], keep: float = 0.9) -> list[float]:
    """Exponential moving average without the pull towards its start."""
    average, weight, made = 0.0, 0.0, []
    for value in values:
        average = keep * average + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        made.append(average / weight)
    return made


@contextmanager
def line(title: str, done: int, total: int, *, shown: bool = True) -> Iterator["Line"]:
    """A live line: how far, loss, tokens a second, time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TextColumn("{task.fields[speed]:,.0f} tok/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, refresh_per_second=1, speed_estimate_period=120, disable=not shown) as bar:
        task = bar.add_task(title, total=total, completed=done, loss=float("nan"), speed=0.0)
        yield Line(bar, task)


class Line:
    """The live line of one run."""

    def __init__(self, shown: Progress, task: Any) -> None:
        """Wraps rich's progress so that the loop knows nothing of it."""
        self._shown = shown
        self._task = task

    def advance(self, loss: float, speed: float) -> None:
        """One step further."""
        self._shown.update(self._task, advance=1, loss=loss, speed=speed)
