"""`spellbound parse`: tagged text into any of its other forms."""

from pathlib import Path
from typing import Annotated

import typer


def parse(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="Tagged text, or a story file: its past story.")
    ],
    to: Annotated[str, typer.Option(help="tagged, plain, html, script, json or ssml.")] = "tagged",
    lang: Annotated[str, typer.Option(help="Language of the text: en, fr, de, …")] = "en",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Put the result into this file.")
    ] = None,
) -> None:
    """Convert tagged text. Names are shown where a story file gives them."""
    import sys

    from spellbound.cli import files
    from spellbound.cli.controls import without_controls
    from spellbound.cli.formats import FORMATS, rendered, require_format
    from spellbound.cli.story_file import past_story

    require_format(to, FORMATS)
    if output is not None:
        files.require_writable(output)
        files.require_other_file(output, file)
    text, cast = past_story(file)
    result = rendered(text, to=to, cast=cast, language=lang)
    if output is None:
        result = without_controls(result) if sys.stdout.isatty() else result
        typer.echo(result, nl=not result.endswith("\n"))
    else:
        files.replace(output, result.encode("utf-8"))
