"""Bits per byte: how well a model predicts text it has never seen, whatever its tokenizer."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from recipes.nano import packing
from recipes.nano.packing import IGNORED, Sequence

ROW = 512
"""Tokens a row; a longer text is cut, and each piece begins without what came before it."""
BATCH = 8


@dataclass(frozen=True)
class Measured:
    """What was found for one source."""

    documents: int
    bytes: int
    """UTF-8 bytes of the texts, prompts not counted."""
    bits: float

    @property
    def bits_per_byte(self) -> float:
        """Bits for each byte of text."""
        return self.bits / max(1, self.bytes)


def measure(model: nn.Module, sequences: Iterable[Sequence], text_bytes: int, row: int = ROW) -> Measured:
    """Bits that the model needs for the learnt tokens of these sequences: `text_bytes` of text."""
    given = list(sequences)
    cut = [piece for sequence in given for piece in packing.cut(sequence, row)]
    # By length, so that rows are full whatever the order of the documents.
    rows = list(packing.pack(sorted(cut, key=lambda piece: -len(piece.ids)), row))
    bits = sum(_bits(model, rows[start : start + BATCH], row) for start in range(0, len(rows), BATCH))
    return Measured(len(given), text_bytes, bits)


@torch.inference_mode()
def _bits(model: nn.Module, rows: list[list[Sequence]], length: int) -> float:
    made = [packing.arrays(row, length, 0) for row in rows]
    tokens, documents, learn = (torch.from_numpy(np.stack(kind)) for kind in zip(*made, strict=True))
    labels = tokens.long().masked_fill(~learn.bool(), IGNORED)
    logits = model(tokens.long(), document_ids=documents.long()).logits.float()
    nats = cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return float(nats) / math.log(2)
