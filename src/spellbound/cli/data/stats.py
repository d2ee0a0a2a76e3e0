"""`spellbound data stats`: what is in training files, as a table, a page and pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from spellbound.data.stats import Tally


def stats(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Examples or tagged stories: .parquet .jsonl .jsonl.gz"),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for stats.html, stats.json and pictures."),
    ],
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Model folder: lengths in its tokens too.")
    ] = None,
) -> None:
    """Count lengths, tags, speakers, languages, sources and instruction kinds; print and plot them."""
    from rich.console import Console

    from spellbound.cli.data.progress import counted
    from spellbound.data.rows import read_any
    from spellbound.data.stats import Tally, write_report
    from spellbound.data.tokens import token_counter
    from spellbound.errors import InputError

    if output.exists() and not output.is_dir():
        raise InputError(f"-o {output}: is a file; name a folder")
    tally = Tally(None if tokenizer is None else token_counter(tokenizer))
    for row in counted(read_any(files), "counting", "rows"):
        tally.add(row)
    written = write_report(tally, output)
    console = Console()
    for table in _tables(tally):
        console.print(table)
    rows = ", ".join(f"{count:,} {kind}" for kind, count in tally.rows.items() if count) or "no rows"
    typer.echo(f"{rows}; {written[0]} shows more")


def _tables(tally: "Tally") -> list["Table"]:
    """The numbers, and the names of each group on one line."""
    from rich.table import Table
    from rich.text import Text

    from spellbound.cli.controls import one_line
    from spellbound.data.stats.page import SHOWN, figure

    columns = ("mean", "p5", "median", "p95", "max", "sum")
    numbers = Table("", *columns, box=None, pad_edge=False)
    for column in numbers.columns[1:]:
        column.justify = "right"
    for name, spread in tally.spreads.items():
        row = spread.to_row()
        numbers.add_row(name, *(figure(row.get(column)) for column in columns))
    names = Table("", "", box=None, pad_edge=False, show_header=False)
    for group, counts in tally.names.items():
        told = ", ".join(f"{name} {count:,}" for name, count in counts.most(SHOWN))
        names.add_row(f"{group} ({len(counts.counts):,})", Text(one_line(told)))
    return [numbers, names]
