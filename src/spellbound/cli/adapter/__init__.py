"""`spellbound adapter`: look at adapters, merge them, hand them on. One file a command."""

import typer

from spellbound.cli.adapter.check import check
from spellbound.cli.adapter.export import export
from spellbound.cli.adapter.merge import merge

app = typer.Typer(
    name="adapter",
    help="Look at an adapter, merge it into its model, or export it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

app.command()(check)
app.command()(merge)
app.command()(export)

__all__ = ["app", "check", "export", "merge"]
