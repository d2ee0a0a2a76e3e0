"""The selective scan in plain torch, chunk by chunk: any device, any dtype, bounded memory, differentiable.

Inside a chunk the recurrence is solved by doubling (Hillis and Steele 1986): after step s every position
holds the
composition of the 2**s affine maps that end there. Nothing divides by a decay, so nothing overflows. A
chunk is
recomputed in backward, so the (B, D, T, N) tensor never exists: memory is inputs + B D N (T / CHUNK +
CHUNK log CHUNK).

B batch, T time, D channels, N states, L positions of one chunk.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils.checkpoint import checkpoint

from spellbound.jamba.ops.reference import skip_and_gate

CHUNK = 64  # positions; doubling costs log2(CHUNK) passes over B D N CHUNK numbers


def selective_scan_chunked(
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
    """Same result as :func:`~spellbound.jamba.ops.reference.selective_scan_reference`, up to rounding."""
    batch, time, channels = x_BTD.shape
    dt_BTD = softplus(dt_BTD)
    h_BDN = x_BTD.new_zeros(batch, channels, A_DN.shape[1]) if h0_BDN is None else h0_BDN
    outputs = []
    for begin in range(0, time, CHUNK):
        part = slice(begin, begin + CHUNK)
        starts = None if starts_BT is None else starts_BT[:, part]
        inputs = (h_BDN, x_BTD[:, part], dt_BTD[:, part], A_DN, B_BTN[:, part], C_BTN[:, part], starts)
        if torch.is_grad_enabled():
            y_BLD, h_BDN = checkpoint(_scan_chunk, *inputs, use_reentrant=False)
        else:
            y_BLD, h_BDN = _scan_chunk(*inputs)
        outputs.append(y_BLD)
    return skip_and_gate(torch.cat(outputs, 1), x_BTD, skip_D, gate_BTD), h_BDN


def _scan_chunk(
    h_BDN: Tensor,
    x_BLD: Tensor,
    dt_BLD: Tensor,
    A_DN: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    starts_BL: Tensor | None,
) -> tuple[Tensor, Tensor]:
    decay = torch.exp(dt_BLD[..., None] * A_DN)  # (B, L, D, N)
    if starts_BL is not None:
        decay = decay.masked_fill(starts_BL[:, :, None, None], 0.0)
    h = (dt_BLD * x_BLD)[..., None] * B_BLN[:, :, None, :]
    h = torch.cat([h[:, :1] + decay[:, :1] * h_BDN[:, None], h[:, 1:]], 1)
    reach = 1
    while reach < h.shape[1]:
        h = torch.cat([h[:, :reach], h[:, reach:] + decay[:, reach:] * h[:, :-reach]], 1)
        decay = torch.cat([decay[:, :reach], decay[:, reach:] * decay[:, :-reach]], 1)
        reach *= 2
    with torch.autocast(h.device.type, enabled=False):  # which would multiply in half precision
        return torch.einsum("bldn,bln->bld", h, C_BLN), h[:, -1]
