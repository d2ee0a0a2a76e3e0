"""`spellbound data instruct`: tagged stories to training examples."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from spellbound.data.examples import Example
    from spellbound.data.tagged import TaggedStory


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
    from spellbound.cli.data.required import required
    from spellbound.cli.data.settings import gathered, placed
    from spellbound.cli.files import require_other_file, require_writable
    from spellbound.data.instructions import instructor
    from spellbound.data.rows import read_tagged, write_examples

    require_writable(output)
    for file in tagged:
        require_other_file(output, str(file))
    with placed(settings, changes or ()):
        chosen = instructor(with_, **gathered(with_, settings, changes or ()))
    tally = _Tally()
    made = (example for story in tally.read(read_tagged(tagged)) for example in chosen.instruct(story))
    examples = counted(tally.watched(made), "instructing", "examples")
    written = write_examples(output, required(examples, lambda: tally.nothing(tagged)))
    say_usage(chosen)
    typer.echo(f"{output}: {written} {'example' if written == 1 else 'examples'}{tally.said()}")


class _Tally:
    """Counts examples as they pass, and leaves out those that `data check` would refuse."""

    def __init__(self) -> None:
        self._read = 0
        self._refused: Counter[str] = Counter()
        self._stories: set[str] = set()
        self._words = 0
        self._kinds: Counter[str] = Counter()

    def read(self, stories: "Iterable[TaggedStory]") -> "Iterator[TaggedStory]":
        for story in stories:
            self._read += 1
            yield story

    def watched(self, examples: "Iterable[Example]") -> "Iterator[Example]":
        from spellbound.data.check import Limits
        from spellbound.data.check.examine import faults_of

        limits = Limits(similarity=0)  # what repeats another is no fault, only a warning
        for example in examples:
            if faults := faults_of(example.model_dump(), limits):
                self._refused[faults[0].code] += 1
                continue
            self._stories.add(example.source)
            self._words += len(example.completion.split())
            self._kinds.update(check.kind for check in example.checks)
            yield example

    def said(self) -> str:
        stories = len(self._stories)
        found = f" of {stories} {'story' if stories == 1 else 'stories'}, {self._words:,} words to learn"
        kinds = ", ".join(f"{kind} {count}" for kind, count in self._kinds.most_common())
        left_out = f"\n  {self._left_out()}" if self._refused else ""
        return f"{found}{left_out}\n  checks: {kinds}" if kinds else f"{found}{left_out}"

    def nothing(self, tagged: list[Path]) -> str:
        """Why there is no example."""
        files = ", ".join(map(str, tagged))
        found = f"{files}: 0 examples of {self._read} {'story' if self._read == 1 else 'stories'}"
        if not self._read:
            return f"{found}; give what `data annotate` wrote of some document"
        if self._refused:
            return f"{found}, {self._left_out()}; cut elsewhere, for example with --set seed=7"
        return (
            f"{found}: no passage is long enough and without doubtful speakers;"
            " take shorter ones, for example --set completion_words=[20,80]"
        )

    def _left_out(self) -> str:
        reasons = ", ".join(f"{code} {count:,}" for code, count in self._refused.most_common())
        return f"{self._refused.total():,} left out that `data check` would refuse: {reasons}"
