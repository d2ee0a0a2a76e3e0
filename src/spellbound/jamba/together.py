"""Several sequences read in one pass over the weights, each as many tokens as it has.

Products see the tokens of all pieces one behind another; convolution, scan and attention see each sequence
with its own state. Pieces of one token come first, as one batch; where there are no others, a CPU reads them
in one call. No gradients.

X tokens of all pieces, B sequences, T tokens of one, H hidden, D channels, K window, N states, Q query heads,
G key/value heads, S positions so far, P head size, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from spellbound.errors import ModelError, StateError
from spellbound.jamba.attention import Attention, attend, flash, fold, merged
from spellbound.jamba.mamba import MambaMixer
from spellbound.jamba.ops import kind_for, selective_scan
from spellbound.jamba.ops.cpp.step import attend_rows_cpp
from spellbound.jamba.sequence import PAGE, MambaRow, SequenceState, paged
from spellbound.jamba.step import next_tokens

if TYPE_CHECKING:
    from spellbound.jamba.model import JambaDecoderLayer, JambaForCausalLM

_GATHERED = 16 * PAGE  # positions whose keys and values are put side by side at once


@dataclass(frozen=True)
class Piece:
    """Tokens to read next, the sequence they go on, and whether the logits behind them are wanted."""

    ids: Sequence[int]
    state: SequenceState
    wanted: bool = True


def read_together(model: "JambaForCausalLM", pieces: Sequence[Piece]) -> list[Tensor | None]:
    """Advance each sequence by its tokens; return the logits (V) behind each piece that wants them.

    The results are those of each sequence read alone, up to rounding; in one call of the CPU's, to the bit.
    Either all sequences advance or none.

    Raises:
        ModelError: no tokens, or one outside the vocabulary.
        StateError: a sequence of another model, or one that occurs twice.
    """
    _check(model, pieces)
    with torch.inference_mode():
        found = _step(model, pieces)
        return _read(model, pieces) if found is None else found


def _check(model: "JambaForCausalLM", pieces: Sequence[Piece]) -> None:
    if len({id(piece.state) for piece in pieces}) < len(pieces):
        raise StateError(
            "a sequence occurs twice among the pieces; fork it, or give one piece of all its tokens"
        )
    for piece in pieces:
        if piece.state.model is not model:
            raise StateError("the sequence belongs to another model object; use new_sequence(model)")
        if piece.state.dtype != model.dtype:
            raise StateError(
                f"the sequence is of {piece.state.dtype}, the model now of {model.dtype}; read it again"
            )
        if not len(piece.ids):
            raise ModelError("a piece has no tokens; leave it out")
        low, high = min(piece.ids), max(piece.ids)
        if low < 0 or high >= model.config.vocab_size:
            raise ModelError(
                f"token id {low if low < 0 else high} is outside the vocabulary of {model.config.vocab_size};"
                " use this model's own tokenizer"
            )


def _step(model: "JambaForCausalLM", pieces: Sequence[Piece]) -> list[Tensor | None] | None:
    """Read one token of each sequence in one call; None where there are more, or the modules have to."""
    if not pieces or any(len(piece.ids) > 1 for piece in pieces):
        return None
    rows_BV = next_tokens(model, [piece.ids[0] for piece in pieces], [piece.state for piece in pieces])
    if rows_BV is None:
        return None
    return [row_V if piece.wanted else None for piece, row_V in zip(pieces, rows_BV, strict=True)]


def _read(model: "JambaForCausalLM", pieces: Sequence[Piece]) -> list[Tensor | None]:
    order = sorted(range(len(pieces)), key=lambda place: len(pieces[place].ids) > 1)
    batch = _Batch([pieces[place] for place in order])
    base = model.model
    x_XH = base.embed_tokens(torch.tensor(batch.ids, device=model.device))
    mamba = attention = 0
    wanted_X = torch.tensor(batch.wanted, dtype=torch.long, device=model.device)
    for number, each in enumerate(base.layers):
        layer = cast("JambaDecoderLayer", each)
        mixer, normal_XH = layer.mixer, layer.input_layernorm(x_XH)
        if isinstance(mixer, MambaMixer):
            x_XH = x_XH + _mamba(mixer, normal_XH, batch, mamba)
            mamba += 1
        else:
            x_XH = x_XH + _attention(mixer, normal_XH, batch, attention)
            attention += 1
        if number == len(base.layers) - 1:
            x_XH = x_XH[wanted_X]
        if len(x_XH):
            x_XH = x_XH + layer.feed_forward(layer.pre_ff_layernorm(x_XH)[None])[0]
    logits_BV = model.lm_head(base.final_layernorm(x_XH)) if len(x_XH) else x_XH
    batch.advance()
    rows = iter(logits_BV)
    found: dict[int, Tensor | None] = {place: next(rows) if pieces[place].wanted else None for place in order}
    return [found[place] for place in range(len(pieces))]


class _Group:
    """Rows of as many tokens each, which convolution and scan take at once."""

    def __init__(self, begin: int, states: list[SequenceState], time: int) -> None:
        self.place = slice(begin, begin + len(states) * time)
        self.states, self.time = states, time
        self.after: list[tuple[Tensor, Tensor]] = []
        """Of each Mamba layer what the sequences remember behind these tokens."""

    def rows(self, x_XC: Tensor) -> Tensor:
        """Return the group's part of (X, C) as (B, T, C)."""
        return x_XC[self.place].unflatten(0, (len(self.states), self.time))

    def before(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return what the sequences remember in a Mamba layer: (B, K, D), (B, D, N)."""
        rows = [state.mamba[layer] for state in self.states]
        first = rows[0]
        together = len(first.ssm_BDN) == len(rows) and all(
            each.row == place and each.ssm_BDN is first.ssm_BDN for place, each in enumerate(rows)
        )
        if together:  # as the step before has left them
            return first.window_BKD, first.ssm_BDN
        windows, ssm = zip(*(each.tensors() for each in rows), strict=True)
        return torch.cat(windows), torch.cat(ssm)


class _Batch:
    """Pieces in order, those of one token first."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces
        self.ids = [token for piece in pieces for token in piece.ids]
        self.singles = [piece.state for piece in pieces if len(piece.ids) == 1]
        self.groups = [_Group(0, self.singles, 1)] if self.singles else []
        end, self.wanted = 0, []
        for piece in pieces:
            if len(piece.ids) > 1:
                self.groups.append(_Group(end, [piece.state], len(piece.ids)))
            end += len(piece.ids)
            if piece.wanted:
                self.wanted.append(end - 1)
            piece.state.reserve(len(piece.ids))

    def advance(self) -> None:
        """Let every sequence go on, now that all layers have read."""
        for group in self.groups:
            for row, state in enumerate(group.states):
                state.advance([MambaRow(*after, row) for after in group.after], group.time)


def _mamba(mixer: MambaMixer, x_XH: Tensor, batch: _Batch, layer: int) -> Tensor:
    x_XD, gate_XD = mixer.in_proj(x_XH).chunk(2, -1)
    parts, windows, befores = [], [], []
    for group in batch.groups:
        window_BKD, ssm_BDN = group.before(layer)
        mixed_BTD, window_BKD = mixer.conv1d(group.rows(x_XD), window_BKD, None)
        parts.append(mixed_BTD.flatten(0, 1))
        windows.append(window_BKD)
        befores.append(ssm_BDN)
    mixed_XD = _joined(parts)
    dt_XR, B_XN, C_XN = mixer.x_proj(mixed_XD).split(mixer.sizes, -1)
    dt_XD = mixer.dt_proj(mixer.dt_layernorm(dt_XR))
    B_XN, C_XN = mixer.b_layernorm(B_XN), mixer.c_layernorm(C_XN)
    decay_DN = mixer.decay()
    parts = []
    for group, window_BKD, ssm_BDN in zip(batch.groups, windows, befores, strict=True):
        y_BTD, ssm_BDN = selective_scan(
            group.rows(mixed_XD),
            group.rows(dt_XD),
            decay_DN,
            group.rows(B_XN),
            group.rows(C_XN),
            mixer.D,
            gate_BTD=group.rows(gate_XD),
            h0_BDN=ssm_BDN,
        )
        group.after.append((window_BKD, ssm_BDN))
        parts.append(y_BTD.flatten(0, 1))
    return mixer.out_proj(_joined(parts))


def _attention(mixer: Attention, x_XH: Tensor, batch: _Batch, layer: int) -> Tensor:
    q_XQP, k_XGP, v_XGP = (
        projection(x_XH).unflatten(-1, (-1, mixer.head_size))
        for projection in (mixer.q_proj, mixer.k_proj, mixer.v_proj)
    )
    parts, at = [], 0
    for piece in batch.pieces:
        end = at + len(piece.ids)
        keys, values = k_XGP[at:end], v_XGP[at:end]
        piece.state.write(layer, keys, values)
        if len(piece.ids) > 1:
            q, k, v = (each.transpose(0, 1)[None] for each in (q_XQP[at:end], keys, values))
            parts.append(_attend(q, k, v, piece.state, layer)[0].transpose(0, 1))
        at = end
    if batch.singles:
        parts.insert(0, _attend_one_each(q_XQP[: len(batch.singles)], batch.singles, layer))
    return mixer.o_proj(_joined(parts).flatten(1))


def _attend_one_each(q_BQP: Tensor, states: list[SequenceState], layer: int) -> Tensor:
    """Attend from the one position that each sequence has just written."""
    numbers = states[0].pages[0].numbers
    if kind_for(q_BQP) == "cpp" and numbers.dtype == q_BQP.dtype:
        return attend_rows_cpp(q_BQP, paged(states, layer), numbers.shape[2])
    rows = []
    for row_QP, state in zip(q_BQP, states, strict=True):
        keys, values = state.gather(layer, 0, state.length + 1)
        rows.append(attend(row_QP[None, :, None], keys.to(q_BQP.dtype), values.to(q_BQP.dtype))[:, :, 0])
    return torch.cat(rows)


def _attend(q_1QTP: Tensor, k_1GTP: Tensor, v_1GTP: Tensor, state: SequenceState, layer: int) -> Tensor:
    """Attend causally from T positions, which are written already, to all of the sequence: (1, Q, T, P)."""
    past, time = state.length, q_1QTP.shape[2]
    if q_1QTP.device.type != "cpu":
        keys, values = state.gather(layer, 0, past + time)
        return attend(q_1QTP, keys.to(q_1QTP.dtype), values.to(q_1QTP.dtype))
    # The past, of which all is seen, in parts; only a few of them are ever put side by side.
    sum_1QTP, lse_1QT = flash(q_1QTP, k_1GTP, v_1GTP, causal=True)
    folded = fold(q_1QTP, k_1GTP)
    for begin in range(0, past, _GATHERED):
        keys, values = state.gather(layer, begin, min(begin + _GATHERED, past))
        part = flash(folded, keys.to(q_1QTP.dtype), values.to(q_1QTP.dtype), causal=False)
        part_1QTP, part_1QT = (each.unflatten(2, (-1, time)).flatten(1, 2) for each in part)
        sum_1QTP, lse_1QT = merged(sum_1QTP, lse_1QT, part_1QTP, part_1QT)
    return sum_1QTP.to(q_1QTP.dtype)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
