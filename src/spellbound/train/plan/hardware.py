"""Devices a plan can be made for: named cards with assumed rates, and this machine with measured ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil
import torch
from torch.nn.functional import linear

from spellbound.errors import InputError
from spellbound.jamba.linear import describe_bf16
from spellbound.jamba.ops import selective_scan
from spellbound.train.heap import use_heap
from spellbound.train.plan.memory import Heap
from spellbound.train.plan.saved import Formats
from spellbound.train.plan.shape import Shape

_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Device:
    """What one device has and how fast it is."""

    name: str
    memory: float
    """Bytes; of a CPU what is free for this process now."""
    products: float
    """Floating-point operations a second that matrix products really reach."""
    scan: float
    """Seconds for a token, channel and state, forwards and backwards."""
    traffic: float
    """Bytes a second that everything else reads or writes."""
    each: float
    """Seconds that a pass through the model takes however few tokens it reads."""
    fixed: float
    """Bytes taken before any weight: libraries, context."""
    gpu: bool
    heap: Heap | None
    """None on a GPU."""
    basis: str
    """Where the rates come from, for people."""


_PEAKS = {
    "h200": (139 * _GIB, 989e12, 4.8e12),
    "h100": (79 * _GIB, 989e12, 3.35e12),
    "a100": (79 * _GIB, 312e12, 2.0e12),
}
"""Bytes that the driver offers of 141 and 80 GB, and as their maker states them dense bf16 operations and
bytes a second."""
CARDS = tuple(_PEAKS)
EFFICIENCY = 0.58
"""Share of a card's stated rates that is assumed: what LoRA on all of Jamba Mini reached on an H200."""
_SCAN_BYTES = 18.0  # a state is in no memory, but the scan takes as long as if so many were moved for each
_HOLES = {True: 0.3, False: 0.7}
"""By whether freed memory is found again; without, 0.2 to 1.1 were measured, another in every run."""
_FIRST_USE, _CODE = 0.04 * _GIB, 0.25 * _GIB
"""Measured on CPUs; the second with bfloat16 products, for which oneDNN writes code: a part of it is that."""
_CONTEXT = 0.6 * _GIB  # CUDA's own, and the kernels'


def card(name: str, efficiency: float = EFFICIENCY) -> Device:
    """A named card; InputError for a name nobody has."""
    if name not in _PEAKS:
        raise InputError(f"device {name!r} is not known; give one of: this, {', '.join(CARDS)}")
    if not 0 < efficiency <= 1:
        raise InputError(
            f"efficiency is {efficiency}; give a share above 0 and up to 1, such as {EFFICIENCY}"
        )
    memory, products, traffic = _PEAKS[name]
    return Device(
        name=name,
        memory=memory,
        products=efficiency * products,
        scan=_SCAN_BYTES / (efficiency * traffic),
        traffic=efficiency * traffic,
        each=0.0,
        fixed=_CONTEXT,
        gpu=True,
        heap=None,
        basis=f"assumed: {efficiency:.0%} of {products / 1e12:,.0f} TFLOP/s and {traffic / 1e12:.2f} TB/s",
    )


def this_device(shape: Shape | None = None, formats: Formats | None = None) -> Device:
    """The GPU or CPU that training would use, with rates measured in about a second for such a model.

    Without a shape nothing is measured, and a plan says nothing about time.
    """
    gpu = torch.cuda.is_available()
    process = psutil.Process().memory_info().rss
    free, whole = torch.cuda.mem_get_info() if gpu else (psutil.virtual_memory().available, 0)
    device = Device(
        name=torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads",
        memory=float(whole) if gpu else float(free + process),
        products=0.0,
        scan=0.0,
        traffic=0.0,
        each=0.0,
        fixed=_CONTEXT if gpu else float(process),
        gpu=gpu,
        heap=None if gpu else _heap(formats),
        basis="not measured",
    )
    if shape is None or formats is None:
        return device
    return _measured(device, shape, formats, torch.device("cuda" if gpu else "cpu"))


def _heap(formats: Formats | None) -> Heap:
    """That of training on this CPU, which is used from now on, so that rates are measured with it."""
    half = formats is not None and formats.products == 2
    code = _CODE if half and describe_bf16().native else 0.0
    report = use_heap()
    return Heap(holes=_HOLES[report.reuses], first_use=_FIRST_USE + code, note=report.note)


def _measured(device: Device, shape: Shape, formats: Formats, where: torch.device) -> Device:
    """Time a product, a scan and a copy, of the model's own widths but few tokens."""
    kind = torch.bfloat16 if formats.products == 2 else torch.float32
    tokens, width = 1024, min(2 * shape.channels, 8192)
    x, weight = (torch.randn(rows, shape.hidden, dtype=kind, device=where) for rows in (tokens, width))
    product = _seconds(lambda: linear(x, weight))
    channels, time_ = min(shape.channels, 1024), 256
    inputs = [
        torch.randn(1, time_, size, dtype=kind, device=where, requires_grad=True)
        for size in (channels, channels, shape.states, shape.states)
    ]
    decay = -torch.rand(channels, shape.states, device=where)

    def scan() -> None:
        y, _ = selective_scan(inputs[0], inputs[1], decay, inputs[2], inputs[3], gate_BTD=inputs[0])
        y.sum().backward()

    source = torch.ones(1 << 22, device=where)
    target = torch.empty_like(source)
    copy = _seconds(lambda: target.copy_(source))
    return replace(
        device,
        products=2 * tokens * width * shape.hidden / product,
        scan=_seconds(scan) / (time_ * channels * shape.states),
        traffic=2 * source.nbytes / copy,
        basis="measured here",
    )


def _seconds(work: Callable[[], object], times: int = 4) -> float:
    """The best of a few tries, after one that is not counted."""
    best = float("inf")
    for number in range(times + 1):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started) if number else best
    return best
