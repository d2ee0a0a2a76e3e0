"""Grouped-query causal attention without positions: in Jamba the Mamba layers tell the order.

B batch, T time, S keys so far, H hidden, Q query heads, G key/value heads, P head size.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import JambaConfig

from spellbound.jamba.documents import Documents
from spellbound.jamba.state import AttentionState

_MASK_ELEMENTS = 1 << 24  # largest mask that exists at once when a chunk continues a long story


class Attention(nn.Module):
    """Self-attention over everything read so far in the same document."""

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.head_size = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
        self.kv_heads, self.dropout = config.num_key_value_heads, config.attention_dropout
        query_size, kv_size = config.num_attention_heads * self.head_size, self.kv_heads * self.head_size
        self.q_proj = nn.Linear(hidden, query_size, bias=False)
        self.k_proj = nn.Linear(hidden, kv_size, bias=False)
        self.v_proj = nn.Linear(hidden, kv_size, bias=False)
        self.o_proj = nn.Linear(query_size, hidden, bias=False)

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
        if documents is not None:
            mixed = self._attend_documents(q_BQTP, k_BGTP, v_BGTP, documents)
        elif state is not None:
            keys, values = state.append(k_BGTP, v_BGTP)
            mixed = self._attend(q_BQTP, keys.to(q_BQTP.dtype), values.to(q_BQTP.dtype))
        else:
            mixed = self._attend(q_BQTP, k_BGTP, v_BGTP)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _attend(self, q_BQTP: Tensor, k_BGSP: Tensor, v_BGSP: Tensor) -> Tensor:
        """Causal attention of the last T of S positions."""
        time, keys = q_BQTP.shape[2], k_BGSP.shape[2]
        past = keys - time
        if past == 0 or time == 1:
            return self._sdpa(q_BQTP, k_BGSP, v_BGSP, causal=time > 1)
        rows = max(1, _MASK_ELEMENTS // keys)
        parts = []
        for begin in range(0, time, rows):
            end = min(begin + rows, time)
            mask = torch.ones(end - begin, past + end, dtype=torch.bool, device=q_BQTP.device).tril(
                past + begin
            )
            parts.append(
                self._sdpa(
                    q_BQTP[:, :, begin:end], k_BGSP[:, :, : past + end], v_BGSP[:, :, : past + end], mask=mask
                )
            )
        return torch.cat(parts, 2)

    def _attend_documents(
        self, q_BQTP: Tensor, k_BGTP: Tensor, v_BGTP: Tensor, documents: Documents
    ) -> Tensor:
        # One product a document: no (T, T) mask, and the work falls to the sum of the squares of their
        # lengths.
        rows = []
        for row, lengths in enumerate(documents.lengths):
            pieces = zip(
                *(tensor[row : row + 1].split(lengths, 2) for tensor in (q_BQTP, k_BGTP, v_BGTP)), strict=True
            )
            rows.append(torch.cat([self._attend(q, k, v) for q, k, v in pieces], 2))
        return torch.cat(rows, 0)

    def _sdpa(
        self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, mask: Tensor | None = None
    ) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal, enable_gqa=True
        )
