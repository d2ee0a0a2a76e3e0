"""Which kernels run: the one place that decides, and says why.

``SPELLBOUND_KERNELS=reference|torch|cpp|triton`` forces one kind. Otherwise C++ for the CPU where it was
built, Triton for CUDA tensors where it is installed, and plain torch everywhere else.

B batch, T time, D channels, N states, K taps, H numbers in a row.
"""

import functools
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spellbound.errors import EnvironmentFault, InputError
from spellbound.jamba.ops.chunked import selective_scan_chunked
from spellbound.jamba.ops.cpp.conv import causal_conv_cpp
from spellbound.jamba.ops.cpp.library import NOT_BUILT, REBUILD, best_instruction_set, constant
from spellbound.jamba.ops.cpp.rows import rms_norm_cpp, swiglu_cpp
from spellbound.jamba.ops.cpp.scan import selective_scan_cpp
from spellbound.jamba.ops.reference import (
    causal_conv_reference,
    rms_norm_reference,
    selective_scan_reference,
    swiglu_reference,
)

KINDS = ("reference", "torch", "cpp", "triton")
_SCANS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "reference": selective_scan_reference,
    "torch": selective_scan_chunked,
}
_HALF_OR_SINGLE = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class KernelReport:
    """Which kernels are active: ``name`` (one of KINDS), ``detail`` for people, ``reason`` why these."""

    name: str
    detail: str
    reason: str


def describe(device: str = "cpu") -> KernelReport:
    """Say which kernels float32 tensors on ``device`` would use here. Raises as :func:`selective_scan`
    would."""
    name, reason = _choose(os.environ.get("SPELLBOUND_KERNELS", ""), device)
    if name == "triton":
        return KernelReport(name=name, detail=_triton().explain(), reason=reason)
    threads = f"{torch.get_num_threads()} threads"
    details = {
        "reference": "one step after another, for tests",
        "torch": f"chunked, {threads}",
        "cpp": f"{best_instruction_set()}, {threads}",
    }
    return KernelReport(name=name, detail=details[name], reason=reason)


@functools.cache
def _choose(forced: str, device: str) -> tuple[str, str]:
    compiled = best_instruction_set() is not None
    if forced and forced not in KINDS:
        raise InputError(
            f"SPELLBOUND_KERNELS is {forced!r}; set it to one of {', '.join(KINDS)}, or unset it"
        )
    if forced == "cpp" and not compiled:
        raise EnvironmentFault(f"SPELLBOUND_KERNELS=cpp, but {NOT_BUILT}")
    if forced == "triton" and not _triton().available():
        raise EnvironmentFault(f"SPELLBOUND_KERNELS=triton, but {_triton().explain()}")
    if forced:
        return forced, f"SPELLBOUND_KERNELS={forced}"
    if device == "cpu" and compiled:
        return "cpp", "compiled library found"
    if device == "cpu":
        return "torch", f"no compiled library; for much faster ones {REBUILD}"
    if device == "cuda" and _triton().available():
        return "triton", "Triton found"
    if device == "cuda":
        return "torch", f"no Triton kernels: {_triton().explain()}"
    return "torch", f"nothing faster for {device}"


@functools.cache
def _triton() -> Any:
    """Import what needs Triton only once it is wanted: it is slow to import, and not everywhere."""
    return importlib.import_module("spellbound.jamba.ops.triton")


def kind_for(tensor: Tensor) -> str:
    """Name the kind of kernels that tensors like this one use."""
    name, _ = _choose(os.environ.get("SPELLBOUND_KERNELS", ""), tensor.device.type)
    on_cpu = tensor.device.type == "cpu"
    if name == "cpp" and not on_cpu:
        return "torch"
    if name == "triton" and on_cpu and os.environ.get("TRITON_INTERPRET") != "1":
        return "torch"
    if name in ("cpp", "triton") and tensor.dtype not in _HALF_OR_SINGLE:
        return "torch"  # the compiled kernels are for float32 and bfloat16
    return name


def selective_scan(
    x_BTD: Tensor,
    dt_BTD: Tensor,
    A_DN: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    skip_D: Tensor | None = None,
    *,
    gate_BTD: Tensor | None = None,
    h0_BDN: Tensor | None = None,
    starts_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gated selective scan of Mamba-1 (arXiv:2312.00752): with d = softplus(dt), ``h = exp(d A) h + d x B``
    and ``y = (C . h + skip x) silu(gate)``.

    Args:
        x_BTD: input; dt_BTD: step sizes before softplus; A_DN: negative decay rates; B_BTN, C_BTN: input and
        output maps; skip_D: skip weight; gate_BTD: no gating if None; h0_BDN: state to continue from, zero
        if None; starts_BT: bool, true where a document begins and the state is forgotten.

    Returns:
        ``y_BTD`` in the dtype of x, and the last state in float32 (float64 for float64 input). Half
        precisions are computed in float32. Differentiable in every floating argument.

    Raises:
        InputError: shapes, devices or dtypes that do not fit one another.
    """
    _check_scan(x_BTD, dt_BTD, A_DN, B_BTN, C_BTN, skip_D, gate_BTD, h0_BDN, starts_BT)
    kind = kind_for(x_BTD)
    if kind == "triton" and _one_step(x_BTD, starts_BT) and h0_BDN is not None:
        rows = (None if each is None else each[:, 0] for each in (x_BTD, dt_BTD, B_BTN, C_BTN, gate_BTD))
        x_BD, dt_BD, B_BN, C_BN, gate_BD = rows
        y_BD, h_BDN = _triton().scan_step(x_BD, dt_BD, A_DN, B_BN, C_BN, skip_D, gate_BD, h0_BDN)
        return y_BD[:, None], h_BDN
    if kind in ("cpp", "triton"):
        scan = selective_scan_cpp if kind == "cpp" else _triton().selective_scan_triton
        same = (None if tensor is None else tensor.to(x_BTD.dtype) for tensor in (dt_BTD, gate_BTD))
        dt_BTD, gate_BTD = same  # type: ignore[assignment]
        return scan(x_BTD, dt_BTD, A_DN, B_BTN, C_BTN, skip_D, gate_BTD, h0_BDN, starts_BT)
    compute = torch.float64 if x_BTD.dtype == torch.float64 else torch.float32
    floating = (x_BTD, dt_BTD, A_DN, B_BTN, C_BTN, skip_D, gate_BTD, h0_BDN)
    tensors = (None if tensor is None else tensor.to(compute) for tensor in floating)
    y_BTD, h_BDN = _SCANS[kind](*tensors, starts_BT)
    return y_BTD.to(x_BTD.dtype), h_BDN


def causal_conv(
    x_BTD: Tensor,
    weight_DK: Tensor,
    bias_D: Tensor | None = None,
    *,
    window_BKD: Tensor | None = None,
    starts_BT: Tensor | None = None,
) -> Tensor:
    """Depthwise causal convolution over time, then SiLU.

    Args:
        x_BTD: input, in any strides; weight_DK: taps, the last one for the present; bias_D: none if None;
        window_BKD: the K - 1 inputs before the first, zeros if None; starts_BT: bool, true where a document
        begins, before which nothing is seen.

    Returns:
        ``y_BTD`` in the dtype of x. Differentiable in every floating argument.

    Raises:
        InputError: shapes, devices or dtypes that do not fit one another.
    """
    _check_conv(x_BTD, weight_DK, bias_D, window_BKD, starts_BT)
    kind = kind_for(x_BTD)
    if kind == "cpp" and weight_DK.shape[1] <= constant("max_taps"):
        return causal_conv_cpp(x_BTD, weight_DK, bias_D, window_BKD, starts_BT)
    if kind == "triton":
        return _triton().causal_conv_triton(x_BTD, weight_DK, bias_D, window_BKD, starts_BT)
    return causal_conv_reference(x_BTD, weight_DK, bias_D, window_BKD, starts_BT).to(x_BTD.dtype)


def causal_conv_onwards(
    x_BTD: Tensor, weight_DK: Tensor, bias_D: Tensor | None, window_BKD: Tensor
) -> tuple[Tensor, Tensor]:
    """Convolve as :func:`causal_conv` does, and return the window after ``x_BTD`` too, in its own dtype.

    Raises:
        InputError: shapes, devices or dtypes that do not fit one another.
    """
    if kind_for(x_BTD) == "triton" and _one_step(x_BTD, None):
        _check_conv(x_BTD, weight_DK, bias_D, window_BKD, None)
        y_BD, after_BKD = _triton().conv_step(x_BTD[:, 0], weight_DK, bias_D, window_BKD)
        return y_BD[:, None], after_BKD
    y_BTD = causal_conv(x_BTD, weight_DK, bias_D, window_BKD=window_BKD)
    recent_BTD = x_BTD[:, max(0, x_BTD.shape[1] - window_BKD.shape[1]) :].to(window_BKD.dtype)
    return y_BTD, torch.cat([window_BKD[:, recent_BTD.shape[1] :], recent_BTD], 1)


def _one_step(x_BTD: Tensor, starts_BT: Tensor | None) -> bool:
    return x_BTD.shape[1] == 1 and starts_BT is None and not torch.is_grad_enabled()


def rms_norm(x: Tensor, weight_H: Tensor, eps: float) -> Tensor:
    """Root mean square norm of the last dimension (arXiv:1910.07467), in float32, rounded to x's dtype
    before the weight multiplies it. Returns the shape of x, in the wider dtype of the two.

    Raises:
        InputError: a weight that does not fit the last dimension.
    """
    if x.shape[-1:] != weight_H.shape or x.device != weight_H.device:
        raise InputError(
            f"weight_H is {tuple(weight_H.shape)} on {weight_H.device}; "
            f"with this x it has to be {tuple(x.shape[-1:])} on {x.device}"
        )
    kind = kind_for(x) if x.numel() else "torch"
    if kind == "cpp" and weight_H.dtype == x.dtype:
        return rms_norm_cpp(x, weight_H, eps)
    if kind == "triton" and weight_H.dtype in _HALF_OR_SINGLE:
        normed: Tensor = _triton().rms_norm_triton(x, weight_H, eps)
        return normed
    return rms_norm_reference(x, weight_H, eps)


def swiglu(gate: Tensor, up: Tensor | None = None) -> Tensor:
    """SiLU of ``gate`` times ``up`` (arXiv:2002.05202); without ``up`` they are the two halves of the last
    dimension of ``gate``.

    Raises:
        InputError: shapes or dtypes that do not fit one another.
    """
    if up is None and (gate.dim() == 0 or gate.shape[-1] % 2):
        raise InputError(f"gate is {tuple(gate.shape)}; without up its last dimension has to have two halves")
    if up is not None and (up.shape != gate.shape or up.dtype != gate.dtype or up.device != gate.device):
        raise InputError(
            f"up is {tuple(up.shape)} of {up.dtype} on {up.device}; "
            f"it has to be as gate is, {tuple(gate.shape)} of {gate.dtype} on {gate.device}"
        )
    kind = kind_for(gate) if gate.numel() else "torch"
    if kind == "cpp":
        return swiglu_cpp(gate, up)
    if kind == "triton":
        product: Tensor = _triton().swiglu_triton(gate, up)
        return product
    return swiglu_reference(gate, up)


def _check_scan(x_BTD: Tensor, *others: Tensor | None) -> None:
    """Refuse what does not fit: the compiled kernels read raw memory and would read past its end."""
    A_DN = others[1]
    if x_BTD.dim() != 3 or x_BTD.shape[1] == 0 or A_DN is None or A_DN.dim() != 2:
        raise InputError(
            f"x_BTD is {tuple(x_BTD.shape)} and A_DN {_shape(A_DN)}; give (batch, time, channels) of at "
            "least one step, and (channels, states)"
        )
    (batch, time, channels), states = x_BTD.shape, A_DN.shape[1]
    wanted: dict[str, tuple[int, ...]] = {
        "dt_BTD": (batch, time, channels),
        "A_DN": (channels, states),
        "B_BTN": (batch, time, states),
        "C_BTN": (batch, time, states),
        "skip_D": (channels,),
        "gate_BTD": (batch, time, channels),
        "h0_BDN": (batch, channels, states),
        "starts_BT": (batch, time),
    }
    _check_shapes(x_BTD, wanted, others)


def _check_conv(x_BTD: Tensor, *others: Tensor | None) -> None:
    weight_DK = others[0]
    wrong = weight_DK is None or weight_DK.dim() != 2 or weight_DK.shape[1] == 0
    if x_BTD.dim() != 3 or x_BTD.shape[1] == 0 or weight_DK is None or wrong:
        raise InputError(
            f"x_BTD is {tuple(x_BTD.shape)} and weight_DK {_shape(weight_DK)}; give (batch, time, channels) "
            "of at least one step, and (channels, taps) of at least one tap"
        )
    (batch, time, channels), taps = x_BTD.shape, weight_DK.shape[1]
    wanted: dict[str, tuple[int, ...]] = {
        "weight_DK": (channels, taps),
        "bias_D": (channels,),
        "window_BKD": (batch, taps - 1, channels),
        "starts_BT": (batch, time),
    }
    _check_shapes(x_BTD, wanted, others)


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def _check_shapes(x_BTD: Tensor, wanted: dict[str, tuple[int, ...]], others: tuple[Any, ...]) -> None:
    for (name, shape), tensor in zip(wanted.items(), others, strict=True):
        if tensor is not None and (tensor.shape != shape or tensor.device != x_BTD.device):
            raise InputError(
                f"{name} is {tuple(tensor.shape)} on {tensor.device}; "
                f"with this x_BTD it has to be {shape} on {x_BTD.device}"
            )
    starts_BT = others[-1]
    if starts_BT is not None and starts_BT.dtype != torch.bool:
        raise InputError(f"starts_BT is {starts_BT.dtype}; give torch.bool, true where a document begins")
