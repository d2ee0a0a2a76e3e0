"""The selective scan and the causal convolution, forward and with backward: our kernels, peers, a copy.

The floor is a plain copy that moves as many bytes as the operation has to.
B batch, T time, D channels, N states, K convolution width.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from benchmarks import command, floors
from benchmarks.jobs import Job
from benchmarks.lines import Line
from benchmarks.machine import named
from benchmarks.measure import Settings, timed
from benchmarks.peers import scans
from spellbound.jamba.ops import causal_conv, selective_scan
from spellbound.jamba.ops.cpp.conv import causal_conv_cpp
from spellbound.jamba.ops.cpp.library import INSTRUCTION_SETS, best_instruction_set
from spellbound.jamba.ops.cpp.scan import selective_scan_cpp
from spellbound.jamba.ops.reference import causal_conv_reference, selective_scan_reference

THEME, UNIT = "scan", "ns per token and channel"
SCAN, SCAN_BOTH = "scan forward", "scan forward and backward"
CONV, CONV_BOTH = "convolution forward", "convolution forward and backward"
N, K = 16, 4
CHECKED_TIME, CHECKED_CHANNELS = 48, 64
COPY = "copy of as many bytes"

# Tensors of (B, T, D) and of (B, T, N) that are read or written: forward, and forward with backward.
MOVED = {SCAN: (4, 2), SCAN_BOTH: (11, 6), CONV: (2, 0), CONV_BOTH: (5, 0)}

Operation = Callable[..., Tensor]
_NOTHING_ELSE: list[Any] = [None, None]  # no state before, no document starts


def scan_inputs(batch: int, time: int, channels: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    """Return x, dt before softplus, A, B, C, skip and gate, of the sizes a trained layer has."""
    random = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=random)
    x_BTD, dt_BTD = draw(batch, time, channels), draw(batch, time, channels) - 4
    wide = draw(batch, time, 2 * channels)
    B_BTN, C_BTN = draw(batch, time, N), draw(batch, time, N)
    A_DN, skip_D = -torch.arange(1.0, N + 1).repeat(channels, 1), torch.ones(channels)
    gate_BTD = wide.to(device, dtype)[..., channels:]  # a half of the layer's first product, as in the model
    x_BTD, dt_BTD, B_BTN, C_BTN = (tensor.to(device, dtype) for tensor in (x_BTD, dt_BTD, B_BTN, C_BTN))
    return [x_BTD, dt_BTD, A_DN.to(device), B_BTN, C_BTN, skip_D.to(device), gate_BTD]


def conv_inputs(batch: int, time: int, channels: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    """Return x, again a half of something wider, weight and bias."""
    random = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=random)
    wide, weight_DK, bias_D = draw(batch, time, 2 * channels), draw(channels, K), draw(channels)
    return [wide.to(device, dtype)[..., :channels], weight_DK.to(device, dtype), bias_D.to(device, dtype)]


def as_wanted(name: str, tensor: Tensor) -> Tensor:
    """Lay a tensor out as the model around that scan would, so that no copy of a layout is timed."""
    if name != "mamba-ssm" or tensor.dim() != 3:
        return tensor
    return tensor.transpose(1, 2).contiguous().transpose(1, 2)


def operation(job: Job, settings: Settings) -> Iterator[Line]:
    """Check an implementation against the reference on something small, then time it."""
    scan, both = job.what in (SCAN, SCAN_BOTH), job.what in (SCAN_BOTH, CONV_BOTH)
    inputs, call = scan_inputs if scan else conv_inputs, _OPERATIONS[scan](job.name)
    dtype = torch.float32 if settings.device == "cpu" else torch.bfloat16
    _check(call, inputs(1, CHECKED_TIME, CHECKED_CHANNELS, dtype, settings.device), scan)
    drawn = inputs(job.batch, job.tokens or 1, job.options["channels"], dtype, settings.device)
    tensors = [as_wanted(job.name, tensor).requires_grad_(both) for tensor in drawn]
    gradient_BTD = as_wanted(job.name, torch.randn(drawn[0].shape, dtype=dtype, device=settings.device))

    def work() -> None:
        output = call(*tensors)
        if both:
            torch.autograd.grad(output, tensors, gradient_BTD)

    with torch.set_grad_enabled(both):
        timing = timed(settings, work)
    value = timing.median_s / gradient_BTD.numel() * 1e9
    yield job.line(timing, settings, value=value, unit=UNIT, version=_version(job.name))


def copy(job: Job, settings: Settings) -> Iterator[Line]:
    """Move as many bytes as the operation has to."""
    wide, narrow = MOVED[job.what]
    size = 4 if settings.device == "cpu" else 2
    channels, rows = job.options["channels"], job.batch * (job.tokens or 1)
    moved = rows * (wide * channels + narrow * N) * size
    timing = floors.copy_of(moved, settings)
    note = f"{moved / 1e6:.0f} MB at {moved / timing.median_s / 1e9:.1f} GB/s"
    figures = {"value": timing.median_s / (rows * channels) * 1e9, "unit": UNIT, "memory_mb": None}
    yield job.line(timing, settings, **figures, version=named("torch"), note=note)


def _check(call: Operation, tensors: Sequence[Tensor], scan: bool) -> None:
    wide = [tensor.detach().float().cpu() for tensor in tensors] + _NOTHING_ELSE
    expected = selective_scan_reference(*wide)[0] if scan else causal_conv_reference(*wide)
    rough = tensors[0].dtype == torch.bfloat16
    actual = call(*tensors).detach().float().cpu()
    torch.testing.assert_close(actual, expected, rtol=5e-2 if rough else 1e-3, atol=5e-2 if rough else 1e-4)


def _our_scan(*tensors: Tensor) -> Tensor:
    *others, gate_BTD = tensors
    return selective_scan(*others, gate_BTD=gate_BTD)[0]


def _our_scan_with(instruction_set: str, *tensors: Tensor) -> Tensor:
    return selective_scan_cpp(*tensors, *_NOTHING_ELSE, instruction_set=instruction_set)[0]


def _our_conv_with(instruction_set: str, *tensors: Tensor) -> Tensor:
    return causal_conv_cpp(*tensors, *_NOTHING_ELSE, instruction_set=instruction_set)


def _scan_of(name: str) -> Operation:
    peers = {"mambapy": scans.mambapy_scan, "mamba-ssm": scans.mamba_ssm_scan}
    instruction_set = name.rpartition(" ")[2]
    if instruction_set in INSTRUCTION_SETS:
        return partial(_our_scan_with, instruction_set)
    return peers.get(name, _our_scan)


def _conv_of(name: str) -> Operation:
    peers = {"torch conv1d": scans.torch_conv, "causal-conv1d": scans.causal_conv1d_conv}
    instruction_set = name.rpartition(" ")[2]
    if instruction_set in INSTRUCTION_SETS:
        return partial(_our_conv_with, instruction_set)
    return peers.get(name, causal_conv)


_OPERATIONS = {True: _scan_of, False: _conv_of}


def _version(name: str) -> str:
    return named("torch" if name.startswith("torch") else "spellbound" if name.startswith("ours") else name)


def plan(options: command.Options) -> list[Job]:
    """Return the measurements in order."""
    return list(_on_card() if options.device == "cuda" else _on_processor(options.quick))


def _on_processor(quick: bool) -> Iterator[Job]:
    widths, times = ([768], [512]) if quick else ([768, 8192], [512, 2048, 8192])
    best = best_instruction_set()
    lesser = [name for name in INSTRUCTION_SETS if best in INSTRUCTION_SETS[: INSTRUCTION_SETS.index(name)]]
    for what in (SCAN, SCAN_BOTH, CONV, CONV_BOTH):
        for channels, time in product(widths, times):
            kernels = ["cpp"] if best else []
            kernels += [f"cpp {name}" for name in lesser] if quick or time == 2048 else []
            yield from (_job(what, channels, time, f"ours {kernel}") for kernel in kernels)
            yield _job(what, channels, time, COPY)
            # Both hold (T, D, N) tensors, many of them with gradients: gigabytes beyond these sizes.
            if channels * time <= 2048 * 8192:
                yield _job(what, channels, time, "ours torch")
            if what in (CONV, CONV_BOTH):
                yield _job(what, channels, time, "torch conv1d")
            elif channels * time <= 512 * 8192:
                yield _job(what, channels, time, "mambapy")


def _on_card() -> Iterator[Job]:
    for what in (SCAN, SCAN_BOTH, CONV, CONV_BOTH):
        peer = "mamba-ssm" if what in (SCAN, SCAN_BOTH) else "causal-conv1d"
        names = ["ours triton", COPY, *([peer] if scans.installed(peer) else [])]
        for batch, time in ((1, 2048), (8, 2048), (1, 16384), (8, 16384), (1, 131072)):
            for name in names:
                yield _job(what, 8192, time, name, batch=batch)


def _job(what: str, channels: int, time: int, name: str, batch: int = 1) -> Job:
    return Job(
        theme=THEME,
        what=what,
        config=f"{channels} channels",
        who="floor" if name == COPY else "ours" if name.startswith("ours") else "peer",
        name=name,
        measure=copy if name == COPY else operation,
        tokens=time,
        batch=batch,
        kernels=name.split()[1] if name.startswith("ours") else "",
        options={"channels": channels},
    )


def main() -> None:
    """Run this benchmark alone."""
    command.main([THEME, *sys.argv[1:]])


if __name__ == "__main__":
    main()
