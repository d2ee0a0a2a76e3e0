"""One token through a whole model in one call (``csrc/step_kernel.h``), and attention of one token each of
several sequences. No gradients.

Decoding is a few thousand small operations a second; here the weights' addresses are written down once, and
a token costs one call. B sequences, E experts, H hidden, D channels, N states, R rank of the step size, K
taps, F inner, Q query heads, G key/value heads, P head size, S room for keys, V vocabulary.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spellbound.jamba.ops.cpp.library import FLOAT, INT, LONG, POINTER, address, call, constant, structure

_Mamba = structure(
    ("norm in_proj in_bias conv_weight conv_bias x_proj dt_norm b_norm c_norm dt_proj dt_bias", POINTER),
    ("A_log skip out_proj out_bias window h next_window next_h", POINTER),
    ("H D", LONG),
    ("N R K", INT),
    ("eps", FLOAT),
)
_Attention = structure(
    ("norm q_proj k_proj v_proj o_proj keys values", POINTER),
    ("keys_at values_at page head_stride H Q G P past", LONG),
    ("eps", FLOAT),
)
_Rows = structure(("q y tables lengths", POINTER), ("rows Q G P keys_at values_at page head_stride", LONG))
_FeedForward = structure(
    ("norm router gate up down", POINTER), ("H F experts gate_expert", LONG), ("top_k", INT), ("eps", FLOAT)
)
_Layer = structure(
    ("mamba", _Mamba), ("attention", _Attention), ("feed_forward", _FeedForward), ("is_attention", LONG)
)
_Token = structure(("embedding norm head layers logits", POINTER), ("token count H V", LONG), ("eps", FLOAT))


class MambaWeights(NamedTuple):
    """Parameters of a Mamba mixer and the norm before it."""

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


class AttentionWeights(NamedTuple):
    """Parameters of an attention mixer and the norm before it."""

    norm_H: Tensor
    q_proj: Tensor  # (Q P, H)
    k_proj: Tensor  # (G P, H)
    v_proj: Tensor  # (G P, H)
    o_proj: Tensor  # (H, Q P)
    head_size: int


class FeedForwardWeights(NamedTuple):
    """Parameters of a feed-forward layer and the norm before it."""

    norm_H: Tensor
    router_EH: Tensor | None  # None for a layer without experts
    gate: Tensor  # (F, H), or with experts (E, 2 F, H), up behind gate
    up_FH: Tensor | None  # None with experts
    down: Tensor  # (H, F), or with experts (E, H, F)
    top_k: int


class MambaMemory(NamedTuple):
    """State of a Mamba mixer: the last inputs, of the weights' dtype, and float32; read only."""

    window_1KD: Tensor
    h_1DN: Tensor


class AttentionMemory(NamedTuple):
    """Keys and values, of the weights' dtype, of which ``past`` positions are filled; the next one is
    written."""

    keys_1GSP: Tensor
    values_1GSP: Tensor
    past: int


class Layout(NamedTuple):
    """Where one layer's keys and values lie within a page, in numbers: keys (G, page, P), values alike."""

    keys_at: int
    values_at: int
    page: int  # positions; a multiple of ``keys_at_once()``
    head_stride: int


class PagedMemory(NamedTuple):
    """Keys and values in pages, of which ``past`` positions are filled; the next one is written."""

    table: Any  # ctypes array of the pages' addresses
    layout: Layout
    past: int


Mixer = MambaWeights | AttentionWeights
Memory = MambaMemory | AttentionMemory | PagedMemory


class ModelWeights(NamedTuple):
    """Parameters of a model: contiguous, on the CPU, of one dtype, float32 or bfloat16."""

    embedding_VH: Tensor
    layers: Sequence[tuple[Mixer, FeedForwardWeights]]
    norm_H: Tensor
    head_VH: Tensor


class TokenStep:
    """The logits after one token; keeps the weights' addresses, so the weights must stay where they are."""

    def __init__(self, weights: ModelWeights, eps: float, instruction_set: str | None = None) -> None:
        self._weights, self._instruction_set = weights, instruction_set
        self._half = weights.norm_H.dtype == torch.bfloat16
        self._layers = (_Layer * len(weights.layers))()
        for entry, (mixer, feed_forward) in zip(self._layers, weights.layers, strict=True):
            if isinstance(mixer, MambaWeights):
                entry.mamba = _mamba(mixer, eps)
            else:
                entry.attention, entry.is_attention = _attention(mixer, eps), 1
            entry.feed_forward = _feed_forward(feed_forward, eps)
        pointers = map(address, (weights.embedding_VH, weights.norm_H, weights.head_VH))
        sizes = (0, len(weights.layers), *reversed(weights.head_VH.shape))
        self._token = _Token(*pointers, ctypes.addressof(self._layers), None, *sizes, eps)

    def __call__(self, token: int, memories: Sequence[Memory]) -> tuple[Tensor, list[MambaMemory]]:
        """Return the logits (V) in float32, and what the Mamba mixers remember then, in their order.

        ``token`` is an id within the vocabulary. Not to be called by two threads at once.
        """
        after, tables = [], []  # tables of one page, alive until the call
        for entry, memory in zip(self._layers, memories, strict=True):
            if isinstance(memory, MambaMemory):
                window, h = memory
                following = MambaMemory(torch.empty_like(window), torch.empty_like(h))
                after.append(following)
                mamba = entry.mamba
                mamba.window, mamba.h = window.data_ptr(), h.data_ptr()
                mamba.next_window, mamba.next_h = following[0].data_ptr(), following[1].data_ptr()
            elif isinstance(memory, PagedMemory):
                attention, attention.past = entry.attention, memory.past
                attention.keys = attention.values = ctypes.addressof(memory.table)
                attention.keys_at, attention.values_at, attention.page, attention.head_stride = memory.layout
            else:
                attention, keys = entry.attention, memory.keys_1GSP
                only = (POINTER * 2)(keys.data_ptr(), memory.values_1GSP.data_ptr())
                tables.append(only)
                attention.keys = ctypes.addressof(only)
                attention.values = attention.keys + ctypes.sizeof(POINTER)
                attention.keys_at = attention.values_at = 0
                attention.past, attention.page, attention.head_stride = (
                    memory.past,
                    keys.shape[2],
                    keys.stride(1),
                )
        logits_V = self._weights.head_VH.new_empty(len(self._weights.head_VH), dtype=torch.float32)
        self._token.token, self._token.logits = token, logits_V.data_ptr()
        call("token_step", self._instruction_set, self._half, 1, ctypes.addressof(self._token))
        return logits_V, after


def _mamba(weights: MambaWeights, eps: float) -> Any:
    (channels, states), rank = weights.A_log_DN.shape, len(weights.dt_norm_R)
    sizes = (len(weights.norm_H), channels, states, rank, weights.conv_weight.shape[-1])
    return _Mamba(*map(address, weights), None, None, None, None, *sizes, eps)


def _attention(weights: AttentionWeights, eps: float) -> Any:
    *tensors, head_size = weights
    query_heads, heads = (len(projection) // head_size for projection in (weights.q_proj, weights.k_proj))
    sizes = (len(weights.norm_H), query_heads, heads, head_size)
    return _Attention(*map(address, tensors), None, None, 0, 0, 0, 0, *sizes, 0, eps)


def _feed_forward(weights: FeedForwardWeights, eps: float) -> Any:
    hidden, inner = weights.down.shape[-2:]
    gate, up = weights.gate.data_ptr(), address(weights.up_FH)
    behind = gate + inner * hidden * weights.gate.element_size()
    router, experts = weights.router_EH, 0 if weights.router_EH is None else len(weights.router_EH)
    pointers = (weights.norm_H.data_ptr(), address(router), gate, up or behind, weights.down.data_ptr())
    return _FeedForward(*pointers, hidden, inner, experts, 2 * inner * hidden, weights.top_k, eps)


def attend_rows_cpp(
    q_BQP: Tensor, tables: Sequence[Any], lengths: Sequence[int], layout: Layout, heads: int
) -> Tensor:
    """Attend from one position of each sequence to the first ``lengths`` positions of its own pages.

    float32 or bfloat16, as the pages are. ``tables`` are ctypes arrays of addresses, ``heads`` is G.
    """
    q_BQP = q_BQP.contiguous()
    y_BQP = torch.empty_like(q_BQP)
    rows, queries, size = q_BQP.shape
    pointers = (POINTER * rows)(*map(ctypes.addressof, tables))
    counts = (LONG * rows)(*lengths)
    arguments = _Rows(
        q_BQP.data_ptr(),
        y_BQP.data_ptr(),
        ctypes.addressof(pointers),
        ctypes.addressof(counts),
        *(rows, queries, heads, size),
        *layout,
    )
    call("attend_rows", None, q_BQP.dtype == torch.bfloat16, 1, ctypes.addressof(arguments))
    return y_BQP


def linear_row_cpp(
    x: Tensor, weight_OI: Tensor, bias_O: Tensor | None, instruction_set: str | None = None
) -> Tensor:
    """Return ``weight @ x + bias`` for one row x, summed in float32; weight and bias contiguous, of one
    dtype."""
    outputs, inputs = weight_OI.shape
    wide = x.float().contiguous()
    y = wide.new_empty(*x.shape[:-1], outputs)
    half, pointers = weight_OI.dtype == torch.bfloat16, map(address, (weight_OI, bias_O, wide, y))
    call("multiply", instruction_set, half, outputs, inputs, *pointers)
    return y.to(x.dtype)


def keys_at_once() -> int:
    """Positions that a task of attention reads; a page has a multiple of them."""
    return constant("keys")


def most_experts() -> int:
    """Largest number of experts a step can choose from."""
    return constant("max_experts")


def most_taps() -> int:
    """Widest convolution a step can do."""
    return constant("max_taps")
