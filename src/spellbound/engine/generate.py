"""One sequence at a time: read the prompt, then choose, yield and feed back one token after another.

Shapes: B batch (always 1), T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from spellbound.engine.cache import PrefixCache
from spellbound.engine.constraint import Constraint, forbid
from spellbound.engine.params import SamplingParams
from spellbound.engine.sampling import sample
from spellbound.errors import InputError, ModelError

if TYPE_CHECKING:
    from spellbound.jamba import JambaForCausalLM, JambaState

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt in tokens, and how to go on from it."""

    prompt_ids: Sequence[int]
    params: SamplingParams
    stop_ids: frozenset[int] = frozenset()
    """Tokens that end the text; they are never yielded."""
    constraint: Constraint | None = None
    """A fresh one: it moves with the written tokens."""
    boundaries: Sequence[int] = ()
    """Prompt positions whose state is worth keeping: a later prompt may begin with the tokens before them."""
    never_penalised: frozenset[int] = frozenset()
    """Tokens that may come as often as they like (punctuation, markup), whatever the repetition penalty."""


@dataclass(kw_only=True)
class Stats:
    """What one generation cost. Seconds are the engine's own; the time a reader takes is not counted."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    """Of the prompt: not run, because a kept state already held them."""
    prefill_tokens: int = 0
    """Of the prompt: run through the model."""
    prefill_seconds: float = 0.0
    written_tokens: int = 0
    decode_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Written tokens a second, reading the prompt not counted."""
        return self.written_tokens / self.decode_seconds if self.decode_seconds else 0.0


class Engine:
    """A model and the states it has already computed. Not for two threads at a time."""

    def __init__(
        self, model: JambaForCausalLM, *, cache: PrefixCache | None = None, chunk: int = 2048
    ) -> None:
        """Write with `model`; keep states in `cache`; read prompts in chunks of so many tokens."""
        if chunk < 1:
            raise ModelError(f"chunk is {chunk}; give how many prompt tokens to read at once, 1 or more")
        self.model = model.eval()
        self.cache = PrefixCache() if cache is None else cache
        self.chunk = chunk

    def generate(self, request: Request, cancelled: Callable[[], bool] = lambda: False) -> Generation:
        """Check the request and return its tokens, computed as they are taken.

        `cancelled` is asked between chunks of the prompt and between tokens.
        """
        self._check(request)
        return Generation(self, request, cancelled)

    def forward(self, ids: Sequence[int], state: JambaState) -> Tensor:
        """Advance `state` by `ids` and return the logits of the next token, float32 on the CPU."""
        input_ids_BT = torch.tensor([list(ids)], dtype=torch.long, device=self.model.device)
        with torch.inference_mode():
            logits_BTV = self.model(input_ids_BT, state=state, logits_to_keep=1).logits
            row_V: Tensor = logits_BTV[0, -1].float().cpu()
        return row_V

    def _check(self, request: Request) -> None:
        """Refuse what the model would otherwise fail on deep inside."""
        if not request.prompt_ids:
            raise ModelError("the prompt has no tokens; give at least the start token")
        size = self.model.config.vocab_size
        for place, token in enumerate(request.prompt_ids):
            if not 0 <= token < size:
                raise ModelError(
                    f"token {token} at place {place} of the prompt is not in the vocabulary of {size};"
                    " use the tokenizer that belongs to the model"
                )
        unknown = sorted(token for token in request.stop_ids if not 0 <= token < size)
        if unknown:
            raise ModelError(f"stop token {unknown[0]} is not in the vocabulary of {size}")
        length, limit = len(request.prompt_ids), self.model.config.max_position_embeddings
        if length >= limit:
            raise ModelError(
                f"the prompt has {length} tokens and the model reads fewer than {limit};"
                " shorten the past story"
            )


class Generation:
    """The tokens of one request, an iterator that can be closed at any time."""

    def __init__(self, engine: Engine, request: Request, cancelled: Callable[[], bool]) -> None:
        """Prepare; nothing runs before the first token is taken."""
        self._engine = engine
        self._request = request
        self._cancelled = cancelled
        self._random = torch.Generator().manual_seed(request.params.seed)
        self._written: list[int] = []
        self._tokens = self._run()
        self.hold_stop = False
        """While true, stop tokens are not chosen as long as anything else may come."""
        self.finish_reason: FinishReason = "cancelled"
        """Why it ended; `cancelled` also when it was closed early. To be read after the end."""
        self.stats = Stats(prompt_tokens=len(request.prompt_ids))

    def __iter__(self) -> Iterator[int]:
        """Return itself."""
        return self

    def __next__(self) -> int:
        """Compute the next token."""
        return next(self._tokens)

    def close(self) -> None:
        """End now; what was computed stays in the cache."""
        self._tokens.close()

    def _run(self) -> Generator[int, None, None]:
        """Read the prompt, then write until something ends it."""
        read = self._read_prompt()
        if read is None:
            return
        state, logits_V = read
        limit = self._engine.model.config.max_position_embeddings - len(self._request.prompt_ids)
        budget = min(self._request.params.max_tokens, limit)
        fed = 0
        try:
            while not self._cancelled():
                token = self._choose(logits_V)
                if token in self._request.stop_ids:
                    self.finish_reason = "stop"
                    return
                self._written.append(token)
                self.stats.written_tokens += 1
                yield token
                if len(self._written) == budget:
                    self.finish_reason = "length"
                    return
                logits_V = self._feed(token, state)
                fed += 1
        finally:
            self._keep_reply(fed, state, logits_V)

    def _keep_reply(self, fed: int, state: JambaState, logits_V: Tensor) -> None:
        """Keep the state at the reply's end, unless an interrupt left it ahead of the logits."""
        prompt_ids = self._request.prompt_ids
        if fed and state.length == len(prompt_ids) + fed:
            self._engine.cache.put([*prompt_ids, *self._written[:fed]], state, logits_V)

    def _read_prompt(self) -> tuple[JambaState, Tensor] | None:
        """Return state and logits at the prompt's end, going on from what is known; None if cancelled."""
        ids, cache, began = self._request.prompt_ids, self._engine.cache, perf_counter()
        known = cache.longest(ids)
        state = known.state.clone() if known else self._engine.model.new_state(1)
        logits_V = known.logits_V if known else torch.empty(0)
        self.stats.reused_tokens = len(known.ids) if known else 0
        for start, stop, keep in self._pieces(self.stats.reused_tokens):
            if self._cancelled():
                return None
            logits_V = self._engine.forward(ids[start:stop], state)
            self.stats.prefill_tokens += stop - start
            if keep:
                cache.put(ids[:stop], state, logits_V, copy=True)
        self.stats.prefill_seconds = perf_counter() - began
        return state, logits_V

    def _pieces(self, start: int) -> Iterator[tuple[int, int, bool]]:
        """Cut the rest of the prompt at the boundaries and into chunks: (start, stop, worth keeping)."""
        end = len(self._request.prompt_ids)
        marks = sorted({place for place in self._request.boundaries if start < place < end} | {end})
        for mark in marks:
            while start < mark:
                stop = min(start + self._engine.chunk, mark)
                yield start, stop, stop == mark
                start = stop

    def _choose(self, logits_V: Tensor) -> int:
        """Sample the next token under the constraint and the held stop."""
        began = perf_counter()
        request = self._request
        allowed_V = self._allowed(logits_V.shape[-1])
        if allowed_V is not None:
            logits_V = forbid(logits_V, allowed_V)
        recent = (
            self._written[-request.params.repetition_window :] if request.params.repetition_window else []
        )
        recent = [token for token in recent if token not in request.never_penalised]
        token = sample(logits_V, request.params, recent, self._random)
        if request.constraint is not None and token not in request.stop_ids:
            request.constraint.commit(token)
        self.stats.decode_seconds += perf_counter() - began
        return token

    def _allowed(self, size: int) -> Tensor | None:
        """Return what may come next; None if everything may."""
        constraint, stop_ids = self._request.constraint, self._request.stop_ids
        allowed_V = constraint.allowed() if constraint is not None else None
        if allowed_V is not None and not bool(allowed_V.any()):
            raise InputError(
                "the constraint allows no token at all here; write without it, or mend its grammar"
            )
        if not (self.hold_stop and stop_ids):
            return allowed_V
        held_V = torch.ones(size, dtype=torch.bool) if allowed_V is None else allowed_V.clone()
        held_V[list(stop_ids)] = False
        return held_V if bool(held_V.any()) else allowed_V

    def _feed(self, token: int, state: JambaState) -> Tensor:
        """Give the chosen token to the model."""
        began = perf_counter()
        logits_V = self._engine.forward([token], state)
        self.stats.decode_seconds += perf_counter() - began
        return logits_V
