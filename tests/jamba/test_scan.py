"""Every scan against the reference, in float64: outputs, last state and all gradients."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spellbound.errors import InputError
from spellbound.jamba.ops import describe, selective_scan
from spellbound.jamba.ops.chunked import CHUNK, selective_scan_chunked
from spellbound.jamba.ops.cpp import INSTRUCTION_SETS, load_library, selective_scan_cpp
from spellbound.jamba.ops.reference import selective_scan_reference
from tests.jamba.models import relative_error

Scan = Callable[..., tuple[Tensor, Tensor]]
LIBRARY = load_library()
AVAILABLE = [name for name in INSTRUCTION_SETS if LIBRARY and LIBRARY.spellbound_scan_lanes(name.encode())]
needs_library = pytest.mark.skipif(
    LIBRARY is None, reason="no compiled scan; install g++, then: make install"
)
COMPILED = [pytest.param(partial(selective_scan_cpp, instruction_set=name), id=name) for name in AVAILABLE]
every_scan = pytest.mark.parametrize("scan", [pytest.param(selective_scan_chunked, id="torch"), *COMPILED])
TOLERANCE = 4e-6  # of the largest value: float32 rounding over a few hundred steps
# T = 1, T around the chunk edge, D below and between the lanes, N other than 16.
SHAPES = [
    (1, 1, 1, 16),
    (2, 3, 5, 16),
    (1, CHUNK - 1, 16, 16),
    (2, CHUNK, 17, 16),
    (1, CHUNK + 1, 33, 16),
    (2, 3 * CHUNK + 7, 40, 16),
    (1, 70, 130, 3),
    (1, 9, 24, 33),
]
NAMES = ("x", "dt", "A", "B", "C", "skip", "h0")


def arguments(batch: int, time: int, channels: int, states: int, seed: int = 0) -> list[Tensor]:
    """Random float64 arguments in the order of NAMES."""
    draw = torch.Generator().manual_seed(seed)
    normal = partial(torch.randn, generator=draw, dtype=torch.float64)
    dt = torch.nn.functional.softplus(normal(batch, time, channels) - 2)
    rows = (normal(batch, time, states) for _ in range(2))
    A = -torch.exp(normal(channels, states))
    x = normal(batch, time, channels)
    return [x, dt, A, *rows, normal(channels), normal(batch, channels, states)]


def run(scan: Scan, inputs: list[Tensor | None], starts: Tensor | None, dtype: torch.dtype) -> list[Tensor]:
    """Outputs, then the gradient of a fixed weighting of them for every given input."""
    given_inputs = [None if x is None else x.to(dtype).detach().requires_grad_() for x in inputs]
    y, h = scan(*given_inputs, starts)
    weights = torch.Generator().manual_seed(9)
    loss = sum(
        (out * torch.randn(out.shape, generator=weights, dtype=torch.float64).to(dtype)).sum()
        for out in (y, h)
    )
    assert isinstance(loss, Tensor)
    wanted = [x for x in given_inputs if x is not None]
    return [y.detach(), h.detach(), *torch.autograd.grad(loss, wanted)]


def assert_equal_results(scan: Scan, inputs: list[Tensor | None], starts: Tensor | None) -> None:
    expected = run(selective_scan_reference, inputs, starts, torch.float64)
    for actual, exact in zip(run(scan, inputs, starts, torch.float32), expected, strict=True):
        assert actual.shape == exact.shape
        assert torch.allclose(
            actual.double(), exact, rtol=0, atol=TOLERANCE * max(1.0, float(exact.abs().max()))
        )


@every_scan
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_reference(scan: Scan, shape: tuple[int, int, int, int]) -> None:
    assert_equal_results(scan, [*arguments(*shape)], None)


@every_scan
@pytest.mark.parametrize("missing", ["skip", "h0"])
def test_each_optional_argument_may_be_none(scan: Scan, missing: str) -> None:
    inputs = [None if name == missing else x for name, x in zip(NAMES, arguments(2, 67, 20, 16), strict=True)]
    assert_equal_results(scan, inputs, None)


@every_scan
@pytest.mark.parametrize("place", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 4])
def test_a_document_start_forgets_what_came_before(scan: Scan, place: int) -> None:
    inputs = arguments(2, 2 * CHUNK + 5, 18, 16)
    starts = torch.zeros(2, 2 * CHUNK + 5, dtype=torch.bool)
    starts[0, place] = True
    assert_equal_results(scan, [*inputs], starts)
    x, dt, A, B, C, skip, h0 = (tensor.float() for tensor in inputs)
    y, h = scan(x, dt, A, B, C, skip, h0, starts)
    after = slice(place, None)
    alone, h_alone = scan(x[:1, after], dt[:1, after], A, B[:1, after], C[:1, after], skip, None, None)
    assert torch.allclose(y[:1, after], alone, atol=1e-5)
    assert torch.allclose(h[:1], h_alone, atol=1e-5)


@every_scan
def test_strided_inputs(scan: Scan) -> None:
    wide = arguments(2, 70, 24, 16)
    strided = [x.repeat_interleave(2, -1)[..., ::2] if x.dim() > 1 else x for x in wide]
    assert_equal_results(scan, [*strided], None)


@every_scan
def test_extreme_steps(scan: Scan) -> None:
    x, dt, A, B, C, skip, h0 = arguments(1, 130, 16, 16)
    dt = torch.where(torch.arange(130)[None, :, None] % 3 == 0, 0.0, dt)
    dt = torch.where(torch.arange(130)[None, :, None] % 7 == 0, 300.0, dt)  # exp(300 A) underflows
    dt = torch.where(torch.arange(130)[None, :, None] % 11 == 0, 1e-30, dt)
    assert_equal_results(scan, [x, dt, A, B, C, skip, h0], None)


@every_scan
def test_a_step_of_zero_keeps_the_state_to_the_bit(scan: Scan) -> None:
    x, _, A, B, C, skip, h0 = (tensor.float() for tensor in arguments(1, 500, 16, 16))
    _, h = scan(x, torch.zeros_like(x), A, B, C, skip, h0, None)
    assert torch.equal(h, h0)


@needs_library
@settings(deadline=None, max_examples=30)
@given(
    shape=st.tuples(
        st.integers(1, 3), st.integers(1, 150), st.integers(1, 70), st.sampled_from([1, 4, 16, 17])
    ),
    starts=st.integers(0, 2**32),
    name=st.sampled_from(AVAILABLE or ["portable"]),
)
def test_random_shapes(shape: tuple[int, int, int, int], starts: int, name: str) -> None:
    marks = torch.rand(shape[:2], generator=torch.Generator().manual_seed(starts)) < 0.05
    scan = partial(selective_scan_cpp, instruction_set=name)
    assert_equal_results(scan, [*arguments(*shape, seed=starts)], marks)


@needs_library
def test_one_thread_and_many_give_equal_bytes() -> None:
    inputs: list[Tensor | None] = [*arguments(3, 150, 200, 16)]
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(run(selective_scan_cpp, inputs, None, torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_gradcheck_of_the_torch_path() -> None:
    inputs = [x.requires_grad_() for x in arguments(1, 5, 2, 3)]
    starts = torch.tensor([[False, False, True, False, False]])
    scan: Scan = selective_scan_chunked
    assert torch.autograd.gradcheck(lambda *tensors: scan(*tensors, starts), inputs)


def test_memory_of_the_torch_path_is_bounded() -> None:
    """The (B, D, T, N) tensor never exists: no intermediate is larger than a few chunks of states."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for out in result if isinstance(result, tuple | list) else [result]:
                largest = max(largest, out.numel() if isinstance(out, Tensor) else 0)
            return result

    batch, time, channels, states = 1, 20 * CHUNK, 64, 16
    x, dt, A, B, C, skip, h0 = arguments(batch, time, channels, states)
    with Watch(), torch.no_grad():  # type: ignore[no-untyped-call]
        selective_scan_chunked(x, dt, A, B, C, skip, h0, None)
    assert largest <= max(batch * time * channels, batch * CHUNK * channels * states)


def test_half_precision_is_computed_in_float32() -> None:
    inputs = [x.to(torch.bfloat16) for x in arguments(2, 40, 16, 16)]
    x, dt, A, B, C, skip, h0 = inputs
    y, h = selective_scan(x, dt, A, B, C, skip, h0_BDN=h0)
    reference: Scan = selective_scan_reference
    exact, h_exact = reference(*(z.double() for z in inputs), None)
    assert (y.dtype, h.dtype) == (torch.bfloat16, torch.float32)
    assert relative_error(h.double(), h_exact) < 1e-6
    assert relative_error(y.double(), exact) < 2**-8


@pytest.mark.parametrize("forced", ["reference", "torch", pytest.param("cpp", marks=needs_library)])
def test_the_environment_forces_one(forced: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_SCAN", forced)
    report = describe()
    assert (report.name, report.reason) == (forced, f"SPELLBOUND_SCAN={forced}")
    x, dt, A, B, C, skip, h0 = (z.float() for z in arguments(1, 20, 8, 16))
    y, _ = selective_scan(x, dt, A, B, C, skip, h0_BDN=h0)
    exact, _ = selective_scan_reference(x, dt, A, B, C, skip, h0, None)
    assert torch.allclose(y, exact, atol=1e-5)


MISFITS: dict[str, tuple[int, Tensor]] = {
    "dt": (1, torch.zeros(2, 5, 4)),
    "A": (2, torch.zeros(2, 4)),
    "A flat": (2, torch.zeros(3)),
    "B": (3, torch.zeros(1, 5, 4)),
    "C": (4, torch.zeros(2, 4, 4)),
    "skip": (5, torch.zeros(1)),
    "h0": (6, torch.zeros(1, 3, 4)),
    "starts": (7, torch.zeros(1, 5, dtype=torch.bool)),
    "starts of another dtype": (7, torch.zeros(2, 5, dtype=torch.int64)),
    "device": (2, torch.zeros(3, 4, device="meta")),
    "no steps": (0, torch.zeros(2, 0, 3)),
}


@pytest.mark.parametrize(("place", "tensor"), MISFITS.values(), ids=MISFITS.keys())
def test_what_does_not_fit_is_refused_before_raw_memory_is_read(place: int, tensor: Tensor) -> None:
    inputs = [*(x.float() for x in arguments(2, 5, 3, 4)), torch.zeros(2, 5, dtype=torch.bool)]
    inputs[place] = tensor
    *first, h0, starts = inputs
    with pytest.raises(InputError, match=r"x_BTD|starts_BT is torch.int64"):
        selective_scan(*first, h0_BDN=h0, starts_BT=starts)


@needs_library
def test_an_instruction_set_that_is_not_there_is_named() -> None:
    scan: Scan = partial(selective_scan_cpp, instruction_set="mmx")
    with pytest.raises(InputError, match="instruction set 'mmx' is not there"):
        scan(*(x.float() for x in arguments(1, 2, 3, 4)), None)


@needs_library
def test_a_second_derivative_is_refused_not_wrong() -> None:
    x, *others = (tensor.float().requires_grad_() for tensor in arguments(1, 5, 3, 4))
    scan: Scan = selective_scan_cpp
    y, _ = scan(x, *others, None)
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


@pytest.mark.parametrize("scan", COMPILED)
def test_the_decay_is_exact_over_its_whole_range(scan: Scan) -> None:
    dt = torch.linspace(0, 100, 4096 * 8).view(1, 1, -1)
    rates = -torch.tensor([1e-6, 0.01, 0.3, 1.0, 3.0]).expand(dt.shape[-1], 5)
    zeros, ones = torch.zeros(1, 1, 5), torch.ones(1, dt.shape[-1], 5)
    _, h = scan(torch.zeros_like(dt), dt, rates, zeros, zeros, None, ones, None)
    exact = torch.exp(dt[0, 0, :, None].double() * rates.double())
    assert float((h[0].double() - exact).abs().max()) < 2**-22


@every_scan
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", range(7))
def test_what_is_not_finite_is_never_hidden(scan: Scan, value: float, place: int) -> None:
    inputs = [tensor.float() for tensor in arguments(1, 6, 5, 16)]
    inputs[place].view(-1)[0] = value
    if (place, value) in ((1, float("-inf")), (2, float("-inf"))):
        return  # a decay of 0 or of infinity at the first step: no such step size, and a finite one
    y, h = scan(*inputs, None)
    assert not torch.isfinite(torch.cat([y.flatten(), h.flatten()])).all()


@every_scan
def test_several_python_threads_at_once(scan: Scan) -> None:
    inputs = [tensor.float() for tensor in arguments(2, 130, 33, 16)]
    expected = run(scan, [*inputs], None, torch.float32)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: run(scan, [*inputs], None, torch.float32), range(12)))
    for result in results:
        assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_SCAN", "fast")
    with pytest.raises(InputError, match="SPELLBOUND_SCAN is 'fast'; set it to one of reference, torch, cpp"):
        describe()


def test_without_a_library_torch_is_used_and_cpp_refused() -> None:
    """In a process of its own, told that no extension suffix exists: as on a machine without a compiler."""
    code = (
        "import importlib.machinery as m; m.EXTENSION_SUFFIXES.clear()\n"
        "from spellbound.jamba.ops import describe\n"
        "print(describe().name, '|', describe().reason)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "SPELLBOUND_SCAN"}
    plain = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert plain.stdout.startswith("torch | no compiled library")
    environment["SPELLBOUND_SCAN"] = "cpp"
    forced = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "EnvironmentFault: SPELLBOUND_SCAN=cpp, but the C++ scan was not built" in forced.stderr
