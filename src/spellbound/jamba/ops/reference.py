"""The selective scan as the paper writes it: one step after another. Slow; the oracle for every other one.

B batch, T time, D channels, N states.
"""

import torch
from torch import Tensor


def selective_scan_reference(
    x_BTD: Tensor,
    dt_BTD: Tensor,
    A_DN: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    skip_D: Tensor | None,
    h0_BDN: Tensor | None,
    starts_BT: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Compute ``h = exp(dt A) h + dt x B`` and ``y = C . h + skip x`` (Mamba, arXiv:2312.00752, algorithm 2).

    Where ``starts_BT`` is true a document begins: the state before that step is zero.
    Returns ``y_BTD`` and the last state ``h_BDN``. Differentiable through autograd.
    """
    batch, time, channels = x_BTD.shape
    h_BDN = x_BTD.new_zeros(batch, channels, A_DN.shape[1]) if h0_BDN is None else h0_BDN
    outputs = []
    for t in range(time):
        if starts_BT is not None:
            h_BDN = h_BDN.masked_fill(starts_BT[:, t, None, None], 0.0)
        dt_BD1 = dt_BTD[:, t, :, None]
        h_BDN = torch.exp(dt_BD1 * A_DN) * h_BDN + dt_BD1 * x_BTD[:, t, :, None] * B_BTN[:, t, None, :]
        outputs.append((h_BDN * C_BTN[:, t, None, :]).sum(-1))
    y_BTD = torch.stack(outputs, 1)
    return (y_BTD if skip_D is None else y_BTD + skip_D * x_BTD), h_BDN
