"""The two feed-forward layers: a gated MLP, and a mixture of such MLPs of which each token meets the best
few.

X tokens (batch x time), H hidden, F inner, E experts, K experts per token.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import JambaConfig

from spellbound.jamba.linear import Linear, filled, linear
from spellbound.jamba.ops import swiglu
from spellbound.jamba.ops.grouped import grouped_linear

Beside = Callable[[Tensor, Tensor], Tensor]
"""Takes a product's input and output, returns the output with something added; may change it."""


class BesideExperts(Protocol):
    """What an adapter adds to one product of all experts."""

    def each(self) -> Sequence[Beside]:
        """Return what adds to each expert's output."""

    def grouped(self, x_XI: Tensor, y_XO: Tensor, counts_E: Tensor) -> Tensor:
        """Add to the outputs of tokens sorted by expert, so many of each; may change ``y``."""


class GatedMLP(nn.Module):
    """``down(silu(gate(x)) * up(x))`` (SwiGLU, arXiv:2002.05202)."""

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = Linear(hidden, inner, bias=False)
        self.up_proj = Linear(hidden, inner, bias=False)
        self.down_proj = Linear(inner, hidden, bias=False)

    def forward(self, x_BTH: Tensor) -> Tensor:
        """Return (B, T, H)."""
        return self.down_proj(swiglu(self.gate_proj(x_BTH), self.up_proj(x_BTH)))


class Router(nn.Module):
    """Softmax over all experts, of which the top K are kept and **not** renormalised."""

    observe: Callable[[Tensor, Tensor], None] | None = None
    """Told all scores (X, E) and the chosen experts (X, K) of every call."""

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))

    def forward(self, x_XH: Tensor, beside: Beside | None = None) -> tuple[Tensor, Tensor]:
        """Return weights and expert indices, both (X, K), best first."""
        logits_XE = _product(x_XH, self.weight, beside)
        wide = torch.promote_types(logits_XE.dtype, torch.float32)
        scores_XE = logits_XE.softmax(-1, dtype=wide)
        weights_XK, experts_XK = scores_XE.topk(self.top_k, -1)
        if self.observe is not None:
            self.observe(scores_XE, experts_XK)
        return weights_XK.to(x_XH.dtype), experts_XK


class Experts(nn.Module):
    """Weights of all experts, one tensor a projection, as in the checkpoints."""

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        experts, hidden, inner = config.num_experts, config.hidden_size, config.intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, inner))

    def forward(
        self,
        x_XH: Tensor,
        weights_XK: Tensor,
        experts_XK: Tensor,
        first: BesideExperts | None = None,
        second: BesideExperts | None = None,
    ) -> Tensor:
        """Sum the chosen experts' outputs for each token: tokens sorted by expert, two products an expert,
        with something added to the ``first`` or the ``second`` where an adapter is on."""
        chosen, experts = experts_XK.flatten(), len(self.down_proj)
        order = chosen.argsort(stable=True)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        sorted_XH = _Gather.apply(x_XH, order, back, experts_XK.shape[1])  # type: ignore[no-untyped-call]
        if x_XH.device.type == "cuda":
            # Counted and multiplied without the host ever knowing how many there are of each.
            counts_E = order.new_zeros(experts).scatter_add_(0, chosen, torch.ones_like(chosen))
            inner_XF = swiglu(_grouped(sorted_XH, self.gate_up_proj, counts_E, first))
            output_XH = _grouped(inner_XF, self.down_proj, counts_E, second)
        else:
            counts = chosen.bincount(minlength=experts).tolist()
            output_XH = torch.cat(self._one_by_one(sorted_XH, counts, first, second))
        chosen_XH = _Gather.apply(output_XH, back, order, 1)  # type: ignore[no-untyped-call]
        return (weights_XK[:, None] @ chosen_XH.view(*experts_XK.shape, -1)).squeeze(1)

    def _one_by_one(
        self,
        sorted_XH: Tensor,
        counts: list[int],
        first: BesideExperts | None,
        second: BesideExperts | None,
    ) -> list[Tensor]:
        # unbind, for the gradient of an index would be as large as all experts together, once for each of
        # them.
        up, down = self.gate_up_proj.unbind(), self.down_proj.unbind()
        none = [None] * len(counts)
        parts = zip(
            sorted_XH.split(counts),
            zip(up, none if first is None else first.each(), strict=True),
            zip(down, none if second is None else second.each(), strict=True),
            strict=True,
        )
        return [
            _product(swiglu(_product(filled(part), *weight_up)), *weight_down)[: len(part)]
            for part, weight_up, weight_down in parts
            if len(part)
        ]


def _product(x_XI: Tensor, weight_OI: Tensor, beside: Beside | None) -> Tensor:
    y_XO = linear(x_XI, weight_OI)
    return y_XO if beside is None else beside(x_XI, y_XO)


def _grouped(x_XI: Tensor, weight_EOI: Tensor, counts_E: Tensor, beside: BesideExperts | None) -> Tensor:
    y_XO = grouped_linear(x_XI, weight_EOI, counts_E)
    return y_XO if beside is None else beside.grouped(x_XI, y_XO, counts_E)


class _Gather(torch.autograd.Function):
    """Rows of x, each ``copies`` times over, in another order. ``back`` undoes ``order``, which spares the
    backward pass adding into rows one by one, in whatever order threads come."""

    @staticmethod
    def forward(ctx: Any, x_XH: Tensor, order: Tensor, back: Tensor, copies: int) -> Tensor:
        ctx.save_for_backward(back)
        ctx.copies = copies
        return x_XH[order // copies if copies > 1 else order]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = ctx.saved_tensors
        restored = gradient[back]
        if ctx.copies > 1:
            restored = restored.view(-1, ctx.copies, restored.shape[1]).sum(1)
        return restored, None, None, None


class SparseMoE(nn.Module):
    """Router and experts; no capacity limit, so no token is ever dropped."""

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        self.router = Router(config)
        self.experts = Experts(config)

    def forward(self, x_BTH: Tensor) -> Tensor:
        """Return (B, T, H)."""
        x_XH = x_BTH.flatten(0, 1)
        return self.experts(x_XH, *self.router(x_XH)).view_as(x_BTH)
