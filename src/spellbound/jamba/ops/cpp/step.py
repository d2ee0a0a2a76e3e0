"""One token of each of some rows through a whole model in one call (``csrc/step_kernel.h``), and attention of
one token each alone. No gradients.

Decoding is a few thousand small operations a second; here the weights' addresses are written down once, and
a token of all rows costs one call. B rows, E experts, H hidden, D channels, N states, R rank of the step
size, K taps, F inner, Q query heads, G key/value heads, P head size, V vocabulary.
"""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from spellbound.jamba.ops.cpp.library import FLOAT, INT, LONG, POINTER, address, call, constant, structure

_LowRank = structure(("A B", POINTER), ("rank", LONG), ("scale", FLOAT))
_Mamba = structure(
    ("norm in_proj in_bias conv_weight conv_bias x_proj dt_norm b_norm c_norm dt_proj dt_bias", POINTER),
    ("A_log skip out_proj out_bias windows h next_windows next_h", POINTER),
    ("H D", LONG),
    ("N R K", INT),
    ("eps", FLOAT),
    ("in_low x_low dt_low out_low", _LowRank),
)
_Pages = structure(("keys values lengths", POINTER), ("keys_at values_at page head_stride", LONG))
_Attention = structure(
    ("norm q_proj k_proj v_proj o_proj", POINTER),
    ("pages", _Pages),
    ("H Q G P", LONG),
    ("eps", FLOAT),
    ("q_low k_low v_low o_low", _LowRank),
)
_Rows = structure(("q y", POINTER), ("pages", _Pages), ("rows Q G P", LONG))
_FeedForward = structure(
    ("norm router gate up down", POINTER),
    ("H F experts gate_expert", LONG),
    ("top_k", INT),
    ("eps", FLOAT),
    ("router_low gate_low up_low down_low", _LowRank),
)
_Layer = structure(
    ("mamba", _Mamba), ("attention", _Attention), ("feed_forward", _FeedForward), ("is_attention", LONG)
)
_Token = structure(
    ("embedding norm head layers tokens logits", POINTER), ("rows count H V", LONG), ("eps", FLOAT)
)
_OF_FEED_FORWARD = ("router", "gate", "up", "down")


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


class LowRankChange(NamedTuple):
    """An adapter beside a product, ``scale * B A`` in float32: A (R, I), B (O, R), with experts (E, R, I) and
    (E, O, R). Of an expert's one product for gate and up, each has its half of B."""

    A: Tensor
    B: Tensor
    scale: float


class MambaMemory(NamedTuple):
    """Where the rows' states of a Mamba mixer lie, read only: the last inputs (K - 1, D), of the weights'
    dtype, and float32 (D, N)."""

    windows: Sequence[int]
    h: Sequence[int]


class Layout(NamedTuple):
    """Where one layer's keys and values lie within a page, in numbers: keys (G, page, P), values alike."""

    keys_at: int
    values_at: int
    page: int  # positions; a multiple of ``keys_at_once()``, or of all there are
    head_stride: int


class PagedMemory(NamedTuple):
    """The rows' keys and values in pages, of the weights' dtype, of which the first positions are filled;
    the last one of ``lengths`` is written."""

    keys: Sequence[Any]  # ctypes arrays of the pages' addresses
    values: Sequence[Any]
    lengths: Sequence[int]
    layout: Layout


Mixer = MambaWeights | AttentionWeights
Changes = Mapping[str, LowRankChange]
"""What adapters add to a layer's products: in, x, dt, out · q, k, v, o · router, gate, up, down."""
Memory = MambaMemory | PagedMemory


class ModelWeights(NamedTuple):
    """Parameters of a model: contiguous, on the CPU, of one dtype, float32 or bfloat16."""

    embedding_VH: Tensor
    layers: Sequence[tuple[Mixer, FeedForwardWeights]]
    norm_H: Tensor
    head_VH: Tensor
    changes: Sequence[Changes] = ()  # of each layer; none where nothing is adapted


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
        for entry, changes in zip(self._layers, weights.changes, strict=False):
            mixing = entry.attention if entry.is_attention else entry.mamba
            for name, change in changes.items():
                part = entry.feed_forward if name in _OF_FEED_FORWARD else mixing
                factors, rank = map(Tensor.data_ptr, change[:2]), change.A.shape[-2]
                setattr(part, f"{name}_low", _LowRank(*factors, rank, change.scale))
        pointers = map(address, (weights.embedding_VH, weights.norm_H, weights.head_VH))
        sizes = (0, len(weights.layers), *reversed(weights.head_VH.shape))
        self._token = _Token(*pointers, ctypes.addressof(self._layers), None, None, *sizes, eps)

    def __call__(
        self, tokens: Sequence[int], memories: Sequence[Memory]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return the logits (B, V) in float32, and what the Mamba mixers remember then, in their order: the
        last inputs (B, K - 1, D) and the states (B, D, N).

        ``tokens`` are ids within the vocabulary, ``memories`` one for each layer. What becomes of a row does
        not depend on the others. Not to be called by two threads at once.
        """
        rows, after = len(tokens), []
        arrays: list[Any] = []  # alive until the call
        for entry, memory, (mixer, _) in zip(self._layers, memories, self._weights.layers, strict=True):
            if isinstance(memory, MambaMemory):
                following = _states(cast("MambaWeights", mixer), rows)
                after.append(following)
                mamba, pointers = entry.mamba, POINTER * rows
                windows, h = pointers(*memory.windows), pointers(*memory.h)
                arrays += [windows, h]
                mamba.windows, mamba.h = ctypes.addressof(windows), ctypes.addressof(h)
                mamba.next_windows, mamba.next_h = map(Tensor.data_ptr, following)
            else:
                entry.attention.pages = _pages(memory, arrays)
        logits_BV = self._weights.head_VH.new_empty(rows, len(self._weights.head_VH), dtype=torch.float32)
        token = self._token
        ids = (LONG * rows)(*tokens)
        token.rows, token.tokens, token.logits = rows, ctypes.addressof(ids), logits_BV.data_ptr()
        call("token_step", self._instruction_set, self._half, 1, ctypes.addressof(token))
        return logits_BV, after


def _states(weights: MambaWeights, rows: int) -> tuple[Tensor, Tensor]:
    taps, sizes = weights.conv_weight.shape[-1], weights.A_log_DN.shape
    windows = weights.conv_weight.new_empty(rows, taps - 1, sizes[0])
    return windows, weights.A_log_DN.new_empty(rows, *sizes, dtype=torch.float32)


def _pages(memory: PagedMemory, arrays: list[Any]) -> Any:
    """Return the struct; ``arrays`` takes what it points to."""
    tables, rows = (memory.keys, memory.values), len(memory.lengths)
    keys, values = ((POINTER * rows)(*map(ctypes.addressof, each)) for each in tables)
    own: list[Any] = [keys, values, (LONG * rows)(*memory.lengths)]
    arrays += own
    return _Pages(*map(ctypes.addressof, own), *memory.layout)


def _mamba(weights: MambaWeights, eps: float) -> Any:
    (channels, states), rank = weights.A_log_DN.shape, len(weights.dt_norm_R)
    sizes = (len(weights.norm_H), channels, states, rank, weights.conv_weight.shape[-1])
    return _Mamba(*map(address, weights), None, None, None, None, *sizes, eps)


def _attention(weights: AttentionWeights, eps: float) -> Any:
    *tensors, head_size = weights
    query_heads, heads = (len(projection) // head_size for projection in (weights.q_proj, weights.k_proj))
    sizes = (len(weights.norm_H), query_heads, heads, head_size)
    return _Attention(*map(address, tensors), _Pages(), *sizes, eps)


def _feed_forward(weights: FeedForwardWeights, eps: float) -> Any:
    hidden, inner = weights.down.shape[-2:]
    gate, up = weights.gate.data_ptr(), address(weights.up_FH)
    behind = gate + inner * hidden * weights.gate.element_size()
    router, experts = weights.router_EH, 0 if weights.router_EH is None else len(weights.router_EH)
    pointers = (weights.norm_H.data_ptr(), address(router), gate, up or behind, weights.down.data_ptr())
    return _FeedForward(*pointers, hidden, inner, experts, 2 * inner * hidden, weights.top_k, eps)


def attend_rows_cpp(q_BQP: Tensor, memory: PagedMemory, heads: int) -> Tensor:
    """Attend from one position of each row to all positions of its pages, the last one written too.

    float32 or bfloat16, as the pages are. ``heads`` is G.
    """
    q_BQP = q_BQP.contiguous()
    y_BQP = torch.empty_like(q_BQP)
    rows, queries, size = q_BQP.shape
    arrays: list[Any] = []
    arguments = _Rows(q_BQP.data_ptr(), y_BQP.data_ptr(), _pages(memory, arrays), rows, queries, heads, size)
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


def most_taps() -> int:
    """Widest convolution a step can do."""
    return constant("max_taps")
