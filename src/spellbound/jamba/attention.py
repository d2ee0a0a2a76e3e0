"""Grouped-query causal attention without positions: in Jamba the Mamba layers tell the order.

B batch, T time, S keys so far, H hidden, Q query heads, G key/value heads, R query heads that share a
key/value head, P head size.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import JambaConfig

from spellbound.jamba.documents import Documents
from spellbound.jamba.linear import Linear, filled
from spellbound.jamba.state import AttentionState

_MASK_ELEMENTS = 1 << 24  # largest mask that exists at once where nothing but a mask will do
_HALVES = (torch.bfloat16, torch.float16)  # what flash attention on a GPU takes
# A private operation of torch, and the only one on the CPU that also returns the log-sum-exp.
_FLASH_CPU: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
# Private, too: torch's public one for documents in a row changed its arguments with every release, and has no
# dropout.
_FLASH_GPU: Any = getattr(torch.ops.aten, "_flash_attention_forward", None)


class Attention(nn.Module):
    """Self-attention over everything read so far in the same document."""

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.head_size = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
        self.kv_heads, self.dropout = config.num_key_value_heads, config.attention_dropout
        query_size, kv_size = config.num_attention_heads * self.head_size, self.kv_heads * self.head_size
        self.q_proj = Linear(hidden, query_size, bias=False)
        self.k_proj = Linear(hidden, kv_size, bias=False)
        self.v_proj = Linear(hidden, kv_size, bias=False)
        self.o_proj = Linear(query_size, hidden, bias=False)

    def new_state(self, batch_size: int, dtype: torch.dtype) -> AttentionState:
        """Return the state before the first token: no keys, no values."""
        empty = torch.empty(
            batch_size, self.kv_heads, 0, self.head_size, dtype=dtype, device=self.k_proj.weight.device
        )
        return AttentionState(empty, empty.clone())

    def forward(self, x_BTH: Tensor, state: AttentionState | None, documents: Documents | None) -> Tensor:
        """Attend causally, also to what ``state`` holds, never across documents. Returns (B, T, H)."""
        q_BQTP, k_BGTP, v_BGTP = (
            projection(x_BTH).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        dropout = self.dropout if self.training else 0.0
        if documents is not None:
            mixed_BQTP = _attend_documents(q_BQTP, k_BGTP, v_BGTP, documents, dropout)
        elif state is not None:
            keys, values = state.append(k_BGTP, v_BGTP)
            mixed_BQTP = attend(q_BQTP, keys.to(q_BQTP.dtype), values.to(q_BQTP.dtype), dropout)
        else:
            mixed_BQTP = attend(q_BQTP, k_BGTP, v_BGTP, dropout)
        return self.o_proj(mixed_BQTP.transpose(1, 2).flatten(2))


def attend(q_BQTP: Tensor, k_BGSP: Tensor, v_BGSP: Tensor, dropout: float = 0.0) -> Tensor:
    """Attend causally from the last T of S positions. Returns (B, Q, T, P).

    Keys are never repeated for the query heads that share them. Memory grows with T and S, not with T x S;
    where gradients continue a state it is a mask of at most ``_MASK_ELEMENTS`` at a time.
    """
    time, past = q_BQTP.shape[2], k_BGSP.shape[2] - q_BQTP.shape[2]
    if time == 1:
        # Heads that share keys become neighbouring queries, so each key is fetched once for all of them.
        out_BGRP = scaled_dot_product_attention(fold(q_BQTP, k_BGSP), k_BGSP, v_BGSP, dropout_p=dropout)
        return out_BGRP.flatten(1, 2)[:, :, None]
    if past == 0:
        return scaled_dot_product_attention(
            q_BQTP, k_BGSP, v_BGSP, dropout_p=dropout, is_causal=True, enable_gqa=True
        )
    plain = torch.is_grad_enabled() or dropout > 0.0
    if q_BQTP.device.type == "cpu" and not plain:
        return _past_and_own(q_BQTP, k_BGSP, v_BGSP)
    if q_BQTP.device.type == "cuda" and q_BQTP.dtype in _HALVES and not plain:
        return _lower_right(q_BQTP, k_BGSP, v_BGSP)
    return _masked(q_BQTP, k_BGSP, v_BGSP, dropout)


def _past_and_own(q_BQTP: Tensor, k_BGSP: Tensor, v_BGSP: Tensor) -> Tensor:
    """Attend to the past, of which all is seen, and causally to the own T positions; weigh the two."""
    time, past = q_BQTP.shape[2], k_BGSP.shape[2] - q_BQTP.shape[2]
    folded = flash(fold(q_BQTP, k_BGSP), k_BGSP[:, :, :past], v_BGSP[:, :, :past], causal=False)
    past_BQTP, past_BQT = (part.unflatten(2, (-1, time)).flatten(1, 2) for part in folded)
    own_BQTP, own_BQT = flash(q_BQTP, k_BGSP[:, :, past:], v_BGSP[:, :, past:], causal=True)
    return merged(past_BQTP, past_BQT, own_BQTP, own_BQT)[0].to(q_BQTP.dtype)


def merged(a_BQTP: Tensor, a_BQT: Tensor, b_BQTP: Tensor, b_BQT: Tensor) -> tuple[Tensor, Tensor]:
    """Put together what :func:`flash` returned for two parts of the keys, each with its log-sum-exp."""
    share_BQT1 = torch.sigmoid(b_BQT - a_BQT)[..., None]
    wide = share_BQT1.dtype
    return torch.lerp(a_BQTP.to(wide), b_BQTP.to(wide), share_BQT1), torch.logaddexp(a_BQT, b_BQT)


def _lower_right(q_BQTP: Tensor, k_BGSP: Tensor, v_BGSP: Tensor) -> Tensor:
    """Attend by flash attention, which masks as it goes; without it torch makes the whole (T, S) mask."""
    mask: Any = causal_lower_right(q_BQTP.shape[2], k_BGSP.shape[2])
    return scaled_dot_product_attention(q_BQTP, k_BGSP, v_BGSP, attn_mask=mask, enable_gqa=True)


def fold(q_BQTP: Tensor, k_BGSP: Tensor) -> Tensor:
    """Return the R query heads of each key/value head as R x T queries of one: (B, G, R T, P)."""
    return q_BQTP.unflatten(1, (k_BGSP.shape[1], -1)).flatten(2, 3)


def flash(q_BQTP: Tensor, k_BGSP: Tensor, v_BGSP: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Attend on the CPU without gradients; causal only where T is S. Returns the output, like the query, and
    the log-sum-exp of the scores (B, Q, T) in float32 (float64 for float64)."""
    if _FLASH_CPU is None:
        return _with_scores(q_BQTP, k_BGSP, v_BGSP, causal=causal)
    # The operation takes any strides but that of the last dimension, where it reads what is not there.
    query, key, value = (
        tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (q_BQTP, k_BGSP, v_BGSP)
    )
    output, lse = _FLASH_CPU(query, key, value, 0.0, causal)
    return output, lse


def _with_scores(q_BQTP: Tensor, k_BGSP: Tensor, v_BGSP: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Do what :func:`flash` does by way of all the scores, for a torch without the operation."""
    wide = torch.promote_types(q_BQTP.dtype, torch.float32)
    q_BGRTP = q_BQTP.to(wide).unflatten(1, (k_BGSP.shape[1], -1))
    scores_BGRTS = q_BGRTP @ k_BGSP.to(wide)[:, :, None].mT * q_BQTP.shape[-1] ** -0.5
    if causal:
        seen_TS = torch.ones(scores_BGRTS.shape[-2:], dtype=torch.bool, device=q_BQTP.device).tril()
        scores_BGRTS = scores_BGRTS.masked_fill(~seen_TS, -torch.inf)
    out_BGRTP = scores_BGRTS.softmax(-1) @ v_BGSP.to(wide)[:, :, None]
    return out_BGRTP.flatten(1, 2).to(q_BQTP.dtype), scores_BGRTS.logsumexp(-1).flatten(1, 2)


def _masked(q_BQTP: Tensor, k_BGSP: Tensor, v_BGSP: Tensor, dropout: float) -> Tensor:
    """Attend under explicit masks, a block of queries at a time; differentiable, on any device."""
    time, keys = q_BQTP.shape[2], k_BGSP.shape[2]
    past, rows = keys - time, max(1, _MASK_ELEMENTS // keys)
    parts = []
    for begin in range(0, time, rows):
        end = min(begin + rows, time)
        seen_TS = torch.ones(end - begin, past + end, dtype=torch.bool, device=q_BQTP.device)
        parts.append(
            scaled_dot_product_attention(
                q_BQTP[:, :, begin:end],
                k_BGSP[:, :, : past + end],
                v_BGSP[:, :, : past + end],
                attn_mask=seen_TS.tril(past + begin),
                dropout_p=dropout,
                enable_gqa=True,
            )
        )
    return torch.cat(parts, 2)


def _attend_documents(
    q_BQTP: Tensor, k_BGTP: Tensor, v_BGTP: Tensor, documents: Documents, dropout: float
) -> Tensor:
    """Attend within each document: no (T, T) mask, and work of the sum of the squares of their lengths."""
    if q_BQTP.device.type == "cuda" and q_BQTP.dtype in _HALVES and _FLASH_GPU is not None:
        return _attend_packed(q_BQTP, k_BGTP, v_BGTP, documents, dropout)
    rows = []
    for row, lengths in enumerate(documents.lengths):
        pieces = zip(
            *(tensor[row : row + 1].split(lengths, 2) for tensor in (q_BQTP, k_BGTP, v_BGTP)), strict=True
        )
        # Nobody but themselves sees the zeros behind the last token.
        whole = [[filled(each) for each in piece] for piece in pieces]
        mixed = [
            attend(q, k, v, dropout)[:, :, :time] for time, (q, k, v) in zip(lengths, whole, strict=True)
        ]
        rows.append(torch.cat(mixed, 2))
    return torch.cat(rows, 0)


def _attend_packed(
    q_BQTP: Tensor, k_BGTP: Tensor, v_BGTP: Tensor, documents: Documents, dropout: float
) -> Tensor:
    """Attend in all documents of all rows by one launch of flash attention."""
    ends, longest = documents.ends
    rows_behind = (each.transpose(1, 2).flatten(0, 1) for each in (q_BQTP, k_BGTP, v_BGTP))
    mixed_XQP = _FLASH_GPU(*rows_behind, ends, ends, longest, longest, dropout, True, False)[0]
    return mixed_XQP.unflatten(0, (len(q_BQTP), -1)).transpose(1, 2)
