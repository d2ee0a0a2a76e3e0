"""A request that is worked on: how far its prompt is read, what is kept of it, whom it waits for, what is
written next. V vocabulary."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from time import perf_counter
from typing import NamedTuple, cast

import torch
from torch import Tensor

from spellbound.engine.cache import StoryCache, shared_length
from spellbound.engine.constraint import forbid
from spellbound.engine.requests import FinishReason, Ticket
from spellbound.engine.sampling import sample, scores
from spellbound.errors import InputError
from spellbound.jamba import JambaForCausalLM, SequenceState, new_sequence

_SPACING = 1024
"""Prompt tokens between two snapshots of a long prompt, and half of them at least to one kept anyway."""
_WORTH_WAITING = 64  # tokens that another request is about to read, too; states for that lie so far apart


class Lead(NamedTuple):
    """Who reads the same beginning just now, and how many tokens of it."""

    stream: Stream
    until: int

    @property
    def over(self) -> bool:
        """Whether the state there is kept, or will not come."""
        return self.stream.left or self.stream.at >= self.until


class Stream:
    """A request that is worked on."""

    def __init__(self, ticket: Ticket, model: JambaForCausalLM, cache: StoryCache, space: str) -> None:
        """Begin behind what the cache has in this space."""
        self.ticket, self.request = ticket, ticket.request
        self.left = False
        """Nothing more is read or written."""
        self.written: list[int] = []
        self.fed = 0
        """Of the written tokens: read by the model."""
        self.logits_V: Tensor | None = None
        self._random = torch.Generator().manual_seed(self.request.params.seed)
        self._clock = perf_counter()
        self.prompt = ticket.prompt
        ticket.stats.queue_seconds = self._clock - ticket.entered
        self._model, self._cache, self.space = model, cache, space
        limit = model.config.max_position_embeddings - len(self.prompt)
        self._budget = min(self.request.params.max_tokens, limit)
        self.writing = False
        self.lead: Lead | None = None
        """Whom it waits for."""
        self.look_up()

    def look_up(self) -> None:
        """Begin behind what the cache has of the prompt."""
        ids, self.lead = self.prompt, None
        found = self._cache.find(ids, self.space)
        self.at = self.ticket.stats.reused_tokens = found.length
        self.state: SequenceState = (
            new_sequence(self._model) if found.snapshot is None else found.snapshot.state.fork()
        )
        self._marks: deque[int] = deque(self._places([*self.request.boundaries, found.shared]))
        if found.snapshot is not None and self.at == len(ids):  # nothing to read: the logits are known
            self.logits_V = found.snapshot.logits_V
            self.begin_writing()

    def _places(self, wanted: list[int]) -> list[int]:
        """Return where in the prompt states are kept, what is known already left out, its end the last."""
        end = len(self.prompt)
        kept = [self.at, *sorted({end, *(place for place in wanted if self.at < place < end)})]
        # One beside another would cost a step and a state to save no more than half a step.
        apart = [
            place
            for before, after in pairwise(kept)
            for place in range(before - before % _SPACING, after, _SPACING)
            if before + _SPACING // 2 <= place <= after - _SPACING // 2
        ]
        return sorted([*kept[1:], *apart])

    @property
    def reading(self) -> bool:
        """Whether tokens of its prompt are read now."""
        return not (self.left or self.writing or self.lead)

    def follow(self, others: Sequence[Stream]) -> None:
        """Wait for that one of the others which is about to read most of the same, if that is worth it."""
        if self.writing or not self._cache.max_bytes:
            return
        leads = [Lead(other, self._shared(other)) for other in others if other.reading and other is not self]
        ahead = [each for each in leads if each.until >= max(self.at + _WORTH_WAITING, each.stream.at + 1)]
        if ahead:
            self.lead = max(ahead, key=lambda lead: lead.until)
            self.lead.stream.keep_at(self.lead.until)

    def _shared(self, other: Stream) -> int:
        """Return behind how many tokens both could go on from one state."""
        if other.space != self.space:
            return 0
        shared = shared_length(self.prompt, other.prompt)
        if shared == len(other.prompt):  # there it stops anyway
            return shared
        # Behind the last token of a prompt the logits are wanted, too, and only its own reader makes them.
        shared = min(shared, len(self.prompt) - 1)
        return shared - shared % _WORTH_WAITING

    def keep_at(self, place: int) -> None:
        """Have the state there kept, too."""
        if place not in self._marks:
            self._marks = deque(sorted([*self._marks, place]))

    def mark(self) -> int:
        """Return the next place in the prompt whose state is kept; no piece goes beyond it."""
        return self._marks[0]

    def wants_logits(self, end: int) -> bool:
        """Whether a prediction is needed behind so much of the prompt."""
        return end == len(self.prompt)

    def read(self, count: int) -> bool:
        """Count prompt tokens as read; return whether the state here is to be kept."""
        self.at += count
        self.ticket.stats.prefill_tokens += count
        at_mark: bool = self.at == self._marks[0]
        if at_mark:
            self._marks.popleft()
        return at_mark

    def begin_writing(self) -> None:
        """End the reading of the prompt."""
        now = perf_counter()
        self.ticket.stats.prefill_seconds = now - self._clock
        self._clock, self.writing = now, True

    def stop_clock(self) -> None:
        """Count the time until now."""
        if self.writing:
            self.ticket.stats.decode_seconds = perf_counter() - self._clock

    def choose(self) -> FinishReason | None:
        """Choose the next token and hand it out; return why nothing follows, if nothing does."""
        request, writer = self.request, self.request.writer
        logits_V = cast("Tensor", self.logits_V)
        allowed_V = self._allowed(len(logits_V))
        if allowed_V is not None:
            logits_V = forbid(logits_V, allowed_V)
        window = request.params.repetition_window
        recent = [
            token for token in self.written[-window:] if window and token not in request.never_penalised
        ]
        token = sample(logits_V, request.params, recent, self._random)
        if token in request.stop_ids:
            return "stop"
        if request.constraint is not None:
            request.constraint.commit(token)
        if request.logprobs is not None:
            self.ticket.scores.append(scores(cast("Tensor", self.logits_V), token, request.logprobs))
        self.written.append(token)
        self.ticket.stats.written_tokens += 1
        if writer is not None:
            writer.write(token)
        self.ticket.tokens.put(token)
        if writer is not None and writer.done:
            return "writer"
        return "length" if len(self.written) == self._budget else None

    def _allowed(self, size: int) -> Tensor | None:
        """Return what may come next; None if everything may."""
        request = self.request
        allowed_V = request.constraint.allowed() if request.constraint is not None else None
        if allowed_V is not None and not bool(allowed_V.any()):
            raise InputError(
                "the constraint allows no token at all here; write without it, or mend its grammar"
            )
        if request.writer is None or not request.stop_ids or not request.writer.wants_more:
            return allowed_V
        held_V = torch.ones(size, dtype=torch.bool) if allowed_V is None else allowed_V.clone()
        held_V[list(request.stop_ids)] = False
        return held_V if bool(held_V.any()) else allowed_V
