"""`spellbound data instruct`: tagged stories to training examples."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from spellbound.data.examples import Example


def instruct(
    tagged: Annotated[
        list[Path],
        typer.Argument(metavar="TAGGED...", help="What `data annotate` wrote: .parquet .jsonl .jsonl.gz"),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Examples: .parquet, .jsonl or .jsonl.gz.")
    ],
    with_: Annotated[
        str,
        typer.Option("--with", metavar="NAME", help="derive (by rule, can be verified) or teacher (freely)."),
    ] = "derive",
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings of the instructor, TOML.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="One setting, as past_words=[30,4000] or seed=7; repeatable."
        ),
    ] = None,
) -> None:
    """Cut stories into past and continuation at many lengths, and write what could have asked for each."""
    from spellbound.cli.data.annotate import say_usage
    from spellbound.cli.data.progress import counted
    from spellbound.cli.data.settings import gathered
    from spellbound.cli.files import require_other_file, require_writable
    from spellbound.data.instructions import instructor
    from spellbound.data.rows import read_tagged, write_examples

    require_writable(output)
    for file in tagged:
        require_other_file(output, str(file))
    chosen = instructor(with_, **gathered(with_, settings, changes or ()))
    tally = _Tally()
    made = (example for story in read_tagged(tagged) for example in chosen.instruct(story))
    written = write_examples(output, counted(tally.watched(made), "instructing", "examples"))
    say_usage(chosen)
    typer.echo(f"{output}: {written} {'example' if written == 1 else 'examples'}{tally.said()}")


class _Tally:
    """Counts examples as they pass."""

    def __init__(self) -> None:
        self._stories: set[str] = set()
        self._words = 0
        self._kinds: Counter[str] = Counter()

    def watched(self, examples: "Iterable[Example]") -> "Iterator[Example]":
        for example in examples:
            self._stories.add(example.source)
            self._words += len(example.completion.split())
            self._kinds.update(check.kind for check in example.checks)
            yield example

    def said(self) -> str:
        stories = len(self._stories)
        found = f" of {stories} {'story' if stories == 1 else 'stories'}, {self._words:,} words to learn"
        kinds = ", ".join(f"{kind} {count}" for kind, count in self._kinds.most_common())
        return f"{found}\n  checks: {kinds}" if kinds else found
