"""Cross-entropy on target positions alone, whose logits never exist all at once.

B batch, T time, X positions with a target, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.documents import Documents
from spellbound.jamba.linear import Linear
from spellbound.train.balance import balance_loss, observed

_LOGITS, _LOGITS_CPU = 1 << 26, 1 << 21  # at once: 256 MiB in float32, or 8, which caches hold
_FEWEST = 128  # positions at once on a CPU: reading the head's weight should not be all the work


def positions_at_once(vocabulary: int, *, gpu: bool) -> int:
    """Target positions that the head reads at once where the recipe says nothing."""
    return max(1, _LOGITS // vocabulary) if gpu else max(_FEWEST, _LOGITS_CPU // vocabulary)


class Learner(nn.Module):
    """A model that answers with its loss, so that whatever wraps it for several devices sees one call."""

    _no_split_modules = ["JambaDecoderLayer"]  # what FSDP makes units of

    def __init__(self, model: JambaForCausalLM, *, head_tokens: int = 0, balance: bool = False) -> None:
        """Take a model; `head_tokens` positions are read by the head at once, 0 for `positions_at_once`.

        With `balance` the routers' loss is computed, too.
        """
        super().__init__()
        self.model = model
        self._balance = balance
        self._head_tokens = head_tokens

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
        at_once = self._head_tokens or positions_at_once(
            self.model.config.vocab_size, gpu=hidden_BTH.device.type != "cpu"
        )
        nats = weighted_nats(self.model.lm_head, hidden_BTH, targets_BT, weights_BT, at_once)
        return nats, balance_loss(told, counts_X)


def weighted_nats(
    head: Callable[[Tensor], Tensor],
    hidden_BTH: Tensor,
    targets_BT: Tensor,
    weights_BT: Tensor,
    at_once: int,
) -> Tensor:
    """Sum of weight x cross-entropy over the positions whose target is not negative, float32.

    No more than `at_once` positions are read at a time. A head that is one product makes its gradient in the
    same pass, while the logits are there; any other head reads anew for it what did not fit at once.
    """
    wanted_BT = targets_BT >= 0
    hidden_XH, targets_X, weights_X = hidden_BTH[wanted_BT], targets_BT[wanted_BT], weights_BT[wanted_BT]
    if _is_one_product(head, hidden_XH):
        learns = torch.is_grad_enabled()  # autograd says a parameter needs a gradient even where nobody asks
        inputs = (hidden_XH, head.weight, targets_X, weights_X)
        nats: Tensor = _Nats.apply(head, learns, at_once, *inputs)  # type: ignore[no-untyped-call]
        return nats
    if len(targets_X) <= at_once:
        return _nats(head, hidden_XH, targets_X, weights_X)
    parts = zip(hidden_XH.split(at_once), targets_X.split(at_once), weights_X.split(at_once), strict=True)
    sums = [cast(Tensor, checkpoint(_nats, head, *part, use_reentrant=False)) for part in parts]
    return torch.stack(sums).sum()


def _is_one_product(head: Callable[[Tensor], Tensor], hidden_XH: Tensor) -> TypeGuard[nn.Linear]:
    # By type: an adapter's or a quantised layer is another one, and ZeRO-3 leaves an empty weight here.
    return (
        isinstance(head, nn.Linear)
        and type(head) in (nn.Linear, Linear)
        and type(head.weight) in (nn.Parameter, Tensor)
        and head.weight.shape[1:] == hidden_XH.shape[1:]
        and head.bias is None
    )


def _nats(head: Callable[[Tensor], Tensor], *part: Any) -> Tensor:
    hidden_XH, targets_X, weights_X = part
    logits_XV = head(hidden_XH)
    wide = torch.promote_types(logits_XV.dtype, torch.float32)
    nats_X = cross_entropy(logits_XV.to(wide), targets_X, reduction="none")
    return torch.dot(nats_X, weights_X.to(nats_X.dtype))


class _Nats(torch.autograd.Function):
    """The sum, with gradients made beside it: they grow in proportion to the one number that flows back.

    torch's own log-softmax takes 12 ns a logit for its gradient on a CPU, twenty times an exponential.
    """

    @staticmethod
    def forward(
        ctx: Any,
        head: nn.Linear,
        learns: bool,
        at_once: int,
        hidden_XH: Tensor,
        weight_VH: Tensor,
        targets_X: Tensor,
        weights_X: Tensor,
    ) -> Tensor:
        needs_hidden, needs_weight = (learns and each for each in ctx.needs_input_grad[3:5])
        wide = torch.promote_types(hidden_XH.dtype, torch.float32)
        nats = hidden_XH.new_zeros((), dtype=wide)
        dhidden_XH = torch.empty_like(hidden_XH) if needs_hidden else None
        dweight_VH = torch.zeros_like(weight_VH, dtype=wide) if needs_weight else None
        for begin in range(0, len(hidden_XH), at_once):
            part = slice(begin, begin + at_once)
            hidden, targets, weights = hidden_XH[part], targets_X[part, None], weights_X[part, None].to(wide)
            logits = head(hidden)
            products = logits.dtype
            logits = logits.to(wide, copy=True)
            logits -= logits.amax(1, keepdim=True)
            aimed = logits.gather(1, targets)
            sums = logits.exp_().sum(1, keepdim=True)
            nats += ((sums.log() - aimed) * weights).sum()
            if not needs_hidden and not needs_weight:
                continue
            slopes = logits.mul_(weights / sums)
            slopes.scatter_(1, targets, slopes.gather(1, targets) - weights)
            slopes = slopes.to(products)
            if dhidden_XH is not None:
                dhidden_XH[part] = slopes @ weight_VH.to(products)
            if dweight_VH is not None:
                dweight_VH += slopes.T @ hidden.to(products)
        ctx.kinds = hidden_XH.dtype, weight_VH.dtype
        ctx.save_for_backward(dhidden_XH, dweight_VH)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dnats: Tensor) -> tuple[Tensor | None, ...]:
        dhidden_XH, dweight_VH = ctx.saved_tensors
        hidden_kind, weight_kind = ctx.kinds
        if dhidden_XH is not None:  # in one piece: dnats alone in bfloat16 would scale all of them wrongly
            dhidden_XH = (dhidden_XH.to(dnats.dtype) * dnats).to(hidden_kind)
        if dweight_VH is not None:
            dweight_VH = (dweight_VH * dnats).to(weight_kind)
        return None, None, None, dhidden_XH, dweight_VH, None, None
