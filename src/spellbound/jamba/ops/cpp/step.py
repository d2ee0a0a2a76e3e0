"""One token through one half of a decoder layer in one call (``csrc/step_kernel.h``). No gradients.

Decoding is a few thousand small operations a second; here the weights' addresses are written down once, and
a step costs two calls a layer. E experts, H hidden, D channels, N states, R rank of the step size, K taps,
F inner.
"""

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from spellbound.jamba.ops.cpp.library import (
    FLOAT,
    INT,
    LONG,
    POINTER,
    address,
    call,
    constant,
    structure,
)

_Mamba = structure(
    ("x norm in_proj in_bias conv_weight conv_bias x_proj dt_norm b_norm c_norm dt_proj dt_bias", POINTER),
    ("A_log skip out_proj out_bias window h y next_window next_h", POINTER),
    ("H D", LONG),
    ("N R K", INT),
    ("eps", FLOAT),
)
_FeedForward = structure(
    ("x norm router gate up down y", POINTER),
    ("H F experts gate_expert", LONG),
    ("top_k", INT),
    ("eps", FLOAT),
)


class MambaWeights(NamedTuple):
    """Parameters of a Mamba layer and the norm before it, contiguous, of one dtype, float32 or bfloat16."""

    norm_H: Tensor
    in_proj: Tensor  # (2 D, H)
    in_bias: Tensor | None
    conv_weight: Tensor  # (D, 1, K)
    conv_bias: Tensor | None
    x_proj: Tensor  # (R + 2 N, D)
    dt_norm_R: Tensor
    b_norm_N: Tensor
    c_norm_N: Tensor
    dt_proj: Tensor  # (D, R)
    dt_bias: Tensor | None
    A_log_DN: Tensor
    skip_D: Tensor
    out_proj: Tensor  # (H, D)
    out_bias: Tensor | None


class MambaStep:
    """``x + mixer(norm(x))`` of one token; keeps the weights' addresses, so the weights must stay where
    they are."""

    def __init__(self, weights: MambaWeights, eps: float, instruction_set: str | None = None) -> None:
        self._weights, self._instruction_set = weights, instruction_set
        (channels, states), rank = weights.A_log_DN.shape, len(weights.dt_norm_R)
        sizes = (len(weights.norm_H), channels, states, rank, weights.conv_weight.shape[-1])
        self._half = weights.norm_H.dtype == torch.bfloat16
        self._weight_addresses, self._sizes = tuple(map(address, weights)), (*sizes, eps)

    def __call__(self, x: Tensor, window_1KD: Tensor, h_1DN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what becomes of ``x`` (H numbers), the next window and the next state. The window is of
        the weights' dtype, the state float32; both are read only."""
        y, next_window, next_h = torch.empty_like(x), torch.empty_like(window_1KD), torch.empty_like(h_1DN)
        states = map(address, (window_1KD, h_1DN, y, next_window, next_h))
        arguments = _Mamba(x.data_ptr(), *self._weight_addresses, *states, *self._sizes)
        call("mamba_step", self._instruction_set, self._half, 1, ctypes.addressof(arguments))
        return y, next_window, next_h


class FeedForwardWeights(NamedTuple):
    """Parameters of a feed-forward layer and the norm before it, contiguous, of one dtype, float32 or
    bfloat16."""

    norm_H: Tensor
    router_EH: Tensor | None  # None for a layer without experts
    gate: Tensor  # (F, H), or with experts (E, 2 F, H), up behind gate
    up_FH: Tensor | None  # None with experts
    down: Tensor  # (H, F), or with experts (E, H, F)


class FeedForwardStep:
    """``x + feed_forward(norm(x))`` of one token; keeps the weights' addresses, as :class:`MambaStep`
    does."""

    def __init__(
        self, weights: FeedForwardWeights, eps: float, top_k: int = 1, instruction_set: str | None = None
    ) -> None:
        self._weights, self._instruction_set = weights, instruction_set
        self._half = weights.norm_H.dtype == torch.bfloat16
        hidden, inner = weights.down.shape[-2:]
        up = address(weights.up_FH)
        if up is None:
            up = weights.gate.data_ptr() + inner * hidden * weights.gate.element_size()
        experts = 0 if weights.router_EH is None else len(weights.router_EH)
        self._weight_addresses = (
            weights.norm_H.data_ptr(),
            address(weights.router_EH),
            weights.gate.data_ptr(),
            up,
            weights.down.data_ptr(),
        )
        self._sizes = (hidden, inner, experts, 2 * inner * hidden if experts else 0, top_k, eps)

    def __call__(self, x: Tensor) -> Tensor:
        """Return what becomes of ``x`` (H numbers)."""
        y = torch.empty_like(x)
        arguments = _FeedForward(x.data_ptr(), *self._weight_addresses, y.data_ptr(), *self._sizes)
        call("feed_forward_step", self._instruction_set, self._half, 1, ctypes.addressof(arguments))
        return y


def linear_row_cpp(
    x: Tensor, weight_OI: Tensor, bias_O: Tensor | None, instruction_set: str | None = None
) -> Tensor:
    """Return ``weight @ x + bias`` for one row x, summed in float32; weight and bias contiguous, of one
    dtype."""
    outputs, inputs = weight_OI.shape
    wide, y = x.float().contiguous(), torch.empty(*x.shape[:-1], outputs)
    half, pointers = weight_OI.dtype == torch.bfloat16, map(address, (weight_OI, bias_O, wide, y))
    call("multiply", instruction_set, half, outputs, inputs, *pointers)
    return y.to(x.dtype)


def most_experts() -> int:
    """Largest number of experts a step can choose from."""
    return constant("max_experts")


def most_taps() -> int:
    """Widest convolution a step can do."""
    return constant("max_taps")
