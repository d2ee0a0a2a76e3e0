"""Which scan runs: the one place that decides, and says why.

``SPELLBOUND_SCAN=reference|torch|cpp`` forces one; otherwise C++ where it can run, else chunked torch.
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spellbound.errors import EnvironmentFault, InputError
from spellbound.jamba.ops.chunked import selective_scan_chunked
from spellbound.jamba.ops.cpp import NOT_BUILT, REBUILD, best_instruction_set, selective_scan_cpp
from spellbound.jamba.ops.reference import selective_scan_reference

_BY_NAME: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "reference": selective_scan_reference,
    "torch": selective_scan_chunked,
    "cpp": selective_scan_cpp,
}


@dataclass(frozen=True, kw_only=True)
class KernelReport:
    """Which scan is active: ``name`` (reference, torch or cpp), ``detail`` for people, ``reason`` why this
    one."""

    name: str
    detail: str
    reason: str


def describe() -> KernelReport:
    """Say which scan float32 tensors on the CPU would use here. Raises as :func:`selective_scan` would."""
    name, reason = _choose(os.environ.get("SPELLBOUND_SCAN", ""))
    details = {
        "reference": "one step after another, for tests",
        "torch": f"chunked, {torch.get_num_threads()} threads",
        "cpp": f"{best_instruction_set()}, {torch.get_num_threads()} threads",
    }
    return KernelReport(name=name, detail=details[name], reason=reason)


@functools.cache
def _choose(forced: str) -> tuple[str, str]:
    compiled = best_instruction_set() is not None
    if forced and forced not in _BY_NAME:
        raise InputError(
            f"SPELLBOUND_SCAN is {forced!r}; set it to one of {', '.join(_BY_NAME)}, or unset it"
        )
    if forced == "cpp" and not compiled:
        raise EnvironmentFault(f"SPELLBOUND_SCAN=cpp, but {NOT_BUILT}")
    if forced:
        return forced, f"SPELLBOUND_SCAN={forced}"
    if compiled:
        return "cpp", "compiled library found"
    return "torch", f"no compiled library; for a much faster one {REBUILD}"


def selective_scan(
    x_BTD: Tensor,
    dt_BTD: Tensor,
    A_DN: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    skip_D: Tensor | None = None,
    *,
    h0_BDN: Tensor | None = None,
    starts_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Selective scan of Mamba-1 (arXiv:2312.00752): ``h = exp(dt A) h + dt x B``, ``y = C . h + skip x``.

    Args:
        x_BTD: input; dt_BTD: step sizes, already through softplus; A_DN: negative decay rates;
        B_BTN, C_BTN: input and output maps; skip_D: skip weight; h0_BDN: state to continue from, zero if
        None; starts_BT: bool, true where a document begins and the state is forgotten.

    Returns:
        ``y_BTD`` in the dtype of x, and the last state in float32 (float64 for float64 input). Half
        precisions are computed in float32. Differentiable in every floating argument.

    Raises:
        InputError: shapes, devices or dtypes that do not fit one another.
    """
    _check(x_BTD, dt_BTD, A_DN, B_BTN, C_BTN, skip_D, h0_BDN, starts_BT)
    name, _ = _choose(os.environ.get("SPELLBOUND_SCAN", ""))
    compute = torch.float64 if x_BTD.dtype == torch.float64 else torch.float32
    if name == "cpp" and (compute != torch.float32 or x_BTD.device.type != "cpu"):
        name = "torch"  # the compiled kernel is for float32 on the CPU
    floating = (x_BTD, dt_BTD, A_DN, B_BTN, C_BTN, skip_D, h0_BDN)
    tensors = (None if tensor is None else tensor.to(compute) for tensor in floating)
    y_BTD, h_BDN = _BY_NAME[name](*tensors, starts_BT)
    return y_BTD.to(x_BTD.dtype), h_BDN


def _check(x_BTD: Tensor, *others: Tensor | None) -> None:
    """Refuse what does not fit: the compiled kernel reads raw memory and would read past its end."""
    A_DN = others[1]
    if x_BTD.dim() != 3 or x_BTD.shape[1] == 0 or A_DN is None or A_DN.dim() != 2:
        raise InputError("x_BTD needs three dimensions and at least one step, A_DN two; see selective_scan")
    (batch, time, channels), states = x_BTD.shape, A_DN.shape[1]
    wanted: dict[str, tuple[int, ...]] = {
        "dt_BTD": (batch, time, channels),
        "A_DN": (channels, states),
        "B_BTN": (batch, time, states),
        "C_BTN": (batch, time, states),
        "skip_D": (channels,),
        "h0_BDN": (batch, channels, states),
        "starts_BT": (batch, time),
    }
    for (name, shape), tensor in zip(wanted.items(), others, strict=True):
        if tensor is not None and (tensor.shape != shape or tensor.device != x_BTD.device):
            raise InputError(
                f"{name} is {tuple(tensor.shape)} on {tensor.device}; "
                f"with this x_BTD it has to be {shape} on {x_BTD.device}"
            )
    starts_BT = others[-1]
    if starts_BT is not None and starts_BT.dtype != torch.bool:
        raise InputError(f"starts_BT is {starts_BT.dtype}; give torch.bool, true where a document begins")
