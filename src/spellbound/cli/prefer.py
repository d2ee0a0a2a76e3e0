"""`spellbound prefer`: pairs or thumbs into an adapter."""

from pathlib import Path
from typing import Annotated

import typer


def prefer(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE.toml", help="What to learn from which preferences, and how.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as in --set preference.beta=0.2."),
    ] = None,
) -> None:
    """Train an adapter on preferences: pairs (dpo) or thumbs (kto)."""
    from spellbound.train.preferences.run import prefer as run
    from spellbound.train.preferences.settings import PreferenceRecipe
    from spellbound.train.recipe_file import read_settings

    run(read_settings(PreferenceRecipe, recipe, settings or ()), say=typer.echo)
