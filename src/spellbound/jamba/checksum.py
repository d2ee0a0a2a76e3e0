"""Sums of a tensor's bits in whole numbers, so that they are the same on every device.

R rows of C words.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

_ROW = 1 << 14  # words that one sum is of
_ROWS_ON_CPU, _ROWS_ELSEWHERE = 16, 1024  # summed at once: what stays in a cache, what keeps a GPU busy


def bit_sums(tensor: Tensor) -> bytes:
    """Return a sum for each row of 32-bit words, each word weighted by its place; no tensor is copied whole.

    A single bit changes it for certain; words, or whole rows, that change places do but for chance.
    """
    words = _words(tensor)
    weights_C = _weights().to(words.device)
    whole = len(words) - len(words) % _ROW
    rows = _ROWS_ON_CPU if words.device.type == "cpu" else _ROWS_ELSEWHERE
    parts = words[:whole].view(-1, _ROW).split(rows)
    # In 64 bits: else two signs that change would take each other's place in the sum.
    sums = [part_RC.long().mul_(weights_C).sum(1) for part_RC in parts if len(part_RC)]
    rest = words[whole:]
    sums.append((rest.long() * weights_C[: len(rest)]).sum()[None])
    return torch.cat(sums).cpu().numpy().astype("<i8").tobytes()


def _words(tensor: Tensor) -> Tensor:
    """Return a tensor's bytes as 32-bit words; zeros fill the last one."""
    flat = tensor.detach().flatten()
    size, offset = flat.element_size(), flat.storage_offset()
    if (len(flat) * size) % 4 or (offset * size) % 4:
        flat = torch.nn.functional.pad(flat.view(torch.uint8), (0, -len(flat) * size % 4))
    return flat.view(torch.int32)


@cache
def _weights() -> Tensor:
    """Return an odd number for each place of a row (splitmix64, doi:10.1145/2714064.2660195)."""
    mixed = np.arange(1, _ROW + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return torch.from_numpy((mixed ^ (mixed >> np.uint64(31)) | np.uint64(1)).view(np.int64))
