"""Text to tokens, where most of the text was encoded before: only what was added is encoded anew.

A prompt of a long story is the last one with something more near its end. Tokenizers look at a few words at a
time, so the tokens of what did not change are those of before, up to a little before the change.
"""

from bisect import bisect_right
from collections import OrderedDict
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

_KEPT = 256  # texts
_KEPT_CHARACTERS = 1 << 25  # of all of them; with their tokens a hundred to two hundred megabytes
_SHORT = 4096  # characters up to which all of a text is encoded
_AGAIN = 512  # characters before the change that are encoded anew
_AGREED = 128  # of these in a row have to give the tokens they gave


class Encoded:
    """A text, its tokens, and the characters up to which each of them goes."""

    def __init__(self, text: str, ids: NDArray[np.int32], ends: NDArray[np.int64]) -> None:
        self.text, self.ids, self.ends = text, ids, ends

    def tokens_before(self, character: int) -> int:
        """Return how many tokens end at or before this character."""
        return bisect_right(self.ends, character)


class GrowingEncoder:
    """A tokenizer that remembers the last texts. For any number of threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: OrderedDict[str, Encoded] = OrderedDict()
        self._characters = 0
        self._lock = Lock()
        self.encoded_characters = 0
        """Given to the tokenizer so far."""

    def encode(self, text: str) -> Encoded:
        """Return the tokens that the tokenizer gives for the text as it stands, none added."""
        if len(text) <= _SHORT:
            return self._whole(text)
        with self._lock:
            known = list(self._known.values())
        near = max(((_common(each.text, text), each) for each in known), key=_first, default=None)
        encoded = None if near is None else self._grown(text, near[1], near[0])
        if encoded is None:
            encoded = self._whole(text)
        self._keep(encoded)
        return encoded

    def _keep(self, encoded: Encoded) -> None:
        with self._lock:
            if self._known.pop(encoded.text, None) is None:
                self._characters += len(encoded.text)
            self._known[encoded.text] = encoded
            while len(self._known) > _KEPT or (len(self._known) > 1 and self._characters > _KEPT_CHARACTERS):
                text, _ = self._known.popitem(last=False)
                self._characters -= len(text)

    def _grown(self, text: str, known: Encoded, common: int) -> Encoded | None:
        """Encode from a place before the change on; None if that does not come to the tokens of before."""
        if common == len(text) == len(known.text):
            return known
        first = _first_token(known, common - _AGAIN)
        if not first:
            return None
        begin = int(known.ends[first - 1])
        tail = self._whole(text[begin:])
        # A word in the middle of what is encoded twice: up to there both have to agree. Where no word begins,
        # the first tokens behind the cut may be others.
        limit = common - _AGAIN // 2
        at, at_tail = known.tokens_before(limit), tail.tokens_before(limit - begin)
        agreed = _agreed(known, at, tail, at_tail, begin)
        start = known.ends[at - agreed] if agreed else limit
        if limit - start < _AGREED:
            return None
        ids = np.concatenate([known.ids[:at], tail.ids[at_tail:]])
        return Encoded(text, ids, np.concatenate([known.ends[:at], tail.ends[at_tail:] + begin]))

    def _whole(self, text: str) -> Encoded:
        self.encoded_characters += len(text)
        found = self._tokenizer.encode(text, add_special_tokens=False)
        ends = np.fromiter((end for _, end in found.offsets), np.int64)
        return Encoded(text, np.asarray(found.ids, np.int32), ends)


def _first(pair: tuple[int, Encoded]) -> int:
    return pair[0]


def _first_token(known: Encoded, character: int) -> int:
    """Return the number of the token to begin at, before this character; 0 if there is none.

    It is one that begins a word, or in a stretch without spaces whichever is nearest.
    """
    nearest = known.tokens_before(character) if character > 0 else 0
    for token in range(nearest, max(0, nearest - _AGAIN), -1):
        place = int(known.ends[token - 1])
        if known.text[place : place + 1] == " " and known.text[place - 1].isalnum():
            return token
    return nearest


def _agreed(known: Encoded, at: int, tail: Encoded, at_tail: int, begin: int) -> int:
    """Return how many tokens before these places are the same ones of the same text."""
    size = min(at, at_tail)
    one, other = slice(at - size, at), slice(at_tail - size, at_tail)
    differ = np.flatnonzero(
        (known.ids[one] != tail.ids[other]) | (known.ends[one] != tail.ends[other] + begin)
    )
    return size - 1 - int(differ[-1]) if len(differ) else size


def _common(one: str, other: str) -> int:
    """Return how many first characters are the same, by stretches that grow and then shrink again."""
    at, size, limit = 0, 64, min(len(one), len(other))
    while at + size <= limit and one[at : at + size] == other[at : at + size]:
        at, size = at + size, 2 * size
    while size:
        if at + size <= limit and one[at : at + size] == other[at : at + size]:
            at += size
        size //= 2
    return at
