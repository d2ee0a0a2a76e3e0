# A kernel's arguments have the types Triton gives them at the launch.
# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def,untyped-decorator"
"""One token further on a GPU: the convolution's window and the scan's state, one launch each, no gradients.

New states are fresh tensors: a forward that fails half way leaves the old ones as they were.

B batch, D channels, K taps (a window holds K - 1 inputs), N states.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from spellbound.jamba.ops.triton.numerics import LOG2E, silu, softplus

CONV_CHANNELS, SCAN_CHANNELS = 256, 32  # of one program; small, so that one token fills the card
WARPS = 4


def conv_step(
    x_BD: Tensor, weight_DK: Tensor, bias_D: Tensor | None, window_BKD: Tensor
) -> tuple[Tensor, Tensor]:
    """Convolve one input and slide the window: returns ``y_BD`` in x's dtype and the new window in its own.

    Shapes and devices checked by the caller; x may be a slice with any batch stride.
    """
    x_BD = x_BD if x_BD.stride(-1) == 1 else x_BD.contiguous()
    weight_DK, window_BKD = weight_DK.contiguous(), window_BKD.contiguous()
    (batch, channels), taps = x_BD.shape, weight_DK.shape[1]
    y_BD = torch.empty(x_BD.shape, dtype=x_BD.dtype, device=x_BD.device)
    after_BKD = torch.empty_like(window_BKD)
    grid = (-(-channels // CONV_CHANNELS), batch)
    tensors = (x_BD, weight_DK, bias_D, window_BKD, y_BD, after_BKD)
    with torch.cuda.device_of(x_BD):  # Triton launches on the current device
        _conv_step[grid](*tensors, channels, x_BD.stride(0), taps, CONV_CHANNELS, num_warps=WARPS)
    return y_BD, after_BKD


def scan_step(
    x_BD: Tensor,
    dt_BD: Tensor,
    A_DN: Tensor,
    B_BN: Tensor,
    C_BN: Tensor,
    skip_D: Tensor | None,
    gate_BD: Tensor | None,
    h_BDN: Tensor,
) -> tuple[Tensor, Tensor]:
    """One step of the selective scan: returns ``y_BD`` in x's dtype and the new state in float32.

    dt is before softplus. Shapes and devices checked by the caller; x, dt, B, C and gate may be slices
    with any batch stride.
    """
    x_BD, dt_BD, B_BN, C_BN = (
        tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (x_BD, dt_BD, B_BN, C_BN)
    )
    if gate_BD is not None and gate_BD.stride(-1) != 1:
        gate_BD = gate_BD.contiguous()
    A_DN, h_BDN = A_DN.contiguous(), h_BDN.contiguous()
    (batch, channels), states = x_BD.shape, A_DN.shape[1]
    y_BD = torch.empty(x_BD.shape, dtype=x_BD.dtype, device=x_BD.device)
    after_BDN = torch.empty(h_BDN.shape, dtype=torch.float32, device=x_BD.device)
    grid = (-(-channels // SCAN_CHANNELS), batch)
    rows = (x_BD, dt_BD, B_BN, C_BN)
    gate_b = 0 if gate_BD is None else gate_BD.stride(0)
    tensors = (*rows, gate_BD, A_DN, skip_D, h_BDN, y_BD, after_BDN)
    strides = (*(row.stride(0) for row in rows), gate_b)
    shape = (states, triton.next_power_of_2(states), SCAN_CHANNELS)
    with torch.cuda.device_of(x_BD):
        _scan_step[grid](*tensors, channels, *strides, *shape, num_warps=WARPS)
    return y_BD, after_BDN


@triton.jit
def _conv_step(
    x,  # (B, D)
    weight,  # (D, K)
    bias,  # (D) or None
    window,  # (B, K - 1, D)
    y,  # (B, D)
    after,  # (B, K - 1, D)
    D,
    x_b,
    K: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    b = tl.program_id(1).to(tl.int64)
    d = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    inside = d < D
    window += b * (K - 1) * D + d
    after += b * (K - 1) * D + d
    z = tl.zeros([CHANNELS], tl.float32)
    if bias is not None:
        z += tl.load(bias + d, mask=inside, other=0.0).to(tl.float32)
    for k in tl.static_range(K):
        if k < K - 1:
            tap = tl.load(window + k * D, mask=inside, other=0.0)
        else:
            tap = tl.load(x + b * x_b + d, mask=inside, other=0.0)
        z += tl.load(weight + d * K + k, mask=inside, other=0.0).to(tl.float32) * tap.to(tl.float32)
        if k > 0:
            tl.store(after + (k - 1) * D, tap.to(after.dtype.element_ty), mask=inside)
    tl.store(y + b * D + d, silu(z).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _scan_step(
    x,  # (B, D)
    dt,  # (B, D)
    B,  # (B, N)
    C,  # (B, N)
    gate,  # (B, D) or None
    A,  # (D, N)
    skip,  # (D) or None
    h,  # (B, D, N)
    y,  # (B, D)
    after,  # (B, D, N)
    D,
    x_b,
    dt_b,
    B_b,
    C_b,
    gate_b,
    N: tl.constexpr,
    STATES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    b = tl.program_id(1).to(tl.int64)
    d = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    n = tl.arange(0, STATES)
    inside = d < D
    square = inside[:, None] & (n < N)[None, :]
    place = d[:, None] * N + n[None, :]
    own = b * D * N + place
    x_D = tl.load(x + b * x_b + d, mask=inside, other=0.0).to(tl.float32)
    v = tl.load(dt + b * dt_b + d, mask=inside, other=0.0).to(tl.float32)
    B_N = tl.load(B + b * B_b + n, mask=n < N, other=0.0).to(tl.float32)
    C_N = tl.load(C + b * C_b + n, mask=n < N, other=0.0).to(tl.float32)
    A_DN = tl.load(A + place, mask=square, other=0.0).to(tl.float32) * LOG2E
    step = softplus(v)
    h_DN = tl.load(h + own, mask=square, other=0.0).to(tl.float32)
    h_DN = tl.exp2(A_DN * step[:, None]) * h_DN + (step * x_D)[:, None] * B_N[None, :]
    tl.store(after + own, h_DN, mask=square)
    out = tl.sum(h_DN * C_N[None, :], 1)
    if skip is not None:
        out += tl.load(skip + d, mask=inside, other=0.0).to(tl.float32) * x_D
    if gate is not None:
        out *= silu(tl.load(gate + b * gate_b + d, mask=inside, other=0.0).to(tl.float32))
    tl.store(y + b * D + d, out.to(y.dtype.element_ty), mask=inside)
