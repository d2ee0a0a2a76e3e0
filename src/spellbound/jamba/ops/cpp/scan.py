"""The gated selective scan in C++ (``csrc/scan_kernel.h``), forward and backward.

B batch, T time, D channels, N states.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spellbound.jamba.ops.cpp.library import (
    INT,
    LONG,
    POINTER,
    address,
    best_instruction_set,
    call,
    constant,
    in_rows,
    lanes,
    structure,
)

MAX_GROUPS = 32  # dB and dC exist once a group of channels; more groups would outgrow the activations

_Forward = structure(
    ("x dt gate A B C skip h0 starts y hT tile_states", POINTER),
    ("gate_batch gate_row T D tiles padded_D", LONG),
    ("N", INT),
)
_Backward = structure(
    ("forward", _Forward),
    ("dy dhT dx ddt dgate dA dB dC dskip dh0", POINTER),
    ("batches groups group_width", LONG),
)


def selective_scan_cpp(
    x_BTD: Tensor,
    dt_BTD: Tensor,
    A_DN: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    skip_D: Tensor | None,
    gate_BTD: Tensor | None,
    h0_BDN: Tensor | None,
    starts_BT: Tensor | None,
    *,
    instruction_set: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Same result as :func:`~spellbound.jamba.ops.reference.selective_scan_reference`.

    x, dt and gate are float32 or bfloat16 on the CPU, shapes and devices checked by the caller; the rest is
    computed in float32. Any number of threads gives equal bytes. exp(d A) is within 2**-22 of its value.
    Differentiable once.
    """
    wide = (A_DN, B_BTN, C_BTN, skip_D, h0_BDN)
    A_DN, B_BTN, C_BTN, skip_D, h0_BDN = (None if t is None else t.float() for t in wide)  # type: ignore[assignment]
    outputs: tuple[Tensor, Tensor] = _Scan.apply(  # type: ignore[no-untyped-call]
        (instruction_set, torch.is_grad_enabled()),
        *(x_BTD, dt_BTD, gate_BTD, A_DN, B_BTN, C_BTN, skip_D, h0_BDN, starts_BT),
    )
    return outputs


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, how: tuple[str | None, bool], *tensors: Any) -> tuple[Tensor, Tensor]:
        instruction_set, recording = how
        given: list[Any] = [None if tensor is None else tensor.detach() for tensor in tensors]
        x_BTD, dt_BTD, gate_BTD, *others = given
        gate_BTD = None if gate_BTD is None else in_rows(gate_BTD)
        x_BTD, dt_BTD = x_BTD.contiguous(), dt_BTD.contiguous()
        others = [None if tensor is None else tensor.contiguous() for tensor in others]
        A_DN, h0_BDN, starts_BT = others[0], others[4], others[5]
        (batch, time, channels), states = x_BTD.shape, A_DN.shape[1]
        y_BTD, hT_BDN = torch.empty_like(x_BTD), A_DN.new_empty(batch, channels, states)
        tile_states = None
        if recording and any(ctx.needs_input_grad):  # a parameter needs one under no_grad too
            width = lanes(instruction_set or best_instruction_set() or "")
            padded = -(-channels // width) * width if width else channels
            tile_states = A_DN.new_empty(batch, -(-time // constant("tile")), padded, states)
        inputs = (x_BTD, dt_BTD, gate_BTD, *others)
        arguments = _arguments(*inputs, y_BTD, hT_BDN, tile_states)
        call("scan_forward", instruction_set, _half(x_BTD), batch, ctypes.addressof(arguments))
        ctx.instruction_set, ctx.had_h0 = instruction_set, h0_BDN is not None
        ctx.save_for_backward(*inputs[:-2], starts_BT, tile_states)
        return y_BTD, hT_BDN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, starts_BT, tile_states = ctx.saved_tensors
        x_BTD, dt_BTD, gate_BTD, A_DN, _, _, skip_D = inputs
        dy_BTD, dhT_BDN = (gradient.contiguous() for gradient in gradients)
        (batch, time, channels), states = x_BTD.shape, A_DN.shape[1]
        width = max(64, -(-channels // MAX_GROUPS // 16) * 16)
        groups = -(-channels // width)
        dx, ddt = torch.empty_like(x_BTD), torch.empty_like(dt_BTD)
        dgate = None if gate_BTD is None else torch.empty_like(x_BTD)
        dA, dh0 = (A_DN.new_empty(batch, channels, states) for _ in range(2))
        dB, dC = (A_DN.new_empty(groups, batch, time, states) for _ in range(2))
        dskip = A_DN.new_empty(batch, channels)
        forward = _arguments(*inputs, None, starts_BT, None, None, tile_states)
        outputs = map(address, (dy_BTD, dhT_BDN, dx, ddt, dgate, dA, dB, dC, dskip, dh0))
        arguments = _Backward(forward, *outputs, batch, groups, width)
        call("scan_backward", ctx.instruction_set, _half(x_BTD), batch, ctypes.addressof(arguments))
        return (
            None,
            dx,
            ddt,
            dgate,
            dA.sum(0),
            dB.sum(0),
            dC.sum(0),
            None if skip_D is None else dskip.sum(0),
            dh0 if ctx.had_h0 else None,
            None,
        )


def _half(tensor: Tensor) -> bool:
    return tensor.dtype == torch.bfloat16


def _arguments(x_BTD: Tensor, dt_BTD: Tensor, gate_BTD: Tensor | None, A_DN: Tensor, *others: Any) -> Any:
    """Fill the struct; ``others`` are B, C, skip, h0, starts, y, hT and tile_states."""
    gate_batch, gate_row = (0, 0) if gate_BTD is None else gate_BTD.stride()[:2]
    _, time, channels = x_BTD.shape
    pointers = map(address, (x_BTD, dt_BTD, gate_BTD, A_DN, *others))
    return _Forward(*pointers, gate_batch, gate_row, time, channels, 0, 0, A_DN.shape[1])
