"""Every kernel as its paper writes it, in plain torch: slow, differentiable, in any dtype; the oracle for
the others.

B batch, T time, D channels, N states, K taps.
"""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus


def selective_scan_reference(
    x_BTD: Tensor,
    dt_BTD: Tensor,
    A_DN: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    skip_D: Tensor | None,
    gate_BTD: Tensor | None,
    h0_BDN: Tensor | None,
    starts_BT: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Compute ``h = exp(d A) h + d x B`` and ``y = (C . h + skip x) silu(gate)``, where d = softplus(dt)
    (Mamba, arXiv:2312.00752, algorithm 2).

    Where ``starts_BT`` is true a document begins: the state before that step is zero.
    Returns ``y_BTD`` and the last state ``h_BDN``.
    """
    batch, time, channels = x_BTD.shape
    h_BDN = x_BTD.new_zeros(batch, channels, A_DN.shape[1]) if h0_BDN is None else h0_BDN
    step_BTD = softplus(dt_BTD)
    outputs = []
    for t in range(time):
        if starts_BT is not None:
            h_BDN = h_BDN.masked_fill(starts_BT[:, t, None, None], 0.0)
        step_BD1 = step_BTD[:, t, :, None]
        h_BDN = torch.exp(step_BD1 * A_DN) * h_BDN + step_BD1 * x_BTD[:, t, :, None] * B_BTN[:, t, None, :]
        outputs.append((h_BDN * C_BTN[:, t, None, :]).sum(-1))
    return skip_and_gate(torch.stack(outputs, 1), x_BTD, skip_D, gate_BTD), h_BDN


def skip_and_gate(y_BTD: Tensor, x_BTD: Tensor, skip_D: Tensor | None, gate_BTD: Tensor | None) -> Tensor:
    """Finish a scan's output: ``(y + skip x) silu(gate)``."""
    y_BTD = y_BTD if skip_D is None else y_BTD + skip_D * x_BTD
    return y_BTD if gate_BTD is None else y_BTD * silu(gate_BTD)


def causal_conv_reference(
    x_BTD: Tensor,
    weight_DK: Tensor,
    bias_D: Tensor | None,
    window_BKD: Tensor | None,
    starts_BT: Tensor | None,
) -> Tensor:
    """Convolve each channel with its K taps over the present and the K - 1 inputs before it, then SiLU.

    ``window_BKD`` are the K - 1 inputs before the first, zeros if None. Where ``starts_BT`` is true a
    document begins, and nothing before it is seen.
    """
    (batch, time, channels), past = x_BTD.shape, weight_DK.shape[1] - 1
    window_BKD = x_BTD.new_zeros(batch, past, channels) if window_BKD is None else window_BKD
    # A sum of shifted products: no transpose to channels first, and a document's edge masks one shift.
    padded_BSD = torch.cat([window_BKD.to(x_BTD.dtype), x_BTD], 1)
    total_BTD = x_BTD.new_zeros(()) if bias_D is None else bias_D
    seen_BT = None if starts_BT is None else torch.ones_like(starts_BT)
    for back in range(past + 1):
        if seen_BT is not None and starts_BT is not None and back:
            seen_BT = seen_BT & ~_later(starts_BT, back - 1)
        term_BTD = padded_BSD[:, past - back : past - back + time] * weight_DK[:, past - back]
        total_BTD = total_BTD + (term_BTD if seen_BT is None else term_BTD * seen_BT[:, :, None])
    return silu(total_BTD)


def _later(starts_BT: Tensor, steps: int) -> Tensor:
    """Shift by ``steps`` towards later times; false comes in."""
    shifted_BT = torch.zeros_like(starts_BT)
    shifted_BT[:, steps:] = starts_BT[:, : max(0, starts_BT.shape[1] - steps)]
    return shifted_BT


def rms_norm_reference(x: Tensor, weight_H: Tensor, eps: float) -> Tensor:
    """Scale rows to unit root mean square in float32, round to the dtype of x, multiply by the weight
    (arXiv:1910.07467; the order of rounding is that of the published checkpoints)."""
    wide = x if x.dtype == torch.float64 else x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return weight_H * (wide * scale).to(x.dtype)


def swiglu_reference(gate: Tensor, up: Tensor | None) -> Tensor:
    """Multiply SiLU of ``gate`` with ``up`` (arXiv:2002.05202); without ``up`` they are the halves of the
    last dimension of ``gate``."""
    gate, up = gate.chunk(2, -1) if up is None else (gate, up)
    return silu(gate) * up
