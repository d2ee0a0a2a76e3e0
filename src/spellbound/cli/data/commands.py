"""`spellbound data`: from books, plays, chats and ratings to training examples. One file a command."""

import typer

from spellbound.cli.data.annotate import annotate
from spellbound.cli.data.build import build
from spellbound.cli.data.check import check
from spellbound.cli.data.instruct import instruct
from spellbound.cli.data.ratings import app as ratings
from spellbound.cli.data.read import read
from spellbound.cli.data.simulate import simulate
from spellbound.cli.data.stats import stats

app = typer.Typer(
    name="data",
    help="Make training examples out of stories: read, annotate, instruct, check.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

# In the order in which they are used.
app.command()(read)
app.command()(annotate)
app.command()(instruct)
app.command()(simulate)
app.command()(check)
app.command()(stats)
app.add_typer(ratings)
app.command()(build)
