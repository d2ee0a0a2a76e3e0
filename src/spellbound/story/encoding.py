"""Text to tokens, where most of the text was encoded before: only what was added is encoded anew.

A prompt of a long story is the last one with something more near its end. Tokenizers look at a few words at a
time, so the tokens of what did not change are those of before, up to a little before the change.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

_KEPT = 16  # texts
_SHORT = 4096  # characters up to which all of a text is encoded
_AGAIN = 512  # characters before the change that are encoded anew, and have to give the tokens they gave


class Encoded:
    """A text, its tokens, and the characters up to which each of them goes."""

    def __init__(self, text: str, ids: NDArray[np.int32], ends: NDArray[np.int64]) -> None:
        self.text, self.ids, self.ends = text, ids, ends

    def tokens_before(self, character: int) -> int:
        """Return how many tokens end at or before this character."""
        return bisect_right(self.ends, character)


class GrowingEncoder:
    """A tokenizer that remembers the last texts. For any number of threads."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._known: OrderedDict[str, Encoded] = OrderedDict()
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
        with self._lock:
            self._known[text] = encoded
            self._known.move_to_end(text)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return encoded

    def _grown(self, text: str, known: Encoded, common: int) -> Encoded | None:
        """Encode from a word before the change on; None if the tokens there are not those of before."""
        if common == len(text) == len(known.text):
            return known
        begin = _word_before(text, common - _AGAIN)
        first = bisect_left(known.ends, begin)
        if begin <= 0 or first == len(known.ends) or known.ends[first] != begin:
            return None
        first += 1  # the first token behind that place
        tail = self._whole(text[begin:])
        # A word in the middle of what is encoded twice: up to there both have to agree.
        same = bisect_right(known.ends, common - _AGAIN // 2) - first
        if same <= 0 or not np.array_equal(tail.ids[:same], known.ids[first : first + same]):
            return None
        ids = np.concatenate([known.ids[:first], tail.ids])
        return Encoded(text, ids, np.concatenate([known.ends[:first], tail.ends + begin]))

    def _whole(self, text: str) -> Encoded:
        self.encoded_characters += len(text)
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = np.fromiter((end for _, end in found["offset_mapping"]), np.int64)
        return Encoded(text, np.asarray(found["input_ids"], np.int32), ends)


def _first(pair: tuple[int, Encoded]) -> int:
    return pair[0]


def _word_before(text: str, place: int) -> int:
    """Return the nearest place at or before which a word ends and a space begins; 0 if there is none."""
    while place > 0 and not (text[place] == " " and text[place - 1].isalnum()):
        place -= 1
    return max(0, place)


def _common(one: str, other: str) -> int:
    """Return how many first characters are the same: by halves, since comparing stretches is quick."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
