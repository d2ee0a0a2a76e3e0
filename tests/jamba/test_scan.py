"""Every scan against the reference in float64, gated and not: outputs, last state and all gradients."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spellbound.errors import EnvironmentFault, InputError
from spellbound.jamba.ops import describe, selective_scan
from spellbound.jamba.ops.chunked import CHUNK, selective_scan_chunked
from spellbound.jamba.ops.cpp.library import load_library
from spellbound.jamba.ops.cpp.scan import selective_scan_cpp
from spellbound.jamba.ops.reference import selective_scan_reference
from tests.jamba.kernels import AVAILABLE, needs_library, run
from tests.jamba.largest import Largest
from tests.jamba.models import relative_error

ROOT = Path(__file__).resolve().parents[2]
Scan = Callable[..., tuple[Tensor, Tensor]]
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
NAMES = ("x", "dt", "A", "B", "C", "skip", "gate", "h0")


def arguments(batch: int, time: int, channels: int, states: int, seed: int = 0) -> list[Tensor]:
    """Random float64 arguments in the order of NAMES."""
    draw = torch.Generator().manual_seed(seed)
    normal = partial(torch.randn, generator=draw, dtype=torch.float64)
    x, dt, gate = (normal(batch, time, channels) for _ in range(3))
    B, C = (normal(batch, time, states) for _ in range(2))
    A = -torch.exp(normal(channels, states))
    return [x, dt - 2, A, B, C, normal(channels), gate, normal(batch, channels, states)]


def assert_equal_results(scan: Scan, inputs: list[Tensor | None], starts: Tensor | None) -> None:
    expected = run(selective_scan_reference, [*inputs, starts], torch.float64)
    for actual, exact in zip(run(scan, [*inputs, starts], torch.float32), expected, strict=True):
        assert actual.shape == exact.shape
        assert torch.allclose(
            actual.double(), exact, rtol=0, atol=TOLERANCE * max(1.0, float(exact.abs().max()))
        )


@every_scan
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_reference(scan: Scan, shape: tuple[int, int, int, int]) -> None:
    assert_equal_results(scan, [*arguments(*shape)], None)


@every_scan
@pytest.mark.parametrize("missing", ["skip", "gate", "h0"])
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
    x, dt, A, B, C, skip, gate, h0 = (tensor.float() for tensor in inputs)
    y, h = scan(x, dt, A, B, C, skip, gate, h0, starts)
    after = slice(place, None)
    x, dt, B, C, gate = (tensor[:1, after] for tensor in (x, dt, B, C, gate))
    alone, h_alone = scan(x, dt, A, B, C, skip, gate, None, None)
    assert torch.allclose(y[:1, after], alone, atol=1e-5)
    assert torch.allclose(h[:1], h_alone, atol=1e-5)


@every_scan
def test_strided_inputs(scan: Scan) -> None:
    wide = arguments(2, 70, 24, 16)
    strided = [x.repeat_interleave(2, -1)[..., ::2] if x.dim() > 1 else x for x in wide]
    assert_equal_results(scan, [*strided], None)


@every_scan
def test_extreme_steps(scan: Scan) -> None:
    x, dt, *others = arguments(1, 130, 16, 16)
    dt = torch.where(torch.arange(130)[None, :, None] % 3 == 0, -200.0, dt)  # a step of e**-200, in float32 0
    dt = torch.where(torch.arange(130)[None, :, None] % 7 == 0, 300.0, dt)  # exp(300 A) underflows
    dt = torch.where(torch.arange(130)[None, :, None] % 11 == 0, -69.0, dt)  # a step of 1e-30
    assert_equal_results(scan, [x, dt, *others], None)


@every_scan
def test_extreme_gates(scan: Scan) -> None:
    inputs = arguments(1, 130, 16, 16)
    inputs[6] = inputs[6] * 200
    assert_equal_results(scan, [*inputs], None)


@every_scan
def test_a_step_of_zero_keeps_the_state_to_the_bit(scan: Scan) -> None:
    x, _, A, B, C, skip, gate, h0 = (tensor.float() for tensor in arguments(1, 500, 16, 16))
    _, h = scan(x, torch.full_like(x, -1e4), A, B, C, skip, gate, h0, None)
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
            results.append(run(selective_scan_cpp, [*inputs, None], torch.float32))
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
    with Watch(), torch.no_grad():  # type: ignore[no-untyped-call]
        selective_scan_chunked(*arguments(batch, time, channels, states), None)  # type: ignore[call-arg]
    assert largest <= max(batch * time * channels, batch * CHUNK * channels * states)


@every_scan
def test_half_precision_is_computed_in_float32(scan: Scan) -> None:
    inputs = [tensor.to(torch.bfloat16).double() for tensor in arguments(2, 70, 20, 16)]
    starts = torch.zeros(2, 70, dtype=torch.bool)
    starts[1, 40] = True
    exact = run(selective_scan_reference, [*inputs, starts], torch.float64)
    halves = [tensor.to(torch.bfloat16) for tensor in inputs]
    if scan is selective_scan_chunked:
        y, h = selective_scan(*halves[:6], gate_BTD=halves[6], h0_BDN=halves[7], starts_BT=starts)
        actual, exact = [y, h], exact[:2]
    else:
        actual = run(scan, [*halves, starts], torch.bfloat16)
    assert (actual[0].dtype, actual[1].dtype) == (torch.bfloat16, torch.float32)
    assert relative_error(actual[1].double(), exact[1]) < 2e-6
    for half, whole in zip(actual, exact, strict=True):
        assert relative_error(half.double(), whole) < 2**-7


@pytest.mark.parametrize("forced", ["reference", "torch", pytest.param("cpp", marks=needs_library)])
def test_the_environment_forces_one(forced: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_KERNELS", forced)
    report = describe()
    assert (report.name, report.reason) == (forced, f"SPELLBOUND_KERNELS={forced}")
    x, dt, A, B, C, skip, gate, h0 = (z.float() for z in arguments(1, 20, 8, 16))
    y, _ = selective_scan(x, dt, A, B, C, skip, gate_BTD=gate, h0_BDN=h0)
    exact, _ = selective_scan_reference(x, dt, A, B, C, skip, gate, h0, None)
    assert torch.allclose(y, exact, atol=1e-5)


@pytest.mark.parametrize("kind", ["reference", "torch", pytest.param("cpp", marks=needs_library)])
def test_autocast_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_KERNELS", kind)
    x, dt, A, B, C, *_ = (z.float() for z in arguments(1, 70, 8, 16))
    expected, _ = selective_scan(x, dt, A, B, C)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = selective_scan(x, dt, A, B, C)
    assert torch.equal(y, expected)


@needs_library
def test_without_gradients_nothing_is_kept_for_them() -> None:
    x, dt, A, B, C, skip, *_ = (z.float() for z in arguments(1, 64 * 20, 1, 32))
    scan: Scan = selective_scan_cpp
    with torch.no_grad(), Largest() as largest:
        scan(x, dt, A, B, C, torch.nn.Parameter(skip), None, None, None)
    assert largest.numel == x.numel()  # the output; a state for each tile would be twice that or more


MISFITS: dict[str, tuple[int, Tensor]] = {
    "dt": (1, torch.zeros(2, 5, 4)),
    "A": (2, torch.zeros(2, 4)),
    "A flat": (2, torch.zeros(3)),
    "B": (3, torch.zeros(1, 5, 4)),
    "C": (4, torch.zeros(2, 4, 4)),
    "skip": (5, torch.zeros(1)),
    "gate": (6, torch.zeros(2, 5, 4)),
    "h0": (7, torch.zeros(1, 3, 4)),
    "starts": (8, torch.zeros(1, 5, dtype=torch.bool)),
    "starts of another dtype": (8, torch.zeros(2, 5, dtype=torch.int64)),
    "device": (2, torch.zeros(3, 4, device="meta")),
    "no steps": (0, torch.zeros(2, 0, 3)),
}


@pytest.mark.parametrize(("place", "tensor"), MISFITS.values(), ids=MISFITS.keys())
def test_what_does_not_fit_is_refused_before_raw_memory_is_read(place: int, tensor: Tensor) -> None:
    inputs = [*(x.float() for x in arguments(2, 5, 3, 4)), torch.zeros(2, 5, dtype=torch.bool)]
    inputs[place] = tensor
    *first, gate, h0, starts = inputs
    with pytest.raises(InputError, match=r"x_BTD|starts_BT is torch.int64"):
        selective_scan(*first, gate_BTD=gate, h0_BDN=h0, starts_BT=starts)


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
    dt = torch.linspace(-20, 100, 4096 * 8).view(1, 1, -1)
    rates = -torch.tensor([1e-6, 0.01, 0.3, 1.0, 3.0]).expand(dt.shape[-1], 5)
    zeros, ones = torch.zeros(1, 1, 5), torch.ones(1, dt.shape[-1], 5)
    _, h = scan(torch.zeros_like(dt), dt, rates, zeros, zeros, None, None, ones, None)
    exact = torch.exp(torch.nn.functional.softplus(dt[0, 0, :, None].double()) * rates.double())
    assert float((h[0].double() - exact).abs().max()) < 2**-22


@pytest.mark.parametrize("scan", COMPILED)
def test_softplus_is_right_relatively_down_to_the_smallest_step(scan: Scan) -> None:
    dt = torch.linspace(-80, 30, 1 << 16).view(1, 1, -1)
    channels = dt.shape[-1]
    no_decay, one = torch.zeros(channels, 1), torch.ones(1, 1, 1)
    _, h = scan(torch.ones_like(dt), dt, no_decay, one, one, None, None, None, None)
    exact = torch.nn.functional.softplus(dt.double()).view(-1)
    # exp(x) cannot be better than x log2(e) is rounded: an error of |x| in the last place.
    error = (h.view(-1).double() / exact - 1).abs() / (1 + dt.view(-1).abs())
    assert float(error.max()) < 2**-22


@every_scan
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", range(8))
def test_what_is_not_finite_is_never_hidden(scan: Scan, value: float, place: int) -> None:
    inputs = [tensor.float() for tensor in arguments(1, 6, 5, 16)]
    inputs[place].view(-1)[0] = value
    if (place, value) in ((1, float("-inf")), (2, float("-inf"))):
        return  # a step or a decay of 0: finite results are right
    if (place, value) == (6, float("-inf")):
        return  # silu(-inf) is 0 to some, not a number to others
    y, h = scan(*inputs, None)
    assert not torch.isfinite(torch.cat([y.flatten(), h.flatten()])).all()


@every_scan
def test_several_python_threads_at_once(scan: Scan) -> None:
    inputs = [tensor.float() for tensor in arguments(2, 130, 33, 16)]
    expected = run(scan, [*inputs, None], torch.float32)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: run(scan, [*inputs, None], torch.float32), range(12)))
    for result in results:
        assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_KERNELS", "fast")
    with pytest.raises(
        InputError, match="SPELLBOUND_KERNELS is 'fast'; set it to one of reference, torch, cpp, triton"
    ):
        describe()


@needs_library
def test_a_library_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str) -> None:
        raise OSError(f"{path}: wrong ELF class")

    monkeypatch.setattr("ctypes.CDLL", broken)
    with pytest.raises(EnvironmentFault, match=r"do not load \(.*_kernels.*ELF class\); install a C"):
        load_library.__wrapped__()


def test_without_a_library_torch_is_used_and_cpp_refused() -> None:
    """In a process of its own, told that no extension suffix exists: as on a machine without a compiler."""
    code = (
        "import importlib.machinery as m; m.EXTENSION_SUFFIXES.clear()\n"
        "from spellbound.jamba.ops import describe\n"
        "print(describe().name, '|', describe().reason)\n"
        "import torch\n"
        "from tests.jamba.models import ours, tokens\n"
        "model = ours()\n"
        "state = model.new_state(1)\n"
        "with torch.no_grad(): print(*model(tokens(1, 1), state=state).logits.shape)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "SPELLBOUND_KERNELS"}
    plain = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert plain.stdout.startswith("torch | no compiled library")
    assert plain.stdout.endswith("1 1 97\n")  # a token can be decoded too
    environment["SPELLBOUND_KERNELS"] = "cpp"
    forced = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert "EnvironmentFault: SPELLBOUND_KERNELS=cpp, but the C++ kernels were not built" in forced.stderr
