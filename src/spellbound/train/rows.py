"""Which samples share a row, and in which order rows are met: all a function of (seed, epoch) alone.

The first batch of every epoch is its largest, so that a run which does not fit fails at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spellbound.errors import InputError
from spellbound.train.recipe import Batching
from spellbound.train.tokens import Tokens

Indices = NDArray[np.int64]
POOL = 64
"""Batches among which samples of like length are sought."""


@dataclass(frozen=True)
class Rows:
    """Rows of samples: row r has `members[offsets[r]:offsets[r + 1]]`."""

    members: Indices
    offsets: Indices

    def __len__(self) -> int:
        """How many rows."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Indices:
        """Indices of the row's samples."""
        return self.members[self.offsets[row] : self.offsets[row + 1]]


class Order:
    """The rows of every epoch, and which of them a step takes."""

    def __init__(
        self,
        tokens: Tokens,
        *,
        repeats: Sequence[float],
        length: int,
        batching: Batching,
        batch: int,
        seed: int,
    ) -> None:
        """Take how often each source occurs, tokens of a row, and rows of a step."""
        self._tokens, self._repeats = tokens, np.asarray(repeats)
        self._length, self._batching, self._batch, self._seed = length, batching, batch, seed
        self._steps: list[int] = []
        self._latest: tuple[int, Rows] | None = None

    def steps(self, epoch: int) -> int:
        """Steps of an epoch; the last may have fewer rows."""
        while len(self._steps) <= epoch:
            self._steps.append(-(-len(self.rows(len(self._steps))) // self._batch))
        return self._steps[epoch]

    def total_steps(self, epochs: int) -> int:
        """Steps of so many epochs."""
        return sum(self.steps(epoch) for epoch in range(epochs))

    def rows(self, epoch: int) -> Rows:
        """All rows of an epoch, in order."""
        if self._latest is None or self._latest[0] != epoch:
            self._latest = (epoch, self._arranged(epoch))
        return self._latest[1]

    def at(self, step: int) -> tuple[int, list[Indices]]:
        """Return a step's epoch, from 0, and its rows."""
        epoch, first = 0, 0
        while step >= first + self.steps(epoch):
            first += self.steps(epoch)
            epoch += 1
        rows, start = self.rows(epoch), (step - first) * self._batch
        return epoch, [rows[row] for row in range(start, min(start + self._batch, len(rows)))]

    def _arranged(self, epoch: int) -> Rows:
        draw = np.random.default_rng([self._seed, epoch])
        chosen = self._chosen(draw)
        if not len(chosen):
            raise InputError(
                f"data: epoch {epoch + 1} has no samples, so few are there and so rarely do they occur;"
                " give repeats of 1 or more"
            )
        lengths = self._tokens.lengths[chosen]
        if self._batching == "padded":
            return padded(chosen, lengths, self._batch, draw)
        return packed(chosen, lengths, self._length, self._batch, draw)

    def _chosen(self, draw: np.random.Generator) -> Indices:
        """Samples of an epoch, each as often as its source says, in random order."""
        often = self._repeats[self._tokens.samples["source"]]
        whole = np.floor(often)
        times = whole + (draw.random(len(often)) < often - whole)
        chosen = np.repeat(np.arange(len(often), dtype=np.int64), times.astype(np.int64))
        return draw.permutation(chosen)


def padded(chosen: Indices, lengths: NDArray[np.int32], batch: int, draw: np.random.Generator) -> Rows:
    """One sample a row; samples of like length meet in a batch."""
    pool = POOL * batch
    # What fills no pool goes with the last: else a batch that is not full might have the longest.
    starts = range(0, max(1, len(chosen) - pool + 1), pool)
    batches = [
        start + place
        for start, end in zip(starts, [*starts[1:], len(chosen)], strict=True)
        for order in [np.argsort(-lengths[start:end], kind="stable")]
        for place in np.split(order, range(batch, len(order), batch))
    ]
    # The only batch that may be smaller is the last, and stays so.
    full = [each for each in batches if len(each) == batch]
    rest = [each for each in batches if len(each) < batch]
    order = draw.permutation(len(full)).tolist()
    order.sort(key=lambda place: -int(lengths[full[place]].max() == lengths.max()))
    members = chosen[np.concatenate([*(full[place] for place in order), *rest])] if batches else chosen
    return Rows(members, np.arange(len(members) + 1, dtype=np.int64))


def packed(
    chosen: Indices, lengths: NDArray[np.int32], length: int, batch: int, draw: np.random.Generator
) -> Rows:
    """Rows of whole samples, fullest first for the first batch, the others in random order."""
    made = best_fit(lengths, length)
    sizes = np.array([len(row) for row in made], dtype=np.int64)
    places = np.array([place for row in made for place in row], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    size = lengths[places].astype(np.int64)
    used, attention = np.add.reduceat(size, starts), np.add.reduceat(size**2, starts)
    largest = np.lexsort((-attention, -used))[:batch]
    rest = np.setdiff1d(np.arange(len(made)), largest)
    order = np.concatenate([largest, draw.permutation(rest)]).astype(np.int64)
    members = np.concatenate([places[starts[row] : starts[row] + sizes[row]] for row in order.tolist()])
    offsets = np.concatenate([[0], np.cumsum(sizes[order])]).astype(np.int64)
    return Rows(chosen[members], offsets)


def best_fit(lengths: NDArray[np.int32], length: int) -> list[list[int]]:
    """Pack samples, longest first, each into the fullest row that holds it; linear in the samples.

    Rows are kept by the room they have left, with a bit for each room that some row has: the smallest that
    suffices is the lowest bit from there on.
    """
    rows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    rooms = 0
    for place in np.argsort(-lengths, kind="stable").tolist():
        size = int(lengths[place])
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
        else:
            room, row = length, len(rows)
            rows.append([])
        rows[row].append(place)
        left = room - size
        if left:
            by_room.setdefault(left, []).append(row)
            rooms |= 1 << left
    return rows
