"""Lines of JSON on disk: spread over many files at once, or sorted though they do not fit into memory."""

import heapq
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from spellbound.errors import InputError
from spellbound.files import replacing, unwritable, words_of

MOST_WAITING = 32_000_000
"""Characters kept in memory before they go to disk."""


def written(value: object) -> str:
    """A value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines; the file is whole or not there. Return how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with replacing(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(f"{line}\n")
            count += 1
    return count


def read_lines(path: Path) -> Iterator[Any]:
    """Read the values of a file that we wrote."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            yield from map(json.loads, file)
    except (OSError, ValueError) as error:
        reason = words_of(error) if isinstance(error, OSError) else str(error)
        raise InputError(
            f"{path}: is not as the build left it ({reason}); begin it anew with --restart"
        ) from error


class Spread:
    """Lines for many files; each file is there, whole, when the block ends well."""

    def __init__(self, paths: Iterable[Path], most: int = MOST_WAITING) -> None:
        """Prepare to write these files."""
        self._paths = list(paths)
        self._waiting: list[list[str]] = [[] for _ in self._paths]
        self._most, self._held = most, 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Make a draft of each file."""
        for path in self._paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._drafts = [self._stack.enter_context(replacing(path)) for path in self._paths]
        return self

    def add(self, place: int, line: str) -> None:
        """Add a line to the file of this number."""
        self._waiting[place].append(line)
        self._held += len(line)
        if self._held >= self._most:
            self._write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the files in their places, or none if something went wrong."""
        with self._stack:
            if error is not None:
                raise error
            self._write()

    def _write(self) -> None:
        for draft, lines in zip(self._drafts, self._waiting, strict=True):
            if lines:
                with draft.open("a", encoding="utf-8", newline="\n") as file:
                    file.writelines(f"{line}\n" for line in lines)
                lines.clear()
        self._held = 0


class Sorted:
    """Lines that are taken in any order and given back in that of their keys."""

    def __init__(self, folder: Path, most: int = MOST_WAITING) -> None:
        """Begin with none; what does not fit into memory goes to a folder within this one."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = TemporaryDirectory(dir=folder)
        self._most, self._held = most, 0
        self._waiting: list[tuple[str, str]] = []
        self._runs: list[Path] = []

    def __enter__(self) -> Self:
        """Begin to take lines."""
        return self

    def add(self, key: str, line: str) -> None:
        """Take a line."""
        self._waiting.append((key, line))
        self._held += len(line)
        if self._held >= self._most:
            self._spill()

    def lines(self) -> Iterator[str]:
        """Every line, in the order of the keys."""
        self._waiting.sort()
        runs = [((key, line) for key, line in read_lines(run)) for run in self._runs]
        for _, line in heapq.merge(*runs, self._waiting):
            yield line

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what is on disk."""
        self._folder.cleanup()

    def _spill(self) -> None:
        self._waiting.sort()
        run = Path(self._folder.name, f"{len(self._runs)}")
        try:
            with run.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{written(pair)}\n" for pair in self._waiting)
        except OSError as error:
            raise unwritable(run, error) from error
        self._runs.append(run)
        self._waiting, self._held = [], 0
