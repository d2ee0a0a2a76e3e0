"""Rows of samples -> tensors. B rows, T time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from spellbound.train.rows import Indices
from spellbound.train.tokens import Tokens

NO_TARGET = -100
GRAIN = 64
"""Rows have a multiple of so many tokens."""


@dataclass(frozen=True)
class Batch:
    """What a model reads and what it should have said.

    `targets_BT` holds at each position the token that should come next, -100 where nothing is learnt.
    """

    input_ids_BT: Tensor
    documents_BT: Tensor | None
    """Which sample of its row a token is of; None for a sample a row, padded on the right."""
    targets_BT: Tensor
    weights_BT: Tensor
    """What each target counts, float32."""
    lengths_B: Tensor
    """Tokens of each row that are no padding."""
    tokens: int
    """The sum of these; 0 if nothing is learnt."""

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        documents = self.documents_BT
        return replace(
            self,
            input_ids_BT=self.input_ids_BT.to(device),
            documents_BT=None if documents is None else documents.to(device),
            targets_BT=self.targets_BT.to(device),
            weights_BT=self.weights_BT.to(device),
            lengths_B=self.lengths_B.to(device),
        )

    def muted(self) -> Batch:
        """The same without anything to learn: for a process that has no rows left in a step."""
        return replace(self, targets_BT=torch.full_like(self.targets_BT, NO_TARGET), tokens=0)


def collate(tokens: Tokens, rows: Sequence[Indices], *, pad_id: int, packed: bool) -> Batch:
    """Lay samples into rows as long as the longest of them, up to the next multiple of 64."""
    longest = max(int(tokens.lengths[row].sum()) for row in rows)
    # Few different shapes: memory that is freed fits what is asked for next.
    size = -(-longest // GRAIN) * GRAIN
    ids_BT = np.full((len(rows), size), pad_id, dtype=np.int64)
    targets_BT = np.full((len(rows), size), NO_TARGET, dtype=np.int64)
    weights_BT = np.zeros((len(rows), size), dtype=np.float32)
    documents_BT = np.empty((len(rows), size), dtype=np.int64)
    lengths_B = np.zeros(len(rows), dtype=np.int64)
    for place, row in enumerate(rows):
        end = 0
        for number, sample in enumerate(tokens.samples[row]):
            begin, end = end, end + int(sample["length"])
            ids_T = tokens.ids[int(sample["start"]) : int(sample["start"]) + int(sample["length"])]
            ids_BT[place, begin:end] = ids_T
            documents_BT[place, begin:end] = number
            learnt = slice(begin + int(sample["given"]) - 1, end - 1)
            targets_BT[place, learnt] = ids_T[int(sample["given"]) :]
            weights_BT[place, learnt] = sample["weight"]
        documents_BT[place, end:] = len(row)
        lengths_B[place] = end
    return Batch(
        torch.from_numpy(ids_BT),
        torch.from_numpy(documents_BT) if packed else None,
        torch.from_numpy(targets_BT),
        torch.from_numpy(weights_BT),
        torch.from_numpy(lengths_B),
        int(lengths_B.sum()),
    )


def shares(
    rows: Sequence[Indices], *, rank: int, processes: int, at_once: int
) -> list[tuple[list[Indices], bool]]:
    """Return what a process takes through the model, one after another: rows, and whether they count.

    Every process has equally many turns, since they meet after each; one without rows repeats another's.
    """
    own = list(rows[rank::processes])
    most = -(-len(rows) // processes)
    size = at_once or most
    turns = [(own[start : start + size], True) for start in range(0, len(own), size)]
    return turns + [([rows[0]], False)] * (-(-most // size) - len(turns))
