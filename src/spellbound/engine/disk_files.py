"""Files of the story cache: safetensors with a checksum, whole or not there. They know no model."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from spellbound.files import replacing
from spellbound.jamba.storing import storing

if TYPE_CHECKING:
    from spellbound.engine.cache import Ids

FORMAT = "spellbound-story-cache/2"
_BROKEN = (SafetensorError, KeyError, ValueError)


class Lost(Exception):
    """A file that is of no use any more: `why` is gone or damaged."""

    def __init__(self, path: Path, why: str) -> None:
        """Name the file."""
        super().__init__(f"{path}: {why}")
        self.name, self.why = path.name, why


@dataclass(frozen=True)
class Header:
    """What a file says of itself, its states and pages not read."""

    name: str
    page: str
    """Name of the full page before it; nothing for the first."""
    space: str
    ids: Ids
    """Its own."""
    logits: bool
    nbytes: int
    used: float
    """When, in seconds since 1970."""


def look(path: Path) -> Header:
    """Read what a file says of itself; Lost if it is none, OSError or RuntimeError if that cannot be said."""
    try:
        with safe_open(path, framework="pt") as stored:
            told = stored.metadata() or {}
            ids = stored.get_tensor("ids")
            if told["format"] != FORMAT or told["name"] != path.name or ids.dtype != torch.int32:
                raise ValueError("another file's content")
            logits = "logits" in stored.keys()  # noqa: SIM118
        known = path.stat()
    except OSError as error:
        _require_there(path, error)
        raise
    except _BROKEN as error:
        raise Lost(path, "damaged") from error
    own = ids.numpy().astype(np.int32)
    return Header(path.name, told["page"], told["space"], own, logits, known.st_size, known.st_mtime)


def read(path: Path) -> dict[str, Tensor]:
    """Return a file's tensors as they were written; Lost if they are not there any more, OSError or
    RuntimeError if they cannot be read now."""
    try:
        with safe_open(path, framework="pt") as stored:
            told = stored.metadata() or {}
            # A copy: else a file that was removed takes up its place as long as its numbers are in use.
            tensors = {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118
        if told.pop("sum") != _checksum(tensors, told):
            raise ValueError("its checksum does not fit")
    except OSError as error:
        _require_there(path, error)
        raise
    except _BROKEN as error:
        raise Lost(path, "damaged") from error
    return tensors


def write(path: Path, tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> None:
    """Write a file, and with format, name and checksum what it tells of itself; InputError if that fails."""
    whole = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    told = {**told, "format": FORMAT, "name": path.name}
    with replacing(path) as draft, storing():
        save_file(whole, draft, metadata={**told, "sum": _checksum(whole, told)})


def _require_there(path: Path, error: OSError) -> None:
    """Raise Lost for a file that is gone, or what keeps it from being opened; safetensors says neither."""
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise Lost(path, "gone") from error


def _checksum(tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> str:
    """Return a sum of a file's content."""
    total = zlib.crc32(repr(sorted(told.items())).encode())
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        if tensor.numel():  # an empty one of numpy's torch does not take for bytes
            total = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, total)
    return f"{total:08x}"
