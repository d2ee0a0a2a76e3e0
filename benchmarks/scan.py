"""The selective scan on the CPU, forward and forward with backward, beside mambapy's parallel scan.

Shapes: B batch, T time, D channels, N states.
"""

import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from statistics import median
from time import perf_counter

import torch
from mambapy.pscan import pscan
from torch import Tensor

from spellbound.jamba.ops import describe, selective_scan

B, T, D, N = 1, 1024, 1024, 16
REPEATS = 5

Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def ours(kernel: str) -> Scan:
    """Return our scan with one kernel forced."""

    def scan(x_BTD: Tensor, dt_BTD: Tensor, A_DN: Tensor, B_BTN: Tensor, C_BTN: Tensor) -> Tensor:
        os.environ["SPELLBOUND_SCAN"] = kernel
        return selective_scan(x_BTD, dt_BTD, A_DN, B_BTN, C_BTN)[0]

    return scan


def mambapy(x_BTD: Tensor, dt_BTD: Tensor, A_DN: Tensor, B_BTN: Tensor, C_BTN: Tensor) -> Tensor:
    """Call the peer as its own Mamba block does."""
    decay_BTDN = torch.exp(dt_BTD.unsqueeze(-1) * A_DN)
    input_BTDN = (dt_BTD * x_BTD).unsqueeze(-1) * B_BTN.unsqueeze(2)
    result: Tensor = (pscan(decay_BTDN, input_BTDN) @ C_BTN.unsqueeze(-1)).squeeze(-1)
    return result


def inputs() -> list[Tensor]:
    """Return x, dt, A, B and C of the size of a trained layer's, the same in each run."""
    random = torch.Generator().manual_seed(0)
    x_BTD, dt_BTD = (torch.randn(B, T, D, generator=random) for _ in range(2))
    B_BTN, C_BTN = (torch.randn(B, T, N, generator=random) for _ in range(2))
    A_DN = -torch.arange(1.0, N + 1).repeat(D, 1)
    tensors = [x_BTD, torch.nn.functional.softplus(dt_BTD - 4), A_DN, B_BTN, C_BTN]
    return [tensor.requires_grad_() for tensor in tensors]


def nanoseconds(work: Callable[[], object]) -> float:
    """Return the median time of the work per token and channel, after one run that does not count."""
    work()
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return round(median(times) / (B * T * D) * 1e9, 2)


def measure(scan: Scan, tensors: list[Tensor]) -> dict[str, float]:
    """Time a scan alone and with its backward."""

    def forward() -> None:
        with torch.no_grad():
            scan(*tensors)

    def both() -> None:
        torch.autograd.grad(scan(*tensors).sum(), tensors)

    return {"forward": nanoseconds(forward), "forward_and_backward": nanoseconds(both)}


def main() -> None:
    """Check that all agree, then measure them."""
    tensors = inputs()
    scans: dict[str, Scan] = {"cpp": ours("cpp"), "torch": ours("torch"), "mambapy": mambapy}
    with torch.no_grad():
        expected = scans["torch"](*tensors)
        for scan in scans.values():
            torch.testing.assert_close(scan(*tensors), expected, rtol=1e-3, atol=1e-4)
    results = {name: measure(scan, tensors) for name, scan in scans.items()}
    os.environ["SPELLBOUND_SCAN"] = "cpp"
    report = {
        "benchmark": "scan",
        "unit": "nanoseconds per token and channel, median",
        "shape": {"batch": B, "time": T, "channels": D, "states": N},
        "machine": {"processor": platform.machine(), "kernel": describe().detail},
        "versions": {name: version(name) for name in ("torch", "mambapy")},
        "results": results,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
