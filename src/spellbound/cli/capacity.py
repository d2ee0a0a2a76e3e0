"""`spellbound capacity`: how many people a model on some cards can write for."""

from pathlib import Path
from typing import Annotated

import typer


def capacity(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="config.json of a Jamba, or its folder.")],
    card: Annotated[str, typer.Option(metavar="NAME", help="h200, h100 or a100.")] = "h200",
    cards: Annotated[int, typer.Option(metavar="N", help="How many of them.")] = 1,
    memory: Annotated[
        float | None, typer.Option(metavar="GIB", help="Memory of one card, in place of the stated one.")
    ] = None,
    bits: Annotated[int, typer.Option(metavar="N", help="Of the weights: 16, 8 or 4.")] = 16,
    story: Annotated[int, typer.Option(metavar="TOKENS", help="Length of a story.")] = 32_768,
    turn: Annotated[int, typer.Option(metavar="TOKENS", help="What a turn adds to be read.")] = 1_000,
    written: Annotated[int, typer.Option(metavar="TOKENS", help="What the model writes in a turn.")] = 500,
    minutes: Annotated[float, typer.Option(metavar="N", help="From a user's turn to the next.")] = 3.0,
    speed: Annotated[float, typer.Option(metavar="N", help="Least tokens a second for each.")] = 10.0,
    snapshots: Annotated[int, typer.Option(metavar="N", help="Mamba states kept of a story.")] = 2,
    efficiency: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of a card's rates that is reached.")
    ] = 0.4,
) -> None:
    """Reckon bytes, tokens and users of a model on some cards, and say what is assumed."""
    from spellbound.story.capacity import Capacity, Question, lines, read_sizes

    question = Question(
        card=card,
        cards=cards,
        memory=memory,
        bits=bits,
        story=story,
        turn=turn,
        written=written,
        minutes=minutes,
        speed=speed,
        snapshots=snapshots,
        efficiency=efficiency,
    )
    for line in lines(Capacity(read_sizes(config), question)):
        typer.echo(line)
