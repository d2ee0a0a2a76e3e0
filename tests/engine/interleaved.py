"""Turns, forks, undos, cancellations, adapters and restarts in any order, against a plain oracle.

Run by itself it goes on until it is killed: ``python -m tests.engine.interleaved FOLDER SEED``, where the
folder holds the story cache and the adapters.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from itertools import count
from pathlib import Path
from typing import NamedTuple

from spellbound.engine import Disk, Engine, Generation, Request, SamplingParams, StoryCache
from tests.conftest import make_model
from tests.engine.test_adapters import write_adapter

ADAPTERS = ("anna", "bert")


def story(seed: int, length: int) -> list[int]:
    draw = random.Random(seed)
    return [1, *(draw.randrange(3, 320) for _ in range(length - 1))]


def greedy(tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=tokens)


class Written(NamedTuple):
    """A request that is worked on, and what came of it so far."""

    generation: Generation
    ids: list[int]
    tokens: list[int]


def write_adapters(folder: Path) -> None:
    """Put the adapters where :class:`Interleaved` finds them."""
    for seed, name in enumerate(ADAPTERS):
        write_adapter(folder / name, seed)


class Interleaved:
    """An engine with a disk, used by nobody for anything sensible. The oracle is one without any memory."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._draw = folder, random.Random(seed)
        self._model = make_model()
        self._oracle = Engine(make_model(), cache=StoryCache(max_bytes=0))
        self._engine = self._new_engine()
        for name in ADAPTERS:
            self._oracle.add_adapter(name, folder / name)
        # The same ones for every seed: after a kill they are met again.
        self._branches = [story(number, 30) for number in range(5)]
        self._running: list[Written] = []
        self.done: Counter[str] = Counter()
        """Of each operation how many, the tokens found in the cache and the texts compared among them."""

    def step(self) -> None:
        """Do one thing, whatever it is."""
        what, some = self._draw.random(), bool(self._running)
        if what < 0.4 and len(self._running) < 8:
            self._next_turn()
        elif what < 0.75 and some:
            self._go_on(self._draw.choice(self._running), self._draw.randrange(1, 6))
        elif what < 0.9 and some:
            self._to_the_end()
        elif what < 0.97 and some:
            self._undo()
        elif what > 0.99:
            self._restart()

    def close(self) -> None:
        """End, as a program does."""
        for written in self._running:
            written.generation.close()
        self._running.clear()
        self._engine.close()

    def _new_engine(self) -> Engine:
        disk = Disk(self._folder / "cache", self._model, max_bytes=1 << 21)
        cache = StoryCache(max_bytes=1 << 20, disk=disk)
        engine = Engine(self._model, cache=cache, chunk=48, max_streams=6)
        for name in ADAPTERS:
            engine.add_adapter(name, self._folder / name)
        return engine

    def _next_turn(self) -> None:
        draw = self._draw
        ids = [*draw.choice(self._branches), *story(draw.randrange(10**6), draw.randrange(1, 25))[1:]]
        if len(ids) > 400:
            ids = ids[:30]
        request = Request(
            prompt_ids=ids,
            params=greedy(draw.randrange(1, 12)),
            boundaries=(len(ids) // 2,) if draw.random() < 0.3 else (),
            space=draw.choice(("a", "a", "b")),
            adapter=draw.choice((None, None, None, *ADAPTERS)),
        )
        self._running.append(Written(self._engine.generate(request), ids, []))
        self.done["submitted"] += 1

    def _go_on(self, written: Written, tokens: int) -> None:
        written.tokens.extend(token for _, token in zip(range(tokens), written.generation, strict=False))

    def _take(self) -> Written:
        return self._running.pop(self._draw.randrange(len(self._running)))

    def _to_the_end(self) -> None:
        """Write one to its end, compare it, and let a story go on from there."""
        written = self._take()
        self._go_on(written, 1000)
        generation, ids, tokens = written
        request = generation.request
        assert generation.finish_reason == "length"
        asked = Request(prompt_ids=ids, params=request.params, adapter=request.adapter)
        assert tokens == list(self._oracle.generate(asked)), (request.adapter, request.space, ids)
        self._branches[self._draw.randrange(5)] = [*ids, *tokens]
        self.done["compared"] += 1
        self.done["compared with adapters"] += request.adapter is not None
        self.done["found"] += generation.stats.reused_tokens

    def _undo(self) -> None:
        """Break one off, and go on from somewhere within it."""
        generation, ids, tokens = self._take()
        generation.close()
        self._branches[self._draw.randrange(5)] = [*ids, *tokens][: self._draw.randrange(20, len(ids) + 1)]
        self.done["cancelled"] += 1

    def _restart(self) -> None:
        self.close()
        self._engine = self._new_engine()
        self.done["restarted"] += 1


if __name__ == "__main__":
    endless = Interleaved(Path(sys.argv[1]), int(sys.argv[2]))
    for operation in count(1):
        endless.step()
        if operation % 20 == 0:
            sys.stdout.write(f"{endless.done['compared']} {endless.done['found']}\n")
            sys.stdout.flush()
