"""Root mean square layer norm (arXiv:1910.07467), rounded as the published checkpoints expect."""

import torch
from torch import Tensor, nn

from spellbound.jamba.ops import rms_norm


class RMSNorm(nn.Module):
    """Scale the last dimension to unit root mean square, in float32, then by a learned weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised ``x``, same shape and dtype."""
        return rms_norm(x, self.weight, self.eps)
