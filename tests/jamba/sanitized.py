"""Run every kernel of a library built with sanitizers over odd shapes: ``python -m tests.jamba.sanitized
LIBRARY``.

Inputs end where their memory ends, so that one number too many is one the sanitizer sees.
"""

import ctypes
import itertools
import random
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from spellbound.jamba.ops.cpp import library
from spellbound.jamba.ops.cpp.conv import causal_conv_cpp
from spellbound.jamba.ops.cpp.rows import rms_norm_cpp, swiglu_cpp
from spellbound.jamba.ops.cpp.scan import selective_scan_cpp
from spellbound.jamba.ops.cpp.step import (
    AttentionWeights,
    FeedForwardWeights,
    MambaWeights,
    Mixer,
    ModelWeights,
    TokenStep,
    attend_rows_cpp,
    linear_row_cpp,
)
from tests.jamba.kernels import mamba_memory, one_page_each

DTYPES = (torch.float32, torch.bfloat16)
SIZES = (1, 2, 15, 16, 17, 33, 129)


def differentiate(*outputs: Tensor) -> None:
    """Run the backward pass too."""
    torch.autograd.backward([output.sum() for output in outputs])


def sizes(draw: random.Random, count: int) -> list[int]:
    """Draw sizes around the lanes of a vector."""
    return [draw.choice(SIZES) for _ in range(count)]


def scan_and_conv(name: str, dtype: torch.dtype, draw: random.Random) -> None:
    """Run scan and convolution, forward and backward, with and without each optional argument."""
    channels, states = sizes(draw, 2)
    batch, time, taps = draw.randint(1, 2), draw.choice((1, 2, 63, 64, 65, 130)), draw.randint(1, 16)

    def real(*shape: int) -> Tensor:
        return torch.randn(*shape).to(dtype).requires_grad_()

    def maybe(tensor: Tensor) -> Tensor | None:
        return tensor if draw.random() < 0.5 else None

    starts = maybe(torch.rand(batch, time) < 0.2)
    both = real(batch, time, 2 * channels)
    x, gate = both.chunk(2, -1)
    rows = [real(batch, time, states).float() for _ in range(2)]
    A, skip, h0 = -torch.rand(channels, states), torch.randn(channels), torch.randn(batch, channels, states)
    options: list[Any] = [maybe(skip), maybe(gate), maybe(h0), starts]
    scan: Callable[..., tuple[Tensor, Tensor]] = selective_scan_cpp
    differentiate(*scan(x, real(batch, time, channels), A, *rows, *options, instruction_set=name))
    window = maybe(torch.randn(batch, taps - 1, channels).to(dtype).requires_grad_())
    bias = maybe(torch.randn(channels))
    weight = torch.randn(channels, taps).requires_grad_()
    differentiate(causal_conv_cpp(x, weight, bias, window, starts, instruction_set=name))


def rows(name: str, dtype: torch.dtype, draw: random.Random) -> None:
    """Run norm and SwiGLU, forward and backward, on slices of wider rows."""
    count, size = sizes(draw, 2)
    wide = torch.randn(count, size + 3).to(dtype).requires_grad_()
    part = wide[:, 3:]
    differentiate(
        rms_norm_cpp(part, torch.randn(size).to(dtype).requires_grad_(), 1e-6, instruction_set=name)
    )
    differentiate(swiglu_cpp(part, torch.randn(count, size).to(dtype), instruction_set=name))
    differentiate(
        swiglu_cpp(torch.randn(count, 2 * size).to(dtype).requires_grad_(), None, instruction_set=name)
    )


def steps(name: str, dtype: torch.dtype, draw: random.Random) -> None:
    """Run the steps of one token of some rows, and attention alone."""
    hidden, channels, states, rank, inner = sizes(draw, 5)
    taps, experts = draw.randint(1, 16), draw.randint(1, 5)

    def real(*shape: int) -> Tensor:
        return torch.randn(*shape).to(dtype)

    def maybe(size: int) -> Tensor | None:
        return real(size) if draw.random() < 0.5 else None

    weights = MambaWeights(
        real(hidden),
        real(2 * channels, hidden),
        maybe(2 * channels),
        real(channels, 1, taps),
        maybe(channels),
        real(rank + 2 * states, channels),
        real(rank),
        real(states),
        real(states),
        real(channels, rank),
        maybe(channels),
        real(channels, states),
        real(channels),
        real(hidden, channels),
        maybe(hidden),
    )
    group, heads, head_size = draw.randint(1, 3), draw.randint(1, 3), draw.choice(SIZES)
    attention = AttentionWeights(
        real(hidden),
        real(group * heads * head_size, hidden),
        real(heads * head_size, hidden),
        real(heads * head_size, hidden),
        real(hidden, group * heads * head_size),
        head_size,
    )
    dense = FeedForwardWeights(
        real(hidden), None, real(inner, hidden), real(inner, hidden), real(hidden, inner), 1
    )
    several = (real(experts, 2 * inner, hidden), None, real(experts, hidden, inner), draw.randint(1, experts))
    mixture = FeedForwardWeights(real(hidden), real(experts, hidden), *several)
    layers: list[tuple[Mixer, FeedForwardWeights]] = [(weights, mixture), (attention, dense)]
    vocabulary, count = draw.choice(SIZES), draw.choice((1, 2, 3, 7, 9))
    lengths = [draw.choice((1, 2, 128, 129, 130, 301)) for _ in range(count)]
    model = ModelWeights(real(vocabulary, hidden), layers, real(hidden), real(vocabulary, hidden))
    keys, values = (real(count, heads, max(lengths), head_size) for _ in range(2))
    windows, h = real(count, taps - 1, channels), torch.randn(count, channels, states)
    memory = one_page_each(keys, values, lengths)
    ids = [draw.randrange(vocabulary) for _ in range(count)]
    TokenStep(model, 1e-6, name)(ids, [mamba_memory(windows, h), memory])
    attend_rows_cpp(real(count, group * heads, head_size), memory, heads)
    linear_row_cpp(real(hidden), real(inner, hidden), maybe(inner), name)


def main() -> None:
    """Load the library in place of the installed one and run everything."""
    load, sanitized = ctypes.CDLL, sys.argv[1]
    with mock.patch.object(ctypes, "CDLL", lambda path: load(sanitized if "_kernels" in path else path)):
        library.load_library()
    torch.set_num_threads(3)
    draw = random.Random(0)
    torch.manual_seed(0)
    for _, name, dtype in itertools.product(range(12), library.INSTRUCTION_SETS, DTYPES):
        if library.lanes(name):
            for kernels in (scan_and_conv, rows, steps):
                kernels(name, dtype, draw)
    print("all kernels ran")  # noqa: T201 (what the test looks for)


if __name__ == "__main__":
    main()
