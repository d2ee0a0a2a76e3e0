"""Samples as token ids on disk: one long array of ids, and an index of which stretches of it are samples.

A window of an overlong sample is a stretch of its own over the same ids, so nothing is stored twice.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from spellbound.errors import InputError
from spellbound.train.encoding import Encoded
from spellbound.train.recipe import Overlong

SAMPLE = np.dtype(
    [("start", "<i8"), ("length", "<i4"), ("given", "<i4"), ("weight", "<f4"), ("source", "<i4")]
)
"""Where a sample's ids begin, how many there are, how many of them are context, what a target of it weighs,
and which source it is of."""
NAMED = 5
"""Overlong samples that an error names."""


@dataclass(kw_only=True)
class Counts:
    """What became of one source."""

    name: str
    samples: int = 0
    """Stretches that are learnt, windows included."""
    tokens: int = 0
    targets: int = 0
    held_out: int = 0
    """Samples kept for validation."""
    windowed: int = 0
    """Samples longer than a row, cut into windows."""
    dropped: int = 0
    """Samples longer than a row, left out."""
    licences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Tokens:
    """Samples of one split, mapped into memory."""

    ids: NDArray[Any]
    samples: NDArray[Any]
    """(N,) of dtype SAMPLE."""
    counts: tuple[Counts, ...]

    def __len__(self) -> int:
        """How many samples."""
        return len(self.samples)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each sample."""
        return np.asarray(self.samples["length"])

    def weights(self, indices: NDArray[np.int64]) -> float:
        """Weighted targets of these samples together."""
        chosen = self.samples[indices]
        targets = chosen["length"].astype(np.float64) - chosen["given"]
        return float((targets * chosen["weight"]).sum())


class TokenWriter:
    """Writes the samples of one split, streamed; the folder is whole once it is closed."""

    def __init__(self, folder: Path, *, vocabulary: int, length: int, names: list[str]) -> None:
        """Begin in an existing folder; `length` is that of a row, `names` those of the sources."""
        self._kind = np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")
        self._ids: BinaryIO = (folder / "ids.bin").open("wb")
        self._index: BinaryIO = (folder / "samples.bin").open("wb")
        self._folder, self._length, self._written = folder, length, 0
        self.counts = [Counts(name=name) for name in names]
        self.too_long: list[tuple[str, int]] = []
        """The first samples that fit no row, and their tokens, where that is an error."""
        self.too_long_count = 0

    def add(self, name: str, sample: Encoded, *, source: int, weight: float, overlong: Overlong) -> None:
        """Write a sample, or what the rule for overlong ones makes of it."""
        counts = self.counts[source]
        if len(sample.ids) <= self._length:
            stretches = [(0, len(sample.ids), sample.given)]
        elif overlong == "window":
            counts.windowed += 1
            stretches = windows(len(sample.ids), sample.given, self._length)
        elif overlong == "drop":
            counts.dropped += 1
            return
        else:
            self.too_long_count += 1
            if len(self.too_long) < NAMED:
                self.too_long.append((name, len(sample.ids)))
            return
        rows = [(self._written + start, size, given, weight, source) for start, size, given in stretches]
        self._index.write(np.array(rows, dtype=SAMPLE).tobytes())
        self._ids.write(np.array(sample.ids, dtype=self._kind).tobytes())
        self._written += len(sample.ids)
        counts.samples += len(stretches)
        counts.tokens += sum(size for _, size, _ in stretches)
        counts.targets += sum(size - given for _, size, given in stretches)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files, with the counts beside them if all went well."""
        with closing(self._index):  # also if the disk is too full for the other's last bytes
            self._ids.close()
        if kind is None:
            meta = {"dtype": self._kind.str, "counts": [asdict(each) for each in self.counts]}
            (self._folder / "tokens.json").write_text(
                json.dumps(meta, indent=1, ensure_ascii=False), encoding="utf-8"
            )


def windows(length: int, given: int, row: int) -> list[tuple[int, int, int]]:
    """Cut a sample into stretches (start, length, given) of at most a row.

    Each repeats the last token of the one before, so that every target is learnt once. A document's stretches
    begin at its start; an example's end at its end, those of context alone are left out.
    """
    step = row - 1
    if given <= 1:
        starts = list(range(0, length - 1, step))
        return [(start, min(row, length - start), 1) for start in starts]
    ends = range(length, max(given, 1), -step)
    made = [(max(0, end - row), end) for end in reversed(ends)]
    return [(start, end - start, max(1, given - start)) for start, end in made]


def read_tokens(folder: Path) -> Tokens:
    """The samples in this folder; InputError if they are not whole."""
    try:
        meta = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
        counts = tuple(Counts(**each) for each in meta["counts"])
        ids = _mapped(folder / "ids.bin", np.dtype(meta["dtype"]))
        return Tokens(ids, _mapped(folder / "samples.bin", SAMPLE), counts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: the token ids are damaged ({error}); remove that folder") from error


def _mapped(path: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    if not path.stat().st_size:  # mmap takes no empty file
        return np.empty(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r")
