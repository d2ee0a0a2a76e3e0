"""The two feed-forward layers: a gated MLP, and a mixture of such MLPs of which each token meets the best
few.

X tokens (batch x time), H hidden, F inner, E experts, K experts per token.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import JambaConfig

from spellbound.jamba.linear import Linear, linear
from spellbound.jamba.ops import swiglu
from spellbound.jamba.ops.grouped import grouped_linear


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

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))

    def forward(self, x_XH: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and expert indices, both (X, K), best first."""
        logits_XE = linear(x_XH, self.weight)
        wide = torch.promote_types(logits_XE.dtype, torch.float32)
        weights_XK, experts_XK = logits_XE.softmax(-1, dtype=wide).topk(self.top_k, -1)
        return weights_XK.to(x_XH.dtype), experts_XK


class Experts(nn.Module):
    """Weights of all experts, one tensor a projection, as in the checkpoints."""

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        experts, hidden, inner = config.num_experts, config.hidden_size, config.intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, inner))

    def forward(self, x_XH: Tensor, weights_XK: Tensor, experts_XK: Tensor) -> Tensor:
        """Sum the chosen experts' outputs for each token: tokens sorted by expert, two products an expert."""
        chosen, experts = experts_XK.flatten(), len(self.down_proj)
        order = chosen.argsort(stable=True)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        sorted_XH = _Gather.apply(x_XH, order, back, experts_XK.shape[1])  # type: ignore[no-untyped-call]
        if x_XH.device.type == "cuda":
            # Counted and multiplied without the host ever knowing how many there are of each.
            counts_E = order.new_zeros(experts).scatter_add_(0, chosen, torch.ones_like(chosen))
            inner_XF = swiglu(grouped_linear(sorted_XH, self.gate_up_proj, counts_E))
            output_XH = grouped_linear(inner_XF, self.down_proj, counts_E)
        else:
            output_XH = torch.cat(self._one_by_one(sorted_XH, chosen.bincount(minlength=experts).tolist()))
        chosen_XH = _Gather.apply(output_XH, back, order, 1)  # type: ignore[no-untyped-call]
        return (weights_XK[:, None] @ chosen_XH.view(*experts_XK.shape, -1)).squeeze(1)

    def _one_by_one(self, sorted_XH: Tensor, counts: list[int]) -> list[Tensor]:
        # unbind, for the gradient of an index would be as large as all experts together, once for each of
        # them.
        up, down = self.gate_up_proj.unbind(), self.down_proj.unbind()
        parts = zip(sorted_XH.split(counts), up, down, strict=True)
        return [linear(swiglu(linear(part, first)), second) for part, first, second in parts if len(part)]


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
