"""Many passages by one model: processes of one thread each, every one with the model loaded once."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue

import torch
from transformers.utils.logging import disable_progress_bar

from spellbound.directives import StoryPrompt
from spellbound.engine import StoryCache
from spellbound.errors import EnvironmentFault
from spellbound.story import Ending, WriteOptions, collect
from spellbound.story.completion import Failed, StoryTold
from spellbound.story.local import LocalGenerator


@dataclass(frozen=True, kw_only=True)
class Task:
    """One passage to write."""

    prompt: StoryPrompt
    seed: int
    constrained: bool
    temperature: float
    max_tokens: int


@dataclass(frozen=True)
class Written:
    """A passage and what was wrong with it as it came from the model."""

    text: str
    mended: int
    """Flaws of the markup that the generator mended in `text`."""
    ended: bool
    """The model ended it by itself, before the limit."""


class _Worker:
    """What each process keeps."""

    generator: LocalGenerator


def write_all(
    tasks: Sequence[Task], model: Path, adapter: Path | None, processes: int, together: int = 64
) -> Iterator[Written]:
    """Yield what is written for each task, in order; the same however many processes there are.

    `together`: passages that a process writes at once, so that a step reads the weights once for all of them.

    Raises ModelError for a model or adapter that cannot be used, EnvironmentFault if a process was killed.
    """
    _load(model, adapter)  # here, too: what is wrong with it is said by this process
    batches = list(_batches(tasks, together))
    if processes == 1:
        for batch in batches:
            yield from _write(batch)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, initializer=_load, initargs=(model, adapter)) as pool:
        try:
            for written in pool.map(_write, batches):
                yield from written
        except BrokenProcessPool as error:
            raise EnvironmentFault(
                "a process that wrote was ended from outside; free some memory, or give --processes 1"
            ) from error


def _batches(tasks: Sequence[Task], together: int) -> Iterator[list[Task]]:
    """Yield neighbours in the order they came, all passages of one prompt in one batch."""
    batch: list[Task] = []
    for _, same in groupby(tasks, key=lambda task: task.prompt):
        siblings = list(same)
        if batch and len(batch) + len(siblings) > together:
            yield batch
            batch = []
        batch += siblings
    if batch:
        yield batch


def _load(model: Path, adapter: Path | None) -> None:
    torch.set_num_threads(1)
    disable_progress_bar()  # transformers' own, of loading
    _Worker.generator = LocalGenerator(model, adapter=adapter, device="cpu", dtype="float32")


def _write(tasks: Sequence[Task]) -> list[Written]:
    """Write passages together, each of which comes out as it would alone.

    Only single tokens are read in common, and a row of such a step has the bits that it has alone. So the
    prompts are read before, one after another; and what earlier prompts left is forgotten, for a state that
    was gone on from may differ in its last digits.
    """
    generator = _Worker.generator
    generator.engine.cache = StoryCache()
    for prompt, _ in groupby(task.prompt for task in tasks):
        collect(generator.write(prompt, WriteOptions(seed=0, max_tokens=1)))
    told: list[SimpleQueue[StoryTold]] = []
    for task in tasks:
        told.append(SimpleQueue())
        generator.start_passage(task.prompt, _options(task), told[-1].put)
    return [_written(pieces) for pieces in told]


def _options(task: Task) -> WriteOptions:
    return WriteOptions(
        seed=task.seed, constrain=task.constrained, temperature=task.temperature, max_tokens=task.max_tokens
    )


def _written(told: SimpleQueue[StoryTold]) -> Written:
    text, ending = collect(_pieces(told))
    return Written(text, len(ending.repairs), ending.reason == "stop")


def _pieces(told: SimpleQueue[StoryTold]) -> Iterator[str | Ending]:
    """Yield what is told as it comes, and raise what it failed of."""
    while True:
        piece = told.get()
        if isinstance(piece, Failed):
            raise piece.error
        yield piece
