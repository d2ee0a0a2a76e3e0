# A kernel's arguments have the types Triton gives them at the launch.
# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def,untyped-decorator"
"""The causal convolution of a Mamba mixer on a GPU, with SiLU: depthwise, over time, forward and backward.

A program owns a tile of steps and channels and reads each shifted row anew; all but the first read of a row
meets the cache. Backward recomputes the sums before SiLU, so forward saves nothing of its own.

B batch, T time, D channels, K taps, P programs over batch and time.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from spellbound.jamba.ops.triton.numerics import sigmoid, silu, silu_slope

STEPS, CHANNELS = 32, 64  # of one program
WARPS = 4


def causal_conv_triton(
    x_BTD: Tensor,
    weight_DK: Tensor,
    bias_D: Tensor | None,
    window_BKD: Tensor | None,
    starts_BT: Tensor | None,
) -> Tensor:
    """Same result as :func:`~spellbound.jamba.ops.reference.causal_conv_reference`.

    For float32, bfloat16 or float16, added up in float32; shapes and devices checked by the caller; x may
    be a slice with any batch and time stride. Differentiable once.
    """
    y_BTD: Tensor = _Conv.apply(  # type: ignore[no-untyped-call]
        x_BTD, weight_DK, bias_D, window_BKD, starts_BT
    )
    return y_BTD


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        x, weight, bias, window, starts = arguments
        if x.stride(-1) != 1:
            x = x.contiguous()
        weight = weight.contiguous()
        bias = None if bias is None else bias.contiguous()
        ctx.window_dtype = None if window is None else window.dtype
        window = None if window is None else window.to(x.dtype).contiguous()
        starts = None if starts is None else starts.contiguous().view(torch.uint8)
        (batch, time, channels), taps = x.shape, weight.shape[1]
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        grid = (-(-channels // CHANNELS), -(-time // STEPS), batch)
        inputs = (x, weight, bias, window, starts)
        sizes = (time, channels, *x.stride()[:2])
        with torch.cuda.device_of(x):  # Triton launches on the current device
            _conv_forward[grid](*inputs, y, *sizes, taps, STEPS, CHANNELS, num_warps=WARPS)
        ctx.save_for_backward(*inputs)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, window, starts = ctx.saved_tensors
        dy = gradients[0] if gradients[0].stride(-1) == 1 else gradients[0].contiguous()
        _, needs_weight, needs_bias, needs_window, _ = ctx.needs_input_grad
        (batch, time, channels), taps = x.shape, weight.shape[1]
        dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        dwindow = torch.empty_like(window) if needs_window else None
        # Rows start at the window: its gradient comes out of the same loop.
        grid = (-(-channels // CHANNELS), -(-(time + taps - 1) // STEPS), batch)
        parts = batch * grid[1]
        dweight = weight.new_empty(parts, taps, channels, dtype=torch.float32) if needs_weight else None
        dbias = weight.new_empty(parts, channels, dtype=torch.float32) if needs_bias else None
        tensors = (x, weight, bias, window, starts, dy, dx, dweight, dbias, dwindow)
        sizes = (time, channels, *x.stride()[:2], *dy.stride()[:2])
        with torch.cuda.device_of(x):
            _conv_backward[grid](*tensors, *sizes, taps, STEPS, CHANNELS, num_warps=WARPS)
        return (
            dx,
            None if dweight is None else dweight.sum(0).T.to(weight.dtype),
            None if dbias is None else dbias.sum(0).to(bias.dtype),
            None if dwindow is None else dwindow.to(ctx.window_dtype),
            None,
        )


@triton.jit
def _taps(x, window, t, lag: tl.constexpr, d, T, D, x_t, K: tl.constexpr):
    """Inputs ``lag`` steps before t, as float32; from the window before step 0, zero outside both."""
    s = (t - lag).to(tl.int64)[:, None]
    row, first = x + s * x_t, 0
    if window is not None:
        row, first = tl.where(s < 0, window + (s + K - 1) * D, row), 1 - K
    mask = (s >= first) & (s < T) & (d < D)[None, :]
    return tl.load(row + d[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _begins(starts, t, T):
    """Whether a document begins at t: nothing before t is seen from t on."""
    return tl.load(starts + t, mask=(t >= 0) & (t < T), other=0) != 0


@triton.jit
def _weight(weight, d, lag: tl.constexpr, D, K: tl.constexpr):
    return tl.load(weight + d * K + (K - 1 - lag), mask=d < D, other=0.0).to(tl.float32)[None, :]


@triton.jit(do_not_specialize=["T"])
def _conv_forward(
    x,  # (B, T, D)
    weight,  # (D, K)
    bias,  # (D) or None
    window,  # (B, K - 1, D) or None
    starts,  # (B, T) bytes, or None
    y,  # (B, T, D)
    T,
    D,
    x_b,
    x_t,
    K: tl.constexpr,
    STEPS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    b = tl.program_id(2).to(tl.int64)
    d = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    t = tl.program_id(1) * STEPS + tl.arange(0, STEPS)
    x += b * x_b
    if window is not None:
        window += b * (K - 1) * D
    if starts is not None:
        starts += b * T
        cut = tl.zeros([STEPS], tl.int1)
    z = tl.zeros([STEPS, CHANNELS], tl.float32)
    if bias is not None:
        z += tl.load(bias + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
    for lag in tl.static_range(K):
        tap = _taps(x, window, t, lag, d, T, D, x_t, K)
        if starts is not None:
            tap = tl.where(cut[:, None], 0.0, tap)
            cut |= _begins(starts, t - lag, T)
        z += _weight(weight, d, lag, D, K) * tap
    where = (b * T + t)[:, None] * D + d[None, :]
    mask = (t < T)[:, None] & (d < D)[None, :]
    tl.store(y + where, silu(z).to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["T"])
def _conv_backward(
    x,  # (B, T, D)
    weight,  # (D, K)
    bias,  # (D) or None
    window,  # (B, K - 1, D) or None
    starts,  # (B, T) bytes, or None
    dy,  # (B, T, D)
    dx,  # (B, T, D)
    dweight,  # (P, K, D) or None
    dbias,  # (P, D) or None
    dwindow,  # (B, K - 1, D) or None
    T,
    D,
    x_b,
    x_t,
    dy_b,
    dy_t,
    K: tl.constexpr,
    STEPS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    b = tl.program_id(2).to(tl.int64)
    part = b * tl.num_programs(1) + tl.program_id(1)
    d = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    t = tl.program_id(1) * STEPS + tl.arange(0, STEPS) - (K - 1)
    x += b * x_b
    dy += b * dy_b
    if window is not None:
        window += b * (K - 1) * D
    if starts is not None:
        starts += b * T
    total = tl.zeros([STEPS, CHANNELS], tl.float32)
    for ahead in tl.static_range(K):
        # The input of step t reaches the output of step s with the tap of lag s - t.
        s = t + ahead
        z = tl.zeros([STEPS, CHANNELS], tl.float32)
        if bias is not None:
            z += tl.load(bias + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
        cut = tl.zeros([STEPS], tl.int1)
        apart = cut
        for lag in tl.static_range(K):
            tap = _taps(x, window, s, lag, d, T, D, x_t, K)
            if starts is not None:
                tap = tl.where(cut[:, None], 0.0, tap)
                if lag == ahead:
                    apart = cut
                cut |= _begins(starts, s - lag, T)
            z += _weight(weight, d, lag, D, K) * tap
        mask = ((s >= 0) & (s < T))[:, None] & (d < D)[None, :]
        dz = tl.load(dy + s.to(tl.int64)[:, None] * dy_t + d[None, :], mask=mask, other=0.0).to(tl.float32)
        dz *= silu_slope(z, sigmoid(z))
        reached = _weight(weight, d, ahead, D, K) * dz
        total += tl.where(apart[:, None], 0.0, reached)
        if ahead == 0:
            if dbias is not None:
                tl.store(dbias + part * D + d, tl.sum(dz, 0), mask=d < D)
            if dweight is not None:
                cut = tl.zeros([STEPS], tl.int1)
                for lag in tl.static_range(K):
                    tap = _taps(x, window, t, lag, d, T, D, x_t, K)
                    if starts is not None:
                        tap = tl.where(cut[:, None], 0.0, tap)
                        cut |= _begins(starts, t - lag, T)
                    own = dweight + (part * K + (K - 1 - lag)) * D + d
                    tl.store(own, tl.sum(dz * tap, 0), mask=d < D)
    where = (b * T + t)[:, None] * D + d[None, :]
    mask = ((t >= 0) & (t < T))[:, None] & (d < D)[None, :]
    tl.store(dx + where, total.to(dx.dtype.element_ty), mask=mask)
    if dwindow is not None:
        where = (b * (K - 1) + t + K - 1)[:, None] * D + d[None, :]
        mask = (t < 0)[:, None] & (d < D)[None, :]
        tl.store(dwindow + where, total.to(dwindow.dtype.element_ty), mask=mask)
