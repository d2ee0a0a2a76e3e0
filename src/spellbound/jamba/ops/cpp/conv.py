"""Causal convolution with SiLU in C++ (``csrc/conv_kernel.h``), forward and backward.

B batch, T time, D channels, K taps.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spellbound.jamba.ops.cpp.library import INT, LONG, POINTER, address, call, in_rows, structure

_Forward = structure(
    ("starts", POINTER), ("x_batch x_row T D", LONG), ("K", INT), ("x window weight bias y", POINTER)
)
_Backward = structure(("forward", _Forward), ("dy dx dwindow dweight dbias", POINTER))


def causal_conv_cpp(
    x_BTD: Tensor,
    weight_DK: Tensor,
    bias_D: Tensor | None,
    window_BKD: Tensor | None,
    starts_BT: Tensor | None,
    *,
    instruction_set: str | None = None,
) -> Tensor:
    """Same result as :func:`~spellbound.jamba.ops.reference.causal_conv_reference`.

    x is float32 or bfloat16 on the CPU, at any row stride. Any number of threads gives equal bytes.
    Differentiable once.
    """
    window_BKD = None if window_BKD is None else window_BKD.to(x_BTD.dtype)
    bias_D = None if bias_D is None else bias_D.float()
    y_BTD: Tensor = _Conv.apply(  # type: ignore[no-untyped-call]
        instruction_set, x_BTD, weight_DK.float().t(), bias_D, window_BKD, starts_BT
    )
    return y_BTD


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, instruction_set: str | None, *tensors: Any) -> Tensor:
        given: list[Any] = [None if tensor is None else tensor.detach() for tensor in tensors]
        x_BTD, *others = given
        inputs: list[Any] = [in_rows(x_BTD), *(None if t is None else t.contiguous() for t in others)]
        y_BTD = x_BTD.new_empty(x_BTD.shape)
        arguments = _arguments(*inputs, y_BTD)
        half = x_BTD.dtype == torch.bfloat16
        call("conv_forward", instruction_set, half, len(x_BTD), ctypes.addressof(arguments))
        ctx.instruction_set = instruction_set
        ctx.save_for_backward(*inputs)
        return y_BTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_BTD: Tensor) -> tuple[Tensor | None, ...]:
        x_BTD, weight_KD, bias_D, window_BKD, starts_BT = ctx.saved_tensors
        batch, taps = len(x_BTD), len(weight_KD)
        dy_BTD = dy_BTD.contiguous()
        dx = x_BTD.new_empty(x_BTD.shape)
        dwindow = None if window_BKD is None else torch.empty_like(window_BKD)
        dweight, dbias = weight_KD.new_empty(batch, *weight_KD.shape), weight_KD.new_empty(batch, dx.shape[2])
        forward = _arguments(x_BTD, weight_KD, bias_D, window_BKD, starts_BT, None)
        arguments = _Backward(
            forward, *map(address, (dy_BTD, dx, dwindow if taps > 1 else None, dweight, dbias))
        )
        half = x_BTD.dtype == torch.bfloat16
        call("conv_backward", ctx.instruction_set, half, batch, ctypes.addressof(arguments))
        return None, dx, dweight.sum(0), None if bias_D is None else dbias.sum(0), dwindow, None


def _arguments(x_BTD: Tensor, weight_KD: Tensor, *others: Any) -> Any:
    """Fill the struct; ``others`` are bias, window, starts and y."""
    bias_D, window_BKD, starts_BT, y_BTD = others
    (_, time, channels), (batch_stride, row_stride, _) = x_BTD.shape, x_BTD.stride()
    pointers = map(address, (x_BTD, window_BKD, weight_KD, bias_D, y_BTD))
    return _Forward(address(starts_BT), batch_stride, row_stride, time, channels, len(weight_KD), *pointers)
