"""What may be written next: the protocol the decode loop speaks, and its llguidance implementation.

Tokens are numbers and bytes here. What a grammar means is the business of whoever wrote it.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from tokenizers import Tokenizer
from torch import Tensor

from spellbound.errors import InputError, ModelError

# Masks of free text are taken from these ready-made slices of the vocabulary (8.5 us a mask instead of 121).
_SLICES = ("[^<>]{1,10}", "[^<>]{1,30}", "[^<>]+")

# Of a grammar that means everything in countless ways; others wait meanwhile. 10,000 items take 30 ms, the
# library's own 50,000 took 2.4 s, and an object of 300 alternatives needs 1,500.
_LIMITS = LLParserLimits(step_max_items=10_000)


class Constraint(Protocol):
    """Decides, token by token, what may come next. It starts at the first written token, after the prompt."""

    def allowed(self) -> Tensor:
        """Return a bool row over the vocabulary, True where the token may come next, stop tokens included."""

    def commit(self, token: int) -> None:
        """Take the token that was chosen; it has to be an allowed one."""

    @property
    def finished(self) -> bool:
        """Whether what was committed so far is complete, so that the text may end here."""


def forbid(logits_V: Tensor, allowed_V: Tensor) -> Tensor:
    """Set every logit that is not allowed to -inf."""
    return logits_V.masked_fill(~allowed_V, float("-inf"))


class Vocabulary:
    """A tokenizer as llguidance sees it, built once; makes one constraint for each grammar."""

    def __init__(self, tokenizer_json: str, *, size: int, stop_ids: Sequence[int]) -> None:
        """Read a tokenizer (the text of tokenizer.json); `size` is the model's vocabulary size."""
        try:
            pieces = _Pieces(tokenizer_json, size, stop_ids[0])
            self._tokenizer = LLTokenizer(
                TokenizerWrapper(pieces), n_vocab=size, eos_token=list(stop_ids), slices=list(_SLICES)
            )
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"the tokenizer cannot be read for the constraint: {_first_line(error)}"
            ) from error
        special = set(pieces.special_token_ids)
        self._bytes = [b"" if token in special else piece for token, piece in enumerate(pieces.tokens)]
        self.size = size

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes a token stands for; none for a special or an unused one."""
        return self._bytes[token]

    def constraint(self, grammar: str) -> "GrammarConstraint":
        """Return a fresh constraint for a llguidance Lark grammar."""
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
        if matcher.is_error():
            raise InputError(f"the grammar cannot be used: {_first_line(matcher.get_error())}")
        return GrammarConstraint(matcher, self.size)


class _Pieces:
    """What `TokenizerWrapper` asks of a tokenizer.

    llguidance's own reader takes every added token that looks like `<…>` for a special one, even if the
    tokenizer says it is not: tags that are one token could then never be written. So the bytes of the tokens
    are taken from that reader, and which of them are special from the tokenizer.
    """

    bos_token_id = None

    def __init__(self, tokenizer_json: str, size: int, eos_token_id: int) -> None:
        reader = LLTokenizer(tokenizer_json, n_vocab=size, eos_token=eos_token_id, slices=[])
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self.eos_token_id = eos_token_id
        used = [self._tokenizer.id_to_token(token) is not None for token in range(size)]
        self.tokens = [bytes(reader.decode_bytes([token])) if used[token] else b"" for token in range(size)]
        added = self._tokenizer.get_added_tokens_decoder()
        self.special_token_ids = [token for token, piece in added.items() if piece.special]

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids


class GrammarConstraint:
    """A place in a grammar; moves with every committed token."""

    def __init__(self, matcher: LLMatcher, size: int) -> None:
        """Wrap a matcher at its start."""
        self._matcher = matcher
        self._size = size

    def allowed(self) -> Tensor:
        """Return the mask of the next token."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        return torch.from_numpy(np.unpackbits(bits, bitorder="little", count=self._size).view(np.bool_))

    def commit(self, token: int) -> None:
        """Advance by one token."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def finished(self) -> bool:
        """Whether the grammar accepts what was written so far."""
        return bool(self._matcher.is_accepting())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise InputError(f"the constraint cannot go on: {_first_line(self._matcher.get_error())}")


def _first_line(error: object) -> str:
    """Keep the part of llguidance's message that says what is wrong, not the dump of its state."""
    return str(error).partition("\n")[0]
