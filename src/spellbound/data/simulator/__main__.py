"""`python -m spellbound.data.simulator --count N --seed S -o FILE.jsonl [--report]`."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path

from spellbound.data.simulator import HELD_OUT_FROM, Example, examples, measure
from spellbound.errors import InputError, SpellboundError


def generate(seed: int) -> Iterator[Example]:
    """Yield examples of one seed after the other, from `seed` on; refuses to walk into the held-out seeds."""
    for number in count(seed):
        if seed < HELD_OUT_FROM <= number:
            raise InputError(f"seeds from {seed} reach the held-out ones at {HELD_OUT_FROM}; start lower")
        yield from examples(number)


def write(rows: Iterable[Example], path: Path) -> None:
    """Write one example a line; the file appears whole or not at all."""
    if not path.parent.is_dir():
        raise InputError(f"{path}: folder {path.parent} does not exist; make it first")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(f"{row.to_json()}\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 2 for input that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m spellbound.data.simulator", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many examples")
    parser.add_argument("--seed", type=int, default=0, help="first seed; held out from 10000000 on")
    parser.add_argument("-o", "--output", type=Path, help="JSON lines to write")
    parser.add_argument("--report", action="store_true", help="print measured variety")
    given = parser.parse_args(arguments)
    rows = islice(generate(given.seed), max(0, given.count))
    try:
        kept = list(rows) if given.report else rows
        if given.output:
            write(kept, given.output)
    except SpellboundError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if given.report:
        sys.stdout.write("\n".join(measure(kept).lines()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
