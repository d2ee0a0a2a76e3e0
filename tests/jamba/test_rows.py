"""RMSNorm and SwiGLU against their references in float64: outputs and all gradients."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from spellbound.errors import InputError
from spellbound.jamba.ops import rms_norm, swiglu
from spellbound.jamba.ops.cpp.rows import rms_norm_cpp, swiglu_cpp
from spellbound.jamba.ops.reference import rms_norm_reference, swiglu_reference
from tests.jamba.kernels import AVAILABLE, assert_close, needs_library, run
from tests.jamba.models import relative_error

EPS = 1e-6
SHAPES = [(1, 1), (3, 5), (2, 7, 16), (31, 17), (32, 33), (33, 200), (2, 70, 24)]
norms = pytest.mark.parametrize("name", AVAILABLE)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def norm_of(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, weight: rms_norm_cpp(x, weight, EPS, instruction_set=name)


def exact_norm(x: Tensor, weight: Tensor) -> Tensor:
    return rms_norm_reference(x, weight, EPS)


@norms
@pytest.mark.parametrize("shape", SHAPES)
def test_norm_equals_the_reference(name: str, shape: tuple[int, ...]) -> None:
    inputs = [normal(*shape), normal(shape[-1], seed=1)]
    assert_close(run(norm_of(name), inputs, torch.float32), run(exact_norm, inputs, torch.float64), 4e-6)


@norms
def test_norm_reads_a_slice_of_wider_rows_where_it_lies(name: str) -> None:
    wide, weight = normal(2, 9, 40).float(), normal(20, seed=1).float()
    part = wide[..., 7:27]
    assert torch.equal(norm_of(name)(part, weight), norm_of(name)(part.contiguous(), weight))


@norms
def test_norm_of_very_small_and_very_large_rows(name: str) -> None:
    x = normal(4, 33) * torch.tensor([[1e-12], [1e-3], [1e6], [1e15]], dtype=torch.float64)
    weight = normal(33, seed=1)
    assert_close([norm_of(name)(x.float(), weight.float())], [exact_norm(x, weight)], 4e-6)


@norms
def test_norm_of_half_precision_rounds_as_published_checkpoints_expect(name: str) -> None:
    x, weight = normal(40, 33).to(torch.bfloat16), normal(33, seed=1).to(torch.bfloat16)
    theirs = exact_norm(x, weight)
    assert (norm_of(name)(x, weight) == theirs).float().mean() > 0.99  # the sum's order may move one rounding
    exact = run(exact_norm, [x.double(), weight.double()], torch.float64)
    for half, whole in zip(run(norm_of(name), [x, weight], torch.bfloat16), exact, strict=True):
        assert relative_error(half.double(), whole) < 2**-6


def swiglu_of(name: str) -> Callable[..., Tensor]:
    return partial(swiglu_cpp, instruction_set=name)


@norms
@pytest.mark.parametrize("shape", SHAPES)
def test_swiglu_of_two_tensors_and_of_two_halves(name: str, shape: tuple[int, ...]) -> None:
    gate, up = normal(*shape) * 5, normal(*shape, seed=1)
    exact = run(swiglu_reference, [gate, up], torch.float64)
    assert_close(run(swiglu_of(name), [gate, up], torch.float32), exact, 4e-6)
    y, slope = run(swiglu_of(name), [torch.cat([gate, up], -1), None], torch.float32)
    assert_close([y, *slope.chunk(2, -1)], exact, 4e-6)


@norms
def test_swiglu_of_extreme_gates_and_half_precision(name: str) -> None:
    gate, up = normal(5, 21) * 100, normal(5, 21, seed=1)
    exact = run(
        swiglu_reference, [gate.to(torch.bfloat16).double(), up.to(torch.bfloat16).double()], torch.float64
    )
    for half, whole in zip(run(swiglu_of(name), [gate, up], torch.bfloat16), exact, strict=True):
        assert relative_error(half.double(), whole) < 2**-7


@needs_library
def test_one_thread_and_many_give_equal_bytes() -> None:
    x, weight, gate = normal(150, 70), normal(70, seed=1), normal(150, 70, seed=2)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            norm = run(norm_of(AVAILABLE[0]), [x, weight], torch.float32)
            results.append([*norm, *run(swiglu_cpp, [x, gate], torch.float32)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_library
def test_the_default_dtype_is_not_ours(request: pytest.FixtureRequest) -> None:
    x, weight = normal(70, 33), normal(33, seed=1)
    expected = run(norm_of(AVAILABLE[0]), [x, weight], torch.float32)
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    torch.set_default_dtype(torch.bfloat16)
    actual = run(norm_of(AVAILABLE[0]), [x, weight], torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize("kind", ["reference", "torch", pytest.param("cpp", marks=needs_library)])
def test_no_rows_at_all(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_KERNELS", kind)
    assert rms_norm(torch.empty(0, 8), torch.ones(8), EPS).shape == (0, 8)
    assert swiglu(torch.empty(0, 8)).shape == (0, 4)


def test_halves_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="up is"):
        swiglu(torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(InputError, match=r"gate is \(3, 5\); without up"):
        swiglu(torch.zeros(3, 5))
    with pytest.raises(InputError, match="weight_H is"):
        rms_norm(torch.zeros(3, 4), torch.ones(5), EPS)
