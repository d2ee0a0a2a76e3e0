"""States of prompts already read, so that a prompt which begins like an earlier one is not read again."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from spellbound.jamba import JambaState


@dataclass(frozen=True)
class Snapshot:
    """The state after `ids`, and the logits of the token that follows them."""

    ids: array[int]
    state: JambaState
    logits_V: Tensor


class PrefixCache:
    """A few snapshots of one model; the least recently used one leaves first.

    A recurrent state cannot be cut back, so only a snapshot whose tokens all begin the prompt is of use.
    """

    def __init__(self, *, max_bytes: int = 2 * 2**30, max_snapshots: int = 32) -> None:
        """Keep at most so many bytes and snapshots; 0 of either keeps none."""
        self._max_bytes = max_bytes
        self._max_snapshots = max_snapshots
        self._snapshots: OrderedDict[bytes, Snapshot] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of snapshots held."""
        return len(self._snapshots)

    @property
    def nbytes(self) -> int:
        """Bytes of the states held."""
        return sum(held.state.nbytes() for held in self._snapshots.values())

    def longest(self, prompt_ids: Sequence[int]) -> Snapshot | None:
        """Return the longest snapshot that begins `prompt_ids`; clone its state before advancing it."""
        ids = array("q", prompt_ids)
        fitting = [key for key, held in self._snapshots.items() if ids[: len(held.ids)] == held.ids]
        if not fitting:
            return None
        key = max(fitting, key=len)
        self._snapshots.move_to_end(key)
        return self._snapshots[key]

    def put(self, ids: Sequence[int], state: JambaState, logits_V: Tensor, *, copy: bool = False) -> None:
        """Hold a state, which nobody may advance any more, or a copy of it. One too large is not held."""
        if state.nbytes() > self._max_bytes:
            return
        snapshot = Snapshot(array("q", ids), state.clone() if copy else state, logits_V)
        key = snapshot.ids.tobytes()
        self._snapshots[key] = snapshot
        self._snapshots.move_to_end(key)
        while len(self._snapshots) > self._max_snapshots or self.nbytes > self._max_bytes:
            self._snapshots.popitem(last=False)
