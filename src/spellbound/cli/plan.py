"""`spellbound plan`: what a recipe will need, before anything is loaded."""

from pathlib import Path
from typing import Annotated

import typer


def plan(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="The run to foresee.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as in --set compute.rows=1."),
    ] = None,
    device: Annotated[
        str,
        typer.Option("--device", metavar="NAME", help="this (measured), h200, h100 or a100 (assumed rates)."),
    ] = "this",
    devices: Annotated[int, typer.Option("--devices", metavar="N", help="How many of them.")] = 1,
    sharding: Annotated[
        str,
        typer.Option(
            "--sharding", metavar="KIND", help="none: the whole model on each; fsdp: a share (FSDP2, ZeRO-3)."
        ),
    ] = "none",
    memory: Annotated[
        float | None,
        typer.Option("--memory", metavar="GIB", help="Memory of one device, in place of the stated one."),
    ] = None,
    efficiency: Annotated[
        float,
        typer.Option("--efficiency", metavar="SHARE", help="Share of a named card's rates that is reached."),
    ] = 0.58,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="config.json of the model, where the model itself is not here."
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            "--length", metavar="TOKENS", help="Foresee rows of so many tokens; the data is not read."
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option("--tokens", metavar="TOKENS", help="Tokens of an epoch; with --length.")
    ] = 10_000_000,
    targets: Annotated[
        float, typer.Option("--targets", metavar="SHARE", help="Share of them that is learnt; with --length.")
    ] = 0.25,
) -> None:
    """Foresee the memory and the time that training as a recipe says will take; no weights are loaded."""
    from spellbound.train.plan import Question, foresee, lines
    from spellbound.train.progress import reading
    from spellbound.train.recipe_file import read_recipe

    question = Question(
        device=device,
        devices=devices,
        sharding=sharding,
        memory=memory,
        efficiency=efficiency,
        config=config,
        length=length,
        tokens=tokens,
        targets=targets,
    )
    with reading() as progress:
        made = foresee(read_recipe(recipe, settings or ()), question, progress)
    for line in lines(made):
        typer.echo(line)
