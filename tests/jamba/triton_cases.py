"""The Triton kernels against their references in float64: outputs, new states and all gradients.

``test_triton.py`` runs this file in a process of its own, in Triton's interpreter. Where a GPU is, run it
there: ``python -m pytest tests/jamba/triton_cases.py``.
"""

import functools
import importlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spellbound.jamba.ops import dispatch
from spellbound.jamba.ops.reference import (
    causal_conv_reference,
    rms_norm_reference,
    selective_scan_reference,
    swiglu_reference,
)
from spellbound.jamba.ops.triton import available, explain
from spellbound.jamba.ops.triton import rows as in_rows
from spellbound.jamba.ops.triton.conv import CHANNELS, STEPS, causal_conv_triton
from spellbound.jamba.ops.triton.rows import rms_norm_triton, swiglu_triton
from spellbound.jamba.ops.triton.scan import CHUNK, choose_segments, selective_scan_triton
from spellbound.jamba.ops.triton.step import conv_step, scan_step
from tests.jamba.kernels import assert_close, run
from tests.jamba.largest import Largest
from tests.jamba.models import relative_error

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
TOLERANCE = 4e-6  # of the largest value
SMALL = 8  # steps in a chunk: the interpreter is slow
WIDE = (2, 5, 7)  # A, skip and h0 are float32 whatever the others are
NAMES = ("x", "dt", "A", "B", "C", "skip", "gate", "h0")


@pytest.fixture(autouse=True)
def _quick_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halve the time: the interpreter looks through the whole language at every call of every helper."""
    if INTERPRETED:
        interpreter = importlib.import_module("triton.runtime.interpreter")
        prepare = functools.cache(interpreter._patch_lang)

        def call(helper: Any, *arguments: Any, **options: Any) -> Any:
            prepare(helper.fn)
            return helper.rewrite()(*arguments, **options)

        monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", call)


def placed(kernel: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Run the kernel where it can, on tensors from anywhere."""

    def on_device(*inputs: Any) -> Any:
        return kernel(*(x.to(DEVICE) if isinstance(x, Tensor) else x for x in inputs), **options)

    def call(*inputs: Any) -> Any:
        results = on_device(*inputs)
        return tuple(x.cpu() for x in results) if isinstance(results, tuple) else results.cpu()

    return call


def taken(
    inputs: list[Any], dtype: torch.dtype, *, device: str = "cpu", wide: tuple[int, ...] = ()
) -> list[Any]:
    """The floating inputs in ``dtype``, except those at the places ``wide``."""
    return [
        x.to(device)
        if place in wide
        else x.to(device, dtype)
        if isinstance(x, Tensor) and x.is_floating_point()
        else x
        for place, x in enumerate(inputs)
    ]


scan = placed(selective_scan_triton, chunk=SMALL)
conv = placed(causal_conv_triton)
EPS = 1e-6
norm = placed(rms_norm_triton, eps=EPS)
exact_norm = partial(rms_norm_reference, eps=EPS)
swiglu = placed(swiglu_triton)


def draw(seed: int = 0) -> Callable[..., Tensor]:
    return partial(torch.randn, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scan_inputs(batch: int, time: int, channels: int, states: int, seed: int = 0) -> list[Any]:
    """Random arguments in the order of NAMES, and no document starts."""
    normal = draw(seed)
    x, dt, gate = (normal(batch, time, channels) for _ in range(3))
    B, C = (normal(batch, time, states) for _ in range(2))
    A = -torch.exp(normal(channels, states))
    return [x, dt - 2, A, B, C, normal(channels), gate, normal(batch, channels, states), None]


def check_scan(inputs: list[Any], **options: Any) -> None:
    exact = run(selective_scan_reference, inputs, torch.float64)
    kernel = placed(selective_scan_triton, **{"chunk": SMALL, **options})
    assert_close(run(kernel, inputs, torch.float32), exact, TOLERANCE)


def conv_inputs(batch: int, time: int, channels: int, taps: int, seed: int = 0) -> list[Any]:
    """Random x, weight, bias and window, and no document starts."""
    normal = draw(seed)
    x, weight, bias = normal(batch, time, channels), normal(channels, taps), normal(channels)
    return [x, weight, bias, normal(batch, taps - 1, channels), None]


def check_conv(inputs: list[Any]) -> None:
    exact = run(causal_conv_reference, inputs, torch.float64)
    assert_close(run(conv, inputs, torch.float32), exact, TOLERANCE)


def test_the_kernels_say_where_they_run() -> None:
    assert available()
    assert ("interpreter" in explain()) == INTERPRETED


# T = 1, T around the chunk's edge, D below and beyond a program's channels, N other than 16.
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 16), (2, 7, 5, 16), (1, 8, 9, 3), (2, 9, 8, 5), (1, 17, 70, 16), (1, 9, 6, 33), (1, 5, 3, 1)],
)
def test_scan_equals_the_reference(shape: tuple[int, int, int, int]) -> None:
    check_scan(scan_inputs(*shape))


def test_scan_with_the_chunk_it_has() -> None:
    check_scan(scan_inputs(1, CHUNK + 6, 3, 16), chunk=CHUNK)


def test_scan_with_the_widest_state() -> None:
    check_scan(scan_inputs(1, 3, 2, 256), chunk=4)


@pytest.mark.parametrize("missing", ["skip", "gate", "h0", "all"])
@pytest.mark.parametrize("segments", [1, 2])
def test_scan_without_an_optional_argument(missing: str, segments: int) -> None:
    inputs = scan_inputs(1, SMALL + 1, 5, 4)
    for place, name in enumerate(NAMES):
        if name == missing or (missing == "all" and name in ("skip", "gate", "h0")):
            inputs[place] = None
    check_scan(inputs, segments=segments)


@pytest.mark.parametrize("place", [0, 1, 4, SMALL - 1, SMALL, SMALL + 1, 2 * SMALL])
@pytest.mark.parametrize("segments", [1, 3])
def test_scan_forgets_at_a_document_start(place: int, segments: int) -> None:
    inputs = scan_inputs(1, 2 * SMALL + 1, 3, 3)
    inputs[-1] = torch.zeros(1, 2 * SMALL + 1, dtype=torch.bool)
    inputs[-1][0, place] = True
    check_scan(inputs, segments=segments)


@pytest.mark.parametrize("segments", [2, 100])
def test_three_passes_equal_one(segments: int) -> None:
    inputs = scan_inputs(2, 2 * SMALL + 3, 5, 4)
    inputs[-1] = torch.rand(2, 2 * SMALL + 3, generator=torch.Generator().manual_seed(0)) < 0.1
    one = run(placed(selective_scan_triton, chunk=SMALL, segments=1), inputs, torch.float32)
    three = run(placed(selective_scan_triton, chunk=SMALL, segments=segments), inputs, torch.float32)
    assert_close(three, [x.double() for x in one], 2e-6)


@pytest.mark.parametrize("chunk", [4, 16, 32])
def test_the_chunk_changes_no_result(chunk: int) -> None:
    check_scan(scan_inputs(1, 37, 3, 4), chunk=chunk)


@pytest.mark.parametrize("segments", [1, 2])
def test_scan_in_bfloat16_is_computed_in_float32(segments: int) -> None:
    inputs = scan_inputs(2, 19, 9, 16)
    halves = taken(inputs, torch.bfloat16, wide=WIDE)
    exact = run(selective_scan_reference, halves, torch.float64)

    def mixed(*tensors: Any) -> Any:
        """Rates, skip and state stay float32, as in a model of bfloat16."""
        halves = taken([*tensors], torch.bfloat16, wide=WIDE)
        y, h = placed(selective_scan_triton, chunk=SMALL, segments=segments)(*halves)
        assert (y.dtype, h.dtype) == (torch.bfloat16, torch.float32)
        return y, h

    for half, whole in zip(run(mixed, halves, torch.float32), exact, strict=True):
        assert relative_error(half.double(), whole) < 2**-7


def test_scan_reads_slices_where_they_lie() -> None:
    x, dt, A, B, C, skip, gate, h0, _ = scan_inputs(2, 11, 10, 4)
    wide = torch.cat([gate, x], -1)
    check_scan(
        [wide[..., 10:], dt[:, :, ::2].repeat_interleave(2, -1), A, B, C, skip, wide[..., :10], h0, None]
    )
    time_first = x.transpose(0, 1).contiguous().transpose(0, 1)
    every_second = gate.repeat_interleave(2, -1)[..., ::2]
    backwards = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in (B, C)]
    check_scan([time_first, dt, A.T.contiguous().T, *backwards, skip, every_second, h0, None])


def test_scan_takes_the_gradients_that_sums_give() -> None:
    inputs = taken(scan_inputs(1, 9, 3, 4), torch.float32)
    inputs[0].requires_grad_()
    y, _ = scan(*inputs)
    (mine,) = torch.autograd.grad(y.sum(), inputs[0])
    y, _ = selective_scan_reference(*inputs)
    (right,) = torch.autograd.grad(y.sum(), inputs[0])
    assert_close([mine], [right.double()], TOLERANCE)


def test_scan_with_extreme_steps() -> None:
    x, dt, *others = scan_inputs(1, 23, 4, 16)
    t = torch.arange(23)[None, :, None]
    dt = torch.where(t % 3 == 0, -200.0, dt)  # a step of e**-200, in float32 0
    dt = torch.where(t % 5 == 0, 0.0, dt)
    dt = torch.where(t % 7 == 0, 300.0, dt)  # exp(300 A) underflows
    dt = torch.where(t % 11 == 0, -69.0, dt)  # a step of 1e-30
    for segments in (1, 3):
        check_scan([x, dt, *others], segments=segments)


def test_scan_with_extreme_gates() -> None:
    inputs = scan_inputs(1, 19, 4, 4)
    inputs[6] = inputs[6] * 200
    check_scan(inputs)


def test_small_steps_keep_their_relative_precision() -> None:
    inputs = taken(scan_inputs(1, 1, 4, 4), torch.float32)
    inputs[1] = torch.linspace(-60, -9, 4)[None, None]
    inputs[5] = inputs[7] = None
    y, _ = scan(*inputs)
    exact, _ = selective_scan_reference(*taken(inputs, torch.float64))
    assert torch.allclose(y.double(), exact, rtol=1e-5, atol=0)


def test_a_step_of_zero_keeps_the_state_to_the_bit() -> None:
    inputs = taken(scan_inputs(1, 40, 4, 4), torch.float32)
    inputs[1] = torch.full_like(inputs[1], -1e4)
    _, h = scan(*inputs)
    assert torch.equal(h, inputs[7])


def test_equal_inputs_give_equal_bytes() -> None:
    inputs = scan_inputs(1, 9, 66, 4)
    first, second = (run(scan, inputs, torch.float32) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_nothing_of_size_time_by_channels_by_states_is_made() -> None:
    time, channels, states = 160, 16, 32
    inputs = taken(scan_inputs(1, time, channels, states), torch.float32, device=DEVICE)
    wanted = [x.requires_grad_() for x in inputs[:-1]]
    with Largest() as largest:
        y, h = selective_scan_triton(*inputs, chunk=32)
        torch.autograd.grad(y.sum() + h.sum(), wanted)
    assert largest.numel <= time * channels * states // 8, largest.numel


def test_scan_without_gradients_saves_no_states() -> None:
    inputs = taken(scan_inputs(1, 64, 8, 16), torch.float32, device=DEVICE)
    with Largest() as largest, torch.no_grad():
        selective_scan_triton(*inputs, chunk=4)
    assert largest.numel <= (64 + 16) * 16


@settings(deadline=None, max_examples=8)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 17), st.integers(1, 12), st.sampled_from([1, 2, 4, 7])),
    segments=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_scan_of_random_shapes(shape: tuple[int, int, int, int], segments: int, seed: int) -> None:
    inputs = scan_inputs(*shape, seed=seed)
    inputs[-1] = torch.rand(shape[:2], generator=torch.Generator().manual_seed(seed)) < 0.1
    check_scan(inputs, segments=segments)


@pytest.mark.parametrize(
    ("programs", "chunks", "segments"),
    [
        (1024, 4096, 1),  # 8192 channels: they fill the card alone
        (96, 256, 11),  # 768 channels: eight programs on each of 132 processors
        (96, 3, 3),  # but no segment below a chunk
        (1, 1, 1),
    ],
)
def test_time_is_cut_only_where_channels_do_not_fill_the_card(
    programs: int, chunks: int, segments: int
) -> None:
    assert choose_segments(programs, chunks, processors=132, enough=2, full=8) == segments


# T = 1, fewer steps than taps, T around the tile's edge, D below and beyond a program's channels.
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 4),
        (2, 2, 5, 8),
        (1, STEPS - 3, 3, 4),
        (2, STEPS, CHANNELS + 1, 3),
        (1, STEPS + 1, 9, 2),
        (1, 7, 5, 1),
    ],
)
def test_conv_equals_the_reference(shape: tuple[int, int, int, int]) -> None:
    check_conv(conv_inputs(*shape))


@pytest.mark.parametrize("taps", range(1, 9))
def test_conv_with_any_number_of_taps(taps: int) -> None:
    inputs = conv_inputs(2, 11, 3, taps)
    inputs[-1] = torch.rand(2, 11, generator=torch.Generator().manual_seed(taps)) < 0.2
    check_conv(inputs)


@pytest.mark.parametrize("missing", [(2,), (3,), (2, 3)])
def test_conv_without_an_optional_argument(missing: tuple[int, ...]) -> None:
    inputs = conv_inputs(2, 9, 5, 4)
    for place in missing:
        inputs[place] = None
    check_conv(inputs)


@pytest.mark.parametrize("place", [0, 1, 3, *range(STEPS - 4, STEPS + 1), STEPS + 3])
def test_conv_does_not_reach_across_a_document_start(place: int) -> None:
    inputs = conv_inputs(1, STEPS + 5, 3, 4)
    inputs[-1] = torch.zeros(1, STEPS + 5, dtype=torch.bool)
    inputs[-1][0, place] = True
    check_conv(inputs)


def test_conv_reads_slices_where_they_lie() -> None:
    x, weight, bias, window, _ = conv_inputs(2, 9, 10, 4)
    wide = torch.cat([x, x + 1], -1)
    check_conv([wide[..., 10:], weight.T.contiguous().T, bias, window, None])
    check_conv(
        [x.repeat_interleave(2, -1)[..., ::2], weight, bias, window[..., ::2].repeat_interleave(2, -1), None]
    )
    check_conv([x.transpose(0, 1).contiguous().transpose(0, 1), weight, bias, window, None])


def test_conv_in_bfloat16_is_computed_in_float32() -> None:
    inputs = taken(conv_inputs(2, 37, 9, 4), torch.bfloat16)
    exact = run(causal_conv_reference, inputs, torch.float64)
    for half, whole in zip(run(conv, inputs, torch.bfloat16), exact, strict=True):
        assert half.dtype == torch.bfloat16
        assert relative_error(half.double(), whole) < 2**-7


def test_conv_makes_only_the_gradients_that_are_wanted() -> None:
    x, weight, bias, window, _ = taken(conv_inputs(1, 64, 8, 4), torch.float32, device=DEVICE)
    y = causal_conv_triton(x.requires_grad_(), weight, bias, window, None)
    with Largest() as largest:
        torch.autograd.grad(y, x, torch.ones_like(y))
    assert largest.numel <= x.numel()


@pytest.mark.parametrize("taps", [1, 2, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_conv_step_goes_on_where_the_convolution_was(taps: int, dtype: torch.dtype) -> None:
    inputs = taken(conv_inputs(2, 3, CHANNELS + 1, taps), dtype)
    x, weight, bias, window, _ = inputs
    exact = causal_conv_reference(*taken(inputs, torch.float64))
    kept = window.clone()
    for t in range(3):
        y, after = placed(conv_step)(x[:, t], weight, bias, window)
        # The interpreter cuts to bfloat16 where the GPU rounds.
        assert_close([y], [exact[:, t]], 2**-7 if dtype == torch.bfloat16 else TOLERANCE)
        assert torch.equal(after, torch.cat([window, x[:, t : t + 1]], 1)[:, 1:])
        window = after
    assert torch.equal(kept, inputs[3])


@pytest.mark.parametrize("states", [3, 16, 33])
@pytest.mark.parametrize("missing", [(), (5,), (6,)])
def test_scan_step_goes_on_where_the_scan_was(states: int, missing: tuple[int, ...]) -> None:
    inputs = scan_inputs(2, 3, 37, states)
    for place in missing:
        inputs[place] = None
    exact, exact_h = selective_scan_reference(*inputs)
    x, dt, A, B, C, skip, gate, h, _ = taken(inputs, torch.float32)
    wide = torch.cat([B, C], -1)  # slices, as a projection leaves them
    first = h.clone()
    for t in range(3):
        row = None if gate is None else gate[:, t]
        B_BN, C_BN = wide[:, t, :states], wide[:, t, states:]
        y, h = placed(scan_step)(x[:, t], dt[:, t], A, B_BN, C_BN, skip, row, h)
        assert_close([y], [exact[:, t]], TOLERANCE)
    assert_close([h], [exact_h], TOLERANCE)
    assert torch.equal(first, inputs[7].float())


def test_scan_step_in_bfloat16() -> None:
    inputs = taken(scan_inputs(2, 1, 9, 16), torch.bfloat16, wide=WIDE)
    exact, exact_h = selective_scan_reference(*taken(inputs, torch.float64))
    x, dt, A, B, C, skip, gate, h, _ = inputs
    rows = (x[:, 0], dt[:, 0], A.float(), B[:, 0], C[:, 0], skip.float(), gate[:, 0], h.float())
    y, after = placed(scan_step)(*rows)
    assert (y.dtype, after.dtype) == (torch.bfloat16, torch.float32)
    assert relative_error(y.double(), exact[:, 0]) < 2**-7
    assert_close([after], [exact_h], TOLERANCE)


# One number, one row; numbers and rows below and beyond a program's; the sizes of Jamba's norms.
@pytest.mark.parametrize(
    "shape",
    [(1,), (5, 1), (1, 3), (2, 7, 16), (130, 16), (3, 33), (9, 256), (2, 300), (in_rows.NUMBERS + 3, 2)],
)
def test_norm_equals_the_reference(shape: tuple[int, ...]) -> None:
    inputs = [draw()(*shape), draw(1)(shape[-1])]
    exact = run(exact_norm, inputs, torch.float64)
    assert_close(run(norm, inputs, torch.float32), exact, TOLERANCE)


def test_norm_of_rows_wider_than_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_rows, "WIDEST", 16)
    monkeypatch.setattr(in_rows, "NUMBERS", 32)
    monkeypatch.setattr(in_rows, "COLUMNS", 8)
    monkeypatch.setattr(in_rows, "PROGRAMS", 10)
    inputs = [draw()(41, 37), draw(1)(37)]
    assert_close(run(norm, inputs, torch.float32), run(exact_norm, inputs, torch.float64), TOLERANCE)


def test_norm_of_very_small_and_very_large_rows() -> None:
    x = draw()(5, 33) * torch.tensor([0, 1e-12, 1e-3, 1e6, 1e15])[:, None]
    inputs = [x, draw(1)(33)]
    y, dx, dweight = run(norm, inputs, torch.float32)
    exact, exact_dx, exact_dweight = run(exact_norm, inputs, torch.float64)
    assert_close([y, dweight], [exact, exact_dweight], TOLERANCE)
    for mine, right in zip(dx, exact_dx, strict=True):
        assert relative_error(mine.double(), right) < 1e-5


@pytest.mark.parametrize("x_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.bfloat16])
def test_norm_takes_each_dtype_and_returns_the_wider(x_dtype: torch.dtype, weight_dtype: torch.dtype) -> None:
    x, weight = draw()(70, 33).to(x_dtype), draw(1)(33).to(weight_dtype)
    exact = run(exact_norm, [x, weight], torch.float64)
    x, weight = x.to(DEVICE).requires_grad_(), weight.to(DEVICE).requires_grad_()
    y, right = rms_norm_triton(x, weight, EPS), rms_norm_reference(x, weight, EPS)
    assert y.dtype == right.dtype
    dy = torch.ones_like(y).cumsum(0).cos()
    mine = [y, *torch.autograd.grad(y, (x, weight), dy)]
    theirs = [right, *torch.autograd.grad(right, (x, weight), dy)]
    bound = 1e-5 if x_dtype == weight_dtype == torch.float32 else 2**-6
    for found, wanted in zip(mine, theirs, strict=True):
        assert found.dtype == wanted.dtype
        assert relative_error(found.detach().double(), wanted.detach().double()) < bound
    assert relative_error(y.detach().cpu().double(), exact[0]) < bound


@pytest.mark.skipif(INTERPRETED, reason="the interpreter cuts to bfloat16 where the GPU rounds")
def test_norm_rounds_before_the_weight() -> None:
    x, weight = (tensor.to(DEVICE, torch.bfloat16) for tensor in (draw()(400, 256), draw(1)(256)))
    same = rms_norm_triton(x, weight, EPS) == rms_norm_reference(x, weight, EPS)
    assert same.float().mean() > 0.99  # the sum's order may move one rounding


def test_rows_are_read_where_they_lie() -> None:
    wide, weight = draw()(2, 9, 40), draw(1)(20)
    for x in (wide[..., 7:27], wide.transpose(0, 1)[..., :20], wide[..., ::2], wide[:1, :1, :20]):
        inputs = [x, weight.repeat_interleave(2)[::2]]
        exact = run(exact_norm, inputs, torch.float64)
        assert_close(run(norm, inputs, torch.float32), exact, TOLERANCE)
        if x.shape[:2] == wide.shape[:2]:
            inputs = [x, wide[..., 20:]]
            exact = run(swiglu_reference, inputs, torch.float64)
            assert_close(run(swiglu, inputs, torch.float32), exact, TOLERANCE)


@pytest.mark.parametrize("shape", [(1,), (5, 1), (2, 7, 16), (33, 200), (3, in_rows.TILE + 5), (2100, 3)])
def test_swiglu_of_two_tensors_and_of_two_halves(shape: tuple[int, ...]) -> None:
    gate, up = draw()(*shape) * 5, draw(1)(*shape)
    exact = run(swiglu_reference, [gate, up], torch.float64)
    assert_close(run(swiglu, [gate, up], torch.float32), exact, TOLERANCE)
    y, slope = run(swiglu, [torch.cat([gate, up], -1), None], torch.float32)
    assert_close([y, *slope.chunk(2, -1)], exact, TOLERANCE)


def test_swiglu_of_extreme_gates_and_half_precision() -> None:
    inputs = taken([draw()(5, 21) * 100, draw(1)(5, 21)], torch.bfloat16)
    exact = run(swiglu_reference, inputs, torch.float64)
    for half, whole in zip(run(swiglu, inputs, torch.bfloat16), exact, strict=True):
        assert half.dtype == torch.bfloat16
        assert relative_error(half.double(), whole) < 2**-7


def test_rows_take_the_gradients_that_sums_give_and_make_those_that_are_wanted() -> None:
    x, weight = taken([draw()(9, 16), draw(1)(16)], torch.float32, device=DEVICE)
    for place in (0, 1):
        inputs = [x.detach().clone(), weight.detach().clone()]
        wanted = inputs[place].requires_grad_()
        (mine,) = torch.autograd.grad(rms_norm_triton(inputs[0], inputs[1], EPS).sum(), wanted)
        (right,) = torch.autograd.grad(rms_norm_reference(inputs[0], inputs[1], EPS).sum(), wanted)
        assert relative_error(mine, right) < 1e-5
    x.requires_grad_()
    for up in (None, x.detach() + 1):
        (mine,) = torch.autograd.grad(swiglu_triton(x, up).sum(), x)
        (right,) = torch.autograd.grad(swiglu_reference(x, up).sum(), x)
        assert relative_error(mine, right) < 1e-5


def test_rows_give_equal_bytes_and_keep_nothing_but_their_inputs() -> None:
    x, weight = taken([draw()(300, 48), draw(1)(48)], torch.float32, device=DEVICE)
    inputs = [x.requires_grad_(), weight.requires_grad_()]
    kept: set[int] = set()

    def keep(tensor: Tensor) -> Tensor:
        kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        results = [
            (rms_norm_triton(x, weight, EPS), swiglu_triton(x, None), swiglu_triton(x, x)) for _ in range(2)
        ]
    assert kept <= {tensor.untyped_storage().data_ptr() for tensor in inputs}
    first, second = (
        [*each, *torch.autograd.grad(torch.stack([y.square().sum() for y in each]).sum(), inputs)]
        for each in results
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_model_s_calls_come_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_KERNELS", "triton")
    x, weight = taken([draw()(3, 16), draw(1)(16)], torch.float32, device=DEVICE)
    for y in (
        dispatch.rms_norm(x.requires_grad_(), weight, EPS),
        dispatch.rms_norm(x.bfloat16(), weight, EPS),
        dispatch.swiglu(x, x),
        dispatch.swiglu(x),
    ):
        assert type(y.grad_fn).__name__ in ("_RMSNormBackward", "_SwiGLUBackward")
    assert dispatch.rms_norm(x[:0], weight, EPS).shape == (0, 16)
    assert dispatch.rms_norm(x.double(), weight, EPS).dtype == torch.float64
    assert dispatch.swiglu(x[:0]).shape == (0, 8)
