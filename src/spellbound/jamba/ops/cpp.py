"""The selective scan in C++ (``csrc/scan.cpp``), forward and backward, called through ctypes on raw pointers.

The library is built with the package when a compiler is there; it knows nothing of torch. B batch, T time,
D channels, N states.
"""

import ctypes
import functools
import importlib.machinery
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spellbound.errors import EnvironmentFault, InputError

INSTRUCTION_SETS = ("avx512", "avx2", "portable")  # best first
MAX_GROUPS = 32  # dB and dC exist once a group of channels; more groups would outgrow the activations
REBUILD = "install a C++17 compiler (Debian: apt-get install g++), then run: make install"
NOT_BUILT = f"the C++ scan was not built; {REBUILD}"
_NO_MEMORY = (
    "the C++ scan found no memory for its work space; read less at once, or set SPELLBOUND_SCAN=torch"
)


@functools.cache
def load_library() -> ctypes.CDLL | None:
    """Return the compiled library, or None where the package was built without a compiler."""
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_scan{suffix}")
        if path.exists():
            library = ctypes.CDLL(str(path))
            library.spellbound_scan_lanes.argtypes = [ctypes.c_char_p]
            pointer, integer = ctypes.c_void_p, ctypes.c_long
            head: list[Any] = [ctypes.c_char_p, ctypes.c_int, pointer, *[integer] * 3, ctypes.c_int]
            library.spellbound_scan_forward.argtypes = [*head, *[pointer] * 11]
            library.spellbound_scan_backward.argtypes = [*head, integer, *[pointer] * 17]
            return library
    return None


@functools.cache
def best_instruction_set() -> str | None:
    """Name the widest instruction set that both the library and this processor have."""
    library = load_library()
    if library is None:
        return None
    return next((name for name in INSTRUCTION_SETS if library.spellbound_scan_lanes(name.encode())), None)


@functools.cache
def _torch_thread_pool() -> int | None:
    """Address of GOMP_parallel in the OpenMP runtime torch runs on: two pools would fight over the cores."""
    if not sys.platform.startswith("linux"):
        return None
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        pool = getattr(ctypes.CDLL(str(path)), "GOMP_parallel", None)
        if pool is not None:
            return ctypes.cast(pool, ctypes.c_void_p).value
    return None


def selective_scan_cpp(
    x_BTD: Tensor,
    dt_BTD: Tensor,
    A_DN: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    skip_D: Tensor | None,
    h0_BDN: Tensor | None,
    starts_BT: Tensor | None,
    *,
    instruction_set: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Same result as :func:`~spellbound.jamba.ops.reference.selective_scan_reference`.

    For float32 on the CPU only, shapes and devices checked by the caller. Any number of threads gives equal
    bytes. exp(dt A) is within 2**-22 of its value, and 0 where that is below 2**-126. Differentiable once.
    """
    name = instruction_set or best_instruction_set()
    if name and not _library().spellbound_scan_lanes(name.encode()):
        raise InputError(f"instruction set {name!r} is not there; this library and processor lack it")
    outputs: tuple[Tensor, Tensor] = _CppScan.apply(  # type: ignore[no-untyped-call]
        x_BTD, dt_BTD, A_DN, B_BTN, C_BTN, skip_D, h0_BDN, starts_BT, name
    )
    return outputs


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _library() -> ctypes.CDLL:
    library = load_library()
    if library is None:
        raise EnvironmentFault(NOT_BUILT)
    return library


def _call(function: str, name: str, shape: tuple[int, ...], *arguments: int | None) -> None:
    code = getattr(_library(), function)(
        name.encode(), torch.get_num_threads(), _torch_thread_pool(), *shape, *arguments
    )
    if code:
        raise MemoryError(_NO_MEMORY)


class _CppScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        *tensors, name = arguments
        packed: list[Any] = [None if tensor is None else tensor.detach().contiguous() for tensor in tensors]
        x_BTD, dt_BTD, A_DN, B_BTN, C_BTN, skip_D, h0_BDN, starts_BT = packed
        (batch, time, channels), states = x_BTD.shape, A_DN.shape[1]
        y_BTD, hT_BDN = torch.empty_like(x_BTD), x_BTD.new_empty(batch, channels, states)
        tile_states = None
        if any(ctx.needs_input_grad):
            library = _library()
            tile, lanes = library.spellbound_scan_tile(), library.spellbound_scan_lanes(name.encode())
            padded = -(-channels // lanes) * lanes
            tile_states = x_BTD.new_empty(batch, -(-time // tile), padded, states)
        inputs = (x_BTD, dt_BTD, A_DN, B_BTN, C_BTN, skip_D)
        pointers = map(_pointer, (*inputs, h0_BDN, starts_BT, y_BTD, hT_BDN, tile_states))
        _call("spellbound_scan_forward", name, (batch, time, channels, states), *pointers)
        ctx.name, ctx.had_h0 = name, h0_BDN is not None
        ctx.save_for_backward(*inputs, starts_BT, tile_states)
        return y_BTD, hT_BDN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, starts_BT, tile_states = ctx.saved_tensors
        x_BTD, A_DN = inputs[0], inputs[2]
        dy_BTD, dhT_BDN = (gradient.contiguous() for gradient in gradients)
        (batch, time, channels), states = x_BTD.shape, A_DN.shape[1]
        width = max(64, -(-channels // MAX_GROUPS // 16) * 16)
        groups = -(-channels // width)
        dx, ddt = torch.empty_like(x_BTD), torch.empty_like(x_BTD)
        dA, dh0 = (x_BTD.new_empty(batch, channels, states) for _ in range(2))
        dB, dC = (x_BTD.new_empty(groups, batch, time, states) for _ in range(2))
        dskip = x_BTD.new_empty(batch, channels)
        tensors = (*inputs, starts_BT, tile_states, dy_BTD, dhT_BDN, dx, ddt, dA, dB, dC, dskip, dh0)
        shape = (batch, time, channels, states, width)
        _call("spellbound_scan_backward", ctx.name, shape, *map(_pointer, tensors))
        has_skip = inputs[5] is not None
        return (
            dx,
            ddt,
            dA.sum(0),
            dB.sum(0),
            dC.sum(0),
            dskip.sum(0) if has_skip else None,
            dh0 if ctx.had_h0 else None,
            None,
            None,
        )
