"""What the tests of the kernels share: which instruction sets there are, and outputs with all gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from spellbound.jamba.ops.cpp.library import INSTRUCTION_SETS, POINTER, lanes, load_library
from spellbound.jamba.ops.cpp.step import Layout, MambaMemory, PagedMemory

AVAILABLE = [name for name in INSTRUCTION_SETS if lanes(name)]
needs_library = pytest.mark.skipif(
    load_library() is None, reason="no compiled kernels; install g++, then: touch setup.py && make install"
)


def run(kernel: Callable[..., Any], inputs: Sequence[Any], dtype: torch.dtype) -> list[Tensor]:
    """Outputs, then the gradient of a fixed weighting of them for every floating input, all taken in
    ``dtype``."""
    taken = [
        x.to(dtype).detach().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x
        for x in inputs
    ]
    results = kernel(*taken)
    outputs: tuple[Tensor, ...] = results if isinstance(results, tuple) else (results,)
    weights = torch.Generator().manual_seed(9)
    loss = sum(
        (out * torch.randn(out.shape, generator=weights, dtype=torch.float64).to(out.dtype)).sum()
        for out in outputs
    )
    assert isinstance(loss, Tensor)
    wanted = [x for x in taken if isinstance(x, Tensor) and x.requires_grad]
    return [*(out.detach() for out in outputs), *torch.autograd.grad(loss, wanted)]


def assert_close(actual: Sequence[Tensor], exact: Sequence[Tensor], tolerance: float) -> None:
    """Compare with float64 results, relative to the largest value of each, or to 1 where that is larger."""
    for mine, right in zip(actual, exact, strict=True):
        assert mine.shape == right.shape
        bound = tolerance * max(1.0, float(right.abs().max()) if right.numel() else 0.0)
        assert torch.allclose(mine.double(), right, rtol=0, atol=bound)


def mamba_memory(windows_BKD: Tensor, h_BDN: Tensor) -> MambaMemory:
    """Say where the rows' states lie; they have to stay there."""
    return MambaMemory([each.data_ptr() for each in windows_BKD], [each.data_ptr() for each in h_BDN])


def one_page_each(keys_BGSP: Tensor, values_BGSP: Tensor, lengths: Sequence[int]) -> PagedMemory:
    """Say where the rows' keys and values lie, each in a page of its own, with room for S; they have to stay
    there."""
    keys, values = ([(POINTER * 1)(row.data_ptr()) for row in each] for each in (keys_BGSP, values_BGSP))
    return PagedMemory(keys, values, lengths, Layout(0, 0, keys_BGSP.shape[2], keys_BGSP.stride(1)))
