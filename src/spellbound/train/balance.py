"""The loss that spreads tokens over experts (Switch Transformer, arXiv:2101.03961, equations 4 to 6).

Of each layer by itself, for a layer that crowds one expert is not made up for by another that crowds a
second; padding is left out. X tokens (batch x time), E experts, K experts a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spellbound.jamba.feed_forward import Router


@contextmanager
def observed(model: nn.Module, *, wanted: bool = True) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect what the routers of a model decide within: scores (X, E) and chosen experts (X, K).

    Nothing, if it is not wanted.
    """
    told: list[tuple[Tensor, Tensor]] = []
    routers = [module for module in model.modules() if wanted and isinstance(module, Router)]
    for router in routers:
        router.observe = lambda scores_XE, experts_XK: told.append((scores_XE, experts_XK))
    try:
        yield told
    finally:
        for router in routers:
            router.observe = None


def balance_loss(told: list[tuple[Tensor, Tensor]], counts_X: Tensor) -> Tensor:
    """Mean over layers of E x sum over experts of (share of choices) x (mean score).

    1 a choice where tokens are spread evenly, so K at best; 0 without experts. `counts_X` is False for
    padding.
    """
    if not told:
        return counts_X.new_zeros((), dtype=torch.float32)
    weight_X = counts_X.float()
    total = weight_X.sum().clamp(min=1)
    losses = []
    for scores_XE, experts_XK in told:
        chosen_XE = torch.zeros_like(scores_XE, dtype=torch.float32).scatter_(1, experts_XK, 1.0)
        share_E = (chosen_XE * weight_X[:, None]).sum(0) / total
        score_E = (scores_XE.float() * weight_X[:, None]).sum(0) / total
        losses.append(scores_XE.shape[1] * (share_E * score_E).sum())
    return torch.stack(losses).mean()
