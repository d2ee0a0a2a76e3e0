# A kernel's arguments have the types Triton gives them at the launch.
# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def,untyped-decorator"
"""The selective scan on a GPU: forward and backward, in one pass over time or in three.

A program owns BLOCK channels with all their states in registers and walks over time. OUT lanes share a
channel and hold IN of its states each, so the sum over states is mostly inside a thread. Inputs come in
tiles of TILE steps; a step takes its row from the tile by a masked maximum, which the compiler folds to
nothing because a thread holds every row of its channel.

Where one sequence does not fill the card, time is cut into segments: each segment's decay and end state
from zero (pass 1), a small carry over segments (pass 2), every segment again from its true start (pass 3);
backward the same from the right. Forward saves the state every ``chunk`` steps, backward recomputes the
rest: nothing of size T D N is in memory. No atomics: equal inputs give equal bytes.

B batch, T time, D channels, N states, S segments, Z chunks, G blocks of channels.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from spellbound.jamba.ops.triton.numerics import LN2, LOG2E, sigmoid, silu, silu_slope, softplus

CHUNK = 32  # steps between saved states: 4 N / CHUNK bytes a step and channel
STATES = 4  # of one thread, as one vector; a channel's lanes share the rest
FORWARD_TILE, BACKWARD_TILE = 16, 2  # steps unrolled; backward keeps the states of its tile in registers
WALK = 8  # steps unrolled where backward first walks forwards
WARPS = 1  # of a program, which so needs no barrier: with four, backward takes four times as long on an H200
BACKWARD_CHANNELS = 4  # a thread: their dB and dC are added before lanes have to talk

PAD = tl.constexpr(16)  # rows after the end of B, C and cut, so that a tile may read on
LOWEST = tl.constexpr(-(2**31))


class Blocks(NamedTuple):
    """How a kernel lays states and channels over a program's threads."""

    IN: int
    OUT: int
    BLOCK: int


def blocks(states: int, channels_a_thread: int) -> Blocks:
    """Deal each channel's states to as many lanes as that takes, and channels to the rest of a warp's."""
    padded = triton.next_power_of_2(states)
    lanes = min(32, max(1, padded // STATES))
    return Blocks(padded // lanes, lanes, 32 // lanes * channels_a_thread)


def choose_segments(programs: int, chunks: int, processors: int, enough: int, full: int) -> int:
    """Cut time only where ``programs`` leave the card emptier than ``enough`` of them a processor.

    Then into as many segments as give it ``full`` of them, at least one chunk each.
    """
    if programs >= enough * processors:
        return 1
    return max(1, min(chunks, -(-full * processors // programs)))


def selective_scan_triton(
    x_BTD: Tensor,
    dt_BTD: Tensor,
    A_DN: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    skip_D: Tensor | None,
    gate_BTD: Tensor | None,
    h0_BDN: Tensor | None,
    starts_BT: Tensor | None,
    *,
    chunk: int = CHUNK,
    segments: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Same result as :func:`~spellbound.jamba.ops.reference.selective_scan_reference`.

    For float32, bfloat16 or float16, computed in float32; shapes and devices checked by the caller; x, dt
    and gate may be slices with any batch and time stride. ``chunk`` (a power of two from 4) and
    ``segments`` (None: chosen from the card) change speed and memory, not the result beyond rounding.
    Differentiable once.
    """
    outputs: tuple[Tensor, Tensor] = _Scan.apply(  # type: ignore[no-untyped-call]
        x_BTD, dt_BTD, A_DN, B_BTN, C_BTN, skip_D, gate_BTD, h0_BDN, starts_BT, chunk, segments
    )
    return outputs


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        x, dt, A, B, C, skip, gate, h0, starts, chunk, segments = arguments
        x, dt = _rows(x), _rows(dt)
        gate = None if gate is None else _rows(gate)
        # B and C are small; as packed float32 a step reads its states in one vector.
        A32, B32, C32 = _packed(A), _padded(B), _padded(C)
        skip32, h032 = (None if tensor is None else _packed(tensor) for tensor in (skip, h0))
        cut = None
        if starts is not None:  # added to the exponent: a document's first step keeps nothing
            cut = _padded(torch.zeros_like(starts, dtype=torch.float32).masked_fill_(starts, -torch.inf))
        save = any(ctx.needs_input_grad)
        with torch.cuda.device_of(x):  # Triton launches on the current device
            saved, y, hT = _run_forward(x, dt, A32, B32, C32, skip32, gate, h032, cut, chunk, segments, save)
        ctx.save_for_backward(x, dt, A32, B32, C32, skip32, gate, cut, saved)
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in arguments[:8]]
        ctx.chunk, ctx.segments = chunk, segments
        return y, hT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dy, dhT = _rows(gradients[0]), gradients[1].contiguous()
        has_h0 = ctx.dtypes[7] is not None
        arguments: list[Any] = [*ctx.saved_tensors, dy, dhT, ctx.chunk, ctx.segments, has_h0]
        with torch.cuda.device_of(dy):
            results = _run_backward(*arguments)
        cast = (
            None if gradient is None or dtype is None else gradient.to(dtype)
            for gradient, dtype in zip(results, ctx.dtypes, strict=True)
        )
        return *cast, None, None, None


def _rows(tensor: Tensor) -> Tensor:
    """Let the kernel assume that channels lie side by side."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _packed(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32).contiguous()


def _padded(tensor: Tensor) -> Tensor:
    """Packed float32 with PAD rows of zeros after the last step: one launch more, no bounds in the kernel."""
    batch, time, *rest = tensor.shape
    padded = torch.zeros(batch, time + PAD.value, *rest, dtype=torch.float32, device=tensor.device)
    padded[:, :time] = tensor
    return padded


def _strides(*tensors: Tensor | None) -> list[int]:
    """Batch and time strides of each."""
    return [stride for tensor in tensors for stride in ((0, 0) if tensor is None else tensor.stride()[:2])]


def _processors(device: torch.device) -> int:
    """Multiprocessors of the card; none to fill where the interpreter stands in for it."""
    if device.type != "cuda":
        return 0
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _plan(
    x: Tensor, block: Blocks, chunk: int, forced: int | None, enough: int, full: int
) -> tuple[int, int]:
    """Segments of time, and the steps of each: a multiple of ``chunk``."""
    batch, time, channels = x.shape
    chunks = -(-time // chunk)
    programs = batch * -(-channels // block.BLOCK)
    segments = forced or choose_segments(programs, chunks, _processors(x.device), enough, full)
    steps = -(-chunks // min(segments, chunks)) * chunk
    return -(-time // steps), steps


def _run_forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    gate: Tensor | None,
    h0: Tensor | None,
    cut: Tensor | None,
    chunk: int,
    forced: int | None,
    save: bool,
) -> tuple[Tensor | None, Tensor, Tensor]:
    (batch, time, channels), states = x.shape, A.shape[1]
    block = blocks(states, 1)
    segments, steps = _plan(x, block, chunk, forced, enough=2, full=8)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    hT = A.new_empty(batch, channels, states)
    saved = A.new_empty(batch, -(-time // chunk), channels, states) if save else None
    grid = (-(-channels // block.BLOCK), segments, batch)
    sizes = (time, channels, steps, *_strides(x, dt, gate))
    shape = {"N": states, **block._asdict(), "TILE": min(FORWARD_TILE, chunk), "CHUNK": chunk}
    begin = h0
    if segments > 1:
        ends, decays = (A.new_empty(batch, segments, channels, states) for _ in range(2))
        summary = (x, dt, None, A, B, None, None, cut, None, None, None, None, ends, decays)
        _scan_forward[grid](*summary, *sizes, **shape, SUMMARY=True, num_warps=WARPS)
        begin = _carry(h0, ends, decays, reverse=False)
    tensors = (x, dt, gate, A, B, C, skip, cut, begin, y, hT, saved, None, None)
    _scan_forward[grid](*tensors, *sizes, **shape, SUMMARY=False, num_warps=WARPS)
    return saved, y, hT


def _run_backward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    gate: Tensor | None,
    cut: Tensor | None,
    saved: Tensor,
    dy: Tensor,
    dhT: Tensor,
    chunk: int,
    forced: int | None,
    has_h0: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of x, dt, A, B, C, skip, gate, h0."""
    (batch, time, channels), states = x.shape, A.shape[1]
    block = blocks(states, BACKWARD_CHANNELS)
    segments, steps = _plan(x, block, chunk, forced, enough=16, full=32)
    groups = -(-channels // block.BLOCK)
    grid = (groups, segments, batch)
    shape = {"N": states, **block._asdict(), "TILE": BACKWARD_TILE}
    sizes = (time, channels, steps, *_strides(x, dt, gate, dy))
    end = dhT
    if segments > 1:
        ends, decays = (A.new_empty(batch, segments, channels, states) for _ in range(2))
        _scan_adjoint[grid](dt, gate, dy, A, C, cut, ends, decays, *sizes, **shape, num_warps=WARPS)
        end = _carry(dhT, ends, decays, reverse=True)
    dx, ddt = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in range(2))
    dgate = None if gate is None else torch.empty_like(dx)
    dh0 = A.new_empty(batch, channels, states) if has_h0 else None
    dA = A.new_empty(batch, segments, channels, states)
    dskip = None if skip is None else A.new_empty(batch, segments, channels)
    dB, dC = (A.new_empty(batch, groups, time, states) for _ in range(2))
    tiles = chunk // BACKWARD_TILE
    scratch = A.new_empty(batch, segments, tiles, channels, states) if tiles > 1 else None
    inputs = (x, dt, gate, dy, A, B, C, skip, cut, saved, scratch, end)
    outputs = (dx, ddt, dgate, dA, dB, dC, dskip, dh0)
    _scan_backward[grid](
        *inputs,
        *outputs,
        *sizes,
        **shape,
        DIN=BACKWARD_CHANNELS,
        WALK=min(WALK, chunk),
        CHUNK=chunk,
        num_warps=WARPS,
    )
    skip_gradient = None if dskip is None else dskip.sum((0, 1))
    return dx, ddt, dA.sum((0, 1)), dB.sum(1), dC.sum(1), skip_gradient, dgate, dh0


def _carry(begin_BDN: Tensor | None, ends_BSDN: Tensor, decays_BSDN: Tensor, reverse: bool) -> Tensor:
    """State that each segment starts from; with ``reverse`` its gradient at each segment's end."""
    batch, segments = ends_BSDN.shape[:2]
    states_BSDN = torch.empty_like(ends_BSDN)
    size = ends_BSDN[0, 0].numel()
    grid = (-(-size // 256), batch)
    _scan_carry[grid](begin_BDN, ends_BSDN, decays_BSDN, states_BSDN, size, segments, reverse, 256)
    return states_BSDN


@triton.jit
def _row(tile, index, i: tl.constexpr):
    """Row i of a float32 tile whose rows all lie in one thread: an integer maximum folds away, a sum not."""
    bits = tl.where(index == i, tile.to(tl.int32, bitcast=True), LOWEST)
    return tl.max(bits, 0).to(tl.float32, bitcast=True)


@triton.jit
def _tile(base, stride, t, d, end, D):
    """Steps t of channels d; zero past the end."""
    mask = (t < end)[:, None] & (d < D)[None, :]
    return tl.load(base + t.to(tl.int64)[:, None] * stride + d[None, :], mask=mask, other=0.0)


@triton.jit
def _lanes(tile, TILE: tl.constexpr, BLOCK: tl.constexpr, OUT: tl.constexpr):
    """Give each of the OUT lanes that share a channel all of the channel's rows."""
    return tl.broadcast_to(tile[:, :, None], [TILE, BLOCK, OUT])


@triton.jit
def _states(tile, i: tl.constexpr, n, N: tl.constexpr, PADDED: tl.constexpr):
    """Row i of a tile of B or C: straight from memory, where it lies packed, one vector a lane."""
    if N == PADDED:
        return tl.load(tile + (i * N + n))
    return tl.load(tile + (i * N + n), mask=n < N, other=0.0)


@triton.jit(do_not_specialize=["T", "steps"])
def _scan_forward(
    x,  # (B, T, D)
    dt,  # (B, T, D)
    gate,  # (B, T, D) or None
    A,  # (D, N)
    B,  # (B, T + PAD, N)
    C,  # (B, T + PAD, N); None in a summary
    skip,  # (D) or None
    cut,  # (B, T + PAD) or None
    begin,  # (B, S, D, N) or None
    y,  # (B, T, D); None in a summary
    last,  # (B, D, N); None in a summary
    saved,  # (B, Z, D, N) or None
    ends,  # (B, S, D, N), in a summary only
    decays,  # (B, S, D, N), in a summary only
    T,
    D,
    steps,
    x_b,
    x_t,
    dt_b,
    dt_t,
    gate_b,
    gate_t,
    N: tl.constexpr,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
    SUMMARY: tl.constexpr,
):
    segment, segments = tl.program_id(1), tl.num_programs(1)
    b = tl.program_id(2).to(tl.int64)
    d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = (tl.arange(0, IN)[:, None] + tl.arange(0, OUT)[None, :] * IN)[:, None, :]
    rows = tl.arange(0, TILE)
    index = rows[:, None, None]
    place = d.to(tl.int64)[None, :, None] * N + n  # in one (D, N)
    inside = (d < D)[None, :, None] & (n < N)
    size = tl.cast(D, tl.int64) * N
    own = (b * segments + segment) * size + place  # in one (B, S, D, N)
    a2 = tl.load(A + place, mask=inside, other=0.0) * LOG2E
    h = tl.zeros([IN, BLOCK, OUT], tl.float32)
    if not SUMMARY and begin is not None:
        h = tl.load(begin + own, mask=inside, other=0.0)
    first = segment * steps
    end = tl.minimum(first + steps, T)
    x += b * x_b
    dt += b * dt_b
    B += b * (T + PAD) * N
    if cut is not None:
        cut += b * (T + PAD)
    if not SUMMARY:
        C += b * (T + PAD) * N
        if gate is not None:
            gate += b * gate_b
    if skip is not None:
        skip_D = tl.load(skip + d, mask=d < D, other=0.0)
    total = tl.zeros([TILE, BLOCK], tl.float32)
    total_cut = 0.0
    # Loads run one tile ahead: memory answers while the steps of this one are computed.
    next_x = _tile(x, x_t, first + rows, d, end, D)
    next_dt = _tile(dt, dt_t, first + rows, d, end, D)
    for t0 in range(first, end, TILE):
        t = t0 + rows
        x_tile = next_x.to(tl.float32)
        step = tl.where((t < end)[:, None], softplus(next_dt.to(tl.float32)), 0.0)
        next_x = _tile(x, x_t, t + TILE, d, end, D)
        next_dt = _tile(dt, dt_t, t + TILE, d, end, D)
        if not SUMMARY and gate is not None:
            gate_tile = _tile(gate, gate_t, t, d, end, D)
        if saved is not None:
            chunk = b * tl.cdiv(T, CHUNK) + t0 // CHUNK
            tl.store(saved + chunk * size + place, h, mask=inside & (t0 % CHUNK == 0))
        step_lanes = _lanes(step, TILE, BLOCK, OUT)
        input_lanes = _lanes(step * x_tile, TILE, BLOCK, OUT)
        if SUMMARY:
            total += step
        else:
            y_lanes = tl.zeros([TILE, BLOCK, OUT], tl.float32)
        B_tile = B + tl.cast(t0, tl.int64) * N
        if not SUMMARY:
            C_tile = C + tl.cast(t0, tl.int64) * N
        for i in tl.static_range(TILE):
            exponent = a2 * _row(step_lanes, index, i)[None]
            if cut is not None:
                cut_i = tl.load(cut + t0 + i)
                exponent += cut_i
                if SUMMARY:
                    total_cut += cut_i
            h = tl.exp2(exponent) * h + _row(input_lanes, index, i)[None] * _states(B_tile, i, n, N, IN * OUT)
            if not SUMMARY:
                read = tl.sum(h * _states(C_tile, i, n, N, IN * OUT), 0)
                y_lanes = tl.where(index == i, read[None], y_lanes)
        if not SUMMARY:
            out = tl.sum(y_lanes, 2)
            if skip is not None:
                out += skip_D[None, :] * x_tile
            if gate is not None:
                z = gate_tile.to(tl.float32)
                out *= silu(z)
            mask = (t < end)[:, None] & (d < D)[None, :]
            where = (b * T + t)[:, None] * D + d[None, :]
            tl.store(y + where, out.to(y.dtype.element_ty), mask=mask)
    if SUMMARY:
        decay = tl.exp2(a2 * tl.sum(total, 0)[None, :, None] + total_cut)
        tl.store(decays + own, decay, mask=inside)
        tl.store(ends + own, h, mask=inside)
    else:
        tl.store(last + b * size + place, h, mask=inside & (segment == segments - 1))


@triton.jit
def _scan_carry(
    begin,  # (B, size) or None
    ends,  # (B, S, size)
    decays,  # (B, S, size)
    states,  # (B, S, size)
    size,
    segments,
    REVERSE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    h = tl.zeros([BLOCK], tl.float32)
    if begin is not None:
        h = tl.load(begin + b * size + place, mask=inside, other=0.0)
    for i in range(segments):
        segment = segments - 1 - i if REVERSE else i
        own = (b * segments + segment) * size + place
        tl.store(states + own, h, mask=inside)
        decay = tl.load(decays + own, mask=inside, other=0.0)
        h = decay * h + tl.load(ends + own, mask=inside, other=0.0)


@triton.jit(do_not_specialize=["T", "steps"])
def _scan_adjoint(
    dt,  # (B, T, D)
    gate,  # (B, T, D) or None
    dy,  # (B, T, D)
    A,  # (D, N)
    C,  # (B, T + PAD, N)
    cut,  # (B, T + PAD) or None
    ends,  # (B, S, D, N): gradient of the segment's start state, from zero at its end
    decays,  # (B, S, D, N)
    T,
    D,
    steps,
    x_b,
    x_t,
    dt_b,
    dt_t,
    gate_b,
    gate_t,
    dy_b,
    dy_t,
    N: tl.constexpr,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):
    segment, segments = tl.program_id(1), tl.num_programs(1)
    b = tl.program_id(2).to(tl.int64)
    d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = (tl.arange(0, IN)[:, None] + tl.arange(0, OUT)[None, :] * IN)[:, None, :]
    rows = tl.arange(0, TILE)
    index = rows[:, None, None]
    place = d.to(tl.int64)[None, :, None] * N + n
    inside = (d < D)[None, :, None] & (n < N)
    own = (b * segments + segment) * tl.cast(D, tl.int64) * N + place
    a2 = tl.load(A + place, mask=inside, other=0.0) * LOG2E
    dh = tl.zeros([IN, BLOCK, OUT], tl.float32)
    first = segment * steps
    end = tl.minimum(first + steps, T)
    dt += b * dt_b
    dy += b * dy_b
    C += b * (T + PAD) * N
    if gate is not None:
        gate += b * gate_b
    if cut is not None:
        cut += b * (T + PAD)
    total = tl.zeros([TILE, BLOCK], tl.float32)
    total_cut = 0.0
    for back in range(tl.cdiv(end - first, TILE)):
        t0 = first + (tl.cdiv(end - first, TILE) - 1 - back) * TILE
        t = t0 + rows
        step = tl.where((t < end)[:, None], softplus(_tile(dt, dt_t, t, d, end, D).to(tl.float32)), 0.0)
        dy_tile = _tile(dy, dy_t, t, d, end, D).to(tl.float32)
        if gate is not None:
            z = _tile(gate, gate_t, t, d, end, D).to(tl.float32)
            dy_tile *= silu(z)
        total += step
        step_lanes = _lanes(step, TILE, BLOCK, OUT)
        dy_lanes = _lanes(dy_tile, TILE, BLOCK, OUT)
        C_tile = C + tl.cast(t0, tl.int64) * N
        for i in tl.static_range(TILE - 1, -1, -1):
            exponent = a2 * _row(step_lanes, index, i)[None]
            if cut is not None:
                cut_i = tl.load(cut + t0 + i)
                exponent += cut_i
                total_cut += cut_i
            c = _states(C_tile, i, n, N, IN * OUT)
            dh = tl.exp2(exponent) * (dh + c * _row(dy_lanes, index, i)[None])
    decay = tl.exp2(a2 * tl.sum(total, 0)[None, :, None] + total_cut)
    tl.store(decays + own, decay, mask=inside)
    tl.store(ends + own, dh, mask=inside)


@triton.jit(do_not_specialize=["T", "steps"])
def _scan_backward(
    x,  # (B, T, D)
    dt,  # (B, T, D)
    gate,  # (B, T, D) or None
    dy,  # (B, T, D)
    A,  # (D, N)
    B,  # (B, T + PAD, N)
    C,  # (B, T + PAD, N)
    skip,  # (D) or None
    cut,  # (B, T + PAD) or None
    saved,  # (B, Z, D, N)
    scratch,  # (B, S, CHUNK // TILE, D, N); None where a chunk is one tile
    dend,  # (B, S, D, N): gradient of the state at each segment's end
    dx,  # (B, T, D)
    ddt,  # (B, T, D)
    dgate,  # (B, T, D) or None
    dA,  # (B, S, D, N)
    dB,  # (B, G, T, N)
    dC,  # (B, G, T, N)
    dskip,  # (B, S, D) or None
    dh0,  # (B, D, N) or None
    T,
    D,
    steps,
    x_b,
    x_t,
    dt_b,
    dt_t,
    gate_b,
    gate_t,
    dy_b,
    dy_t,
    N: tl.constexpr,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    DIN: tl.constexpr,
    WALK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    TILES: tl.constexpr = CHUNK // TILE
    segment, segments = tl.program_id(1), tl.num_programs(1)
    group, groups = tl.program_id(0), tl.num_programs(0)
    b = tl.program_id(2).to(tl.int64)
    d = group * BLOCK + tl.arange(0, BLOCK)
    n_flat = tl.arange(0, IN)[:, None] + tl.arange(0, OUT)[None, :] * IN
    n = n_flat[:, None, :]
    rows = tl.arange(0, TILE)
    index = rows[:, None, None]
    walk_rows = tl.arange(0, WALK)
    walk_index = walk_rows[:, None, None]
    place = d.to(tl.int64)[None, :, None] * N + n
    inside = (d < D)[None, :, None] & (n < N)
    size = tl.cast(D, tl.int64) * N
    own = (b * segments + segment) * size + place
    own_scratch = (b * segments + segment) * TILES * size + place
    a2 = tl.load(A + place, mask=inside, other=0.0) * LOG2E
    dh = tl.load(dend + own, mask=inside, other=0.0)
    sum_A = tl.zeros([IN, BLOCK, OUT], tl.float32)
    sum_skip = tl.zeros([TILE, BLOCK], tl.float32)
    first = segment * steps
    end = tl.minimum(first + steps, T)
    x += b * x_b
    dt += b * dt_b
    dy += b * dy_b
    B += b * (T + PAD) * N
    C += b * (T + PAD) * N
    dB += (b * groups + group) * T * N
    dC += (b * groups + group) * T * N
    if gate is not None:
        gate += b * gate_b
    if cut is not None:
        cut += b * (T + PAD)
    if skip is not None:
        skip_D = tl.load(skip + d, mask=d < D, other=0.0)
    for back_chunk in range(tl.cdiv(end - first, CHUNK)):
        c0 = first + (tl.cdiv(end - first, CHUNK) - 1 - back_chunk) * CHUNK
        tiles = tl.cdiv(tl.minimum(end - c0, CHUNK), TILE)
        start = tl.load(saved + (b * tl.cdiv(T, CHUNK) + c0 // CHUNK) * size + place, mask=inside, other=0.0)
        if TILES > 1:
            # Forwards once, leaving the state before each tile; all have read the last chunk's by now.
            tl.debug_barrier()
            h = start
            for t0 in range(c0, c0 + tiles * TILE, WALK):
                t = t0 + walk_rows
                v = _tile(dt, dt_t, t, d, end, D).to(tl.float32)
                step = tl.where((t < end)[:, None], softplus(v), 0.0)
                drive = step * _tile(x, x_t, t, d, end, D).to(tl.float32)
                step_lanes = _lanes(step, WALK, BLOCK, OUT)
                input_lanes = _lanes(drive, WALK, BLOCK, OUT)
                B_tile = B + tl.cast(t0, tl.int64) * N
                for i in tl.static_range(WALK):
                    if i % TILE == 0:
                        tile = own_scratch + ((t0 - c0 + i) // TILE) * size
                        tl.store(scratch + tile, h, mask=inside)
                    exponent = a2 * _row(step_lanes, walk_index, i)[None]
                    if cut is not None:
                        exponent += tl.load(cut + t0 + i)
                    b_i = _states(B_tile, i, n, N, IN * OUT)
                    h = tl.exp2(exponent) * h + _row(input_lanes, walk_index, i)[None] * b_i
            tl.debug_barrier()
        for back_tile in range(tiles):
            k = tiles - 1 - back_tile
            t0 = c0 + k * TILE
            t = t0 + rows
            x_tile = _tile(x, x_t, t, d, end, D).to(tl.float32)
            v = _tile(dt, dt_t, t, d, end, D).to(tl.float32)
            dy_tile = _tile(dy, dy_t, t, d, end, D).to(tl.float32)
            dread = dy_tile
            if gate is not None:
                z = _tile(gate, gate_t, t, d, end, D).to(tl.float32)
                open_z = sigmoid(z)
                dread = dy_tile * z * open_z
            step = tl.where((t < end)[:, None], softplus(v), 0.0)
            step_lanes = _lanes(step, TILE, BLOCK, OUT)
            input_lanes = _lanes(step * x_tile, TILE, BLOCK, OUT)
            dread_lanes = _lanes(dread, TILE, BLOCK, OUT)
            h = tl.load(scratch + own_scratch + k * size, mask=inside, other=0.0) if TILES > 1 else start
            B_tile = B + tl.cast(t0, tl.int64) * N
            C_tile = C + tl.cast(t0, tl.int64) * N
            # Forwards through the tile, keeping every decay and state.
            kept_h = ()
            kept_a = ()
            y_lanes = tl.zeros([TILE, BLOCK, OUT], tl.float32)
            for i in tl.static_range(TILE):
                exponent = a2 * _row(step_lanes, index, i)[None]
                if cut is not None:
                    exponent += tl.load(cut + t0 + i)
                a = tl.exp2(exponent)
                kept_h += (h,)  # type: ignore[assignment]
                kept_a += (a,)  # type: ignore[assignment]
                h = a * h + _row(input_lanes, index, i)[None] * _states(B_tile, i, n, N, IN * OUT)
                if gate is not None:
                    read = tl.sum(h * _states(C_tile, i, n, N, IN * OUT), 0)
                    y_lanes = tl.where(index == i, read[None], y_lanes)
            # And back. Channels of one thread are added here, those of other lanes once a tile.
            dinput_lanes = tl.zeros([TILE, BLOCK, OUT], tl.float32)
            decay_lanes = tl.zeros([TILE, BLOCK, OUT], tl.float32)
            dB_lanes = tl.zeros([TILE, IN, BLOCK // DIN, OUT], tl.float32)
            dC_lanes = tl.zeros([TILE, IN, BLOCK // DIN, OUT], tl.float32)
            for i in tl.static_range(TILE - 1, -1, -1):
                dread_i = _row(dread_lanes, index, i)[None]
                part = tl.reshape(dread_i * h, [IN, DIN, BLOCK // DIN, OUT])
                dC_lanes = tl.where(index[:, :, :, None] == i, tl.sum(part, 1)[None], dC_lanes)
                dh += dread_i * _states(C_tile, i, n, N, IN * OUT)
                part = tl.reshape(dh * _row(input_lanes, index, i)[None], [IN, DIN, BLOCK // DIN, OUT])
                dB_lanes = tl.where(index[:, :, :, None] == i, tl.sum(part, 1)[None], dB_lanes)
                dinput = tl.sum(dh * _states(B_tile, i, n, N, IN * OUT), 0)
                dinput_lanes = tl.where(index == i, dinput[None], dinput_lanes)
                dh *= kept_a[i]
                h = kept_h[i]
                dexponent = dh * h
                sum_A += dexponent * _row(step_lanes, index, i)[None]
                decay_lanes = tl.where(index == i, tl.sum(dexponent * a2, 0)[None], decay_lanes)
            dinput_tile = tl.sum(dinput_lanes, 2)
            ddt_tile = (dinput_tile * x_tile + tl.sum(decay_lanes, 2) * LN2) * sigmoid(v)
            dx_tile = dinput_tile * step
            mask = (t < end)[:, None] & (d < D)[None, :]
            where = (b * T + t)[:, None] * D + d[None, :]
            if gate is not None:
                y_tile = tl.sum(y_lanes, 2)
                if skip is not None:
                    y_tile += skip_D[None, :] * x_tile
                dz = dy_tile * y_tile * silu_slope(z, open_z)
                tl.store(dgate + where, dz.to(dgate.dtype.element_ty), mask=mask)
            if skip is not None:
                dx_tile += skip_D[None, :] * dread
                sum_skip += dread * x_tile
            tl.store(dx + where, dx_tile.to(dx.dtype.element_ty), mask=mask)
            tl.store(ddt + where, ddt_tile.to(ddt.dtype.element_ty), mask=mask)
            where = t.to(tl.int64)[:, None, None] * N + n_flat[None]
            mask_N = (t < end)[:, None, None] & (n_flat < N)[None]
            tl.store(dB + where, tl.sum(dB_lanes, 2), mask=mask_N)
            tl.store(dC + where, tl.sum(dC_lanes, 2), mask=mask_N)
    tl.store(dA + own, sum_A, mask=inside)
    if skip is not None:
        tl.store(dskip + (b * segments + segment) * D + d, tl.sum(sum_skip, 0), mask=d < D)
    if dh0 is not None:
        tl.store(dh0 + b * size + place, dh, mask=inside & (segment == 0))
