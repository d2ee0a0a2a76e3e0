"""The two feed-forward layers: a gated MLP, and a mixture of such MLPs of which each token meets the best
few.

X tokens (batch x time), H hidden, F inner, E experts, K experts per token.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import JambaConfig
from transformers.activations import ACT2FN


class GatedMLP(nn.Module):
    """``down(act(gate(x)) * up(x))`` (SwiGLU, arXiv:2002.05202)."""

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, x_BTH: Tensor) -> Tensor:
        """Return (B, T, H)."""
        return self.down_proj(self.act_fn(self.gate_proj(x_BTH)) * self.up_proj(x_BTH))


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
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, x_XH: Tensor, weights_XK: Tensor, experts_XK: Tensor) -> Tensor:
        """Sum the chosen experts' outputs for each token: tokens sorted by expert, two products an expert."""
        tokens, top_k = experts_XK.shape
        order = experts_XK.flatten().argsort(stable=True)
        counts = experts_XK.flatten().bincount(minlength=len(self.down_proj)).tolist()
        outputs = [
            self._expert(index, part)
            for index, part in enumerate(x_XH[order // top_k].split(counts))
            if len(part)
        ]
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        chosen_XKH = torch.cat(outputs)[back].view(tokens, top_k, -1)
        return (chosen_XKH * weights_XK[..., None]).sum(1)

    def _expert(self, index: int, x_XH: Tensor) -> Tensor:
        gate_XF, up_XF = linear(x_XH, self.gate_up_proj[index]).chunk(2, -1)
        return linear(self.act_fn(gate_XF) * up_XF, self.down_proj[index])


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
