"""`spellbound data annotate`: documents to tagged stories."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from spellbound.data.documents import Document
    from spellbound.data.tagged import Annotator, TaggedStory


def annotate(
    documents: Annotated[
        list[Path],
        typer.Argument(metavar="DOCUMENTS...", help="What `data read` wrote: .parquet .jsonl .jsonl.gz"),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Tagged stories: .parquet, .jsonl or .jsonl.gz."),
    ],
    with_: Annotated[
        str, typer.Option("--with", metavar="NAME", help="rules (prose, chats), drama (plays) or teacher.")
    ] = "rules",
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings of the annotator, TOML.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting; may be given several times."),
    ] = None,
) -> None:
    """Tag who is speaking, what is done and what is heard, without changing a character of the text.

    A document that cannot be tagged so is left out and named.
    """
    from spellbound.cli.data.progress import counted
    from spellbound.cli.data.required import required
    from spellbound.cli.data.settings import gathered, placed
    from spellbound.cli.files import require_other_file, require_writable
    from spellbound.data.annotators import annotator
    from spellbound.data.readers import read_documents
    from spellbound.data.rows import write_tagged

    require_writable(output)
    for file in documents:
        require_other_file(output, str(file))
    with placed(settings, changes or ()):
        chosen = annotator(with_, **gathered(with_, settings, changes or ()))
    refused: list[str] = []
    found = counted(read_documents(documents), "tagging", "documents")
    stories = required(_tagged(chosen, found, refused), lambda: _nothing(documents, refused))
    written = write_tagged(output, stories)
    say_usage(chosen)
    left_out = f"; {len(refused)} left out" if refused else ""
    typer.echo(f"{output}: {written} tagged {'story' if written == 1 else 'stories'}{left_out}")


def _tagged(
    chosen: "Annotator", documents: "Iterable[Document]", refused: list[str]
) -> "Iterator[TaggedStory]":
    from spellbound.cli.controls import one_line
    from spellbound.data.tagged import AnnotationRefused

    for document in documents:
        try:
            yield chosen.annotate(document)
        except AnnotationRefused as error:
            refused.append(document.id)
            typer.echo(f"spellbound: {one_line(str(error))}", err=True)


def _nothing(documents: list[Path], refused: list[str]) -> str:
    """Why there is no story."""
    if refused:
        return f"all {len(refused)} documents were refused; choose another annotator with --with"
    return f"there was nothing to tag in {', '.join(map(str, documents))}; read more"


def say_usage(chosen: object) -> None:
    """Say what a teacher was asked and what it cost."""
    if teacher := getattr(chosen, "teacher", None):
        typer.echo(teacher.usage.report(), err=True)
