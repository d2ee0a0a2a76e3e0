"""Words of a text as numbers, so that long texts can be compared quickly. The same in every process."""

import re
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint64]

_WORD = re.compile(r"\w+")
_SPACE = 32
_BASE = np.uint64(0x9E3779B97F4A7C15)
# An array: numpy warns when scalars wrap round, which is meant here.
_RUN = np.array([0xD6E8FEB86659FD93], np.uint64)


def _powers(base: np.uint64, count: int) -> Hashes:
    return np.cumprod(np.full(count, base, np.uint64), dtype=np.uint64)


_PLACES = _powers(_BASE, 256)


def words_of(text: str) -> list[str]:
    """Return the words in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def word_hashes(words: list[str]) -> Hashes:
    """Return 64 bits a word."""
    if not words:
        return np.zeros(0, np.uint64)
    data = np.frombuffer((" ".join(words) + " ").encode(), np.uint8)
    ends = np.flatnonzero(data == _SPACE)
    starts = np.concatenate(([0], ends[:-1] + 1))
    places = np.arange(len(data)) - np.repeat(starts, ends - starts + 1)
    weighed = data.astype(np.uint64) * _PLACES[places & 255]
    return mixed(np.add.reduceat(weighed, starts))


def run_hashes(hashes: Hashes, length: int) -> Hashes:
    """Return 64 bits for every run of so many words, in order; none if there are fewer words.

    A run's number is put together from those of runs half as long: log2(length) passes.
    """
    count = len(hashes) - length + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    found, covered = np.zeros(count, np.uint64), 0
    block, size, factor = hashes, 1, _RUN
    while covered < length:
        if length & size:
            found = found * factor + block[covered : covered + count]
            covered += size
        if covered < length:
            block = block[:-size] * factor + block[size:]
            size, factor = 2 * size, factor * factor
    return mixed(found)


def mixed(hashes: Hashes) -> Hashes:
    """Spread 64 bits evenly (the finaliser of SplitMix64)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))
