"""`spellbound train`: a recipe into weights or an adapter."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="What to train, on what, and how.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as in --set schedule.rate=1e-4."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
) -> None:
    """Train a model or an adapter as a recipe says."""
    from spellbound.train.recipe_file import read_recipe
    from spellbound.train.run import train as run

    run(read_recipe(recipe, settings or ()), resume=resume, say=typer.echo)
