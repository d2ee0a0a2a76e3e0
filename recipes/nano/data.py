"""Write what nano's stages learn from the simulator: stories told whole, and examples to answer.

Seeds of stories and of examples are apart, so that no answer has been read before. The unseen seeds make the
examples that are only measured on.
"""

import argparse
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import TypeVar

from recipes.nano import console
from spellbound.data.documents import PARAGRAPH, Document
from spellbound.data.examples import Example
from spellbound.data.readers import write_documents
from spellbound.data.rows import write_examples
from spellbound.data.simulator import HELD_OUT_FROM, to_examples
from spellbound.errors import InputError

STORIES_FROM, EXAMPLES_FROM, RATED_FROM = 0, 1_000_000, 5_000_000
"""First seeds of the stories told whole, of the examples, and of the prompts whose answers are rated."""
AT_ONCE = 100
"""Seeds that a process takes at a time."""
Row = TypeVar("Row")


def require_apart(option: str, count: int, first: int, end: int) -> None:
    """Refuse a count whose seeds would reach those of another use."""
    if not 1 <= count <= end - first:
        raise InputError(f"--{option} {count}: give 1 to {end - first}, for other seeds begin at {end}")


def told_whole(seed: int, invented_names: float) -> Document:
    """A story with its cast and without instructions: all that its last example has, past and answer."""
    last = to_examples(seed, invented_names=invented_names)[-1]
    story = PARAGRAPH.join(part for part in (last.prompt.past_story, last.completion) if part)
    prompt = replace(last.prompt, past_story=story, instructions=())
    return Document(
        id=last.source, text=prompt.render(), language="en", source="simulator", licence=last.licence
    )


def unseen(count: int) -> Iterator[Example]:
    """One example of each of so many stories that no training has seen: openings and later points in turn.

    Two of every four have invented names.
    """
    for number in range(count):
        found = to_examples(HELD_OUT_FROM + number, invented_names=float(number % 4 > 1))
        yield found[number % len(found)]


def spread(make: Callable[[int], list[Row]], first: int, processes: int) -> Iterator[Row]:
    """What `make` returns for one seed after the other, without end; the same for any number of processes."""
    if processes == 1:
        yield from chain.from_iterable(map(make, count(first)))
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for begin in count(first, AT_ONCE * processes):
            yield from chain.from_iterable(
                pool.map(make, range(begin, begin + AT_ONCE * processes), chunksize=AT_ONCE)
            )


def _told(seed: int, *, invented_names: float) -> list[Document]:
    return [told_whole(seed, invented_names)]


def main(arguments: argparse.Namespace) -> None:
    """Writes OUT/data/{stories,sft,sft_valid}.parquet."""
    require_apart("stories", arguments.stories, STORIES_FROM, EXAMPLES_FROM)
    require_apart("examples", arguments.examples, EXAMPLES_FROM, RATED_FROM)
    folder: Path = arguments.out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    told = spread(partial(_told, invented_names=arguments.invented_names), STORIES_FROM, arguments.processes)
    stories = islice(told, arguments.stories)
    print(f"stories.parquet: {write_documents(folder / 'stories.parquet', stories):,} documents", flush=True)
    answered = partial(to_examples, invented_names=arguments.invented_names)
    examples = islice(spread(answered, EXAMPLES_FROM, arguments.processes), arguments.examples)
    print(f"sft.parquet: {write_examples(folder / 'sft.parquet', examples):,} examples", flush=True)
    held_out = unseen(arguments.valid)
    print(f"sft_valid.parquet: {write_examples(folder / 'sft_valid.parquet', held_out):,} examples")


if __name__ == "__main__":
    options = console.parser("data", __doc__)
    options.add_argument("--stories", type=int, default=30_000, help="stories told whole")
    options.add_argument("--examples", type=int, default=60_000, help="examples to answer")
    options.add_argument("--valid", type=int, default=1_200, help="unseen examples")
    options.add_argument("--invented-names", type=float, default=0.6, help="share with names of no list")
    options.add_argument("--processes", type=int, default=2, help="any number gives the same files")
    raise SystemExit(console.run(main, options.parse_args()))
