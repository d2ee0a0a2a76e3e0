"""Texts that nearly repeat others: MinHash over runs of five words, and locality-sensitive hashing.

A text's signature is the least value of each of 120 hash functions over its runs; the share of equal values
in two signatures estimates the share of runs that the two texts have in common (Jaccard; standard error 0.04
at 0.8). Texts whose signatures agree in one of 20 bands of six values are compared: two texts of similarity s
are with probability 1 - (1 - s^6)^20, 0.998 at 0.8. Method: A. Broder, On the resemblance and containment of
documents, 1997; bands: J. Leskovec et al., Mining of Massive Datasets, chapter 3.

Texts made from one template agree in bands without being near-duplicates. Of such a crowd, each is compared
with the first 64 that differ from one another: the time grows with the number of texts, not with its square.

A text costs 332 bytes of disk; memory does not grow with their number.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spellbound.data.words import Hashes, run_hashes

RUN = 5
LEAST_WORDS = 12
"""Shorter texts are alike too easily: they are not compared."""
BANDS, BAND = 20, 6
MOST_COMPARED = 64

_WIDTH = 2 * BANDS * BAND
_BLOCK = 4096
_AT_ONCE = 2**22
_PLACE = np.dtype([("file", "<u4"), ("row", "<u4")])
_RANDOM = np.random.default_rng(20_26)
_FACTORS = _RANDOM.integers(0, 2**32, BANDS * BAND, np.uint32)[:, None] | np.uint32(1)
_ADDENDS = _RANDOM.integers(0, 2**32, BANDS * BAND, np.uint32)[:, None]
_BAND_FACTORS = _RANDOM.integers(0, 2**32, (BANDS, BAND), np.uint32) | np.uint32(1)


class Near(NamedTuple):
    """A text and an earlier one that it nearly repeats, each as (file, row)."""

    place: tuple[int, int]
    first: tuple[int, int]
    similarity: float


class NearDuplicates:
    """Takes texts one by one; says at the end which of them nearly repeat an earlier one."""

    def __init__(self, folder: Path, similarity: float) -> None:
        """Begin with none, in a folder for the signatures."""
        self._folder, self._similarity = folder, similarity
        self._files: list[IO[bytes]] = [
            path.open("wb") for path in (self._signatures, self._places, *self._bands)
        ]
        self._waiting: list[tuple[int, int, NDArray[np.uint32]]] = []
        self._count = 0

    @property
    def _signatures(self) -> Path:
        return self._folder / "signatures"

    @property
    def _places(self) -> Path:
        return self._folder / "places"

    @property
    def _bands(self) -> list[Path]:
        return [self._folder / f"band-{band}" for band in range(BANDS)]

    def add(self, file: int, row: int, text: NDArray[np.uint32]) -> None:
        """Take a text, given as its signature."""
        self._waiting.append((file, row, text))
        if len(self._waiting) == _BLOCK:
            self._write()

    def found(self) -> Iterator[Near]:
        """The texts that nearly repeat an earlier one, in order, each once."""
        self._write()
        self.close()
        if not self._count:
            return
        places = np.memmap(self._places, _PLACE, "r")
        firsts = np.memmap(self._folder / "firsts", np.uint32, "w+", shape=(self._count,))
        firsts[:] = np.arange(self._count, dtype=np.uint32)
        with self._signatures.open("rb") as signatures:
            for band in self._bands:
                for alike in _groups(band, self._count):
                    self._compare(alike, signatures, firsts)
            for start in range(0, self._count, _AT_ONCE):
                block = np.asarray(firsts[start : start + _AT_ONCE])
                for place in start + np.flatnonzero(block != np.arange(start, start + len(block))):
                    one, two = _read(signatures, np.array([place, firsts[place]]))
                    share = float((one == two).mean())
                    yield Near(_pair(places[place]), _pair(places[firsts[place]]), share)

    def close(self) -> None:
        """Take no more texts."""
        for file in self._files:
            file.close()

    def _write(self) -> None:
        """Move what waits to the disk."""
        if not self._waiting:
            return
        whole = np.stack([each for _, _, each in self._waiting])
        keys = (whole.reshape(-1, BANDS, BAND) * _BAND_FACTORS).sum(axis=2, dtype=np.uint32)
        places = np.array([(file, row) for file, row, _ in self._waiting], _PLACE)
        for file, block in zip(self._files, [whole.astype(np.uint16), places, *keys.T], strict=True):
            file.write(np.ascontiguousarray(block).tobytes())
        self._count += len(self._waiting)
        self._waiting.clear()

    def _compare(self, alike: NDArray[np.uint32], signatures: IO[bytes], firsts: "np.memmap") -> None:
        """Put down the earliest text that is near enough; those far from all before are compared with."""
        chosen: list[tuple[np.uint32, NDArray[np.uint16]]] = []
        for at in range(0, len(alike), _BLOCK):
            rest = alike[at : at + _BLOCK]
            read = _read(signatures, rest)
            compared = 0
            while len(rest) and compared < MOST_COMPARED:
                if compared == len(chosen):
                    chosen.append((rest[0], read[0]))
                    rest, read = rest[1:], read[1:]
                first, own = chosen[compared]
                near = np.count_nonzero(read == own, axis=1) >= self._similarity * len(own)
                firsts[rest[near]] = np.minimum(firsts[rest[near]], first)
                rest, read = rest[~near], read[~near]
                compared += 1


def _read(signatures: IO[bytes], texts: NDArray[np.integer[Any]]) -> NDArray[np.uint16]:
    """The signatures of some texts. Not mapped: what the system maps round each would count as our memory."""
    data = b"".join(os.pread(signatures.fileno(), _WIDTH, int(text) * _WIDTH) for text in texts)
    return np.frombuffer(data, np.uint16).reshape(-1, BANDS * BAND)


def signature(words: Hashes) -> NDArray[np.uint32] | None:
    """The least value of every hash function over a text's runs of five words; None for short texts."""
    if len(words) < LEAST_WORDS:
        return None
    runs = run_hashes(words, RUN).astype(np.uint32)
    least = np.full(BANDS * BAND, 2**32 - 1, np.uint32)
    for at in range(0, len(runs), _BLOCK):
        np.minimum(least, (runs[at : at + _BLOCK] * _FACTORS + _ADDENDS).min(axis=1), out=least)
    return least


def _groups(band: Path, count: int) -> Iterator[NDArray[np.uint32]]:
    """Groups of texts with the same key in a band, each in order; so many keys at once as fit into memory."""
    parts = -(-count // _AT_ONCE)
    for part in range(parts):
        keys, texts = _keys(band, part, parts)
        order = np.argsort(keys, kind="stable")
        keys, texts = keys[order], texts[order]
        same = keys[1:] == keys[:-1]
        starts = np.flatnonzero(same & ~np.concatenate(([False], same[:-1])))
        ends = np.flatnonzero(same & ~np.concatenate((same[1:], [False]))) + 2
        for start, end in zip(starts, ends, strict=True):
            yield texts[start:end]


def _keys(band: Path, part: int, parts: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The keys of a part, and the numbers of their texts."""
    keys, texts = [], []
    with band.open("rb") as file:
        start = 0
        while len(block := np.fromfile(file, np.uint32, _AT_ONCE)):
            chosen = np.flatnonzero(block % np.uint32(parts) == part).astype(np.uint32)
            keys.append(block[chosen])
            texts.append(chosen + np.uint32(start))
            start += len(block)
    return np.concatenate(keys), np.concatenate(texts)


def _pair(place: np.void) -> tuple[int, int]:
    return int(place["file"]), int(place["row"])
