"""Progress of the data commands: a line on the error stream while a terminal shows it, else nothing."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

T = TypeVar("T")


def counted(rows: Iterable[T], doing: str, unit: str) -> Iterator[T]:
    """Pass rows on and show how many there have been."""
    if not sys.stderr.isatty():
        yield from rows
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=None)
        for count, row in enumerate(rows, 1):
            progress.update(task, description=f"{doing}: {count} {unit}")
            yield row


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yield what shows a bar for each stage of a build, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda name, done, tasks: None
        return
    columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # The stream itself: a build keeps others from writing to sys.stderr meanwhile.
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        shown: dict[str, TaskID] = {}

        def show(name: str, done: int, tasks: int) -> None:
            if name not in shown:
                shown[name] = progress.add_task(name, total=tasks)
            progress.update(shown[name], completed=done)

        yield show
