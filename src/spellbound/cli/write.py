"""`spellbound write`: the next passage of a story, shown as it is written."""

from pathlib import Path
from typing import Annotated

import typer

Story = Annotated[str, typer.Argument(metavar="STORY.md", help="Story file, or - for the standard input.")]
Model = Annotated[str, typer.Option(help="nano, or the folder of a Jamba checkpoint.")]
Adapter = Annotated[Path | None, typer.Option(help="Folder of a PEFT adapter for the model.")]
Words = Annotated[
    int | None,
    typer.Option(help="At least so many words, then the paragraph's end. [default: the model decides]"),
]
Seed = Annotated[int | None, typer.Option(help="The same seed writes the same passage. [default: a new one]")]
Temperature = Annotated[float, typer.Option(help="0: always the likeliest token; higher: more surprising.")]
TopP = Annotated[float, typer.Option(help="Only the likeliest tokens that together are so probable.")]
MinP = Annotated[float, typer.Option(help="Only tokens at least so likely relative to the likeliest.")]
Penalty = Annotated[float, typer.Option(help="Above 1: words just used become less likely.")]
MaxTokens = Annotated[int | None, typer.Option(help="Hard limit. [default: enough for --words, or 1024]")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
To = Annotated[
    str | None,
    typer.Option(help="terminal, tagged, plain, html, script or json. [default: terminal; -o: by the name]"),
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Put the passage into this file.")]
Constrain = Annotated[bool, typer.Option(help="Only well-formed text with speakers of the cast.")]
Tags = Annotated[bool, typer.Option(help="Mark speech, actions and sounds; --no-tags: plain prose.")]
Append = Annotated[bool, typer.Option("--continue", help="Add the passage to the past story in STORY.md.")]
Language = Annotated[str, typer.Option("--lang", help="Language of the quotation marks: en, fr, de, …")]


def write(
    story: Story,
    model: Model = "nano",
    adapter: Adapter = None,
    words: Words = None,
    seed: Seed = None,
    temperature: Temperature = 0.8,
    top_p: TopP = 1.0,
    min_p: MinP = 0.05,
    repetition_penalty: Penalty = 1.05,
    max_tokens: MaxTokens = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    to: To = None,
    output: Output = None,
    constrain: Constrain = True,
    tags: Tags = True,
    append: Append = False,
    language: Language = "en",
) -> None:
    """Write the next passage of a story and show it as it is written.

    Ctrl-C ends the passage and keeps what was written.
    """
    from spellbound.cli.writing import Order, carry_out
    from spellbound.story import WriteOptions

    options = WriteOptions(
        words=words,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=_any_seed() if seed is None else seed,
        constrain=constrain,
    )
    order = Order(
        story=story,
        options=options,
        model=model,
        adapter=adapter,
        device=device,
        dtype=dtype,
        to=to,
        output=output,
        append=append,
        tags=tags,
        language=language,
    )
    raise typer.Exit(carry_out(order))


def _any_seed() -> int:
    """Choose a seed short enough to be typed again."""
    import secrets

    return secrets.randbelow(1_000_000)
