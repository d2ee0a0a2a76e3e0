"""Many passages by one model: processes of one thread each, every one with the model loaded once."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from spellbound.directives import StoryPrompt
from spellbound.engine import StoryCache
from spellbound.errors import EnvironmentFault
from spellbound.story import WriteOptions, collect
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


def write_all(tasks: Sequence[Task], model: Path, adapter: Path | None, processes: int) -> Iterator[Written]:
    """Yield what is written for each task, in order; the same for any number of processes.

    Raises ModelError for a model or adapter that cannot be used, EnvironmentFault if a process was killed.
    """
    _load(model, adapter)  # here, too: what is wrong with it is said by this process
    groups = [list(group) for _, group in groupby(tasks, key=lambda task: task.prompt)]
    if processes == 1:
        for group in groups:
            yield from _write(group)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, initializer=_load, initargs=(model, adapter)) as pool:
        try:
            for written in pool.map(_write, groups):
                yield from written
        except BrokenProcessPool as error:
            raise EnvironmentFault(
                "a process that wrote was ended from outside; free some memory, or give --processes 1"
            ) from error


def _load(model: Path, adapter: Path | None) -> None:
    torch.set_num_threads(1)
    disable_progress_bar()  # transformers' own, of loading
    _Worker.generator = LocalGenerator(model, adapter=adapter, device="cpu", dtype="float32")


def _write(tasks: Sequence[Task]) -> list[Written]:
    """Write the passages of one prompt, which is read once.

    What other prompts left is forgotten first: which of them came before depends on the other processes, and
    a state that was gone on from may differ in its last digits.
    """
    generator = _Worker.generator
    generator.engine.cache = StoryCache()
    return [_written(generator, task) for task in tasks]


def _written(generator: LocalGenerator, task: Task) -> Written:
    options = WriteOptions(
        seed=task.seed, constrain=task.constrained, temperature=task.temperature, max_tokens=task.max_tokens
    )
    text, ending = collect(generator.write(task.prompt, options))
    return Written(text, len(ending.repairs), ending.reason == "stop")
