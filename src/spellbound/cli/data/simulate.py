"""`spellbound data simulate`: stories of a small world as training examples."""

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Examples: .parquet, .jsonl or .jsonl.gz.")
    ],
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many examples.")] = 1000,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="First story; those from 10000000 on are for measuring.")
    ] = 0,
    invented_names: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Share of examples with names no list has, which must be copied, 0 to 1."
        ),
    ] = 0.0,
    report: Annotated[bool, typer.Option("--report", help="Print how varied they are.")] = False,
) -> None:
    """Make examples of simulated stories: English, tagged by construction, every instruction verifiable.

    Training seeds never walk into those that are held out.
    """
    from itertools import islice

    from spellbound.cli.data.progress import counted
    from spellbound.cli.files import require_writable
    from spellbound.data.rows import read_examples, write_examples
    from spellbound.data.simulator import generate, measure

    require_writable(output)
    made = islice(generate(seed, invented_names=invented_names), count)
    written = write_examples(output, counted(made, "simulating", "examples"))
    if report:
        typer.echo("\n".join(measure(read_examples([output])).lines()))
    typer.echo(f"{output}: {written} {'example' if written == 1 else 'examples'} from seed {seed} on")
