"""Cross-entropy on target positions alone, whose logits never exist all at once.

B batch, T time, X positions with a target, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.documents import Documents
from spellbound.train.balance import balance_loss, observed

LOGITS = 1 << 26
"""Logits that exist at once, unless the recipe says otherwise: 256 MiB in float32."""


class Learner(nn.Module):
    """A model that answers with its loss, so that whatever wraps it for several devices sees one call."""

    _no_split_modules = ["JambaDecoderLayer"]  # what FSDP makes units of

    def __init__(self, model: JambaForCausalLM, *, head_tokens: int = 0, balance: bool = False) -> None:
        """Take a model; `head_tokens` positions are read by the head at once, 0 for what fits LOGITS.

        With `balance` the routers' loss is computed, too.
        """
        super().__init__()
        self.model = model
        self._balance = balance
        self._head_tokens = head_tokens or max(1, LOGITS // model.config.vocab_size)

    def tie_weights(self) -> None:
        """Share what the model shares; FSDP asks after it has replaced the parameters."""
        self.model.tie_weights()

    def forward(
        self,
        input_ids_BT: Tensor,
        documents_BT: Tensor | None,
        targets_BT: Tensor,
        weights_BT: Tensor,
        lengths_B: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of nats over all targets, and the routers' loss, 0 if nobody asked.

        Both are float32. `lengths_B` are the tokens of each row that are no padding.
        """
        documents = Documents.of(documents_BT, input_ids_BT)
        with observed(self.model, wanted=self._balance) as told:
            hidden_BTH = self.model.model(input_ids_BT, None, documents)
        places_T = torch.arange(input_ids_BT.shape[1], device=lengths_B.device)
        counts_X = (places_T < lengths_B[:, None]).flatten()
        nats = weighted_nats(self.model.lm_head, hidden_BTH, targets_BT, weights_BT, self._head_tokens)
        return nats, balance_loss(told, counts_X)


def weighted_nats(
    head: Callable[[Tensor], Tensor],
    hidden_BTH: Tensor,
    targets_BT: Tensor,
    weights_BT: Tensor,
    at_once: int,
) -> Tensor:
    """Sum of weight x cross-entropy over the positions whose target is not negative, float32.

    More than `at_once` positions are read in parts, whose logits are computed anew for the gradient.
    """
    wanted_BT = targets_BT >= 0
    hidden_XH, targets_X, weights_X = hidden_BTH[wanted_BT], targets_BT[wanted_BT], weights_BT[wanted_BT]
    if len(targets_X) <= at_once:
        return _nats(head, hidden_XH, targets_X, weights_X)
    parts = zip(hidden_XH.split(at_once), targets_X.split(at_once), weights_X.split(at_once), strict=True)
    sums = [cast(Tensor, checkpoint(_nats, head, *part, use_reentrant=False)) for part in parts]
    return torch.stack(sums).sum()


def _nats(head: Callable[[Tensor], Tensor], *part: Any) -> Tensor:
    hidden_XH, targets_X, weights_X = part
    logits_XV = head(hidden_XH)
    wide = torch.promote_types(logits_XV.dtype, torch.float32)
    nats_X = cross_entropy(logits_XV.to(wide), targets_X, reduction="none")
    return torch.dot(nats_X, weights_X.to(nats_X.dtype))
