"""`spellbound data check`: every fault of training files, with file, row and remedy."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from spellbound.data.check import Inspection


def check(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Examples or tagged stories: .parquet .jsonl .jsonl.gz"),
    ],
    max_words: Annotated[
        int, typer.Option(metavar="N", help="Longest completion in words; 0: any length.")
    ] = 20_000,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Model folder whose tokens --max-tokens counts.")
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(metavar="N", help="Longest completion in tokens; 0: any length.")
    ] = 0,
    leak_past: Annotated[
        int,
        typer.Option(
            metavar="N", help="Words in a row that past story and completion may not share; 0: any."
        ),
    ] = 40,
    leak_instructions: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Words in a row that instructions or sheets and completion may not share; 0: any.",
        ),
    ] = 12,
    similarity: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Near-duplicates share so many runs of five words; 0: do not look."
        ),
    ] = 0.8,
    jobs: Annotated[int, typer.Option(metavar="N", help="Processes that examine rows.")] = 1,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as faults.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a fault, and one with the counts at the end.")
    ] = False,
) -> None:
    """Report every fault of training examples and tagged stories, with file, row and remedy.

    Exit status 2 if there is one, warnings apart.
    """
    from spellbound.cli.app import WRONG_INPUT
    from spellbound.cli.controls import one_line
    from spellbound.data.check import Inspection, Limits

    limits = Limits(
        max_words=max_words,
        max_tokens=max_tokens,
        tokenizer=tokenizer,
        leak_past=leak_past,
        leak_instructions=leak_instructions,
        similarity=similarity,
    )
    inspection = Inspection(limits, jobs)
    with _progress() as each_row:
        for fault in inspection.run(files, each_row):
            typer.echo(json.dumps(fault.to_row()) if as_json else one_line(str(fault)))
    passed = inspection.passed and not (strict and inspection.counts)
    typer.echo(_counts_json(inspection, passed) if as_json else _table(inspection, len(files)))
    if not passed:
        raise typer.Exit(WRONG_INPUT)


def _table(inspection: "Inspection", files: int) -> str:
    """How many faults of every kind there are, and a last line with the sums."""
    from spellbound.data.check import CODES, WARNINGS

    lines = [
        f"{inspection.counts[code]:>12,}  {code}{' (warning)' if code in WARNINGS else ''}"
        for code in CODES
        if inspection.counts[code]
    ]
    warnings = sum(count for code, count in inspection.counts.items() if code in WARNINGS)
    faults = inspection.counts.total() - warnings
    found = f"{_many(faults, 'fault')}, {_many(warnings, 'warning')}" if lines else "no faults"
    return "\n".join([*lines, f"{_many(files, 'file')}, {_many(inspection.rows, 'row')}: {found}"])


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _counts_json(inspection: "Inspection", passed: bool) -> str:
    return json.dumps({"rows": inspection.rows, "passed": passed, "counts": dict(inspection.counts)})


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """A line with the number of rows on the error stream while that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda rows: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,} rows checked"), TimeElapsedColumn())
    # Redirected, faults stand above the line; but never where they are to go to a file.
    redirected = sys.stdout.isatty()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=redirected) as progress:
        task = progress.add_task("", total=None)
        yield lambda rows: progress.update(task, completed=rows)
