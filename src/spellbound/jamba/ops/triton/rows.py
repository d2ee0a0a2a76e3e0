# A kernel's arguments have the types Triton gives them at the launch.
# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def,untyped-decorator"
"""RMSNorm and SwiGLU on a GPU, forward and backward: one read of each input, one write of each result.

A program owns some rows of a norm, a tile of rows and numbers of a SwiGLU. Backward computes scales and
sigmoids anew, so forward saves its inputs and nothing else.

X rows, H numbers in a row, P parts of the rows.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from spellbound.jamba.ops.triton.numerics import sigmoid, silu, silu_slope

NUMBERS = 2048  # of one program at a time
WIDEST = 4096  # of a row at a time, in a norm, which then has a row for itself; wider ones are read twice
TILE = 1024  # of a row, in a SwiGLU; Jamba's inner sizes are multiples
COLUMNS = 128  # of the weight of a norm, whose gradient one program adds up over a part of the rows
PROGRAMS = 1024  # that share that work
WARPS = 4


def rms_norm_triton(x: Tensor, weight_H: Tensor, eps: float) -> Tensor:
    """Same result as :func:`~spellbound.jamba.ops.reference.rms_norm_reference`.

    x and the weight float32 or bfloat16, each for itself, and not empty. Differentiable once.
    """
    y: Tensor = _RMSNorm.apply(x, weight_H, eps)  # type: ignore[no-untyped-call]
    return y


def swiglu_triton(gate: Tensor, up: Tensor | None) -> Tensor:
    """Same result as :func:`~spellbound.jamba.ops.reference.swiglu_reference`, rounded once.

    For float32 or bfloat16, not empty. Differentiable once; the gradient of two halves is one tensor.
    """
    y: Tensor = _SwiGLU.apply(gate, up)  # type: ignore[no-untyped-call]
    return y


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rows, weight = _as_rows(x), weight.contiguous()
        wide = torch.promote_types(x.dtype, weight.dtype)
        y = torch.empty(x.shape, dtype=wide, device=x.device)
        (count, size), (own, block) = rows.shape, norm_tile(x.shape[-1])
        with torch.cuda.device_of(x):  # Triton launches on the current device
            _norm_forward[-(-count // own),](
                rows, weight, y, count, rows.stride(0), size, eps, own, block, num_warps=WARPS
            )
        ctx.eps, ctx.shape = eps, x.shape
        ctx.save_for_backward(rows, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        dy = _as_rows(dy)
        needs_x, needs_weight, _ = ctx.needs_input_grad
        (count, size), (own, block) = rows.shape, norm_tile(rows.shape[1])
        dx = torch.empty(ctx.shape, dtype=rows.dtype, device=rows.device) if needs_x else None
        scales = rows.new_empty(count, dtype=torch.float32) if needs_weight else None
        strides = (rows.stride(0), dy.stride(0))
        with torch.cuda.device_of(rows):
            _norm_backward[-(-count // own),](
                *(rows, weight, dy, dx, scales, count, *strides, size, ctx.eps, own, block), num_warps=WARPS
            )
            dweight = None if scales is None else _weight_gradient(rows, dy, scales)
        return dx, None if dweight is None else dweight.to(weight.dtype), None


def _weight_gradient(x_XH: Tensor, dy_XH: Tensor, scale_X: Tensor) -> Tensor:
    """Sum of dy times the normalised x over all rows: sums over parts first, always of the same rows."""
    count, size = x_XH.shape
    columns, own = weight_tile(size)
    tiles = -(-size // columns)
    share = own * -(-count // (own * max(1, PROGRAMS // tiles)))
    parts = -(-count // share)
    dweight_PH = scale_X.new_empty(parts, size)
    tensors, strides = (x_XH, dy_XH, scale_X, dweight_PH), (x_XH.stride(0), dy_XH.stride(0))
    _norm_weight[parts, tiles](*tensors, count, share, *strides, size, own, columns, num_warps=WARPS)
    return dweight_PH.sum(0)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor | None) -> Tensor:
        size = gate.shape[-1] if up is not None else gate.shape[-1] // 2
        rows = _as_rows(gate), None if up is None else _as_rows(up)
        y = torch.empty((*gate.shape[:-1], size), dtype=gate.dtype, device=gate.device)
        gate_XH, up_XH = _two(*rows)
        _launch(_swiglu_forward, gate_XH, up_XH, y, gate_XH.stride(0), up_XH.stride(0))
        ctx.shape = gate.shape
        ctx.save_for_backward(*rows)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        dgate = gate.new_empty(ctx.shape)
        dup = None if up is None else up.new_empty(ctx.shape)
        dy, inputs = _as_rows(dy), _two(gate, up)
        slopes = _two(_as_rows(dgate), None if dup is None else _as_rows(dup))
        strides = (each.stride(0) for each in (*inputs, dy, slopes[0]))
        _launch(_swiglu_backward, *inputs, dy, *slopes, *strides)
        return dgate, dup


def _two(gate: Tensor, up: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the rows of both, which without ``up`` are halves of the rows of ``gate``."""
    if up is not None:
        return gate, up
    size = gate.shape[1] // 2
    return gate[:, :size], gate[:, size:]


def _launch(kernel: Any, gate_XH: Tensor, *others: Any) -> None:
    (count, size), (own, block) = gate_XH.shape, swiglu_tile(gate_XH.shape[1])
    grid = (-(-count // own) * -(-size // block),)  # one dimension: the others are short
    with torch.cuda.device_of(gate_XH):
        kernel[grid](gate_XH, *others, count, size, own, block, num_warps=WARPS)


def _as_rows(x: Tensor) -> Tensor:
    """Return (X, H) with neighbouring numbers; a slice of wider rows stays where it is."""
    x = x.detach()
    near = x.stride(-1) == 1 or x.shape[-1] == 1
    return (x if near else x.contiguous()).reshape(-1, x.shape[-1])


def norm_tile(size: int) -> tuple[int, int]:
    """Rows of a program of a norm, and numbers of a row it holds at a time."""
    block = min(WIDEST, triton.next_power_of_2(size))
    return max(1, NUMBERS // block), block


def weight_tile(size: int) -> tuple[int, int]:
    """Numbers of a row for which a program sums the weight's gradient, and rows it holds at a time."""
    columns = min(COLUMNS, triton.next_power_of_2(size))
    return columns, NUMBERS // columns


def swiglu_tile(size: int) -> tuple[int, int]:
    """Rows and numbers of a row that a program of a SwiGLU computes."""
    block = min(TILE, triton.next_power_of_2(size))
    return NUMBERS // block, block


@triton.jit
def _part(rows, inside, begin, H: tl.constexpr, BLOCK: tl.constexpr):
    """Numbers of all rows from ``begin`` on, as float32; zero outside."""
    h = begin + tl.arange(0, BLOCK)[None, :]
    return tl.load(rows + h, mask=inside & (h < H), other=0.0).to(tl.float32)


@triton.jit
def _weight(weight, begin, H: tl.constexpr, BLOCK: tl.constexpr):
    h = begin + tl.arange(0, BLOCK)[None, :]
    return tl.load(weight + h, mask=h < H, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["X"])
def _norm_forward(
    x,  # (X, H)
    weight,  # (H)
    y,  # (X, H)
    X,
    x_row,
    H: tl.constexpr,
    EPS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    inside = row < X
    x_rows = x + row.to(tl.int64) * x_row
    y_rows = y + row.to(tl.int64) * H
    squares = tl.zeros([ROWS], tl.float32)
    for begin in range(0, H, BLOCK):
        v = _part(x_rows, inside, begin, H, BLOCK)
        squares += tl.sum(v * v, 1)
    scale = tl.rsqrt(squares / H + EPS)[:, None]
    for begin in range(0, H, BLOCK):
        h = begin + tl.arange(0, BLOCK)[None, :]
        v = _part(x_rows, inside, begin, H, BLOCK) * scale
        v = v.to(x.dtype.element_ty).to(tl.float32) * _weight(weight, begin, H, BLOCK)
        tl.store(y_rows + h, v.to(y.dtype.element_ty), mask=inside & (h < H))


@triton.jit(do_not_specialize=["X"])
def _norm_backward(
    x,  # (X, H)
    weight,  # (H)
    dy,  # (X, H)
    dx,  # (X, H) or None
    scales,  # (X) or None: what x was multiplied with
    X,
    x_row,
    dy_row,
    H: tl.constexpr,
    EPS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    inside = row < X
    x_rows = x + row.to(tl.int64) * x_row
    dy_rows = dy + row.to(tl.int64) * dy_row
    squares = tl.zeros([ROWS], tl.float32)
    along = tl.zeros([ROWS], tl.float32)
    for begin in range(0, H, BLOCK):
        v = _part(x_rows, inside, begin, H, BLOCK)
        dv = _part(dy_rows, inside, begin, H, BLOCK) * _weight(weight, begin, H, BLOCK)
        squares += tl.sum(v * v, 1)
        along += tl.sum(v * dv, 1)
    scale = tl.rsqrt(squares / H + EPS)[:, None]
    if scales is not None:
        tl.store(scales + row, scale, mask=inside)
    if dx is not None:
        dx_rows = dx + row.to(tl.int64) * H
        pull = along[:, None] * scale / H  # in this order: the scale's cube may be too small for float32
        for begin in range(0, H, BLOCK):
            h = begin + tl.arange(0, BLOCK)[None, :]
            v = _part(x_rows, inside, begin, H, BLOCK) * scale
            dv = _part(dy_rows, inside, begin, H, BLOCK) * _weight(weight, begin, H, BLOCK)
            tl.store(dx_rows + h, (scale * (dv - v * pull)).to(dx.dtype.element_ty), mask=inside & (h < H))


@triton.jit(do_not_specialize=["X", "share"])
def _norm_weight(
    x,  # (X, H)
    dy,  # (X, H)
    scales,  # (X)
    dweight,  # (P, H)
    X,
    share,  # rows of a part, a multiple of ROWS
    x_row,
    dy_row,
    H: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    part = tl.program_id(0)
    column = tl.program_id(1) * COLUMNS
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for begin in range(part * share, tl.minimum((part + 1) * share, X), ROWS):
        row = (begin + tl.arange(0, ROWS))[:, None]
        inside = row < X
        v = _part(x + row.to(tl.int64) * x_row, inside, column, H, COLUMNS)
        v = (v * tl.load(scales + row, mask=inside, other=0.0)).to(x.dtype.element_ty).to(tl.float32)
        total += v * _part(dy + row.to(tl.int64) * dy_row, inside, column, H, COLUMNS)
    h = column + tl.arange(0, COLUMNS)
    tl.store(dweight + part * H + h, tl.sum(total, 0), mask=h < H)


@triton.jit
def _tile(X, H: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Rows and numbers of this program, and which of them there are."""
    tiles = (H + BLOCK - 1) // BLOCK
    row = (tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS))[:, None]
    h = (tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK))[None, :]
    return row.to(tl.int64), h, (row < X) & (h < H)


@triton.jit(do_not_specialize=["X"])
def _swiglu_forward(
    gate,  # (X, H)
    up,  # (X, H)
    y,  # (X, H)
    gate_row,
    up_row,
    X,
    H: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, h, mask = _tile(X, H, ROWS, BLOCK)
    g = tl.load(gate + row * gate_row + h, mask=mask, other=0.0).to(tl.float32)
    u = tl.load(up + row * up_row + h, mask=mask, other=0.0).to(tl.float32)
    tl.store(y + row * H + h, (silu(g) * u).to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["X"])
def _swiglu_backward(
    gate,  # (X, H)
    up,  # (X, H)
    dy,  # (X, H)
    dgate,  # (X, H)
    dup,  # (X, H), rows as far apart as those of dgate
    gate_row,
    up_row,
    dy_row,
    slope_row,
    X,
    H: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, h, mask = _tile(X, H, ROWS, BLOCK)
    g = tl.load(gate + row * gate_row + h, mask=mask, other=0.0).to(tl.float32)
    u = tl.load(up + row * up_row + h, mask=mask, other=0.0).to(tl.float32)
    d = tl.load(dy + row * dy_row + h, mask=mask, other=0.0).to(tl.float32)
    s = sigmoid(g)
    slope = row * slope_row + h
    tl.store(dup + slope, (d * g * s).to(dup.dtype.element_ty), mask=mask)
    tl.store(dgate + slope, (d * u * silu_slope(g, s)).to(dgate.dtype.element_ty), mask=mask)
