"""Modules with a low-rank product beside a frozen one, which is called as it is, quantised or not.

X tokens, I inputs, O outputs, R rank, E experts, V vocabulary, H hidden.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name everybody reads)

from spellbound.jamba.feed_forward import Experts, Router
from spellbound.jamba.linear import Linear
from spellbound.jamba.lora.sites import Site
from spellbound.jamba.ops.grouped import ALIGNMENT, grouped_linear

_FRESH = (Linear, nn.Linear)  # their result is nobody else's, so it can be added to in place


class LowRank(nn.Module):
    """``scale * B A``, in float32: ``lora_A`` (R, I) and ``lora_B`` (O, R), E of each for experts.

    Zero at first, because B is (of an embedding, A): an adapter begins by changing nothing.
    """

    def __init__(self, site: Site, rank: int, alpha: float, dropout: float, device: torch.device) -> None:
        super().__init__()
        lead = (site.experts,) if site.kind == "experts" else ()
        self.rank, self.alpha, self.dropout = rank, alpha, dropout
        self.lora_A = nn.Parameter(torch.zeros(*lead, rank, site.inputs, device=device))
        self.lora_B = nn.Parameter(torch.zeros(*lead, site.outputs, rank, device=device))

    @property
    def scale(self) -> float:
        """By what the product is multiplied."""
        return self.alpha / self.rank

    def beside(self, x_XI: Tensor, y_XO: Tensor, *, fresh: bool) -> Tensor:
        """Return ``y`` with the product added, in its place if it is ``fresh``."""
        return _add(self._dropped(x_XI), y_XO, self.lora_A, self.lora_B, self.scale, fresh=fresh)

    def each(self) -> list[Callable[[Tensor, Tensor], Tensor]]:
        """Return for each expert what adds its product to its tokens' ``y``."""
        # unbind, for the gradient of an index would be as large as all experts together.
        return [
            partial(self._one, A_RI=A_RI, B_OR=B_OR)
            for A_RI, B_OR in zip(self.lora_A.unbind(), self.lora_B.unbind(), strict=True)
        ]

    def grouped(self, x_XI: Tensor, y_XO: Tensor, counts_E: Tensor) -> Tensor:
        """Add each expert's product to its tokens, which lie sorted; ``y`` is changed."""
        x_XI = self._dropped(x_XI)
        A_ERI, B_EOR = (_widened(self.lora_A, 1), _widened(self.lora_B, 2))
        low_XR = grouped_linear(x_XI, A_ERI.to(x_XI.dtype), counts_E) * self.scale
        return y_XO.add_(grouped_linear(low_XR.to(y_XO.dtype), B_EOR.to(y_XO.dtype), counts_E))

    def delta(self, expert: int | None = None) -> Tensor:
        """Return what the adapter adds to the weight (O, I), or to that of one expert, in float32."""
        A_RI, B_OR = self.lora_A.detach(), self.lora_B.detach()
        if expert is not None:
            A_RI, B_OR = A_RI[expert], B_OR[expert]
        return (B_OR.float() @ A_RI.float()).mul_(self.scale)

    def _one(self, x_XI: Tensor, y_XO: Tensor, *, A_RI: Tensor, B_OR: Tensor) -> Tensor:
        return _add(self._dropped(x_XI), y_XO, A_RI, B_OR, self.scale, fresh=True)

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.training and self.dropout else x


class Adapted(nn.Module):
    """A module under adapters: ``base_layer`` is the module itself."""

    base_layer: nn.Module

    def adapters(self) -> dict[str, LowRank]:
        """Return the adapters by the parameter of the base they stand beside; "" where it has but one."""
        raise NotImplementedError


class LoraLinear(Adapted):
    """A linear layer and an adapter."""

    base_layer: nn.Linear

    def __init__(self, base: nn.Linear, lora: LowRank) -> None:
        super().__init__()
        self.base_layer, self.lora = base, lora
        self.in_features, self.out_features = base.in_features, base.out_features

    @property
    def weight(self) -> Tensor:
        """The frozen weight."""
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias, if there is one."""
        return self.base_layer.bias

    def adapters(self) -> dict[str, LowRank]:
        """Return the one."""
        return {"": self.lora}

    def forward(self, x: Tensor) -> Tensor:
        """Return both products' sum, shape (..., O)."""
        x_XI = x.reshape(-1, x.shape[-1])
        y_XO = self.lora.beside(x_XI, self.base_layer(x_XI), fresh=type(self.base_layer) in _FRESH)
        return y_XO.view(*x.shape[:-1], y_XO.shape[-1])


class LoraEmbedding(Adapted):
    """An embedding and an adapter, ``lora_A`` (R, V) and ``lora_B`` (H, R)."""

    base_layer: nn.Embedding

    def __init__(self, base: nn.Embedding, lora: LowRank) -> None:
        super().__init__()
        self.base_layer, self.lora = base, lora
        self.padding = base.padding_idx

    @property
    def weight(self) -> Tensor:
        """The frozen weight."""
        return self.base_layer.weight

    def adapters(self) -> dict[str, LowRank]:
        """Return the one."""
        return {"": self.lora}

    def forward(self, ids: Tensor) -> Tensor:
        """Return both rows' sum, shape (..., H)."""
        y = self.base_layer(ids)
        low = F.embedding(ids, self.lora.lora_A.T, self.padding) * self.lora.scale
        return y + F.linear(low.to(y.dtype), self.lora.lora_B.to(y.dtype))


class LoraRouter(Adapted):
    """A router and an adapter beside its weight, which thus moves who is chosen and how much it counts."""

    base_layer: Router

    def __init__(self, base: Router, lora: LowRank) -> None:
        super().__init__()
        self.base_layer, self.lora = base, lora

    @property
    def weight(self) -> Tensor:
        """The frozen weight."""
        return self.base_layer.weight

    def adapters(self) -> dict[str, LowRank]:
        """Return the one."""
        return {"": self.lora}

    def forward(self, x_XH: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and expert indices, as the router does."""
        weights_XK, experts_XK = self.base_layer(x_XH, partial(self.lora.beside, fresh=True))
        return weights_XK, experts_XK


class LoraExperts(Adapted):
    """Experts, with adapters beside either or both of their products; never a full-sized change."""

    def __init__(self, base: Experts) -> None:
        super().__init__()
        self.base_layer = base
        self.gate_up_proj: LowRank | None = None
        self.down_proj: LowRank | None = None

    def adapters(self) -> dict[str, LowRank]:
        """Return those there are."""
        both = {"gate_up_proj": self.gate_up_proj, "down_proj": self.down_proj}
        return {name: lora for name, lora in both.items() if lora is not None}

    def forward(self, x_XH: Tensor, weights_XK: Tensor, experts_XK: Tensor) -> Tensor:
        """Sum the chosen experts' outputs for each token."""
        mixed_XH: Tensor = self.base_layer(x_XH, weights_XK, experts_XK, self.gate_up_proj, self.down_proj)
        return mixed_XH


def _add(x_XI: Tensor, y_XO: Tensor, A_RI: Tensor, B_OR: Tensor, scale: float, *, fresh: bool) -> Tensor:
    low_XR = (F.linear(x_XI, A_RI.to(x_XI.dtype)) * scale).to(y_XO.dtype)
    B_RO = B_OR.to(y_XO.dtype).T
    return y_XO.addmm_(low_XR, B_RO) if fresh else torch.addmm(y_XO, low_XR, B_RO)


def _widened(weight: Tensor, dimension: int) -> Tensor:
    """Fill the rank up with zeros, to one that the grouped product on a GPU takes."""
    multiple = ALIGNMENT // 2
    short = -weight.shape[dimension] % multiple
    if not short:
        return weight
    return F.pad(weight, (0, short) if dimension == 2 else (0, 0, 0, short))
