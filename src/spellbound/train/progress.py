"""The live line of a run: how far, loss, tokens a second, memory, time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_GIB = 2**30


class Line:
    """The line of one run; shows nothing where there is no terminal."""

    def __init__(self, shown: Progress, task: Any) -> None:
        """Wrap rich's progress, so that the loop knows nothing of it."""
        self._shown, self._task = shown, task

    def advance(self, loss: float, speed: float, memory: float) -> None:
        """One step further."""
        self._shown.update(self._task, advance=1, loss=loss, speed=speed, memory=memory)


@contextmanager
def line(title: str, done: int, total: int, *, shown: bool) -> Iterator[Line]:
    """A live line on the error stream, from step `done` on."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TextColumn("{task.fields[speed]:,.0f} tok/s"),
        TextColumn("{task.fields[memory]:.1f} GiB"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    hidden = not (shown and console.is_terminal)
    with Progress(
        *columns, console=console, refresh_per_second=2, speed_estimate_period=120, disable=hidden
    ) as bar:
        task = bar.add_task(title, total=total, completed=done, loss=float("nan"), speed=0.0, memory=0.0)
        yield Line(bar, task)


@contextmanager
def reading(*, shown: bool = True) -> Iterator[Callable[[str, int], None]]:
    """Yield what takes (source, samples read so far) and shows it on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("reading {task.description}"), TextColumn("{task.completed:,} samples"))
    hidden = not (shown and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=None)
        yield lambda source, count: bar.update(task, description=source, completed=count)


def memory_gib(device: torch.device) -> float:
    """GiB that this process has: the highest so far on a GPU, at present on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GIB
    return float(psutil.Process().memory_info().rss) / _GIB
