"""What a LoRA is to be: rank, strength, dropout and the names of what it adapts."""

import math
import re
from dataclasses import dataclass

from spellbound.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters of ``rank``, their product times ``alpha / rank``, on everything ``targets`` name.

    A target is the end of a name, such as ``q_proj``, ``feed_forward.down_proj``, ``experts`` or ``router``,
    or a regular expression that fits a whole name, such as ``.*\\.layers\\.[0-3]\\..*_proj``. ``gate_proj``,
    ``up_proj`` and ``down_proj`` name dense layers and experts alike; the experts' gate and up are one
    weight and get one adapter. ``dropout`` is the share of an adapter's inputs left out while training;
    embeddings have none.

    Raises:
        ModelError: a value that no LoRA can have.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse what no LoRA can be."""
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise ModelError(f"LoRA rank is {self.rank!r}; give a whole number from 1, such as 8")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ModelError(f"LoRA alpha is {self.alpha!r}; give a number above 0, such as twice the rank")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"LoRA dropout is {self.dropout!r}; give a share from 0 to below 1")
        if not isinstance(self.targets, tuple) or not self.targets:
            raise ModelError(f"LoRA targets are {self.targets!r}; give a tuple of names, such as ('q_proj',)")
        for target in self.targets:
            _check_target(target)
        twice = sorted({target for target in self.targets if self.targets.count(target) > 1})
        if twice:
            raise ModelError(f"LoRA target {twice[0]!r} is given twice; give it once")


def _check_target(target: object) -> None:
    if not isinstance(target, str) or not target:
        raise ModelError(f"LoRA target {target!r} is not a name; give one such as 'q_proj'")
    try:
        re.compile(target)
    except re.error as error:
        raise ModelError(f"LoRA target {target!r} is no regular expression: {error}; mend it") from error
