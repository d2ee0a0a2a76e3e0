"""RMSNorm and SwiGLU in C++ (``csrc/row_kernel.h``), forward and backward. X rows, H numbers in a row, F
inner."""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spellbound.jamba.ops.cpp.library import FLOAT, LONG, POINTER, address, call, constant, in_rows, structure

_Norm = structure(("x weight dy y dx dweight", POINTER), ("rows size x_row", LONG), ("eps", FLOAT))
_Swiglu = structure(("gate up dy y dgate dup", POINTER), ("rows size gate_row up_row slope_row", LONG))


def rms_norm_cpp(x: Tensor, weight_H: Tensor, eps: float, *, instruction_set: str | None = None) -> Tensor:
    """Same result as :func:`~spellbound.jamba.ops.reference.rms_norm_reference`; one dtype, float32 or
    bfloat16."""
    y: Tensor = _RMSNorm.apply(instruction_set, x, weight_H, eps)  # type: ignore[no-untyped-call]
    return y


def swiglu_cpp(gate: Tensor, up: Tensor | None, *, instruction_set: str | None = None) -> Tensor:
    """Same result as :func:`~spellbound.jamba.ops.reference.swiglu_reference`; float32 or bfloat16."""
    y: Tensor = _SwiGLU.apply(instruction_set, gate, up)  # type: ignore[no-untyped-call]
    return y


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, instruction_set: str | None, x: Tensor, weight_H: Tensor, eps: float) -> Tensor:
        rows = _as_rows(x.detach())
        weight_H, y = weight_H.detach().contiguous(), x.new_empty(x.shape)
        _norm(instruction_set, rows, eps, weight_H, None, y, None, None)
        ctx.instruction_set, ctx.eps, ctx.shape = instruction_set, eps, x.shape
        ctx.save_for_backward(rows, weight_H)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight_H = ctx.saved_tensors
        dx = rows.new_empty(ctx.shape)
        tasks = -(-len(rows) // constant("rows"))
        dweight = rows.new_empty(tasks, len(weight_H), dtype=torch.float32)
        _norm(ctx.instruction_set, rows, ctx.eps, weight_H, dy.contiguous(), None, dx, dweight)
        return None, dx, dweight.sum(0).to(weight_H.dtype), None


def _norm(instruction_set: str | None, rows_XH: Tensor, eps: float, *tensors: Tensor | None) -> None:
    rows, size = rows_XH.shape
    arguments = _Norm(address(rows_XH), *map(address, tensors), rows, size, rows_XH.stride(0), eps)
    call("norm", instruction_set, rows_XH.dtype == torch.bfloat16, 1, ctypes.addressof(arguments))


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, instruction_set: str | None, gate: Tensor, up: Tensor | None) -> Tensor:
        shape = gate.shape if up is not None else (*gate.shape[:-1], gate.shape[-1] // 2)
        rows = _as_rows(gate.detach()), None if up is None else _as_rows(up.detach())
        y = gate.new_empty(shape)
        _swiglu(instruction_set, shape[-1], *rows, None, y, None, None)
        ctx.instruction_set, ctx.shape = instruction_set, gate.shape
        ctx.save_for_backward(*rows)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        dgate, dup = gate.new_empty(ctx.shape), None if up is None else up.new_empty(ctx.shape)
        _swiglu(ctx.instruction_set, dy.shape[-1], gate, up, dy.contiguous(), None, dgate, dup)
        return None, dgate, dup


def _swiglu(
    instruction_set: str | None, size: int, gate: Tensor, up: Tensor | None, *others: Tensor | None
) -> None:
    """``others``: dy, y, dgate, dup. Without ``up`` it is the second half of the rows of ``gate``, and so
    are the gradients."""
    half, step = gate.dtype == torch.bfloat16, size * gate.element_size()
    dy, y, dgate, dup = map(address, others)
    up_at = gate.data_ptr() + step if up is None else up.data_ptr()
    if up is None and dgate is not None:
        dup = dgate + step
    gate_row, slope_row = gate.stride(0), size if up is not None else 2 * size
    up_row = gate_row if up is None else up.stride(0)
    arguments = _Swiglu(
        gate.data_ptr(), up_at, dy, y, dgate, dup, len(gate), size, gate_row, up_row, slope_row
    )
    call("swiglu", instruction_set, half, 1, ctypes.addressof(arguments))


def _as_rows(x: Tensor) -> Tensor:
    """Return (X, H) with neighbouring numbers; a slice of wider rows stays where it is."""
    return in_rows(x.flatten(0, -2) if x.dim() > 2 else x.view(-1, x.shape[-1]))
