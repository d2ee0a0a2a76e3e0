"""The causal convolution with SiLU against its reference in float64: outputs and all gradients."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv1d, pad, silu

from spellbound.errors import InputError
from spellbound.jamba.ops import causal_conv
from spellbound.jamba.ops.cpp.conv import causal_conv_cpp
from spellbound.jamba.ops.reference import causal_conv_reference
from tests.jamba.kernels import AVAILABLE, assert_close, needs_library, run
from tests.jamba.models import relative_error

Conv = Callable[..., Tensor]
TILE = 64
COMPILED = [pytest.param(partial(causal_conv_cpp, instruction_set=name), id=name) for name in AVAILABLE]
every_conv = pytest.mark.parametrize("conv", COMPILED)
TOLERANCE = 4e-6
# T = 1, fewer steps than taps, T around the tile's edge, D below, between and beyond the lanes and the block.
SHAPES = [(1, 1, 1, 4), (2, 2, 5, 4), (1, TILE - 1, 16, 4), (2, TILE, 17, 3), (1, TILE + 1, 130, 4)]
SHAPES += [(2, 2 * TILE + 3, 33, 2), (1, 7, 20, 1), (1, 70, 260, 16)]


def arguments(batch: int, time: int, channels: int, taps: int, seed: int = 0) -> list[Tensor]:
    """Random float64 x, weight, bias and window."""
    normal = partial(torch.randn, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return [
        normal(batch, time, channels),
        normal(channels, taps),
        normal(channels),
        normal(batch, taps - 1, channels),
    ]


def check(conv: Conv, inputs: list[Tensor | None], starts: Tensor | None) -> None:
    exact = run(causal_conv_reference, [*inputs, starts], torch.float64)
    assert_close(run(conv, [*inputs, starts], torch.float32), exact, TOLERANCE)


def test_the_reference_is_torchs_own_convolution() -> None:
    x, weight, bias, _ = arguments(2, 20, 5, 4)
    theirs = conv1d(pad(x.transpose(1, 2), (3, 0)), weight[:, None], bias, groups=5).transpose(1, 2)
    assert torch.allclose(causal_conv_reference(x, weight, bias, None, None), silu(theirs))


@every_conv
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_reference(conv: Conv, shape: tuple[int, int, int, int]) -> None:
    check(conv, [*arguments(*shape)], None)


@every_conv
@pytest.mark.parametrize("missing", [2, 3])
def test_bias_and_window_may_be_none(conv: Conv, missing: int) -> None:
    inputs: list[Tensor | None] = [*arguments(2, 67, 20, 4)]
    inputs[missing] = None
    check(conv, inputs, None)


@every_conv
@pytest.mark.parametrize("place", [0, 1, 2, 3, TILE - 1, TILE, TILE + 1, TILE + 2, TILE + 3, 2 * TILE + 4])
def test_taps_do_not_reach_across_a_document_start(conv: Conv, place: int) -> None:
    inputs = arguments(2, 2 * TILE + 5, 18, 4)
    starts = torch.zeros(2, 2 * TILE + 5, dtype=torch.bool)
    starts[0, place] = True
    check(conv, [*inputs], starts)
    x, weight, bias, window = (tensor.float() for tensor in inputs)
    together = conv(x, weight, bias, window, starts)
    alone = conv(x[:1, place:], weight, bias, None, None)
    assert torch.allclose(together[:1, place:], alone, atol=1e-6)


@every_conv
def test_half_of_a_wider_tensor_is_read_where_it_lies(conv: Conv) -> None:
    x, weight, bias, window = (tensor.float() for tensor in arguments(2, 70, 40, 4))
    half = x[..., 20:]
    whole = conv(half.contiguous(), weight[20:], bias[20:], window[..., 20:], None)
    assert torch.equal(conv(half, weight[20:], bias[20:], window[..., 20:], None), whole)


@every_conv
def test_half_precision_is_computed_in_float32(conv: Conv) -> None:
    inputs = [tensor.to(torch.bfloat16).double() for tensor in arguments(2, 70, 20, 4)]
    exact = run(causal_conv_reference, [*inputs, None], torch.float64)
    actual = run(conv, [*inputs, None], torch.bfloat16)
    for half, whole in zip(actual, exact, strict=True):
        assert half.dtype == torch.bfloat16
        assert relative_error(half.double(), whole) < 2**-7


@needs_library
@settings(deadline=None, max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 150), st.integers(1, 150), st.integers(1, 9)),
    seed=st.integers(0, 2**32),
    name=st.sampled_from(AVAILABLE or ["portable"]),
)
def test_random_shapes(shape: tuple[int, int, int, int], seed: int, name: str) -> None:
    starts = torch.rand(shape[:2], generator=torch.Generator().manual_seed(seed)) < 0.1
    check(partial(causal_conv_cpp, instruction_set=name), [*arguments(*shape, seed=seed)], starts)


@needs_library
def test_one_thread_and_many_give_equal_bytes() -> None:
    inputs = arguments(3, 150, 200, 4)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(run(causal_conv_cpp, [*inputs, None], torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_gradcheck_of_the_reference() -> None:
    inputs = [tensor.requires_grad_() for tensor in arguments(1, 6, 2, 3)]
    starts = torch.tensor([[False, False, True, False, False, False]])
    conv: Conv = causal_conv_reference
    assert torch.autograd.gradcheck(lambda *tensors: conv(*tensors, starts), inputs)


@pytest.mark.parametrize("kind", ["reference", "torch", pytest.param("cpp", marks=needs_library)])
def test_more_taps_than_the_kernel_has_room_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_KERNELS", kind)
    x, weight, bias, window = arguments(1, 30, 4, 20)
    exact = causal_conv_reference(x, weight, bias, window, None)
    y = causal_conv(x.float(), weight.float(), bias.float(), window_BKD=window.float())
    assert_close([y], [exact], TOLERANCE)


@pytest.mark.parametrize("kind", ["reference", "torch", pytest.param("cpp", marks=needs_library)])
def test_the_output_has_the_dtype_of_the_input(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_KERNELS", kind)
    x, weight, bias, _ = arguments(1, 9, 4, 3)
    assert causal_conv(x.bfloat16(), weight.float(), bias.float()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("place", "tensor"),
    [
        (0, torch.zeros(2, 0, 3)),
        (1, torch.zeros(4, 4)),
        (1, torch.zeros(3, 0)),
        (2, torch.zeros(4)),
        (3, torch.zeros(2, 4, 3)),
    ],
)
def test_what_does_not_fit_is_refused_before_raw_memory_is_read(place: int, tensor: Tensor) -> None:
    inputs = [each.float() for each in arguments(2, 5, 3, 4)]
    inputs[place] = tensor
    x, weight, bias, window = inputs
    with pytest.raises(InputError, match="x_BTD"):
        causal_conv(x, weight, bias, window_BKD=window)
